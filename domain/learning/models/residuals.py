"""How far off a model was: the interval that it states, and the alarm when something has changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import exp, fsum, inf
from typing import Any

from domain.learning.models.model import FADED

STEP = 0.1
"""The width of a bin, in log engagement."""
REACH = 30
"""Bins on each side of 0; what is farther off counts into the last one."""
KEEP = 0.995
USUAL_BELOW, USUAL_ABOVE = 0.72, 0.6
"""Root mean squares, in log engagement, of the residuals below and above 0 of learners that have seen nothing yet: of
public data sets of posts of TikTok and YouTube, replayed on 28 November 2026, a learner for each account."""
USUAL_POSTS = 5.0
"""So many residuals they count for."""
LOW, HIGH = 0.1, 0.9
"""The interval holds what lies between these shares of outcomes: 8 of 10."""


@dataclass(slots=True)
class Residuals:
    """Outcome minus prediction, in log engagement, as discounted counts by bin."""

    bins: dict[int, float] = field(default_factory=dict)

    def learn(self, residual: float) -> None:
        self.bins = {each: left for each, count in self.bins.items() if (left := count * KEEP) >= FADED}
        place = max(-REACH, min(REACH, round(residual / STEP)))
        self.bins[place] = self.bins.get(place, 0.0) + 1.0

    def interval(self, room: float = inf) -> tuple[float, float]:
        """Return the residuals below which LOW and HIGH of the outcomes are. `room` is how far above the expectation
        the scale ends: where the interval reaches its end, nothing is above it, and all that it misses is below."""
        counts = [self.bins.get(each, 0.0) for each in range(-REACH, REACH + 1)]
        for place, share in enumerate(_usual()):
            counts[place] += USUAL_POSTS * share
        total = sum(counts)
        high = _quantile(counts, HIGH * total)
        return _quantile(counts, (LOW if high < room else 1 - HIGH + LOW) * total), high

    def row(self) -> dict[str, float]:
        return {str(place): count for place, count in self.bins.items()}

    @classmethod
    def of(cls, row: Mapping[str, float]) -> "Residuals":
        return cls({int(place): count for place, count in row.items()})


@cache
def _usual() -> tuple[float, ...]:
    """Return the share of usual residuals in each bin, from two halves of normal distributions."""
    places = [place * STEP for place in range(-REACH, REACH + 1)]
    heights = [exp(-((place / (USUAL_BELOW if place < 0 else USUAL_ABOVE)) ** 2) / 2) for place in places]
    return tuple(height / fsum(heights) for height in heights)


def _quantile(counts: list[float], wanted: float) -> float:
    """Interpolate linearly within the bin."""
    below = 0.0
    for place, count in enumerate(counts):
        if below + count >= wanted and count > 0:
            return (place - REACH - 0.5 + (wanted - below) / count) * STEP
        below += count
    return REACH * STEP


@dataclass(slots=True)
class Drift:
    """The Page-Hinkley test (E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954) for residuals that move
    away from their mean, to either side. They are counted in units of their own usual size (`spread`), so that the
    alarm is as rare on a noisy stream as on a quiet one."""

    mean: float = 0.0
    count: int = 0
    up: float = 0.0
    down: float = 0.0
    alarmed: int = 0
    spread: float = 0.5

    LASTS = 40
    """Outcomes."""
    SLACK, THRESHOLD = 0.5, 12.0
    """In spreads. The first is about half of the shift that is looked for."""
    FURTHEST = 3.0
    """In spreads: what is further away counts for so much, as one outcome alone is no shift."""
    AT_ZERO = 10
    """So many residuals of 0 are there at the beginning, and after an alarm."""
    OF_SPREAD = 0.02
    """The share of the newest residual in the spread."""
    LEAST_SPREAD = 0.05

    def learn(self, residual: float) -> bool:
        """Return whether this one raises the alarm, which then lasts for `LASTS` outcomes."""
        self.alarmed = max(0, self.alarmed - 1)
        units = max(-self.FURTHEST, min(self.FURTHEST, residual / self.spread))
        self.spread = max(self.LEAST_SPREAD, self.spread + self.OF_SPREAD * (abs(residual) - self.spread))
        self.count += 1
        self.mean += (units - self.mean) / (self.count + self.AT_ZERO)
        self.up = max(0.0, self.up + units - self.mean - self.SLACK)
        self.down = max(0.0, self.down - units + self.mean - self.SLACK)
        if max(self.up, self.down) <= self.THRESHOLD:
            return False
        self.mean, self.count, self.up, self.down, self.alarmed = 0.0, 0, 0.0, 0.0, self.LASTS
        return True

    def row(self) -> list[Any]:
        return [self.mean, self.count, self.up, self.down, self.alarmed, self.spread]
