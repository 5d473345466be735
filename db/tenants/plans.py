"""The plans of tenants, as billing derives them: locked, loaded and saved by the batch of events, one statement each,
with the entries of the quota ledger that say what changed."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Integer

from db.queue.notifications import Count
from db.schema.tenants import CONSUMPTION
from db.tenants.quota import ENTRIES
from db.tenants.tenants import QUOTA_COLUMNS, unknown
from domain.billing.books import Entry
from domain.billing.plan import TenantBilling
from domain.billing.tiers import Tier
from domain.quota.quota import Quota

PLAN = {
    "subscription_tier": "text",
    "subscription_status": "text",
    "stripe_customer_id": "text",
    "stripe_subscription_id": "text",
}
QUOTA = {column.name: "int" if isinstance(column.type, Integer) else "timestamptz" for column in QUOTA_COLUMNS}
"""In the order of the fields of `Quota`."""
COLUMNS = {"id": "uuid"} | PLAN | QUOTA

LOCK = f"""
SELECT {", ".join(COLUMNS)}, created_at, deletion_began_at FROM tenants WHERE id = ANY(ARRAY(
    SELECT unnest(%(named)b::uuid[])
    UNION SELECT id FROM tenants WHERE stripe_customer_id = ANY(%(customers)b::text[])
    UNION SELECT tenant_id FROM stripe_customers WHERE id = ANY(%(customers)b::text[])
)) ORDER BY id FOR NO KEY UPDATE
"""

SAVE = f"""
UPDATE tenants SET {", ".join(f"{name} = new.{name}" for name in COLUMNS if name != "id")}, updated_at = now()
FROM unnest({", ".join(f"%b::{kind}[]" for kind in COLUMNS.values())}) AS new ({", ".join(COLUMNS)})
WHERE tenants.id = new.id
"""

USED_SINCE = f"""
SELECT tenant, moment, (
    SELECT coalesce(sum(amount), 0) FROM quota_ledger
    WHERE tenant_id = tenant AND taken_at >= moment AND {CONSUMPTION}
)::int
FROM unnest(%b::uuid[], %b::timestamptz[]) AS wanted (tenant, moment)
"""

RECORD = """
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause)
SELECT tenant_id, kind, amount, used, quota, period_start, cause
FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[], %b::int[], %b::timestamptz[], %b::text[])
     WITH ORDINALITY AS new (tenant_id, kind, amount, used, quota, period_start, cause, place)
ORDER BY place
"""


class Plans:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any], count: Count) -> None:
        self._driver = driver
        self._count = count

    def lock(self, *, customers: Collection[str], named: Collection[UUID] = ()) -> dict[UUID, TenantBilling]:
        """Return what billing may change in the tenants that these customers pay for, or that are named, as far as they
        exist; locked until the transaction ends."""
        values = {"customers": list(customers), "named": list(named)}
        return {row[0]: _billing(row) for row in self._driver.execute(LOCK, values, prepare=True)}

    def lock_one(self, tenant_id: UUID) -> TenantBilling:
        """`lock` for one tenant, in the scope of any.

        Raises:
            UnknownTenant: there is none of this id.
        """
        found = self.lock(customers=[], named=[tenant_id])
        if tenant_id not in found:
            raise unknown(tenant_id)
        return found[tenant_id]

    def save(self, plans: Mapping[UUID, TenantBilling]) -> None:
        """Write what `lock` returned and the rules changed."""
        rows = [
            (tenant_id, each.tier.value, each.status, each.customer_id, each.subscription_id, *_values(each.quota))
            for tenant_id, each in sorted(plans.items())
        ]
        if rows:
            self._driver.execute(SAVE, [list(column) for column in zip(*rows, strict=True)], prepare=True)

    def used_since(self, moments: Iterable[tuple[UUID, datetime]]) -> dict[tuple[UUID, datetime], int]:
        """Return what each tenant took at the moment or later, less what of it was given back."""
        wanted = list(moments)
        if not wanted:
            return {}
        tenants, times = (list(column) for column in zip(*wanted, strict=True))
        return {(row[0], row[1]): row[2] for row in self._driver.execute(USED_SINCE, (tenants, times), prepare=True)}

    def record(self, entries: Iterable[Entry]) -> None:
        """Append to the ledgers, in this order. The tenants are locked."""
        rows = [
            (
                each.tenant_id,
                each.kind,
                each.amount,
                each.after.used,
                each.after.allowance,
                each.after.period_start,
                each.cause,
            )
            for each in entries
        ]
        if rows:
            self._driver.execute(RECORD, [list(column) for column in zip(*rows, strict=True)], prepare=True)
            for _, kind, *_ in rows:
                self._count(ENTRIES, kind)


def _billing(row: tuple[Any, ...]) -> TenantBilling:
    _, tier, status, customer_id, subscription_id, *quota, created_at, deleted_at = row
    return TenantBilling(Tier(tier), status, customer_id, subscription_id, Quota(*quota), created_at, deleted_at)


def _values(quota: Quota) -> tuple[Any, ...]:
    return tuple(getattr(quota, name) for name in Quota.__slots__)
