"""Which outcomes are worth a critique: groups of a category, a platform and perhaps an account whose outcomes lie to
one side of what was predicted, and single large misses.

The rule decides what is written about, and nothing else: it moves no number. It is asked again with every new outcome,
and takes the side that more outcomes lie on, so now and then it finds a group by chance; the critique says how sure it
is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import comb, fsum
from statistics import median
from typing import NamedTuple
from uuid import UUID

from domain.learning.critique.critiques import LEAST_OUTCOMES

LOOKS_BACK = timedelta(days=90)
"""Older outcomes are of another time."""
MOST_OUTCOMES = 500
"""Outcomes of a tenant that are looked at, the newest."""
MOST_EVIDENCE = 40
"""Outcomes that one critique is about, the newest."""
CHANCE = 0.1
"""Sign test, one-sided: so likely are as many outcomes on one side, or more, if a coin decided. Five of five pass
(0.03), four of five do not (0.19), nor six of eight (0.14)."""
LEAST_GAP = 8.0
"""Points of the median gap. Two readings of one video differ by nearly ten, so less than this is nothing to act on."""

LARGE_MISS = 30.0
MISSES_A_DAY = 3
"""Critiques of single misses for a tenant in a day."""
MISSED_LATELY = timedelta(days=7)


class GroupKey(NamedTuple):
    """`account_id` is None for the accounts together that have too few outcomes of their own."""

    category: str
    platform: str
    account_id: UUID | None


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome at the horizon that is shown, with the prediction that was shown, in points."""

    id: UUID
    observed_at: datetime
    category: str
    platform: str
    account_id: UUID
    predicted: float
    actual: float

    @property
    def gap(self) -> float:
        return self.actual - self.predicted


def due(outcomes: Iterable[Judged], seen: Mapping[GroupKey, datetime]) -> dict[GroupKey, list[Judged]]:
    """Return the groups that are due for a critique with their new outcomes, the oldest first, by their keys. `seen` is
    of each group when the newest outcome of its last critique was observed."""
    return {key: new for key, new in _groups(outcomes, seen) if is_consistent([each.gap for each in new])}


def is_consistent(gaps: Sequence[float]) -> bool:
    """Whether there are enough of them, and they lie to one side by more than chance and by enough to act on."""
    return len(gaps) >= LEAST_OUTCOMES and chance(gaps) <= CHANCE and abs(median(gaps)) >= LEAST_GAP


def chance(gaps: Sequence[float]) -> float:
    """Return how likely a coin puts as many of the gaps on the side that more lie on, or still more (sign test). Gaps
    of 0 lie on neither."""
    above, below = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    n, most = above + below, max(above, below)
    at_least = sum(comb(n, k) for k in range(most, n + 1))
    return at_least / float(1 << n)


def confidence(gaps: Sequence[float], *, single: bool = False) -> str:
    """Return how sure it is that the outcomes lie to one side: high (sign test at most 0.01), medium (at most 0.05) or
    low. Of the reasons nothing is sure."""
    if single:
        return "low"
    p = chance(gaps)
    return "high" if p <= 0.01 else "medium" if p <= 0.05 else "low"


def mean(values: Sequence[float]) -> float:
    """Return their mean, the same in any order."""
    return fsum(values) / len(values)


def is_large_miss(predicted: float, actual: float, low: float | None = None, high: float | None = None) -> bool:
    """Whether one outcome missed by far, and lies outside the interval, if one was stated."""
    within = low is not None and high is not None and low <= actual <= high
    return abs(actual - predicted) > LARGE_MISS and not within


def _groups(outcomes: Iterable[Judged], seen: Mapping[GroupKey, datetime]) -> Iterable[tuple[GroupKey, list[Judged]]]:
    cells: dict[tuple[str, str], dict[UUID, list[Judged]]] = {}
    for each in sorted(outcomes, key=lambda one: (one.observed_at, one.id)):
        cells.setdefault((each.category, each.platform), {}).setdefault(each.account_id, []).append(each)
    for (category, platform), accounts in sorted(cells.items()):
        together = GroupKey(category, platform, None)
        thin: list[Judged] = []
        for account_id, its in sorted(accounts.items()):
            if len(its) < LEAST_OUTCOMES:
                thin += its
                continue
            key = GroupKey(category, platform, account_id)
            # What stood in a critique of all accounts together is not written about again.
            yield key, _new(its, seen.get(key), seen.get(together))
        yield together, _new(sorted(thin, key=lambda one: (one.observed_at, one.id)), seen.get(together))


def _new(outcomes: Sequence[Judged], *seen: datetime | None) -> list[Judged]:
    after = max((each for each in seen if each is not None), default=None)
    return [each for each in outcomes if after is None or each.observed_at > after][-MOST_EVIDENCE:]
