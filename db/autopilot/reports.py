"""What operators see of the autopilots of all tenants, and names for what is shown of one."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of

OWNER = "SELECT tenant_id FROM autopilot_chains WHERE id = %s"

SWITCHED_ON = """
SELECT s.tenant_id, t.name, s.mode, s.videos_a_day, s.provider, s.budget_usd,
    (
        SELECT count(*) FROM autopilot_accounts c
        JOIN social_accounts a ON a.tenant_id = c.tenant_id AND a.id = c.account_id
        WHERE c.tenant_id = s.tenant_id AND a.status = 'active'
    ) AS accounts,
    coalesce(sum(c.spent_usd) FILTER (WHERE c.month = %(month)s), 0) AS spent_usd,
    count(c.id) FILTER (WHERE c.ended_at IS NULL) AS under_way,
    count(c.id) FILTER (WHERE c.stage = 'stopped' AND c.ended_at > %(since)s) AS stopped
FROM autopilots s
JOIN tenants t ON t.id = s.tenant_id
LEFT JOIN autopilot_chains c ON c.tenant_id = s.tenant_id AND (c.ended_at IS NULL OR c.month = %(month)s
    OR c.ended_at > %(since)s)
WHERE s.mode <> 'off'
GROUP BY s.tenant_id, t.name ORDER BY t.name, s.tenant_id
"""

# Tenants whose last so many days all ended for one reason, and in nothing else.
STOPPED_ALIKE = """
SELECT tenant_id, min(reason) AS reason, count(*) AS days
FROM (
    SELECT c.tenant_id, c.day, min(c.reason) AS reason, bool_and(c.stage = 'stopped') AS stopped,
        count(DISTINCT c.reason) AS reasons,
        row_number() OVER (PARTITION BY c.tenant_id ORDER BY c.day DESC) AS back
    FROM autopilot_chains c JOIN autopilots s ON s.tenant_id = c.tenant_id AND s.mode <> 'off'
    WHERE c.day > %(since)s AND c.ended_at IS NOT NULL
    GROUP BY c.tenant_id, c.day
) of_days
WHERE back <= %(days)s
GROUP BY tenant_id
HAVING count(*) = %(days)s AND bool_and(stopped) AND max(reasons) = 1 AND count(DISTINCT reason) = 1
ORDER BY tenant_id
"""

LAST_ON = "SELECT last_on FROM autopilots WHERE tenant_id = %s"

TITLES = "SELECT id, title FROM videos WHERE tenant_id = %s AND id = ANY(%s)"

NAMES = """
SELECT 'user:' || id, coalesce(email, name) FROM users WHERE id = ANY(%(ids)s) AND coalesce(email, name) IS NOT NULL
UNION ALL
SELECT 'key:' || id, 'the API key ' || name FROM api_keys WHERE tenant_id = %(tenant_id)s AND id = ANY(%(ids)s)
"""


class StoppedAlike(NamedTuple):
    """A tenant whose chains stopped for one reason on each of the last `days`."""

    tenant_id: UUID
    reason: str | None
    days: int


class AutopilotReports:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def owner(self, chain_id: UUID) -> UUID | None:
        """Return the tenant of a chain in scope."""
        row = self._driver.execute(OWNER, (chain_id,)).fetchone()
        return None if row is None else row[0]

    def switched_on(self, month: date, since: datetime) -> list[dict[str, Any]]:
        """Return the tenants in scope that have it on: their settings, how many of the consenting accounts are active
        (`accounts`), what was spent in the month, chains that are `under_way`, and those that `stopped` since then."""
        return rows_of(self._driver, SWITCHED_ON, {"month": month, "since": since})

    def stopped_alike(self, days: int, since: date) -> list[StoppedAlike]:
        """Return the tenants of whose last `days` with chains, all after `since`, each chain stopped for one reason."""
        rows = self._driver.execute(STOPPED_ALIKE, {"days": days, "since": since})
        return [StoppedAlike(*row) for row in rows]

    def last_on(self, tenant_id: UUID) -> date | None:
        """Return the last day, by the tenant's clock, whose chains were begun since it was switched on."""
        row = self._driver.execute(LAST_ON, (tenant_id,)).fetchone()
        return None if row is None else row[0]

    def titles(self, tenant_id: UUID, videos: Iterable[UUID | None]) -> dict[UUID, str | None]:
        """Return the titles of videos, by their ids."""
        ids = [each for each in videos if each is not None]
        return dict(self._driver.execute(TITLES, (tenant_id, ids)).fetchall()) if ids else {}

    def names(self, tenant_id: UUID, whom: Sequence[str | None]) -> dict[str, str]:
        """Return what "user:ID" and "key:ID" are called now; who is gone is not in it. People of an organization have
        tenants of their own: for the system scope."""
        ids = [UUID(each.partition(":")[2]) for each in whom if each and each.startswith(("user:", "key:"))]
        found = self._driver.execute(NAMES, {"tenant_id": tenant_id, "ids": ids}).fetchall() if ids else []
        return dict(found)
