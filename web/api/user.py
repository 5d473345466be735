"""`/api/user`: the caller, and the quota that is left."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from db.transaction import Tx
from domain.identity.access import ApiScope, Caller
from domain.identity.people import Role
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires

routes = APIRouter(prefix="/user", tags=["user"], route_class=AdmittedRoute)

AccountReader = Annotated[Caller, requires(ApiScope.ACCOUNT_READ)]


class Usage(BaseModel):
    """Concepts of the running period. A `resets_at` that has passed is the day of an invoice that is not paid yet: the
    next period begins when it is."""

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
        row = tx.tenants.get(caller.tenant_id)
        left = _usage(tx, caller.tenant_id)
    return Me(
        user_id=caller.user_id,
        role=caller.role,
        scopes=sorted(caller.scopes),
        tenant=Tenant(id=row["id"], name=row["name"], tier=row["subscription_tier"], status=row["subscription_status"]),
        usage=left,
    )


@routes.get("/usage")
def usage(caller: AccountReader, app: Running) -> Usage:
    """Return the quota that is left in this period, and when the next one begins."""
    with app.db.transaction(caller.tenant_id) as tx:
        tx.tenants.get(caller.tenant_id)
        return _usage(tx, caller.tenant_id)


def _usage(tx: Tx, tenant_id: UUID) -> Usage:
    now = tx.now()
    quota = tx.quota.current(tenant_id, now)
    return Usage(
        quota=quota.allowance,
        used=quota.used,
        remaining=quota.available(now),
        period_start=quota.period_start,
        resets_at=quota.resets_at,
    )
