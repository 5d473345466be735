"""Our tiers: what each of them gives and costs, and which Stripe price sells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Tier(StrEnum):
    """The tiers are ordered by what they give, not by their letters."""

    FREE = "FREE"
    STARTER = "STARTER"
    PRO = "PRO"
    AGENCY = "AGENCY"

    @property
    def rank(self) -> int:
        return list(Tier).index(self)

    # `str` brings an order of its own, by which STARTER would be above PRO: all four have to be replaced.
    def __lt__(self, other: str) -> bool:
        return self.rank < Tier(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Tier(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Tier(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Tier(other).rank


@dataclass(frozen=True, slots=True)
class Plan:
    """A tier's quota and price. `weight` is its tenants' share of the workers when these cannot do everything."""

    tier: Tier
    monthly_quota: int
    usd_per_month: int
    weight: int


PLANS: Mapping[Tier, Plan] = MappingProxyType(
    {
        Tier.FREE: Plan(Tier.FREE, 10, 0, 1),
        Tier.STARTER: Plan(Tier.STARTER, 10, 49, 2),
        Tier.PRO: Plan(Tier.PRO, 50, 149, 4),
        Tier.AGENCY: Plan(Tier.AGENCY, 500, 499, 8),
    }
)

TENANT_WEIGHTS: Mapping[str, float] = {tier.value: float(plan.weight) for tier, plan in PLANS.items()}
"""The shares of the workers that tenants with waiting jobs get beside each other, by the name of their tier."""

PriceBook = Mapping[str, Tier]
"""The tier that each Stripe price id sells; monthly, yearly and other currencies are prices of their own."""
