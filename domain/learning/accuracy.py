"""How far predictions were off, group by group, and what a running median would have missed by.

A gap is actual minus predicted, in points of the scale; of each post only the prediction counts that was written down
before it was out. `skill` is 1 - gap / gap of the running median: the one figure that a scale which saturates, or posts
that are all alike, cannot make look good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import sqrt
from typing import Any

from domain.learning.numbers import Horizon
from domain.learning.promotion import LEAST

MOST_GROUPS = 300


class AccuracyBy(StrEnum):
    """What outcomes are grouped by, beside their platform. A week is that in which the numbers were taken."""

    WEEK = "week"
    PLATFORM = "platform"
    CATEGORY = "category"
    ACCOUNT = "account"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `outcomes` posts: `gap` is the mean distance, `bias` the mean gap with its sign (positive: they did better),
    both in points; shares are 0 to 1. `median_gap` is the running median's, on the `compared` outcomes that it had
    predicted too, and `skill` is on these. None where there is no outcome."""

    outcomes: int = 0
    gap: float | None = None
    bias: float | None = None
    within20: float | None = None
    within10: float | None = None
    coverage: float | None = None
    compared: int = 0
    median_gap: float | None = None
    skill: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A post's prediction at a horizon, and its outcome once that is learned: both in points. `set_aside` says why it
    has none, if so."""

    model: str
    score: float
    low: float
    high: float
    actual_score: float | None = None
    set_aside: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The outcomes of one group on one platform. `key` is None where a post has no category."""

    key: str | None
    label: str
    platform: str
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Change:
    """Another model scores from `at` on: a promotion or a rollback, and why."""

    at: datetime
    kind: str
    platform: str | None
    horizon: str | None
    model: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of the outcomes at the horizon: how many were learned, set aside (by reason), and wait to be."""

    learned: int
    waiting: int
    set_aside: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AccuracyReport:
    """Outcomes whose numbers were taken from `since` to before `until`. `more`: groups with fewer outcomes are left
    out."""

    by: AccuracyBy
    horizon: Horizon
    since: datetime
    until: datetime
    time_zone: str
    total: Accuracy
    groups: Sequence[Group]
    more: bool
    evidence: Evidence
    changes: Sequence[Change]


def skill(gap: float | None, median_gap: float | None) -> float | None:
    """Return 1 - gap / median_gap; None without both, or if the running median missed by nothing."""
    return None if gap is None or not median_gap else 1 - gap / median_gap


def trust(outcomes: int) -> str:
    """Say how far a mean gap of so many outcomes may be trusted. The distances of a normal distribution are spread by
    0.756 of their mean, so 95 of 100 means of n lie within 1.96 * 0.756 / sqrt(n) of it."""
    if outcomes < LEAST:
        return f"not at all: {outcomes} of {LEAST} outcomes"
    return f"give or take {100 * 1.48 / sqrt(outcomes):.0f} %, from {outcomes:,} outcomes"


def values(accuracy: Accuracy) -> dict[str, Any]:
    return {name: getattr(accuracy, name) for name in Accuracy.__slots__}


def report_values(report: AccuracyReport) -> dict[str, Any]:
    """Return a report as programs read it."""
    about = {name: getattr(report, name) for name in ("by", "horizon", "since", "until", "time_zone", "more")}
    return about | {
        "total": values(report.total),
        "groups": [
            {"key": each.key, "label": each.label, "platform": each.platform, **values(each.accuracy)}
            for each in report.groups
        ],
        "evidence": {name: getattr(report.evidence, name) for name in Evidence.__slots__},
        "changes": [{name: getattr(each, name) for name in Change.__slots__} for each in report.changes],
    }
