"""Tenants: who they are, which plan they are on, and what is left of this period's quota."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from db.tables import quota_ledger, tenants
from domain.billing import TenantBilling, Tier
from domain.errors import UnknownTenant
from domain.quota import Quota

QUOTA_COLUMNS = (
    tenants.c.monthly_quota,
    tenants.c.used_quota,
    tenants.c.quota_anchor,
    tenants.c.quota_period_start,
    tenants.c.quota_reset_at,
    tenants.c.quota_paid_until,
)

# The rule is `domain.quota.is_due`; this is its index-friendly first sieve.
IS_DUE = and_(
    tenants.c.quota_reset_at <= bindparam("now"),
    or_(tenants.c.quota_paid_until.is_(None), tenants.c.quota_reset_at < tenants.c.quota_paid_until),
)


class Tenants:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def create(self, tenant_id: UUID, name: str, quota: Quota) -> None:
        values = {"id": tenant_id, "name": name, "created_at": quota.period_start, **_columns(quota)}
        self._sql.execute(insert(tenants).values(values))

    def get(self, tenant_id: UUID) -> dict[str, Any]:
        """All columns of one tenant.

        Raises:
            UnknownTenant: there is none of this id.
        """
        row = self._sql.execute(select(tenants).where(tenants.c.id == tenant_id)).mappings().one_or_none()
        if row is None:
            raise _unknown(tenant_id)
        return dict(row)

    def recent(self, *, tier: str | None = None, search: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first; `search` is part of a name."""
        query = select(tenants).order_by(tenants.c.created_at.desc(), tenants.c.id).limit(limit)
        if tier is not None:
            query = query.where(tenants.c.subscription_tier == tier)
        if search is not None:
            query = query.where(tenants.c.name.icontains(search, autoescape=True))
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def rename(self, tenant_id: UUID, *, was: str, name: str) -> None:
        """Change the name, unless it is not `was` any more."""
        this = (tenants.c.id == tenant_id) & (tenants.c.name == was)
        self._sql.execute(update(tenants).where(this).values(name=name, updated_at=func.now()))

    def lock_quota(self, tenant_id: UUID) -> Quota:
        """The quota, locked until the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        query = select(*QUOTA_COLUMNS).where(tenants.c.id == tenant_id).with_for_update()
        row = self._sql.execute(query).one_or_none()
        if row is None:
            raise _unknown(tenant_id)
        return _quota(row)

    def save_quota(self, tenant_id: UUID, quota: Quota) -> None:
        """Write a quota that `lock_quota` returned and a rule changed."""
        values = _columns(quota) | {"updated_at": func.now()}
        self._sql.execute(update(tenants).where(tenants.c.id == tenant_id).values(values))

    def lock_due(self, now: datetime, limit: int) -> list[tuple[UUID, Quota]]:
        """Lock tenants whose next quota period may begin at `now`, longest overdue first; those in use are left."""
        query = (
            select(tenants.c.id, *QUOTA_COLUMNS)
            .where(IS_DUE)
            .order_by(tenants.c.quota_reset_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [(row.id, _quota(row)) for row in self._sql.execute(query, {"now": now})]

    def save_resets(self, resets: Sequence[tuple[UUID, Quota, Quota]]) -> int:
        """Write (tenant, before, after), each only if the row still says `before`. Returns how many were written."""
        if not resets:
            return 0
        statement = (
            update(tenants)
            .where(tenants.c.id == bindparam("tenant"), tenants.c.quota_reset_at == bindparam("before"))
            .values(
                used_quota=bindparam("used"),
                quota_period_start=bindparam("period_start"),
                quota_reset_at=bindparam("resets_at"),
                updated_at=func.now(),
            )
        )
        rows = [
            {
                "tenant": tenant_id,
                "before": before.resets_at,
                "used": after.used,
                "period_start": after.period_start,
                "resets_at": after.resets_at,
            }
            for tenant_id, before, after in resets
        ]
        return self._sql.execute(statement, rows).rowcount

    def record(self, kind: str, cause: str, changes: Iterable[tuple[UUID, Quota, Quota]]) -> None:
        """Append (tenant, before, after) to the ledger; `cause` says who or what: `job:…`, `event:…`, `person:…`."""
        rows = [
            {
                "tenant_id": tenant_id,
                "kind": kind,
                "amount": after.used - before.used,
                "used_after": after.used,
                "quota_after": after.limit,
                "period_start": after.period_start,
                "cause": cause,
            }
            for tenant_id, before, after in changes
        ]
        if rows:
            self._sql.execute(insert(quota_ledger), rows)

    def ledger(self, tenant_id: UUID, limit: int = 20) -> list[dict[str, Any]]:
        """The latest entries, newest first."""
        query = (
            select(quota_ledger)
            .where(quota_ledger.c.tenant_id == tenant_id)
            .order_by(quota_ledger.c.id.desc())
            .limit(limit)
        )
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def of_customer(self, customer_id: str) -> UUID | None:
        """The tenant that pays as this Stripe customer."""
        return self._sql.execute(
            select(tenants.c.id).where(tenants.c.stripe_customer_id == customer_id)
        ).scalar_one_or_none()

    def link_customer(self, tenant_id: UUID, customer_id: str) -> bool:
        """Let the tenant pay as this customer, unless it is unknown or pays as another already."""
        statement = (
            update(tenants)
            .where(tenants.c.id == tenant_id, tenants.c.stripe_customer_id.is_(None))
            .values(stripe_customer_id=customer_id, updated_at=func.now())
        )
        return self._sql.execute(statement).rowcount == 1

    def exists(self, tenant_id: UUID) -> bool:
        return self._sql.execute(select(tenants.c.id).where(tenants.c.id == tenant_id)).one_or_none() is not None

    def lock_plan(self, tenant_id: UUID) -> TenantBilling:
        """What billing may change, locked until the transaction ends.

        Raises:
            UnknownTenant: there is none of this id.
        """
        row = self._sql.execute(select(tenants).where(tenants.c.id == tenant_id).with_for_update()).one_or_none()
        if row is None:
            raise _unknown(tenant_id)
        return TenantBilling(
            tier=Tier(row.subscription_tier),
            status=row.subscription_status,
            customer_id=row.stripe_customer_id,
            subscription_id=row.stripe_subscription_id,
            quota=_quota(row),
            created_at=row.created_at,
        )

    def save_plan(self, tenant_id: UUID, billing: TenantBilling) -> None:
        """Write what `lock_plan` returned and `domain.billing` changed."""
        values = {
            "subscription_tier": billing.tier.value,
            "subscription_status": billing.status,
            "stripe_customer_id": billing.customer_id,
            "stripe_subscription_id": billing.subscription_id,
            "updated_at": func.now(),
            **_columns(billing.quota),
        }
        self._sql.execute(update(tenants).where(tenants.c.id == tenant_id).values(values))


def _columns(quota: Quota) -> dict[str, Any]:
    return {
        "monthly_quota": quota.limit,
        "used_quota": quota.used,
        "quota_anchor": quota.anchor,
        "quota_period_start": quota.period_start,
        "quota_reset_at": quota.resets_at,
        "quota_paid_until": quota.paid_until,
    }


def _quota(row: Any) -> Quota:
    return Quota(
        limit=row.monthly_quota,
        used=row.used_quota,
        anchor=row.quota_anchor,
        period_start=row.quota_period_start,
        resets_at=row.quota_reset_at,
        paid_until=row.quota_paid_until,
    )


def _unknown(tenant_id: UUID) -> UnknownTenant:
    return UnknownTenant(f"no tenant has the id {tenant_id}; `viral tenants list` shows them")
