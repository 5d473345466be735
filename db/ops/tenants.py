"""Tenants as an operator looks for them, and what each costs, does and suffers from. What could be much is bounded."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from db.identity.people import deserted
from db.postgres.connection import AppConnection
from db.postgres.rows import row_of, rows_of
from domain.ops.tenant_filters import DELETED, NAMES, TenantFilter
from domain.text.filters import Cursor

MOST_COUNTED: Final = 10_000
MOST_USES: Final = 2_000
"""Rows of a tenant's use of paid services that are added up for a list; for its own page `MOST_USES_OF_ONE`."""
MOST_USES_OF_ONE: Final = 50_000
NEWEST_POSTS: Final = 200
"""Posts of a tenant among which failed ones are counted."""

MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"

OF_CUSTOMER = """
SELECT id FROM tenants WHERE stripe_customer_id = %(customer)s
UNION SELECT tenant_id FROM stripe_customers WHERE id = %(customer)s
"""

# The newest posts by their index; a failed one counts for a month.
FAILED_POSTS = f"""
SELECT FROM (
    SELECT status, updated_at FROM social_posts WHERE tenant_id = {{tenant}}
    ORDER BY created_at DESC, id DESC LIMIT {NEWEST_POSTS}
) AS post WHERE status = 'failed' AND updated_at >= now() - interval '30 days'
"""
TO_RECONNECT = "SELECT FROM social_accounts WHERE tenant_id = {tenant} AND status = 'needs_reconnect'"

# Of each the few are found first of whom it can be true: to ask it of all tenants takes a look at each of them.
HARM = {
    "deserted": f"""id = ANY(ARRAY(
        SELECT id FROM tenants EXCEPT SELECT tenant_id FROM users WHERE deleted_at IS NULL AND NOT banned
    )) AND {deserted("tenants.id")}""",
    "needs_reconnect": f"EXISTS ({TO_RECONNECT.format(tenant='tenants.id')})",
    "failed_posts": f"""id = ANY(ARRAY(
        SELECT tenant_id FROM social_posts WHERE status = 'failed' AND updated_at >= now() - interval '30 days'
    )) AND EXISTS ({FAILED_POSTS.format(tenant="tenants.id")})""",
}

# The page is decided before anything is asked of each of its tenants.
LISTED = f"""
SELECT page.*, {deserted("page.id")} AS deserted,
    (SELECT count(*) FROM ({TO_RECONNECT.format(tenant="page.id")}) AS account) AS to_reconnect,
    (SELECT count(*) FROM ({FAILED_POSTS.format(tenant="page.id")}) AS post) AS failed_posts,
    greatest(
        (SELECT created_at FROM job_queue WHERE tenant_id = page.id ORDER BY created_at DESC LIMIT 1),
        (SELECT max(last_login_at) FROM users WHERE tenant_id = page.id)
    ) AS active_at,
    cost.uses, cost.usd
FROM (
    SELECT * FROM tenants {{where}} ORDER BY created_at DESC, id DESC LIMIT %(limit)s
) AS page CROSS JOIN LATERAL (
    SELECT count(*) AS uses, coalesce(sum(cost_usd), 0) AS usd FROM (
        SELECT cost_usd FROM api_usage WHERE tenant_id = page.id AND created_at >= {MONTH} LIMIT {MOST_USES + 1}
    ) AS used
) AS cost ORDER BY created_at DESC, id DESC
"""

COSTS = f"""
SELECT kind, name, count(*) AS uses, sum(cost_usd) AS usd, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out
FROM (
    SELECT * FROM api_usage WHERE tenant_id = %(tenant_id)s AND created_at >= {MONTH}
    ORDER BY created_at DESC LIMIT {MOST_USES_OF_ONE}
) AS used WHERE cost_usd IS NOT NULL GROUP BY kind, name ORDER BY usd DESC, kind, name LIMIT 100
"""

ACCOUNTS = """
SELECT id, platform, username, status, reason, access_expires_at, connected_at FROM social_accounts
WHERE tenant_id = %(tenant_id)s ORDER BY platform, connected_at LIMIT 100
"""
JOBS = """
SELECT id, job_type, queue, status, attempts, error_message, created_at, scheduled_for, completed_at FROM job_queue
WHERE tenant_id = %(tenant_id)s ORDER BY created_at DESC LIMIT %(limit)s
"""
POSTS = """
SELECT id, status, scheduled_for, published_at, error_code, created_at FROM social_posts
WHERE tenant_id = %(tenant_id)s ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""
VIDEOS = """
SELECT id, status, stage, provider, created_at, completed_at FROM videos
WHERE tenant_id = %(tenant_id)s ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""

