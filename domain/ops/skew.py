"""How far clocks are apart, told from questions that take a while to be answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Reading:
    """What a clock read between two looks at our own."""

    name: str
    asked: datetime
    read: datetime
    answered: datetime

    @property
    def least(self) -> timedelta:
        """The least that it is ahead of us; negative if it may be behind."""
        return self.read - self.answered

    @property
    def most(self) -> timedelta:
        return self.read - self.asked


def furthest(readings: Sequence[Reading], ours: str = "this process") -> tuple[timedelta, str]:
    """Return by how much two of the clocks, ours among them, surely differ, and the names of the two that do most.

    A long round trip excuses as much as it took: a slow answer is no wrong clock.
    """
    zero = timedelta()
    bounds = [(ours, zero, zero), *((each.name, each.least, each.most) for each in readings)]
    return max(
        (max(one_least - other_most, other_least - one_most, zero), f"the clocks of {one} and {other}")
        for (one, one_least, one_most), (other, other_least, other_most) in combinations(bounds, 2)
    )
