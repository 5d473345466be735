"""All rows of one tenant, table by table: what an export has of them, and in which order a deletion goes.

Every table with a `tenant_id` is named in one of these plans; a test goes through the schema and says which is missing.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from db.identity.people import LIVE_MEMBERS
from db.schema.tables import metadata

SECRETS: Final = {
    "social_accounts": {"access_token", "refresh_token"},
    "social_posts": {"handle_secrets"},
    "webhook_endpoints": {"secret"},
    "api_keys": {"key_hash"},
}
"""Columns that an export leaves out: what opens something, for us or for the tenant, and hashes of it."""

NOT_EXPORTED: Final = {
    "oauth_states": "connections that somebody has begun: they hold secrets for some minutes",
}
"""Tables that an export leaves out, and why."""

KEPT: Final = {
    "quota_ledger": "concepts that were paid for and used, without a name: what invoices are about",
    "stripe_customers": "which customer of Stripe it was: invoices have to be kept for years",
    "api_usage": "what its work cost us, without what it was about",
}
"""Tables whose rows a deletion leaves, and why. None of them names a person."""

LATER: Final = ("post_submissions", "social_posts", "videos", "social_accounts")
"""They go when the last submission is `MARKS_KEPT` old, if there was one: what remembers submissions outside of the
database would else take it for one that was put back to an earlier state, and let nobody post. What they say is emptied
at once."""

MEDIA: Final = "media"

BY_JOB: Final = ("job_attempts", "job_steps")
"""They belong to the tenant of their job, and go with it."""

OTHERS: Final = {
    "tenants": "SELECT {columns} FROM tenants WHERE id = %(tenant_id)s",
    "account_tenants": "SELECT {columns} FROM account_tenants WHERE home_id = %(tenant_id)s ORDER BY clerk_id",
    "stripe_subscriptions": (
        "SELECT {columns} FROM stripe_subscriptions WHERE customer_id IN"
        " (SELECT id FROM stripe_customers WHERE tenant_id = %(tenant_id)s)"
    ),
    "stripe_invoices": (
        "SELECT {columns} FROM stripe_invoices WHERE customer_id IN"
        " (SELECT id FROM stripe_customers WHERE tenant_id = %(tenant_id)s)"
    ),
    **{
        name: (
            f"SELECT {{columns}} FROM {name} WHERE job_id IN (SELECT id FROM job_queue WHERE tenant_id = %(tenant_id)s)"
        )
        for name in BY_JOB
    },
}
"""Tables without a `tenant_id` that have rows of tenants, and the query for one tenant's."""

PAGE: Final = 500
"""Rows that are fetched at once."""


def owned() -> list[str]:
    """Return the tables with a `tenant_id`, those that others refer to first."""
    return [table.name for table in metadata.sorted_tables if "tenant_id" in table.c]


def exported() -> list[str]:
    """Return the tables that an export has, in its order."""
    return [*OTHERS, *(name for name in owned() if name not in NOT_EXPORTED)]


def left_out(table: str) -> list[str]:
    """Return the columns that an export does not have."""
    return sorted(SECRETS.get(table, set()) & set(metadata.tables[table].c.keys()))


def deleted() -> list[str]:
    """Return the tables whose rows a deletion takes away, in its order: first those that refer to others. Files
    (`media`) go after them, one by one."""
    return [name for name in reversed(owned()) if name not in KEPT and name not in (MEDIA, *LATER)]


