"""Whatever is reserved, revised and settled, in any order: no money appears, disappears, or is promised twice."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.tiers import Tier
from domain.errors import BudgetExceeded
from domain.videos.budget import Budget, check, limit_of, month_of, reserve, revise, settle

NOVEMBER = date(2026, 11, 1)
USD = st.decimals(0, 100, places=6)


@given(st.decimals(0, 100, places=2), st.lists(st.tuples(USD, st.sampled_from(["reserve", "revise", "settle"]))))
def test_reserved_and_spent_are_what_was_reserved_and_charged(limit: Decimal, acts: list[tuple[Decimal, str]]) -> None:
    budget, held, charged = Budget(limit), list[Decimal](), Decimal(0)
    for usd, act in acts:
        if act == "reserve":
            try:
                budget = reserve(budget, usd, NOVEMBER)
            except BudgetExceeded:
                assert usd > limit - sum(held) - charged
                continue
            held.append(usd)
            assert usd == 0 or budget.reserved + budget.spent <= limit
        elif held and act == "revise":
            budget = revise(budget, held.pop(), usd)
            held.append(usd)
        elif held:
            budget = settle(budget, held.pop(0), usd)
            charged += usd
        assert (budget.reserved, budget.spent) == (sum(held), charged)
        assert budget.left >= 0


def test_more_than_is_left_is_refused_with_figures_and_what_to_do() -> None:
    budget = Budget(Decimal(25), reserved=Decimal("4.6"), spent=Decimal(20))
    check(budget, Decimal("0.4"), NOVEMBER)
    with pytest.raises(BudgetExceeded) as refused:
        check(budget, Decimal("1.2"), NOVEMBER)
    assert str(refused.value) == (
        "this may cost $1.20, and $0.40 of $25.00 are left for November 2026 ($20.00 spent, $4.60 reserved); "
        "render a storyboard, which is free, or have the limit raised"
    )
    assert refused.value.details is not None
    assert refused.value.details["left_usd"] == "0.40"


def test_what_was_charged_is_booked_even_above_the_limit() -> None:
    budget = settle(reserve(Budget(Decimal(1)), Decimal(1), NOVEMBER), Decimal(1), Decimal("1.5"))
    assert (budget.spent, budget.reserved, budget.left) == (Decimal("1.5"), 0, 0)


@pytest.mark.parametrize("usd", [Decimal("-0.01"), Decimal(-1)])
def test_no_amount_is_negative(usd: Decimal) -> None:
    with pytest.raises(ValueError, match="not negative"):
        reserve(Budget(Decimal(5)), usd, NOVEMBER)
    with pytest.raises(ValueError, match="not negative"):
        settle(Budget(Decimal(5)), Decimal(0), usd)


def test_a_limit_is_the_tenants_own_or_the_plans() -> None:
    assert [limit_of(None, tier) for tier in Tier] == [0, 0, 25, 100]
    assert limit_of(Decimal(3), Tier.FREE) == 3
    assert limit_of(Decimal(0), Tier.AGENCY) == 0
    assert month_of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == NOVEMBER
