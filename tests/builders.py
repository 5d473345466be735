"""Rows with readable defaults: a test states only the point."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert

from db.tables import tenants
from db.transaction import SYSTEM
from domain import quota
from domain.billing import PLANS, Tier
from workers.app import App

NOV_22 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def a_tenant(app: App, *, created_at: datetime = NOV_22, name: str = "Ada's shop", **columns: Any) -> UUID:
    """A tenant on the free plan since `created_at`; `columns` of the row may say otherwise."""
    tenant_id = uuid4()
    free = quota.begin(PLANS[Tier.FREE].monthly_quota, created_at)
    row = {
        "id": tenant_id,
        "name": name,
        "monthly_quota": free.limit,
        "quota_anchor": free.anchor,
        "quota_period_start": free.period_start,
        "quota_reset_at": free.resets_at,
        "created_at": created_at,
    }
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(tenants).values(row | columns))
    return tenant_id


def tenant(app: App, tenant_id: UUID) -> dict[str, Any]:
    """The tenant's row as it is now."""
    with app.db.transaction(SYSTEM) as tx:
        return tx.tenants.get(tenant_id)


def job_row(app: App, job_id: UUID) -> dict[str, Any]:
    """The job's row as it is now."""
    with app.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id)
    assert row is not None
    return row
