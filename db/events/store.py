"""What the outside told us: rows of `webhook_events`, what became of each, which wait. `db/events/writer.py` stores
them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from db.postgres.rows import row_of, rows_of
from domain.errors import EventDropped, UnknownEvent
from domain.events.outcomes import IGNORED, Outcome, Status


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event, as the job that applies it reads it. Its payload is gone since `dropped_at`."""

    id: UUID
    source: str
    external_id: str
    type: str
    occurred_at: datetime | None
    subject: str | None
    payload: dict[str, Any]
    dropped_at: datetime | None = None
    status: Status = Status.RECEIVED

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))


PAYLOADS = 20
"""Payloads that are fetched at once: a customer may have many, and each may be as large as a request's body."""

EVENT = ", ".join(Event.__slots__)
FIND_OURS = "SELECT * FROM webhook_events WHERE id = %s"
FIND_THEIRS = "SELECT * FROM webhook_events WHERE (source, external_id) IN (('stripe', %(id)s), ('clerk', %(id)s))"


PARKED = """
SELECT id, source, type FROM webhook_events
WHERE status LIKE 'parked:%%' AND starts_with(status, %(status)s) ORDER BY id LIMIT %(limit)s
"""

IGNORED_BY_TYPE = f"""
SELECT id, source, type FROM webhook_events
WHERE source IN ('stripe', 'clerk') AND status = '{Status.IGNORED_TYPE}' AND type = %s
      AND processed_at IS NOT NULL AND dropped_at IS NULL ORDER BY id LIMIT %s
"""

# The index names the columns in this order, and the two conditions.
DROP = """
UPDATE webhook_events SET body = NULL, payload = '{}', dropped_at = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM webhook_events
    WHERE source = %(source)s AND status = ANY(%(statuses)s) AND received_at < %(before)s
          AND processed_at IS NOT NULL AND dropped_at IS NULL
    LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
))
"""

DROP_OF_DELETED = """
UPDATE webhook_events SET body = NULL, payload = '{}', dropped_at = now()
WHERE source = 'clerk' AND status = ANY(%(statuses)s) AND processed_at IS NOT NULL AND dropped_at IS NULL
      AND subject IN (
          SELECT clerk_id FROM users WHERE deleted_at IS NOT NULL
          UNION ALL SELECT clerk_id FROM organizations WHERE deleted_at IS NOT NULL)
"""

WAITING_FOR_A_LINK = """
SELECT id FROM webhook_events
WHERE source = 'stripe' AND subject = ANY(%s) AND status LIKE 'parked:%%'
      AND status IN ('parked:unknown_customer', 'parked:unknown_tenant', 'parked:other_customer')
ORDER BY id
"""

OUTCOMES = """
SELECT source, status, count(*) AS events, count(flag) AS flagged, sum(duplicates)::int AS duplicates
FROM webhook_events WHERE received_at >= %s GROUP BY source, status ORDER BY source, events DESC, status
"""

REAPPLIABLE = """
SELECT event.id FROM webhook_events event
WHERE status LIKE 'parked:%%' AND source = 'stripe' AND CASE status
    WHEN 'parked:unknown_customer' THEN EXISTS (
        SELECT FROM tenants WHERE stripe_customer_id = event.subject
        UNION ALL SELECT FROM stripe_customers customer WHERE customer.id = event.subject AND tenant_id IS NOT NULL)
    WHEN 'parked:unknown_tenant' THEN EXISTS (
        SELECT FROM stripe_customers customer JOIN tenants tenant ON tenant.id = customer.tenant_id
        WHERE customer.id = event.subject)
    WHEN 'parked:other_customer' THEN EXISTS (
        SELECT FROM stripe_customers customer JOIN tenants tenant ON tenant.id = customer.tenant_id
        WHERE customer.id = event.subject
              AND (deleted_at IS NOT NULL OR coalesce(tenant.stripe_customer_id = customer.id, true)))
    WHEN 'parked:unknown_price' THEN EXISTS (
        SELECT FROM stripe_subscriptions subscription
        WHERE subscription.id = event.payload #>> '{data,object,id}'
              AND (price_ids && %(prices)s::text[] OR status NOT IN ('active', 'trialing', 'past_due')))
    WHEN 'parked:thin' THEN %(can_fetch)s
    WHEN 'parked:incomplete' THEN %(can_fetch)s
    ELSE false
END
ORDER BY event.id LIMIT %(limit)s
"""


