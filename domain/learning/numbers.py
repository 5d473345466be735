"""The numbers of posts as the platforms give them. NULL is unknown, and 0 is a number; none is ever made up.

A *horizon* is an age of a post at which its numbers are wanted. A snapshot that is taken within a tenth of that age
meets it; later it is missed, and nothing fills it, since a number of another age says something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class Horizon(StrEnum):
    """An age at which a post is measured, as `analytics_snapshots.horizon` has it."""

    H1 = "1h"
    H6 = "6h"
    H24 = "24h"
    H72 = "72h"
    D7 = "7d"

    @property
    def age(self) -> timedelta:
        return AGES[self]

    @property
    def opens(self) -> timedelta:
        """The youngest age that meets it."""
        return self.age - self.age / TOLERANCE

    @property
    def closes(self) -> timedelta:
        """The oldest age that meets it."""
        return self.age + self.age / TOLERANCE


AGES: Mapping[Horizon, timedelta] = {
    Horizon.H1: timedelta(hours=1),
    Horizon.H6: timedelta(hours=6),
    Horizon.H24: timedelta(hours=24),
    Horizon.H72: timedelta(hours=72),
    Horizon.D7: timedelta(days=7),
}
TOLERANCE = 10
"""A tenth."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a platform says of one post; None where it does not say. `details` are further counts by our names (`saves`,
    `reach`, `quotes`). `definition` names what `views` counts (`domain/learning/metrics.py`), "" without views."""

    views: int | None = None
    likes: int | None = None
    comments: int | None = None
    shares: int | None = None
    details: Mapping[str, int] = field(default_factory=dict)
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A platform's answer about some posts: the numbers by the platform's id of the post. `gone` are those that it
    certainly has no longer; `missing` are those that the answer is without, which may be gone (`Publisher.gone` tells).
    What is in none of them is not known now.

    `source` names the call, as "tiktok video/query". `withheld` says why the platform shows our access no numbers of
    the others, and what the owner does about it; "" if it does not say so. Posting goes on all the same.
    """

    source: str
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    withheld: str = ""