class TenantRows:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def rows(self, table: str, tenant_id: UUID) -> Iterator[str]:
        """Yield the tenant's rows of an exported table as JSON objects, from the snapshot of this transaction."""
        columns = [name for name in list(metadata.tables[table].c.keys()) if name not in left_out(table)]
        selected = ", ".join(f'"{name}"' for name in columns)
        if table in OTHERS:
            query = OTHERS[table].format(columns=selected)
        else:
            keys = ", ".join(f'"{column.name}"' for column in metadata.tables[table].primary_key)
            query = f"SELECT {selected} FROM {table} WHERE tenant_id = %(tenant_id)s" + (
                f" ORDER BY {keys}" if keys else ""
            )
        with self._driver.cursor(name="exported") as cursor:
            cursor.itersize = PAGE
            cursor.execute(f"SELECT row_to_json(of)::text FROM ({query}) AS of".encode(), {"tenant_id": tenant_id})
            for (row,) in cursor:
                yield row

    def exported(self) -> list[str]:
        """Return the tables that an export has, in its order."""
        return exported()

    def not_exported(self) -> dict[str, str]:
        """Return the tables that it does not have, and why."""
        return NOT_EXPORTED

    def left_out(self, table: str) -> list[str]:
        """Return the columns of a table that it does not have."""
        return left_out(table)

    def stored_files(self, tenant_id: UUID) -> list[tuple[bytes, str, int]]:
        """Return SHA-256, extension and bytes of each file that the store has."""
        query = "SELECT sha256, extension, bytes FROM media WHERE tenant_id = %s AND stored_at IS NOT NULL ORDER BY id"
        return self._driver.execute(query, (tenant_id,)).fetchall()

    def deleted(self) -> list[str]:
        """Return the tables whose rows go at once, in the order of a deletion."""
        return deleted()

    def deleted_later(self) -> Sequence[str]:
        """Return the tables whose rows go when no mark of a submission is left, in their order."""
        return LATER

    def last_submission(self, tenant_id: UUID) -> datetime | None:
        """Return when a post of the tenant was submitted last."""
        query = "SELECT max(created_at) FROM post_submissions WHERE tenant_id = %s"
        moment: datetime | None = self._driver.execute(query, (tenant_id,)).fetchall()[0][0]
        return moment

    def empty(self, tenant_id: UUID) -> None:
        """Take from the rows that go later what they say."""
        for statement in EMPTY:
            self._driver.execute(statement.encode(), {"tenant_id": tenant_id})

    def delete_some(self, table: str, tenant_id: UUID, limit: int) -> int:
        """Delete up to `limit` of the tenant's rows of a table of `deleted()`; return how many there were."""
        # Once more by the tenant, so that nothing but an index of its own decides.
        query = f"""
            DELETE FROM {table} WHERE tenant_id = %(tenant_id)s AND (tableoid, ctid) IN (
                SELECT tableoid, ctid FROM {table} WHERE tenant_id = %(tenant_id)s LIMIT %(limit)s
            )
        """
        return self._driver.execute(query.encode(), {"tenant_id": tenant_id, "limit": limit}).rowcount

    def live_jobs(self, tenant_id: UUID, limit: int) -> list[UUID]:
        """Return some of the tenant's jobs that wait or run."""
        query = """
            SELECT id FROM job_queue WHERE tenant_id = %s AND status IN ('pending', 'running')
            AND cancel_requested_at IS NULL LIMIT %s
        """
        return [row[0] for row in self._driver.execute(query, (tenant_id, limit))]

    def running(self, tenant_id: UUID) -> int:
        query = "SELECT count(*) FROM job_queue WHERE tenant_id = %s AND status = 'running'"
        return int(self._driver.execute(query, (tenant_id,)).fetchall()[0][0])

    def lock(self, tenant_id: UUID) -> None:
        """Wait for all who add rows to the tenant, and let nobody add one until the transaction ends."""
        self._driver.execute(LOCK, (tenant_id,))

    def close(self, tenant_id: UUID) -> bool:
        """Mark the tenant as deleted, and let nobody in: no key opens it, nobody works in it; whoever worked in it and
        has another place works there. Clerk is locked, and then the tenant. False if it was marked before."""
        marked = self._driver.execute(MARK, {"tenant_id": tenant_id}).rowcount == 1
        for statement in CLOSE:
            self._driver.execute(statement.encode(), {"tenant_id": tenant_id})
        return marked

    def silence(self, tenant_id: UUID) -> None:
        """Let nothing of it begin by itself, and tell its programs nothing."""
        for statement in SILENCE:
            self._driver.execute(statement.encode(), {"tenant_id": tenant_id})

    def anonymise(self, tenant_id: UUID) -> None:
        """Leave of the tenant what its ledger and its invoices need."""
        self._driver.execute(ANONYMOUS, {"tenant_id": tenant_id})

    def media_ids(self, tenant_id: UUID, after: UUID | None, limit: int) -> list[UUID]:
        """Return the ids of the next files after this one."""
        query = "SELECT id FROM media WHERE tenant_id = %s AND (%s::uuid IS NULL OR id > %s) ORDER BY id LIMIT %s"
        return [row[0] for row in self._driver.execute(query, (tenant_id, after, after, limit))]