ADD = """
INSERT INTO webhook_events (id, source, external_id, type, api_version, livemode, occurred_at, subject, payload)
SELECT %(id)s, 'stripe', body ->> 'id', body ->> 'type', body ->> 'api_version', (body ->> 'livemode')::boolean,
       to_timestamp((body ->> 'created')::bigint), %(subject)s, body
FROM (SELECT %(payload)s::jsonb AS body) AS given
ON CONFLICT (source, external_id) DO NOTHING
"""

ADD_OF_CLERK = """
INSERT INTO webhook_events (id, source, external_id, type, occurred_at, subject, payload)
SELECT %(id)s, 'clerk', %(external_id)s, body ->> 'type', to_timestamp((body ->> 'timestamp')::bigint / 1000.0),
       %(subject)s, body
FROM (SELECT %(payload)s::jsonb AS body) AS given
ON CONFLICT (source, external_id) DO NOTHING
"""

MARK = """
UPDATE webhook_events SET
    status = %(status)s, flag = coalesce(%(flag)s, flag), processed_at = now(),
    detail = CASE WHEN %(flag)s::text IS NULL AND flag IS NOT NULL THEN coalesce(detail, %(detail)s) ELSE %(detail)s END
WHERE id = %(id)s
"""


class Replayable(NamedTuple):
    """A stored event that may be applied again."""

    id: UUID
    source: str
    type: str


