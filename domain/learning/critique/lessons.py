"""Lessons: what critiques leave for the next concepts, for as long as it helps.

A lesson goes into the question to the generator, and into the offline grammar's choice of formats. A quarter of a
tenant's generations gets none, so that there is something to compare with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from math import fsum, sqrt
from statistics import stdev
from typing import Any
from uuid import UUID

MOST_AT_ONCE = 6
"""Lessons that one generation gets, those with the newest evidence."""
HELD_BACK = 0.25
"""The share of generations that get none."""
LEAST_WITH = 8
"""Outcomes of a lesson's group that were made with it, before it is judged."""
LEAST_WITHOUT = 5
"""Outcomes made without it since it began; if there are fewer, those from before it stand in."""
LIKELIER = 3.0
"""Times as likely a format that a lesson is for is chosen; one that a lesson is against, a third as likely."""


@dataclass(frozen=True, slots=True)
class ActiveLesson:
    """A lesson that is neither expired nor retired. `prefer` and `avoid` are names of formats."""

    id: UUID
    category: str
    platform: str
    pattern: str
    advice: str
    prefer: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return JSON values, which `lesson_of` reads."""
        return asdict(self) | {"id": str(self.id)}


def lesson_of(row: Mapping[str, Any]) -> ActiveLesson:
    lists = {name: tuple(row[name]) for name in ("prefer", "avoid")}
    return ActiveLesson(**{**row, "id": UUID(row["id"]), **lists})


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The gaps of a lesson's group, in points: of posts made with it, of those without it since it began, and of those
    before it."""

    used: Sequence[float]
    unused: Sequence[float]
    before: Sequence[float]


def held_back(job_id: UUID) -> bool:
    """Whether the generation of this job gets no lesson; always the same for one job."""
    return int.from_bytes(sha256(job_id.bytes).digest()[:4]) < HELD_BACK * 2**32


def weight(lessons: Sequence[ActiveLesson], name: str) -> float:
    """Return how many times as likely the lessons make a format; never 0."""
    return LIKELIER ** (sum(name in each.prefer for each in lessons) - sum(name in each.avoid for each in lessons))


def retirement(outcomes: Outcomes, expires_at: datetime | None, now: datetime) -> str | None:
    """Say why a lesson is retired; None if it stays.

    It is once it has expired; and once eight outcomes were made with it whose mean gap is not above that of those
    without it since it began, or, while those are fewer than five, of those before it. No margin is asked for: a gap
    varies by about ten points from post to post, so a mean of eight is good to three or four. A lesson that changes
    nothing is therefore retired at every second look or so, and one that helps by that much now and then by chance.
    That is on purpose: a lesson lost costs less than one that stays for nothing. Against outcomes from before it, the
    learner's own progress counts too, for or against the lesson: it draws gaps towards 0.
    """
    if expires_at is not None and expires_at <= now:
        return f"it expired on {expires_at.date().isoformat()}"
    if len(outcomes.used) < LEAST_WITH:
        return None
    other, which = outcomes.unused, "without it"
    if len(other) < LEAST_WITHOUT:
        other, which = outcomes.before, "before it"
    if not other or _mean(outcomes.used) > _mean(other):
        return None
    return (
        f"{len(outcomes.used)} outcomes with it had a mean gap of {_figure(outcomes.used)} points, and "
        f"{len(other)} {which} {_figure(other)}: not better"
    )


def _mean(gaps: Sequence[float]) -> float:
    return fsum(gaps) / len(gaps)


def _figure(gaps: Sequence[float]) -> str:
    if len(gaps) < 2:
        return f"{_mean(gaps):+.1f}"
    return f"{_mean(gaps):+.1f} (standard error {stdev(gaps) / sqrt(len(gaps)):.1f})"
