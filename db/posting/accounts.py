"""Social accounts of tenants, and their tokens as they are encrypted.

    active ──refuse──▶ needs_reconnect          connect: from any of them back to active, on the same row
       └──────┬─────────────┘
              └──disconnect──▶ disconnected     its tokens are gone

A refresh is begun, made with no transaction open, and finished, both by compare-and-set on `token_version`: it counts
the tokens that the account had, so a refresh that was overtaken by another or by a reconnect changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from domain.errors import SealUnknown
from domain.posting.accounts import Grant, SealedTokens
from domain.posting.posts import UNDER_WAY, PostStatus
from domain.text.storable import to_json

COLUMNS = """id, tenant_id, platform, external_id, username, niche, timezone, status, reason, server, scopes,
    access_expires_at, refresh_expires_at, daily_limit, token_version, refresh_begun_at, refresh_tries, refreshed_at,
    connected_at, settings, limits, limits_read_at, disabled_at, created_at,
    updated_at"""

GET = f"SELECT {COLUMNS} FROM social_accounts WHERE tenant_id = %s AND id = %s"

OWNER = "SELECT tenant_id FROM social_accounts WHERE id = %s"

LISTED = f"""
SELECT {COLUMNS} FROM social_accounts
WHERE (%(tenant_id)s::uuid IS NULL OR tenant_id = %(tenant_id)s)
    AND (%(platform)s::text IS NULL OR platform = %(platform)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY created_at, id LIMIT %(limit)s
"""

TOKENS = f"SELECT {COLUMNS}, access_token, refresh_token FROM social_accounts WHERE tenant_id = %s AND id = %s"

# An account is one row of a tenant, however often it is connected. Where no refresh token comes (Google gives one with
# the first consent only), the one before is good still.
CONNECT = f"""
INSERT INTO social_accounts (id, tenant_id, platform, external_id, username, server, access_token, refresh_token,
    access_expires_at, refresh_expires_at, scopes, token_version, refreshed_at, connected_at)
VALUES (%(id)s, %(tenant_id)s, %(platform)s, %(external_id)s, %(username)s, %(server)s, %(access)s, %(refresh)s,
    %(access_expires_at)s, %(refresh_expires_at)s, %(scopes)s, 1, %(now)s, %(now)s)
ON CONFLICT (tenant_id, platform, external_id) DO UPDATE SET
    username = coalesce(nullif(excluded.username, ''), social_accounts.username), server = excluded.server,
    status = 'active', reason = NULL, access_token = excluded.access_token,
    refresh_token = coalesce(excluded.refresh_token, social_accounts.refresh_token),
    access_expires_at = excluded.access_expires_at,
    refresh_expires_at = CASE WHEN excluded.refresh_token IS NULL THEN social_accounts.refresh_expires_at
        ELSE excluded.refresh_expires_at END,
    scopes = excluded.scopes, token_version = social_accounts.token_version + 1, refresh_begun_at = NULL,
    refresh_tries = 0, refreshed_at = excluded.refreshed_at, connected_at = excluded.connected_at, updated_at = now()
RETURNING {COLUMNS}
"""

# A refresh that was begun a minute ago is over: its process died, or its answer was lost. Tokens whose refresh was not
# answered are sent again after one minute, then 5, 25 and 60: more often helps nobody.
BEGIN_REFRESH = """
UPDATE social_accounts SET refresh_begun_at = %(now)s, refresh_tries = refresh_tries + 1
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'active' AND token_version = %(version)s
    AND (refresh_begun_at IS NULL OR refresh_begun_at + least(
        interval '1 minute' * power(5, greatest(least(refresh_tries, 9) - 1, 0)), interval '1 hour'
    ) <= %(now)s)
RETURNING refresh_tries
"""

FINISH_REFRESH = """
UPDATE social_accounts SET access_token = %(access)s, refresh_token = coalesce(%(refresh)s, refresh_token),
    access_expires_at = %(access_expires_at)s,
    refresh_expires_at = CASE WHEN %(refresh)s::bytea IS NULL THEN refresh_expires_at ELSE %(refresh_expires_at)s END,
    scopes = CASE WHEN cardinality(%(scopes)s::text[]) = 0 THEN scopes ELSE %(scopes)s END,
    username = coalesce(nullif(%(username)s, ''), username), server = coalesce(nullif(%(server)s, ''), server),
    token_version = token_version + 1,
    refresh_begun_at = NULL, refresh_tries = 0, refreshed_at = %(now)s, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND token_version = %(version)s AND status <> 'disconnected'
RETURNING id
"""

END_REFRESH = """
UPDATE social_accounts SET refresh_begun_at = NULL, refresh_tries = refresh_tries - 1
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND token_version = %(version)s AND refresh_begun_at = %(begun_at)s
"""

REFUSE = """
UPDATE social_accounts SET status = 'needs_reconnect', reason = %(reason)s, refresh_begun_at = NULL, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'active'
    AND (%(version)s::integer IS NULL OR token_version = %(version)s)
RETURNING id
"""

# Whoever reads an account under a key that is not set says so as its reason.
UNREADABLE = """
SELECT tenant_id, id, token_version, access_token, refresh_token FROM social_accounts
WHERE status = 'needs_reconnect' AND reason = %(reason)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""

REACTIVATE = """
UPDATE social_accounts SET status = 'active', reason = NULL, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND token_version = %(version)s AND status = 'needs_reconnect'
    AND reason = %(reason)s
"""

DISCONNECT = """
UPDATE social_accounts SET status = 'disconnected', reason = NULL, access_token = NULL, refresh_token = NULL,
    access_expires_at = NULL, refresh_expires_at = NULL, token_version = token_version + 1, refresh_begun_at = NULL,
    refresh_tries = 0, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status <> 'disconnected'
RETURNING id
"""

END_POSTS = """
WITH found AS (
    SELECT id FROM social_posts
    WHERE tenant_id = %(tenant_id)s AND account_id = %(id)s AND status = ANY(%(since)s)
        AND (status <> 'claimed' OR (submitted_at IS NULL) = %(unsent)s)
    ORDER BY id FOR NO KEY UPDATE
), ended AS (
    UPDATE social_posts p SET status = %(status)s, error_code = %(code)s, error_message = %(message)s,
        look_after = NULL, updated_at = now()
    FROM found f WHERE p.tenant_id = %(tenant_id)s AND p.id = f.id
    RETURNING p.id
), released AS (
    DELETE FROM post_reservations
    WHERE %(unsent)s AND tenant_id = %(tenant_id)s AND post_id IN (SELECT id FROM ended)
), noted AS (
    INSERT INTO post_events (tenant_id, post_id, kind, message)
    SELECT %(tenant_id)s, id, %(kind)s, %(message)s FROM ended
)
SELECT count(*) FROM ended
"""

CHANGE = f"""
UPDATE social_accounts SET settings = jsonb_strip_nulls(settings || %(settings)s::jsonb),
    niche = CASE WHEN %(has_niche)s THEN %(niche)s ELSE niche END,
    timezone = coalesce(%(timezone)s, timezone),
    daily_limit = CASE WHEN %(has_daily_limit)s THEN %(daily_limit)s ELSE daily_limit END, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s
RETURNING {COLUMNS}
"""

ENABLE = """
UPDATE social_accounts SET disabled_at = CASE WHEN %(enabled)s THEN NULL ELSE now() END, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND (disabled_at IS NULL) <> %(enabled)s
"""

SAVE_LIMITS = """
UPDATE social_accounts SET limits = %(limits)s, limits_read_at = %(now)s
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status <> 'disconnected'
"""

ELSEWHERE = """
SELECT EXISTS (
    SELECT FROM social_accounts
    WHERE platform = %(platform)s AND external_id = %(external_id)s AND tenant_id <> %(tenant_id)s
        AND status <> 'disconnected'
)
"""

ACTIVE = f"""
SELECT {COLUMNS}, EXISTS (
    SELECT FROM social_posts p
    WHERE p.tenant_id = a.tenant_id AND p.account_id = a.id AND p.status = ANY(%(waiting)s)
) AS has_waiting FROM social_accounts a
WHERE status = 'active' AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""

WAITING = (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL, PostStatus.SCHEDULED, PostStatus.CLAIMED)
"""States of posts of which certainly nothing was published; of a claimed one if nothing was submitted."""

WITH_USE = f"""
SELECT a.*, coalesce(p.waiting, 0) AS waiting, p.last_post_at, coalesce(r.used, 0) AS used_today FROM (
    SELECT {COLUMNS} FROM social_accounts
    WHERE tenant_id = %(tenant_id)s AND (%(platform)s::text IS NULL OR platform = %(platform)s)
) AS a
LEFT JOIN (
    SELECT account_id, count(*) FILTER (WHERE status = ANY(%(live)s)) AS waiting,
        max(published_at) AS last_post_at
    FROM social_posts WHERE tenant_id = %(tenant_id)s GROUP BY account_id
) AS p ON p.account_id = a.id
LEFT JOIN (
    SELECT p.account_id, count(DISTINCT p.id) AS used FROM post_reservations r
    JOIN social_posts p ON p.tenant_id = r.tenant_id AND p.id = r.post_id
    WHERE r.tenant_id = %(tenant_id)s AND r.reserved_at > %(now)s::timestamptz - interval '24 hours'
    GROUP BY p.account_id
) AS r ON r.account_id = a.id
ORDER BY a.created_at, a.id
"""

# Whoever holds a row is at it, and encrypts what it writes with the newest key; the row is seen in the next round.
LOCKED = "FOR NO KEY UPDATE SKIP LOCKED"
SEALED = f"""
SELECT id, tenant_id, access_token, refresh_token FROM social_accounts
WHERE id > %(after)s AND (access_token IS NOT NULL OR refresh_token IS NOT NULL)
ORDER BY id LIMIT %(limit)s {LOCKED}"""

SEALED_HANDLES = """
SELECT id, tenant_id, handle_secrets FROM social_posts
WHERE id > %(after)s AND handle_secrets IS NOT NULL
ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
"""


class Disconnected(NamedTuple):
    """The posts of an account that was disconnected: those that waited and are cancelled, and those of which nobody can
    see any more what becomes of them."""

    cancelled: int
    unconfirmed: int


class Accounts:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    # --- what there is ------------------------------------------------------------------------------------------

    def get(self, tenant_id: UUID, account_id: UUID) -> dict[str, Any] | None:
        """Return one account, without its tokens."""
        return row_of(self._driver, GET, (tenant_id, account_id))

    def owner(self, account_id: UUID) -> UUID | None:
        """Return whose account it is. System scope."""
        row = row_of(self._driver, OWNER, (account_id,))
        return None if row is None else row["tenant_id"]

    def listed(
        self,
        tenant_id: UUID | None,
        *,
        platform: str | None = None,
        status: str | None = None,
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """Return accounts, oldest first, without their tokens; with None all tenants' (system scope)."""
        values = {"tenant_id": tenant_id, "platform": platform, "status": status, "limit": limit}
        return rows_of(self._driver, LISTED, values)

    def with_use(self, tenant_id: UUID, now: datetime, platform: str | None = None) -> list[dict[str, Any]]:
        """Return a tenant's accounts, each with its posts that are `waiting` or under way, the places that it has
        `used_today` (within 24 hours), and `last_post_at`."""
        live = [PostStatus.SCHEDULED, *UNDER_WAY]
        values = {"tenant_id": tenant_id, "platform": platform, "now": now, "live": live}
        return rows_of(self._driver, WITH_USE, values)

    def tokens(self, tenant_id: UUID, account_id: UUID) -> tuple[dict[str, Any], SealedTokens] | None:
        """Return one account and its tokens, encrypted."""
        row = row_of(self._driver, TOKENS, (tenant_id, account_id))
        if row is None:
            return None
        return row, SealedTokens(row.pop("access_token"), row.pop("refresh_token"))

    def active(self, after: UUID, limit: int) -> list[dict[str, Any]]:
        """Return active accounts of all tenants by id, each with whether it `has_waiting` posts. System scope."""
        return rows_of(self._driver, ACTIVE, {"after": after, "limit": limit, "waiting": list(WAITING)})

    def is_elsewhere(self, tenant_id: UUID, platform: str, external_id: str) -> bool:
        """Return whether another tenant has this account connected too. System scope."""
        values = {"tenant_id": tenant_id, "platform": platform, "external_id": external_id}
        row = row_of(self._driver, ELSEWHERE, values)
        return row is not None and bool(row["exists"])

    # --- tokens -------------------------------------------------------------------------------------------------

    def connect(
        self, new_id: UUID, tenant_id: UUID, platform: str, *, grant: Grant, tokens: SealedTokens, now: datetime
    ) -> dict[str, Any]:
        """Add the account, or give the tenant's row of it these tokens (of the grant, encrypted); either way it is
        active. A refresh token that was not given leaves the one before as it is."""
        values = _values(grant, tokens) | {"id": new_id, "tenant_id": tenant_id, "platform": platform, "now": now}
        values |= {"external_id": grant.external_id}
        row = row_of(self._driver, CONNECT, values)
        if row is None:
            raise AssertionError("it is added or changed")
        return row

    def begin_refresh(self, tenant_id: UUID, account_id: UUID, version: int, now: datetime) -> int | None:
        """Begin a refresh of the tokens of this version, and return how many of them have been begun, this one included
        (more than one: an answer was lost). None if another one is under way, or the tokens are others by now."""
        values = {"tenant_id": tenant_id, "id": account_id, "version": version, "now": now}
        row = row_of(self._driver, BEGIN_REFRESH, values)
        return None if row is None else row["refresh_tries"]

    def finish_refresh(
        self, tenant_id: UUID, account_id: UUID, version: int, *, grant: Grant, tokens: SealedTokens, now: datetime
    ) -> bool:
        """Keep the tokens that came for those of this version. False if there are others by now."""
        values = _values(grant, tokens) | {"tenant_id": tenant_id, "id": account_id, "version": version, "now": now}
        return row_of(self._driver, FINISH_REFRESH, values) is not None

    def end_refresh(self, tenant_id: UUID, account_id: UUID, version: int, begun_at: datetime) -> None:
        """Let a refresh be as if it had not been begun: nothing was acted upon."""
        values = {"tenant_id": tenant_id, "id": account_id, "version": version, "begun_at": begun_at}
        self._driver.execute(END_REFRESH, values)

    def refuse(self, tenant_id: UUID, account_id: UUID, reason: str, *, version: int | None = None) -> bool:
        """Let an active account need its owner, who reads the `reason`. Its tokens stay. With `version` only if it has
        those tokens still: False if it was connected again meanwhile."""
        values = {"tenant_id": tenant_id, "id": account_id, "version": version, "reason": reason}
        return row_of(self._driver, REFUSE, values) is not None

    def refused_for(self, reason: str, after: UUID, limit: int) -> list[dict[str, Any]]:
        """Return accounts that need their owner for exactly this reason, with their tokens. System scope."""
        return rows_of(self._driver, UNREADABLE, {"reason": reason, "after": after, "limit": limit})

    def reactivate(self, tenant_id: UUID, account_id: UUID, version: int, reason: str) -> None:
        """Let an account be active again that needed its owner for this reason, which has gone."""
        values = {"tenant_id": tenant_id, "id": account_id, "version": version, "reason": reason}
        self._driver.execute(REACTIVATE, values)

    def enable(self, tenant_id: UUID, account_id: UUID, enabled: bool) -> bool:
        """Let its posts begin, or begin none any more; False if it was so already."""
        values = {"tenant_id": tenant_id, "id": account_id, "enabled": enabled}
        return self._driver.execute(ENABLE, values).rowcount == 1

    # --- what its owner decides ---------------------------------------------------------------------------------

    def disconnect(self, tenant_id: UUID, account_id: UUID) -> Disconnected | None:
        """Delete the tokens, cancel what waits and give back its places, and say of what was submitted that nobody can
        look any more. None if it is not connected."""
        this: dict[str, Any] = {"tenant_id": tenant_id, "id": account_id}
        if row_of(self._driver, DISCONNECT, this) is None:
            return None
        waited, sent = this | {"unsent": True}, this | {"unsent": False}
        return Disconnected(
            self._end_posts(waited, WAITING, PostStatus.CANCELLED, "cancelled", "its account was disconnected"),
            self._end_posts(sent, UNDER_WAY, PostStatus.UNCONFIRMED, "unconfirmed", UNSEEN),
        )

    def change(
        self,
        tenant_id: UUID,
        account_id: UUID,
        *,
        settings: Mapping[str, Any],
        timezone: str | None = None,
        niche: str | None = None,
        has_niche: bool = False,
        daily_limit: int | None = None,
        has_daily_limit: bool = False,
    ) -> dict[str, Any] | None:
        """Change what its owner chose; `settings` by name, those that are not named stay, and null takes one
        away. Returns the account."""
        values: dict[str, Any] = {"tenant_id": tenant_id, "id": account_id, "settings": to_json(settings)}
        values |= {"timezone": timezone, "niche": niche, "has_niche": has_niche}
        values |= {"daily_limit": daily_limit, "has_daily_limit": has_daily_limit}
        return row_of(self._driver, CHANGE, values)

    def save_limits(self, tenant_id: UUID, account_id: UUID, limits: Mapping[str, Any], now: datetime) -> None:
        """Keep what the platform says that the account may do (`domain.posting.publishing.AccountLimits`, by name)."""
        values = {"tenant_id": tenant_id, "id": account_id, "limits": to_json(limits), "now": now}
        self._driver.execute(SAVE_LIMITS, values)

    def _end_posts(
        self, this: Mapping[str, Any], since: Sequence[PostStatus], status: PostStatus, kind: str, message: str
    ) -> int:
        values = {**this, "since": list(since), "status": status, "kind": kind, "message": message}
        row = row_of(self._driver, END_POSTS, values | {"code": "account_disconnected"})
        return 0 if row is None else int(row["count"])

    def sealed(self, after: UUID, limit: int) -> list[dict[str, Any]]:
        """Return the encrypted tokens of some accounts, to look whether they can be read. System scope."""
        return rows_of(self._driver, SEALED.removesuffix(LOCKED), {"after": after, "limit": limit})

    # --- keys ---------------------------------------------------------------------------------------------------

    def reseal(self, after: UUID, limit: int, reseal: Callable[[bytes], bytes | None]) -> "Resealed":
        """Encrypt the tokens of some accounts after this id anew, in their order. System scope."""
        rows = rows_of(self._driver, SEALED, {"after": after, "limit": limit})
        return self._reseal("social_accounts", ("access_token", "refresh_token"), rows, reseal)

    def reseal_handles(self, after: UUID, limit: int, reseal: Callable[[bytes], bytes | None]) -> "Resealed":
        """Encrypt the secret parts of some posts' handles anew, as `reseal` does. System scope."""
        rows = rows_of(self._driver, SEALED_HANDLES, {"after": after, "limit": limit})
        return self._reseal("social_posts", ("handle_secrets",), rows, reseal)

    def _reseal(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        reseal: Callable[[bytes], bytes | None],
    ) -> "Resealed":
        changed = unreadable = 0
        for row in rows:
            new: dict[str, bytes] = {}
            readable = True
            for column in columns:
                try:
                    fresh = None if row[column] is None else reseal(bytes(row[column]))
                except SealUnknown:
                    readable = False
                    continue
                if fresh is not None:
                    new[column] = fresh
            if new:
                listed = ", ".join(f"{column} = %({column})s" for column in new)
                this = {"tenant_id": row["tenant_id"], "id": row["id"]}
                change = f"UPDATE {table} SET {listed} WHERE tenant_id = %(tenant_id)s AND id = %(id)s"
                self._driver.execute(change.encode(), new | this)
            changed += bool(new)
            unreadable += not readable
        return Resealed(len(rows), changed, unreadable, rows[-1]["id"] if rows else None)


class Resealed(NamedTuple):
    """`seen` rows up to the id `last`, of which so many were encrypted anew, and so many are under an unknown key."""

    seen: int
    changed: int
    unreadable: int
    last: UUID | None


UNSEEN = (
    "its account was disconnected after this had been sent, so nobody can look any more whether it was published: "
    "look at the account itself"
)


def _values(grant: Grant, tokens: SealedTokens) -> dict[str, Any]:
    return {
        "access": tokens.access,
        "refresh": tokens.refresh,
        "access_expires_at": grant.access_expires_at,
        "refresh_expires_at": grant.refresh_expires_at,
        "scopes": list(grant.scopes),
        "username": grant.username,
        "server": grant.server,
    }
