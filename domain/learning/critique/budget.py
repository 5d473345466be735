"""How many critiques of a tenant a language model writes. Beyond that the offline critic does, which costs nothing.

As of 28 November 2026: a critique is about 2,000 tokens in and 1,500 out, two to four cents with the models of
`language_models`; asked twice, at most ten. Critiques are no part of what a tenant pays for, and FREE pays nothing: its
critiques are all written offline.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from domain.billing.tiers import Tier

A_DAY = 10
DAY = timedelta(days=1)
A_MONTH = Decimal("2.00")
"""US dollars in thirty days."""
MONTH = timedelta(days=30)
MOST_EACH = Decimal("0.10")
"""US dollars that are set aside for a critique until it is known what it cost."""


@dataclass(frozen=True, slots=True)
class Spent:
    """`begun` critiques of models within a day, of which `open` are not written yet, and what all of a month cost."""

    begun: int
    usd: Decimal
    open: int


def may_ask(tier: Tier, spent: Spent) -> bool:
    """Whether a language model may write one more critique."""
    if tier == Tier.FREE or spent.begun >= A_DAY:
        return False
    return spent.usd + MOST_EACH * (spent.open + 1) <= A_MONTH
