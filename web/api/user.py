"""`/api/user`: the caller, and the quota that is left."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from domain.identity.access import ApiScope, Caller
from domain.identity.people import Role
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires

routes = APIRouter(prefix="/user", tags=["user"], route_class=AdmittedRoute)

AccountReader = Annotated[Caller, requires(ApiScope.ACCOUNT_READ)]


class Usage(BaseModel):
    """Concepts of the running period."""

    quota: int
    used: int
    remaining: int
    period_start: datetime
    resets_at: datetime


class Tenant(BaseModel):
    id: UUID
    name: str
    tier: str
    status: str


class Me(BaseModel):
    """The caller. An API key has neither a person nor a role."""

    user_id: UUID | None
    role: Role | None
    scopes: list[ApiScope]
    tenant: Tenant
    usage: Usage


@routes.get("")
def me(caller: AccountReader, app: Running) -> Me:
    """Return the caller, with their tenant and its plan."""
    with app.db.transaction(caller.tenant_id) as tx:
        row, now = tx.tenants.get(caller.tenant_id), tx.now()
    return Me(
        user_id=caller.user_id,
        role=caller.role,
        scopes=sorted(caller.scopes),
        tenant=Tenant(id=row["id"], name=row["name"], tier=row["subscription_tier"], status=row["subscription_status"]),
        usage=_usage(row, now),
    )


@routes.get("/usage")
def usage(caller: AccountReader, app: Running) -> Usage:
    """Return the quota that is left in this period, and when the next one begins."""
    with app.db.transaction(caller.tenant_id) as tx:
        return _usage(tx.tenants.get(caller.tenant_id), tx.now())


def _usage(row: Mapping[str, Any], now: datetime) -> Usage:
    over = row["quota_drawn_until"] is not None and row["quota_drawn_until"] <= now
    allowance = max(0, row["monthly_quota"] + row["quota_granted"])
    return Usage(
        quota=allowance,
        used=row["used_quota"],
        remaining=0 if over else max(0, allowance - row["used_quota"]),
        period_start=row["quota_period_start"],
        resets_at=row["quota_reset_at"],
    )
