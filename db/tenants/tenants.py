"""Tenants: their names, plans and quotas."""

from datetime import UTC
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Connection, func, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from db.identity.people import deserted
from db.schema.tenants import tenants
from domain.errors import Conflict, TenantDeleted, UnknownTenant
from domain.quota.quota import Quota

QUOTA_COLUMNS = (
    tenants.c.monthly_quota,
    tenants.c.used_quota,
    tenants.c.quota_anchor,
    tenants.c.quota_period_start,
    tenants.c.quota_reset_at,
    tenants.c.quota_paid_until,
    tenants.c.quota_restarted_at,
    tenants.c.quota_drawn_until,
    tenants.c.quota_granted,
)

DESERTED: ColumnElement[bool] = literal_column(f"({deserted('tenants.id')})", Boolean)


class Tenants:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def create(self, tenant_id: UUID, name: str, quota: Quota) -> None:
        values = {"id": tenant_id, "name": name, "created_at": quota.period_start, **quota_values(quota)}
        self._sql.execute(insert(tenants).values(values))

    def get(self, tenant_id: UUID) -> dict[str, Any]:
        """Return all columns of one tenant, for whoever begins something for it.

        Raises:
            TenantDeleted: it was deleted.
            UnknownTenant: there is none of this id.
        """
        row = self.seen(tenant_id)
        if row["deletion_began_at"] is not None:
            raise TenantDeleted(
                f"tenant {tenant_id} was deleted on {row['deletion_began_at'].astimezone(UTC):%Y-%m-%d}"
            )
        return row

    def seen(self, tenant_id: UUID) -> dict[str, Any]:
        """Return all columns of one tenant, deleted or not, for whoever only looks.

        Raises:
            UnknownTenant: there is none of this id.
        """
        row = self._sql.execute(select(tenants).where(tenants.c.id == tenant_id)).mappings().one_or_none()
        if row is None:
            raise unknown(tenant_id)
        return dict(row)

    def recent(
        self,
        *,
        tier: str | None = None,
        search: str | None = None,
        deserted: bool = False,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Newest first, without those that were deleted; `search` is part of a name; `deserted`: only those that nobody
        answers for. System scope."""
        query = select(tenants, DESERTED.label("deserted")).order_by(tenants.c.created_at.desc(), tenants.c.id)
        query = query.where(tenants.c.deletion_began_at.is_(None))
        query = query.where(DESERTED).limit(limit) if deserted else query.limit(limit)
        if tier is not None:
            query = query.where(tenants.c.subscription_tier == tier)
        if search is not None:
            query = query.where(tenants.c.name.icontains(search, autoescape=True))
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def is_deserted(self, tenant_id: UUID) -> bool:
        """Return whether nobody answers for the tenant. System scope."""
        return bool(self._sql.execute(select(DESERTED).where(tenants.c.id == tenant_id)).scalar_one())

    def rename(self, tenant_id: UUID, *, was: str, name: str) -> None:
        """Change the name, unless it is not `was` any more."""
        if was == name:
            return
        this = (tenants.c.id == tenant_id) & (tenants.c.name == was)
        self._sql.execute(update(tenants).where(this).values(name=name, updated_at=func.now()))

    def link_customer(self, tenant_id: UUID, customer_id: str) -> bool:
        """Let the tenant pay as this customer, unless it is unknown or pays as another already.

        Raises:
            Conflict: another tenant pays as this customer.
        """
        statement = (
            update(tenants)
            .where(tenants.c.id == tenant_id, tenants.c.stripe_customer_id.is_(None))
            .values(stripe_customer_id=customer_id, updated_at=func.now())
        )
        try:
            return self._sql.execute(statement).rowcount == 1
        except IntegrityError as error:
            raise Conflict("CUSTOMER_TAKEN", f"another tenant pays as the Stripe customer {customer_id}") from error

    def exists(self, tenant_id: UUID) -> bool:
        return self._sql.execute(select(tenants.c.id).where(tenants.c.id == tenant_id)).one_or_none() is not None


def quota_values(quota: Quota) -> dict[str, Any]:
    return {
        "monthly_quota": quota.limit,
        "used_quota": quota.used,
        "quota_anchor": quota.anchor,
        "quota_period_start": quota.period_start,
        "quota_reset_at": quota.resets_at,
        "quota_paid_until": quota.paid_until,
        "quota_restarted_at": quota.restarted_at,
        "quota_drawn_until": quota.drawn_until,
        "quota_granted": quota.granted,
    }


def unknown(tenant_id: UUID) -> UnknownTenant:
    return UnknownTenant(f"no tenant has the id {tenant_id}; `viral tenants list` shows them")
