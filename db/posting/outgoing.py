"""Outgoing webhooks of tenants: endpoints, and deliveries, which are made in the transaction in which a post changes.

A delivery is claimed for some time and sent by a job; who dies in between lets the next one send it again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from db.posting.accounts import Resealed
from domain.errors import SealUnknown
from domain.posting.outgoing import POST_FAILED, POST_PUBLISHED
from domain.posting.posts import PostStatus

EVENT_OF: Final = {PostStatus.PUBLISHED: POST_PUBLISHED, PostStatus.FAILED: POST_FAILED}
"""The states of a post whose beginning is an event."""

# What a disabled endpoint misses is kept for it (`ENABLE`). The id of the event follows from the post, the event and
# the moment of the transaction, in which it happens once.
ADD: Final = """
INSERT INTO webhook_deliveries (tenant_id, endpoint_id, event_id, event, post_id, body, next_at, given_up_at, error)
SELECT e.tenant_id, e.id, md5(concat_ws('/', p.id, %(event)s::text, extract(epoch FROM now())))::uuid,
       %(event)s::text, p.id,
       json_build_object(
           'type', %(event)s::text, 'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           'data', json_build_object(
               'post_id', p.id, 'video_id', p.video_id, 'account_id', p.account_id, 'platform', a.platform,
               'status', p.status, 'external_id', p.external_id, 'permalink', p.permalink,
               'scheduled_for', p.scheduled_for, 'published_at', p.published_at,
               'error_code', p.error_code, 'error_message', p.error_message
           )
       )::text,
       CASE WHEN e.disabled_at IS NULL THEN now() END, CASE WHEN e.disabled_at IS NOT NULL THEN now() END,
       CASE WHEN e.disabled_at IS NOT NULL THEN 'its endpoint is disabled' END
FROM social_posts p
JOIN webhook_endpoints e ON e.tenant_id = p.tenant_id
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
WHERE p.tenant_id = %(tenant_id)s AND p.id = %(post_id)s AND %(event)s::text = ANY(e.events)
ON CONFLICT (tenant_id, endpoint_id, event_id) DO NOTHING
"""


def add_deliveries(driver: psycopg.Connection[Any], tenant_id: UUID, post_id: UUID, status: PostStatus) -> None:
    """Have the tenant's programs notified that a post has come to this state, if that is an event. To be called in the
    transaction that brings it there, once."""
    if event := EVENT_OF.get(status):
        driver.execute(ADD, {"tenant_id": tenant_id, "post_id": post_id, "event": event})


ENDPOINT = "id, tenant_id, url, events, created_at, failing_since, disabled_at, disabled_reason"
DELIVERY = (
    "id, tenant_id, endpoint_id, event_id, event, post_id, created_at, attempts, next_at, delivered_at, given_up_at,"
    " status_code, error"
)

ADD_ENDPOINT = f"""
INSERT INTO webhook_endpoints (id, tenant_id, url, events, secret)
VALUES (%(id)s, %(tenant_id)s, %(url)s, %(events)s, %(secret)s) RETURNING {ENDPOINT}
"""

LOCK_TENANT = "SELECT FROM tenants WHERE id = %s FOR NO KEY UPDATE"

ENDPOINTS = f"SELECT {ENDPOINT} FROM webhook_endpoints WHERE tenant_id = %s ORDER BY created_at, id"

DELIVERIES = f"""
SELECT {DELIVERY} FROM webhook_deliveries
WHERE tenant_id = %(tenant_id)s AND (%(endpoint_id)s::uuid IS NULL OR endpoint_id = %(endpoint_id)s)
  AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(before)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""

ANY_DUE = "SELECT EXISTS (SELECT FROM webhook_deliveries WHERE next_at <= %s)"

CLAIM = """
WITH due AS (
    SELECT id FROM webhook_deliveries WHERE next_at <= %(now)s
    ORDER BY next_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET next_at = %(now)s + %(lease)s::interval FROM due WHERE d.id = due.id
RETURNING d.tenant_id, d.id
"""

# Nothing is sent that is over, or whose endpoint is disabled.
BEGIN = """
UPDATE webhook_deliveries d SET attempts = d.attempts + 1, next_at = now() + %(lease)s::interval
FROM webhook_endpoints e
WHERE d.tenant_id = %(tenant_id)s AND d.id = %(id)s AND d.next_at IS NOT NULL
  AND e.tenant_id = d.tenant_id AND e.id = d.endpoint_id AND e.disabled_at IS NULL
RETURNING d.attempts, d.event_id, d.body, e.id AS endpoint_id, e.url, e.secret, e.failing_since
"""

# Whoever was slower than another attempt changes nothing.
SETTLE = """
UPDATE webhook_deliveries
SET next_at = %(next_at)s, status_code = %(status)s, error = %(error)s,
    delivered_at = CASE WHEN %(delivered)s THEN now() END,
    given_up_at = CASE WHEN NOT %(delivered)s AND %(next_at)s::timestamptz IS NULL THEN now() END
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND attempts = %(attempts)s AND next_at IS NOT NULL
"""

