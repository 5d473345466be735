"""The filters of a list of tenants, as they stand in a URL or on a command line."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self
from uuid import UUID

from domain.billing.tiers import Tier
from domain.errors import ViralError
from domain.text.storable import is_storable

HARMS: Final = ("deserted", "needs_reconnect", "failed_posts")
NAMES: Final = ("plan", "status", "name", "id", "customer", "email", "harm", "after")
LONGEST: Final = 200
STATUS: Final = re.compile(r"[a-z_]{1,40}")


class SenselessTenantFilter(ViralError):
    """A filter asks for what cannot be; its text says which one, and how it would make sense."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: the tenant that was shown last."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{self.created_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}~{self.id}"

    @classmethod
    def read(cls, text: str) -> Self:
        moment, _, tenant_id = text.partition("~")
        try:
            return cls(datetime.strptime(moment, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), UUID(tenant_id))
        except ValueError:
            raise SenselessTenantFilter("after: it is no place in this list; begin at the first page") from None


@dataclass(frozen=True, slots=True)
class TenantFilter:
    """All that are filled apply together. `status` is the subscription's, `name` part of the tenant's in any case of
    letters, `customer` Stripe's id, `email` the whole address of one of its people, `harm` one of `HARMS`."""

    plan: Tier | None = None
    status: str | None = None
    name: str | None = None
    id: UUID | None = None
    customer: str | None = None
    email: str | None = None
    harm: str | None = None
    after: Place | None = None


def tenant_filter(query: Mapping[str, str]) -> TenantFilter:
    """Read the filters of a URL or a command line; an empty one is none, and other names are not looked at.

    Raises:
        SenselessTenantFilter: one is too long, or cannot be.
    """
    filled = {name: query[name].strip() for name in NAMES if query.get(name, "").strip()}
    for name, value in filled.items():
        if len(value) > LONGEST:
            raise SenselessTenantFilter(f"{name}: it is longer than {LONGEST} characters")
        if not is_storable(value):
            raise SenselessTenantFilter(f"{name}: it has characters that no tenant has")
    plan, status, harm = filled.get("plan"), filled.get("status"), filled.get("harm")
    if plan is not None and plan.upper() not in list(Tier):
        raise SenselessTenantFilter(f"plan: there is no {plan[:40]}; there are {', '.join(Tier)}")
    if status is not None and not STATUS.fullmatch(status):
        raise SenselessTenantFilter(f"status: {status[:40]} is no status; one is active, past_due, canceled or none")
    if harm is not None and harm not in HARMS:
        raise SenselessTenantFilter(f"harm: there is no {harm[:40]}; there are {', '.join(HARMS)}")
    try:
        tenant_id = UUID(filled["id"]) if "id" in filled else None
    except ValueError:
        raise SenselessTenantFilter(f"id: {filled['id'][:40]} is no id of a tenant") from None
    after = filled.get("after")
    return TenantFilter(
        plan=None if plan is None else Tier[plan.upper()],
        status=status,
        name=filled.get("name"),
        id=tenant_id,
        customer=filled.get("customer"),
        email=filled.get("email"),
        harm=harm,
        after=None if after is None else Place.read(after),
    )


def query_of(wanted: TenantFilter) -> dict[str, str]:
    """Return the filters as `tenant_filter` reads them."""
    values = {name: getattr(wanted, name) for name in NAMES}
    return {name: str(value) for name, value in values.items() if value is not None}