LOCK: Final = "SELECT FROM tenants WHERE id = %s FOR UPDATE"
# Its period has no next one: what nobody pays for is not due (`db/tenants/quota.py`).
MARK: Final = """
UPDATE tenants SET deletion_began_at = now(), name = 'deleted', daily_enabled = false, subscription_tier = 'FREE',
    stripe_subscription_id = NULL, monthly_quota = 0, quota_granted = 0, quota_paid_until = quota_reset_at,
    updated_at = now()
WHERE id = %(tenant_id)s AND deletion_began_at IS NULL
"""
CLOSE: Final = (
    f"""
UPDATE users SET tenant_id = other.id, role = other.role, updated_at = now()
FROM users person CROSS JOIN LATERAL (
    SELECT place.id, place.role FROM (
        SELECT home_id AS id, 'ADMIN' AS role, NULL::timestamptz AS since FROM account_tenants
        WHERE clerk_id = person.clerk_id
        UNION ALL SELECT a.home_id, m.role, m.joined_at FROM {LIVE_MEMBERS} WHERE m.user_clerk_id = person.clerk_id
    ) AS place JOIN tenants t ON t.id = place.id AND t.deletion_began_at IS NULL
    ORDER BY place.since NULLS FIRST, place.id LIMIT 1
) AS other
WHERE users.id = person.id AND person.tenant_id = %(tenant_id)s
""",
    "DELETE FROM account_tenants WHERE home_id = %(tenant_id)s",
    "DELETE FROM users WHERE tenant_id = %(tenant_id)s",
    "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = %(tenant_id)s",
)
SILENCE: Final = (
    "UPDATE autopilots SET mode = 'off' WHERE tenant_id = %(tenant_id)s AND mode <> 'off'",
    "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'the tenant was deleted'"
    " WHERE tenant_id = %(tenant_id)s AND disabled_at IS NULL",
    "UPDATE webhook_deliveries SET next_at = NULL, given_up_at = now(), error = 'the tenant was deleted'"
    " WHERE tenant_id = %(tenant_id)s AND next_at IS NOT NULL",
)
EMPTY: Final = (
    "UPDATE videos SET generation_id = NULL, media_id = NULL, thumbnail_id = NULL, prompt = NULL, video_url = NULL,"
    " thumbnail_url = NULL, title = '', details = '{}', error_message = NULL WHERE tenant_id = %(tenant_id)s",
    "UPDATE social_accounts SET username = NULL, external_id = id::text, settings = '{}', limits = '{}', niche = NULL"
    " WHERE tenant_id = %(tenant_id)s",
    "UPDATE social_posts SET caption = '', title = '', hashtags = '{}', options = '{}', permalink = NULL,"
    " handle = NULL, handle_secrets = NULL, first_comment = NULL, prediction = NULL, error_message = NULL"
    " WHERE tenant_id = %(tenant_id)s",
)
ANONYMOUS: Final = """
UPDATE tenants SET region = DEFAULT, timezone = DEFAULT, daily_last_on = NULL, daily_hour = DEFAULT,
    daily_count = DEFAULT, updated_at = now()
WHERE id = %(tenant_id)s
"""