TOOK_IT = """
UPDATE webhook_endpoints SET failing_since = NULL
WHERE tenant_id = %s AND id = %s AND failing_since IS NOT NULL
"""

TOOK_IT_NOT = """
UPDATE webhook_endpoints SET failing_since = now() WHERE tenant_id = %s AND id = %s AND failing_since IS NULL
"""

DISABLE = """
UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = %(reason)s
WHERE tenant_id = %(tenant_id)s AND id = %(endpoint_id)s AND disabled_at IS NULL
"""

ENABLE = f"""
WITH before AS (
    SELECT id, least(disabled_at, failing_since) AS since FROM webhook_endpoints
    WHERE tenant_id = %(tenant_id)s AND id = %(endpoint_id)s AND disabled_at IS NOT NULL FOR NO KEY UPDATE
)
UPDATE webhook_endpoints e SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL
FROM before WHERE e.tenant_id = %(tenant_id)s AND e.id = before.id
RETURNING {", ".join(f"e.{name.strip()}" for name in ENDPOINT.split(","))}, before.since
"""

MISSED = """
UPDATE webhook_deliveries
SET next_at = now(), attempts = 0, given_up_at = NULL, status_code = NULL, error = NULL
WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND given_up_at >= %(since)s
"""

# What was not sent for a reason of ours is as if it had not been begun.
PUT_OFF = """
UPDATE webhook_deliveries SET attempts = attempts - 1, next_at = %(next_at)s, error = %(error)s
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND attempts = %(attempts)s AND next_at IS NOT NULL
"""

SECRETS = "SELECT secret FROM webhook_endpoints WHERE disabled_at IS NULL ORDER BY id LIMIT %s"

GIVE_UP_ALL = """
UPDATE webhook_deliveries SET next_at = NULL, given_up_at = now(), error = 'its endpoint is disabled'
WHERE tenant_id = %(tenant_id)s AND endpoint_id = %(endpoint_id)s AND next_at IS NOT NULL
"""

# It was added while its endpoint was being disabled.
DROP = """
UPDATE webhook_deliveries d SET next_at = NULL, given_up_at = now(), error = 'its endpoint is disabled'
FROM webhook_endpoints e
WHERE d.tenant_id = %s AND d.id = %s AND d.next_at IS NOT NULL
  AND e.tenant_id = d.tenant_id AND e.id = d.endpoint_id AND e.disabled_at IS NOT NULL
"""

REPLAY = f"""
UPDATE webhook_deliveries d
SET next_at = now(), attempts = 0, delivered_at = NULL, given_up_at = NULL, status_code = NULL, error = NULL
FROM webhook_endpoints e
WHERE d.tenant_id = %(tenant_id)s AND d.id = %(id)s AND d.next_at IS NULL
  AND e.tenant_id = d.tenant_id AND e.id = d.endpoint_id AND e.disabled_at IS NULL
RETURNING {", ".join(f"d.{name.strip()}" for name in DELIVERY.split(","))}
"""

FIND = f"SELECT {DELIVERY} FROM webhook_deliveries WHERE tenant_id = %s AND id = %s"

OWNER = "SELECT tenant_id FROM webhook_deliveries WHERE id = %s"

PRUNE = """
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE created_at < %s AND next_at IS NULL ORDER BY created_at LIMIT %s
)
"""

SEALED = "SELECT id, secret FROM webhook_endpoints WHERE id > %s ORDER BY id LIMIT %s"


