"""A month's money for clips, one row per tenant and month. Whoever changes it holds the row's lock.

A limit that somebody sets holds from its month on: the row of a later month begins with it.
"""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import row_of
from domain.errors import UnknownTenant
from domain.videos.budget import Budget, limit_of

TIER = "SELECT subscription_tier FROM tenants WHERE id = %s"

EARLIER_LIMIT = """
(SELECT limit_usd FROM video_budgets WHERE tenant_id = %(tenant_id)s AND month < %(month)s ORDER BY month DESC LIMIT 1)
"""

ADD = f"""
INSERT INTO video_budgets (tenant_id, month, limit_usd) VALUES (%(tenant_id)s, %(month)s, {EARLIER_LIMIT})
ON CONFLICT DO NOTHING
"""

LOCK = """
SELECT limit_usd, reserved_usd, spent_usd FROM video_budgets WHERE tenant_id = %(tenant_id)s AND month = %(month)s
FOR NO KEY UPDATE
"""

READ = f"""
SELECT coalesce(b.limit_usd, CASE WHEN b.month IS NULL THEN {EARLIER_LIMIT} END) AS own_usd,
       coalesce(b.reserved_usd, 0) AS reserved_usd, coalesce(b.spent_usd, 0) AS spent_usd, t.subscription_tier AS tier
FROM tenants t LEFT JOIN video_budgets b ON b.tenant_id = t.id AND b.month = %(month)s
WHERE t.id = %(tenant_id)s
"""

WRITE = """
UPDATE video_budgets SET reserved_usd = %(reserved)s, spent_usd = %(spent)s
WHERE tenant_id = %(tenant_id)s AND month = %(month)s
"""

SET_LIMIT = """
INSERT INTO video_budgets (tenant_id, month, limit_usd) VALUES (%(tenant_id)s, %(month)s, %(limit)s)
ON CONFLICT (tenant_id, month) DO UPDATE SET limit_usd = %(limit)s
"""


class VideoBudgets:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock(self, tenant_id: UUID, month: date) -> Budget:
        """Return the month's budget, locked until the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        tier = self._tier(tenant_id)
        values = {"tenant_id": tenant_id, "month": month}
        self._driver.execute(ADD, values)
        [(own, reserved, spent)] = self._driver.execute(LOCK, values).fetchall()
        return Budget(limit_of(own, tier), reserved, spent)

    def write(self, tenant_id: UUID, month: date, budget: Budget) -> None:
        """Save a budget that `lock` returned and a rule changed."""
        values = {"tenant_id": tenant_id, "month": month, "reserved": budget.reserved, "spent": budget.spent}
        self._driver.execute(WRITE, values)

    def read(self, tenant_id: UUID, month: date) -> tuple[Budget, bool]:
        """Return the month's budget, and whether its limit is the tenant's own; nothing is locked or written.

        Raises:
            UnknownTenant: there is none of this id.
        """
        row = row_of(self._driver, READ, {"tenant_id": tenant_id, "month": month})
        if row is None:
            raise _unknown(tenant_id)
        limit = limit_of(row["own_usd"], row["tier"])
        return Budget(limit, row["reserved_usd"], row["spent_usd"]), row["own_usd"] is not None

    def set_limit(self, tenant_id: UUID, month: date, limit: Decimal | None) -> None:
        """Set what may be spent in this month, and in later ones whose rows are not there yet; None: the plan's.

        Raises:
            UnknownTenant: there is none of this id.
        """
        self._tier(tenant_id)
        self._driver.execute(SET_LIMIT, {"tenant_id": tenant_id, "month": month, "limit": limit})

    def _tier(self, tenant_id: UUID) -> str:
        row = self._driver.execute(TIER, (tenant_id,)).fetchone()
        if row is None:
            raise _unknown(tenant_id)
        return str(row[0])


def _unknown(tenant_id: UUID) -> UnknownTenant:
    return UnknownTenant(f"no tenant has the id {tenant_id}; `viral tenants list` shows them")
