"""A month's money for clips: reserved before an order is sent, settled by what was charged. US dollars, exact decimals.

The month in which an order was reserved pays for it, whenever it is settled. What was charged is always booked, even
above the limit: it has been spent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType

from domain.billing.tiers import Tier
from domain.errors import BudgetExceeded

NOTHING = Decimal(0)
CENT = Decimal("0.01")

PLAN_USD: Mapping[Tier, Decimal] = MappingProxyType(
    {Tier.FREE: NOTHING, Tier.STARTER: NOTHING, Tier.PRO: Decimal(25), Tier.AGENCY: Decimal(100)}
)
"""What a tenant of each plan may spend on clips in a month; drawing a storyboard costs nothing."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The money of one month: `reserved` for orders that have not ended, `spent` on those that have. `promised` is what
    videos that are being made may still order, where that counts: when another is asked for."""

    limit: Decimal
    reserved: Decimal = NOTHING
    spent: Decimal = NOTHING
    promised: Decimal = NOTHING

    @property
    def left(self) -> Decimal:
        """Never negative: a limit that is lowered below what was spent leaves nothing."""
        return max(NOTHING, self.limit - self.reserved - self.spent - self.promised)


def limit_of(own: Decimal | None, tier: str) -> Decimal:
    """Return the tenant's own limit, or what its plan gives."""
    return PLAN_USD[Tier(tier)] if own is None else own


def month_of(moment: datetime | date) -> date:
    """Return the first day of the month, which names it."""
    return date(moment.year, moment.month, 1)


def check(budget: Budget, usd: Decimal, month: date) -> None:
    """Check that so much could be reserved.

    Raises:
        BudgetExceeded: it could not; with figures, and what to do.
    """
    if usd < 0:
        raise ValueError(f"an amount is not negative: {usd}")
    if usd <= budget.left:
        return
    promised = f", ${_shown(budget.promised)} for videos under way" if budget.promised else ""
    if budget.limit == 0:
        why = "there is no money for clips in this plan"
    else:
        why = (
            f"${_shown(budget.left)} of ${_shown(budget.limit)} are left for {month:%B %Y} "
            f"(${_shown(budget.spent)} spent, ${_shown(budget.reserved)} reserved{promised})"
        )
    raise BudgetExceeded(
        f"this may cost ${_shown(usd)}, and {why}; render a storyboard, which is free, or have the limit raised",
        {
            "asked_usd": _shown(usd),
            "limit_usd": _shown(budget.limit),
            "reserved_usd": _shown(budget.reserved),
            "spent_usd": _shown(budget.spent),
            "promised_usd": _shown(budget.promised),
            "left_usd": _shown(budget.left),
            "month": f"{month:%Y-%m}",
        },
    )


def reserve(budget: Budget, usd: Decimal, month: date) -> Budget:
    """Set the money aside that an order may cost.

    Raises:
        BudgetExceeded: not so much is left.
    """
    check(budget, usd, month)
    return replace(budget, reserved=budget.reserved + usd)


def revise(budget: Budget, reserved: Decimal, usd: Decimal) -> Budget:
    """Reserve `usd` instead of what was `reserved` for an order that was sent: the provider says what it may cost."""
    return replace(budget, reserved=_without(budget, reserved) + usd)


def settle(budget: Budget, reserved: Decimal, charged: Decimal) -> Budget:
    """Book what an order cost, and give back what was reserved for it; an order that cost nothing is released."""
    if charged < 0:
        raise ValueError(f"a charge is not negative: {charged}")
    return replace(budget, reserved=_without(budget, reserved), spent=budget.spent + charged)


def _without(budget: Budget, reserved: Decimal) -> Decimal:
    if not 0 <= reserved <= budget.reserved:
        raise ValueError(f"{reserved} cannot be taken out of the {budget.reserved} that are reserved")
    return budget.reserved - reserved


def _shown(usd: Decimal) -> str:
    """At least cents, and whatever is below them."""
    exact = usd.normalize()
    return str(usd.quantize(CENT)) if exact == usd.quantize(CENT) else f"{exact:f}"