class Outgoing:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    # --- endpoints ----------------------------------------------------------------------------------------------

    def lock(self, tenant_id: UUID) -> None:
        """Let nobody else change the tenant until the transaction ends: its endpoints are counted."""
        self._driver.execute(LOCK_TENANT, (tenant_id,))

    def endpoints(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """The tenant's endpoints, without their secrets, the oldest first."""
        return rows_of(self._driver, ENDPOINTS, (tenant_id,))

    def add_endpoint(
        self, endpoint_id: UUID, tenant_id: UUID, url: str, events: Sequence[str], secret: bytes
    ) -> dict[str, Any]:
        values = {"id": endpoint_id, "tenant_id": tenant_id, "url": url, "events": list(events), "secret": secret}
        return rows_of(self._driver, ADD_ENDPOINT, values)[0]

    def delete_endpoint(self, tenant_id: UUID, endpoint_id: UUID) -> bool:
        """Delete it and all that is on its way to it; False if there is none."""
        query = "DELETE FROM webhook_endpoints WHERE tenant_id = %s AND id = %s"
        return self._driver.execute(query, (tenant_id, endpoint_id)).rowcount == 1

    def reseal(self, after: UUID, limit: int, reseal: Callable[[bytes], bytes | None]) -> Resealed:
        """Encrypt the secrets of some endpoints after this id anew, in their order. System scope."""
        rows = rows_of(self._driver, SEALED, (after, limit))
        changed = unreadable = 0
        for row in rows:
            try:
                fresh = reseal(bytes(row["secret"]))
            except SealUnknown:
                unreadable += 1
                continue
            if fresh is not None:
                query = "UPDATE webhook_endpoints SET secret = %s WHERE id = %s AND secret = %s"
                changed += self._driver.execute(query, (fresh, row["id"], row["secret"])).rowcount
        return Resealed(len(rows), changed, unreadable, rows[-1]["id"] if len(rows) == limit else None)

    # --- deliveries ---------------------------------------------------------------------------------------------

    def any_due(self, now: datetime) -> bool:
        row = self._driver.execute(ANY_DUE, (now,)).fetchone()
        return row is not None and bool(row[0])

    def claim(self, *, now: datetime, lease: timedelta, limit: int) -> list[tuple[UUID, UUID]]:
        """Take deliveries that are due, of all tenants: the tenant and id of each. System scope."""
        return self._driver.execute(CLAIM, {"now": now, "lease": lease, "limit": limit}).fetchall()

    def begin(self, tenant_id: UUID, delivery_id: UUID, lease: timedelta) -> dict[str, Any] | None:
        """Count an attempt, and return what it sends where; None if it is over or its endpoint disabled."""
        return row_of(self._driver, BEGIN, {"tenant_id": tenant_id, "id": delivery_id, "lease": lease})

    def settle(
        self,
        tenant_id: UUID,
        delivery_id: UUID,
        attempts: int,
        *,
        delivered: bool,
        status: int | None,
        error: str | None,
        next_at: datetime | None,
    ) -> bool:
        """Write down what came of an attempt; False if another one is under way or settled it."""
        values: dict[str, Any] = {"tenant_id": tenant_id, "id": delivery_id, "attempts": attempts}
        values |= {"delivered": delivered, "status": status, "error": error, "next_at": next_at}
        return self._driver.execute(SETTLE, values).rowcount == 1

    def note_taken(self, tenant_id: UUID, endpoint_id: UUID, *, taken: bool) -> None:
        """Remember since when the endpoint takes nothing."""
        self._driver.execute(TOOK_IT if taken else TOOK_IT_NOT, (tenant_id, endpoint_id))

    def disable(self, tenant_id: UUID, endpoint_id: UUID, reason: str) -> None:
        """Send nothing more to it; what was on its way is given up, and can be replayed to no other."""
        values = {"tenant_id": tenant_id, "endpoint_id": endpoint_id, "reason": reason}
        self._driver.execute(DISABLE, values)
        self._driver.execute(GIVE_UP_ALL, values)

    def enable(self, tenant_id: UUID, endpoint_id: UUID) -> tuple[dict[str, Any], int] | None:
        """Send to it again, first what it has missed since it began to take nothing. Returns the endpoint, and how many
        deliveries that are; None if it is not disabled."""
        values = {"tenant_id": tenant_id, "endpoint_id": endpoint_id}
        endpoint = row_of(self._driver, ENABLE, values)
        if endpoint is None:
            return None
        return endpoint, self._driver.execute(MISSED, values | {"since": endpoint.pop("since")}).rowcount

    def put_off(
        self, tenant_id: UUID, delivery_id: UUID, attempts: int, error: str | None, next_at: datetime | None
    ) -> None:
        """Take back an attempt that did not come to send anything."""
        values = {"tenant_id": tenant_id, "id": delivery_id, "attempts": attempts, "error": error, "next_at": next_at}
        self._driver.execute(PUT_OFF, values)

    def secrets(self, limit: int) -> list[bytes]:
        """Return the sealed secrets of some endpoints that are sent to. System scope."""
        return [bytes(secret) for (secret,) in self._driver.execute(SECRETS, (limit,))]

    def drop(self, tenant_id: UUID, delivery_id: UUID) -> None:
        """Give up what cannot be sent, since its endpoint is disabled."""
        self._driver.execute(DROP, (tenant_id, delivery_id))

    def deliveries(
        self,
        tenant_id: UUID,
        *,
        limit: int,
        endpoint_id: UUID | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[dict[str, Any]]:
        """The tenant's deliveries without their bodies, newest first; those `after` a row of the page before."""
        at, before = after or (None, None)
        values = {"tenant_id": tenant_id, "endpoint_id": endpoint_id, "limit": limit, "at": at, "before": before}
        return rows_of(self._driver, DELIVERIES, values)

    def find(self, tenant_id: UUID, delivery_id: UUID) -> dict[str, Any] | None:
        return row_of(self._driver, FIND, (tenant_id, delivery_id))

    def owner(self, delivery_id: UUID) -> UUID | None:
        """The tenant of a delivery. System scope."""
        row = row_of(self._driver, OWNER, (delivery_id,))
        return None if row is None else row["tenant_id"]

    def replay(self, tenant_id: UUID, delivery_id: UUID) -> dict[str, Any] | None:
        """Send it again, with the same id and body; None if it is on its way, its endpoint disabled, or there is
        none."""
        return row_of(self._driver, REPLAY, {"tenant_id": tenant_id, "id": delivery_id})

    def prune_deliveries(self, before: datetime, limit: int) -> int:
        """Forget old deliveries that are over. System scope."""
        return self._driver.execute(PRUNE, (before, limit)).rowcount