# The entry that was the last at that moment says what was used then, and of how many.
AS_OF = """
SELECT * FROM quota_ledger WHERE tenant_id = %(tenant_id)s AND at <= %(at)s ORDER BY id DESC LIMIT 1
"""
ENTRIES_UNTIL = """
SELECT * FROM quota_ledger WHERE tenant_id = %(tenant_id)s AND taken_at >= %(since)s AND at <= %(at)s
ORDER BY id DESC LIMIT 10000
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of tenants, the newest first; where the next begins, if there is one; and how many match, `MOST_COUNTED`
    + 1 at most."""

    rows: list[dict[str, Any]]
    further: Cursor | None
    count: int


class TenantViews:
    """Query group. `page` works in the system scope; what is of one tenant, in its own too."""

    def __init__(self, driver: AppConnection) -> None:
        self._driver = driver

    def page(self, wanted: TenantFilter, *, limit: int) -> Found:
        """Return the newest tenants that match beyond the place `wanted.after`.

        Beside the columns of the tenant: `deserted`, `to_reconnect` accounts, `failed_posts`, when it was `active_at`,
        and its `uses` of paid services in this month of the calendar, with what they cost in `usd`; of more than
        `MOST_USES` only so many.
        """
        values = {name: getattr(wanted, name) for name in NAMES} | {"limit": limit + 1}
        conditions = {
            "subscription_tier = %(plan)s": wanted.plan is not None,
            "deletion_began_at IS NULL": wanted.hides_deleted,
            "deletion_began_at IS NOT NULL": wanted.status == DELETED,
            "subscription_status = %(status)s": wanted.status not in (None, DELETED),
            "position(lower(%(name)s) IN lower(name)) > 0": wanted.name is not None,
            "id = %(id)s": wanted.id is not None,
            f"id IN ({OF_CUSTOMER})": wanted.customer is not None,
            "id IN (SELECT tenant_id FROM users WHERE lower(email) = lower(%(email)s))": wanted.email is not None,
            HARM.get(wanted.harm or "", ""): wanted.harm is not None,
        }
        applying = [condition for condition, applies in conditions.items() if applies]
        counted = f"SELECT FROM tenants {_where(applying)} LIMIT {MOST_COUNTED + 1}"
        count = int(rows_of(self._driver, f"SELECT count(*) AS n FROM ({counted}) AS counted", values)[0]["n"])
        if wanted.after is not None:
            applying.append("(created_at, id) < (%(at)s, %(at_id)s)")
            values |= {"at": wanted.after.at, "at_id": wanted.after.id}
        rows = rows_of(self._driver, LISTED.format(where=_where(applying)), values)
        more, rows = len(rows) > limit, rows[:limit]
        return Found(rows, Cursor(rows[-1]["id"], rows[-1]["created_at"]) if more else None, count)

    def costs(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return what this month of the calendar cost, by kind and provider, the dearest first."""
        return self._of(COSTS, tenant_id)

    def accounts(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the social accounts without what they are called."""
        return self._of(ACCOUNTS, tenant_id)

    def newest(self, tenant_id: UUID, limit: int) -> dict[str, list[dict[str, Any]]]:
        """Return the newest `jobs`, `posts` and `videos`, without what people wrote."""
        queries = {"jobs": JOBS, "posts": POSTS, "videos": VIDEOS}
        return {name: self._of(query, tenant_id, limit=limit) for name, query in queries.items()}

    def quota_as_of(self, tenant_id: UUID, at: datetime) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Return the ledger's last entry at that moment (None: there was none), and all that count in its period, the
        newest first."""
        last = row_of(self._driver, AS_OF, {"tenant_id": tenant_id, "at": at})
        return last, [] if last is None else self._of(ENTRIES_UNTIL, tenant_id, since=last["period_start"], at=at)

    def _of(self, query: str, tenant_id: UUID, **values: Any) -> list[dict[str, Any]]:
        return rows_of(self._driver, query, {"tenant_id": tenant_id, **values})


def _where(applying: list[str]) -> str:
    return f"WHERE {' AND '.join(applying)}" if applying else ""
