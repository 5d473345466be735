"""The filters of a list of tenants, as they stand in a URL or on a command line (`domain/text/filters.py`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from domain.billing.tiers import Tier
from domain.text.filters import Cursor, SenselessFilter, check_text, cursor_of, one_of, shortly

HARMS: Final = ("deserted", "needs_reconnect", "failed_posts")
NAMES: Final = ("plan", "status", "name", "id", "customer", "email", "harm", "after")
DELETED: Final = "deleted"
"""What is asked for instead of a subscription's status: tenants that were deleted."""
LONGEST: Final = 200
STATUS: Final = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class TenantFilter:
    """All that are filled apply together. `status` is the subscription's, `name` part of the tenant's in any case of
    letters; those that were deleted have `DELETED`. `customer` Stripe's id, `email` the whole
    address of one of its people, `harm` one of `HARMS`."""

    plan: Tier | None = None
    status: str | None = None
    name: str | None = None
    id: UUID | None = None
    customer: str | None = None
    email: str | None = None
    harm: str | None = None
    after: Cursor | None = None

    @property
    def hides_deleted(self) -> bool:
        """Whether tenants that were deleted are not looked for: nobody asks for them, or for a certain one."""
        return self.status != DELETED and self.id is None and self.customer is None


def tenant_filter(query: Mapping[str, str]) -> TenantFilter:
    """Read the filters of a URL or a command line; an empty one is none, and other names are not looked at.

    Raises:
        SenselessFilter: one is too long, or cannot be.
    """
    filled = {name: query[name].strip() for name in NAMES if query.get(name, "").strip()}
    for name, value in filled.items():
        check_text(name, value, LONGEST, "tenant")
    plan, status = filled.get("plan"), filled.get("status")
    if plan is not None and plan.upper() not in list(Tier):
        raise SenselessFilter(f"plan: there is no {shortly(plan)}; there are {', '.join(Tier)}")
    if status is not None and not STATUS.fullmatch(status):
        words = f"active, past_due, canceled, none or {DELETED}"
        raise SenselessFilter(f"status: {shortly(status)} is no status; one is {words}")
    try:
        tenant_id = UUID(filled["id"]) if "id" in filled else None
    except ValueError:
        raise SenselessFilter(f"id: {shortly(filled['id'])} is no id of a tenant") from None
    return TenantFilter(
        plan=None if plan is None else Tier[plan.upper()],
        status=status,
        name=filled.get("name"),
        id=tenant_id,
        customer=filled.get("customer"),
        email=filled.get("email"),
        harm=one_of("harm", filled.get("harm"), HARMS),
        after=cursor_of(filled.get("after"), with_time=True),
    )


def query_of(wanted: TenantFilter) -> dict[str, str]:
    """Return the filters as `tenant_filter` reads them."""
    values = {name: getattr(wanted, name) for name in NAMES}
    return {name: str(value) for name, value in values.items() if value is not None}