class Events:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def get(self, event_id: UUID) -> Event:
        """Raises:
        UnknownEvent: no event has this id.
        EventDropped: its body is kept no more, so there is nothing to apply.
        """
        query = f"SELECT {EVENT} FROM webhook_events WHERE id = %s"
        with self._driver.cursor(row_factory=class_row(Event)) as cursor:
            event = cursor.execute(query, (event_id,)).fetchone()
        if event is None:
            raise UnknownEvent(f"no event has the id {event_id}")
        if event.dropped_at is not None:
            raise EventDropped(event.external_id, event.dropped_at)
        return event

    def find(self, name: str) -> dict[str, Any] | None:
        """All columns of the event that has this id, ours or the sender's."""
        try:
            return row_of(self._driver, FIND_OURS, (UUID(name),))
        except ValueError:
            return row_of(self._driver, FIND_THEIRS, {"id": name})

    def recent(
        self,
        *,
        source: str | None = None,
        type: str | None = None,
        status: str | None = None,
        flagged: bool = False,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Newest first, without payloads and bodies; `status` may be the beginning of one ("parked")."""
        given = {"source": source, "type": type}
        wanted = {column: value for column, value in given.items() if value is not None}
        where = [f"{column} = %({column})s" for column in wanted]
        if status is not None:
            where.append("starts_with(status, %(status)s)")
            wanted["status"] = status
        if flagged:
            where.append("flag IS NOT NULL")
        query = f"""
            SELECT id, source, external_id, type, api_version, livemode, occurred_at, received_at, status, detail, flag,
                   processed_at, dropped_at, job_id, subject, duplicates, duplicate_at
            FROM webhook_events WHERE {" AND ".join(where) or "true"} ORDER BY received_at DESC, id DESC LIMIT %(limit)s
        """
        return rows_of(self._driver, query, {**wanted, "limit": limit})

    def outcomes(self, since: datetime) -> list[dict[str, Any]]:
        """How many events were received since, by source and status; how many of them carry a flag; how often they came
        again."""
        return rows_of(self._driver, OUTCOMES, (since,))

    def add(self, event_id: UUID, body: Mapping[str, Any], *, subject: str | None) -> bool:
        """Store a snapshot event that Stripe was asked for instead of delivering it. False if it is there already."""
        return self._driver.execute(ADD, {"id": event_id, "payload": Jsonb(body), "subject": subject}).rowcount == 1

    def add_of_clerk(self, event_id: UUID, external_id: str, body: Mapping[str, Any], *, subject: str) -> bool:
        """Store an event about something that Clerk was asked for. False if it is there already."""
        given = {"id": event_id, "external_id": external_id, "payload": Jsonb(body), "subject": subject}
        return self._driver.execute(ADD_OF_CLERK, given).rowcount == 1

    def assign(self, event_id: UUID, job_id: UUID) -> None:
        """Say which job applies the event."""
        self._driver.execute("UPDATE webhook_events SET job_id = %s WHERE id = %s", (job_id, event_id))

    def mark(self, event_id: UUID, outcome: Outcome) -> None:
        """Say what became of the event. A flag that was raised stays, and with it what it meant."""
        values = {"id": event_id, "status": outcome.status, "flag": outcome.flag, "detail": outcome.explained}
        self._driver.execute(MARK, values)

    def drop_bodies(self, source: str, statuses: Sequence[Status], before: datetime, most: int) -> int:
        """Drop what such events of this source said that came before this time: their bodies and payloads, not their
        ids. Returns how many there were, `most` at most."""
        values = {"source": source, "statuses": list(statuses), "before": before, "most": most}
        return self._driver.execute(DROP, values).rowcount

    def drop_bodies_of_deleted(self) -> int:
        """Drop what ignored events said of people and organizations that are deleted. Returns how many there were."""
        return self._driver.execute(DROP_OF_DELETED, {"statuses": list(IGNORED)}).rowcount

    def dropped(self, source: str, subject: str) -> bool:
        """Whether the body of any event about this subject is kept no more."""
        query = """
            SELECT EXISTS (SELECT FROM webhook_events
                           WHERE source = %s AND subject = %s AND dropped_at IS NOT NULL)
        """
        return bool(self._driver.execute(query, (source, subject)).fetchall()[0][0])

    def waiting(
        self,
        source: str,
        status: Status,
        subjects: Sequence[str],
        *,
        containing: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Event]:
        """Events about any of these that are parked with this status, in the order in which they came; only those
        whose payload contains `containing`."""
        query = f"""
            SELECT {EVENT} FROM webhook_events
            WHERE source = %s AND status = %s AND subject = ANY(%s) AND payload @> %s ORDER BY received_at, id
        """
        with self._driver.cursor(row_factory=class_row(Event)) as cursor:
            return cursor.execute(query, (source, status, list(subjects), Jsonb(dict(containing)))).fetchall()

    def replace_payload(self, event_id: UUID, payload: Mapping[str, Any], subject: str | None) -> None:
        """Keep what a thin event turned out to stand for, and whom it is about; `body` stays what was signed."""
        self._driver.execute(
            "UPDATE webhook_events SET payload = %s, subject = coalesce(%s, subject) WHERE id = %s",
            (Jsonb(payload), subject, event_id),
        )

    def subjects(self, source: str) -> list[str]:
        """Everybody that stored events of this source are about."""
        query = "SELECT DISTINCT subject FROM webhook_events WHERE source = %s AND subject IS NOT NULL ORDER BY subject"
        return [subject for (subject,) in self._driver.execute(query, (source,))]

    def about(self, source: str, subject: str) -> Iterator[dict[str, Any]]:
        """The payloads of all events about a subject that are kept, oldest first, fetched as they are asked for."""
        query = """
            SELECT payload FROM webhook_events
            WHERE source = %s AND subject = %s AND dropped_at IS NULL ORDER BY id
        """
        with self._driver.cursor(name="events_about") as cursor:
            cursor.itersize = PAYLOADS
            cursor.execute(query, (source, subject))
            yield from (payload for (payload,) in cursor)

    def parked(self, reason: str, limit: int) -> list[Replayable]:
        """Parked events, oldest first, whose reason begins with this."""
        given = {"status": f"parked:{reason}", "limit": limit}
        return [Replayable(*row) for row in self._driver.execute(PARKED, given)]

    def ignored(self, kind: str, limit: int) -> list[Replayable]:
        """Events of this type, oldest first, that were ignored for it and whose bodies are kept."""
        return [Replayable(*row) for row in self._driver.execute(IGNORED_BY_TYPE, (kind, limit))]

    def waiting_for_a_link(self, customer_ids: Sequence[str]) -> list[UUID]:
        """Parked Stripe events of these customers, oldest first, that waited to learn whose customer it is."""
        return [event_id for (event_id,) in self._driver.execute(WAITING_FOR_A_LINK, (list(customer_ids),))]

    def reappliable(self, prices: Sequence[str], *, can_fetch: bool, limit: int) -> list[UUID]:
        """Parked Stripe events for which the missing thing is there by now, oldest first."""
        given = {"prices": list(prices), "can_fetch": can_fetch, "limit": limit}
        return [event_id for (event_id,) in self._driver.execute(REAPPLIABLE, given)]
