"""Figures of a replay: how far predictions were off, by how many outcomes there had been."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

RANGES: Mapping[str, tuple[int, int | None]] = {
    "1-30": (1, 30),
    "31-100": (31, 100),
    "31-": (31, None),
    "101-": (101, None),
    "1001-": (1001, None),
}
"""First and last post of each range, counted from 1 in each window."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A prediction and its outcome, in points; `number` is the post's in its window. `low` and `high` are
    None where no interval was stated."""

    number: int
    predicted: float
    actual: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Of `n` predictions: the mean distance `gap` and the mean signed gap `bias` (outcome minus prediction) in points;
    shares, 0 to 1, of outcomes within 20 % of the prediction, within 10 points and in the interval; `rank` is
    Spearman's correlation, None where one side has only one value. Of several streams each figure is the mean of
    theirs."""

    n: int
    gap: float
    bias: float
    within20: float
    within10: float
    rank: float | None
    coverage: float | None


def by_range(hits: Sequence[Hit]) -> dict[str, Figures | None]:
    """Return the figures of each range; None for one without rows."""
    return {
        name: figures([hit for hit in hits if hit.number >= first and (last is None or hit.number <= last)])
        for name, (first, last) in RANGES.items()
    }


def figures(hits: Sequence[Hit]) -> Figures | None:
    if not hits:
        return None
    gaps = [hit.actual - hit.predicted for hit in hits]
    stated = [(hit.low, hit.actual, hit.high) for hit in hits if hit.low is not None and hit.high is not None]
    inside = sum(low <= actual <= high for low, actual, high in stated)
    count = len(hits)
    return Figures(
        n=count,
        gap=sum(map(abs, gaps)) / count,
        bias=sum(gaps) / count,
        within20=sum(abs(gap) <= 0.2 * hit.predicted for gap, hit in zip(gaps, hits, strict=True)) / count,
        within10=sum(abs(gap) <= 10 for gap in gaps) / count,
        rank=spearman([hit.predicted for hit in hits], [hit.actual for hit in hits]),
        coverage=inside / len(stated) if stated else None,
    )


def mean(found: Iterable[Figures | None]) -> Figures | None:
    """Return the mean of streams' figures: each stream counts once, where it has the figure."""
    there = [each for each in found if each is not None]
    if not there:
        return None
    count = len(there)
    return Figures(
        n=sum(each.n for each in there),
        gap=sum(each.gap for each in there) / count,
        bias=sum(each.bias for each in there) / count,
        within20=sum(each.within20 for each in there) / count,
        within10=sum(each.within10 for each in there) / count,
        rank=_mean([each.rank for each in there]),
        coverage=_mean([each.coverage for each in there]),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Return the rank correlation, with the mean rank for equal values."""
    one, other = _ranks(left), _ranks(right)
    middle = (len(one) + 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(one, other, strict=True))
    spread = sum((a - middle) ** 2 for a in one) * sum((b - middle) ** 2 for b in other)
    return both / sqrt(spread) if spread > 0 else None


def _ranks(values: Sequence[float]) -> list[float]:
    ranks = [0.0] * len(values)
    place = 1
    order = sorted(range(len(values)), key=values.__getitem__)
    for _, equal in groupby(order, key=values.__getitem__):
        places = list(equal)
        for index in places:
            ranks[index] = place + (len(places) - 1) / 2
        place += len(places)
    return ranks
