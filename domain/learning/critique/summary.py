"""The statistics of the outcomes that a critique is about: all that a critic gets, and all the figures that it may use.

Gaps are outcome minus prediction, in points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from domain.learning.critique.critiques import CritiqueRequest

TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Gaps:
    """How many outcomes there are, how many of them were above and below their predictions, and their gaps."""

    outcomes: int
    above: int
    below: int
    median: float
    least: float
    greatest: float


def gaps_of(gaps: Sequence[float]) -> Gaps | None:
    """Return the statistics of some gaps, to a tenth of a point; None of none."""
    if not gaps:
        return None
    above, below = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    return Gaps(len(gaps), above, below, *(round(value, 1) + 0.0 for value in (median(gaps), min(gaps), max(gaps))))


def gaps_of_formats(request: CritiqueRequest) -> dict[str, Gaps]:
    """Return the statistics of each format that a lesson may speak of and the evidence has, by name."""
    found: dict[str, list[float]] = {}
    for each in request.evidence:
        if each.format is not None and each.format in request.formats:
            found.setdefault(each.format, []).append(each.gap)
    return {name: gaps for name in sorted(found) if (gaps := gaps_of(found[name]))}


def data(request: CritiqueRequest) -> dict[str, Any]:
    """Return the request as JSON data for a critic. Titles are strangers' words. A figure that is not in here is no
    figure of the evidence."""
    gaps = gaps_of([each.gap for each in request.evidence])
    return {
        "category": request.category,
        "platform": request.platform,
        "one_account_only": request.account is not None,
        "a_single_outcome": request.single,
        "gaps": _shown(gaps) if gaps else {},
        "gaps_of_formats": {name: _shown(each) for name, each in gaps_of_formats(request).items()},
        "formats": list(request.formats),
        "outcomes": [
            {
                "title": each.title[:TITLE_LENGTH],
                "format": each.format if each.format in request.formats else None,
                "predicted": round(each.predicted, 1),
                "actual": round(each.actual, 1),
                "gap": round(each.gap, 1) + 0.0,
            }
            for each in request.evidence
        ],
    }


def _shown(gaps: Gaps) -> dict[str, float]:
    return {
        "outcomes": gaps.outcomes,
        "better_than_predicted": gaps.above,
        "worse_than_predicted": gaps.below,
        "median_gap": gaps.median,
        "least_gap": gaps.least,
        "greatest_gap": gaps.greatest,
    }
