"""How far off a model was: the interval that it states, and the alarm when something has changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STEP = 0.1
"""The width of a bin, in log engagement."""
REACH = 30
"""Bins on each side of 0; what is farther off counts into the last one."""
KEEP = 0.995
USUAL = (2, 3, 4, 5, 7, 10, 12, 14, 12, 10, 8, 6, 4, 2, 1)
"""Residuals of a learner that has none of its own, bin by bin around 0, in hundredths."""
USUAL_POSTS = 10.0
"""So many posts they count for."""
LOW, HIGH = 0.1, 0.9
"""The interval holds what lies between these shares of outcomes: 8 of 10."""


@dataclass(slots=True)
class Residuals:
    """Outcome minus prediction, in log engagement, as discounted counts by bin."""

    bins: dict[int, float] = field(default_factory=dict)

    def learn(self, residual: float) -> None:
        for each in self.bins:
            self.bins[each] *= KEEP
        place = max(-REACH, min(REACH, round(residual / STEP)))
        self.bins[place] = self.bins.get(place, 0.0) + 1.0

    def interval(self) -> tuple[float, float]:
        """Return the residuals below which LOW and HIGH of the outcomes are."""
        counts = [self.bins.get(each, 0.0) for each in range(-REACH, REACH + 1)]
        middle = len(USUAL) // 2
        for place, hundredths in enumerate(USUAL):
            counts[REACH - middle + place] += USUAL_POSTS * hundredths / 100
        total = sum(counts)
        return _quantile(counts, LOW * total), _quantile(counts, HIGH * total)

    def row(self) -> dict[str, float]:
        return {str(place): count for place, count in self.bins.items()}

    @classmethod
    def of(cls, row: Mapping[str, float]) -> "Residuals":
        return cls({int(place): count for place, count in row.items()})


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

    LASTS = 60
    """Outcomes."""
    SLACK, THRESHOLD = 0.5, 11.0
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
