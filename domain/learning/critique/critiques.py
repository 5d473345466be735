"""Critiques: words about why outcomes differ from predictions, written from the statistics, and their lessons.

Words never move a number: a critique changes no weight, and what it suggests is text that the next concepts are written
with, for as long as it helps. What a language model answers is data: it is cleaned and bounded before it is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from domain.concepts.generation import Usage

LOCAL_CRITIC = "local-critic/v1"
"""The name of the critic in `domain/learning/critique/offline.py`."""

LEAST_OUTCOMES = 5
MOST_LESSONS = 3
MOST_POINTS = 5
"""Reasons, or scoring issues, of a critique."""
LENGTHS = {"critique": 1500, "point": 300, "adjustment_plan": 800, "pattern": 300, "advice": 300}
"""Characters that are kept; `point` is one reason, or one scoring issue."""
LESSON_LASTS = timedelta(days=60)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One outcome of a group: what was predicted and what came, in points."""

    outcome_id: UUID
    concept_id: str | None
    title: str
    format: str | None
    predicted: float
    actual: float

    @property
    def gap(self) -> float:
        """Outcome minus prediction: positive if it did better."""
        return self.actual - self.predicted


@dataclass(frozen=True, slots=True)
class CritiqueRequest:
    """What a critic gets: the outcomes of one category and platform, perhaps of one account, that lie to one side of
    what was predicted; or a single large miss."""

    category: str
    platform: str
    account: str | None
    evidence: tuple[Evidence, ...]
    now: datetime
    single: bool = False
    formats: tuple[str, ...] = ()
    """Names that a lesson may speak for or against."""
    patience: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Lesson:
    """`pattern` is what was seen, `advice` what to do. `prefer` and `avoid` are names of formats."""

    pattern: str
    advice: str
    prefer: Sequence[str] = ()
    avoid: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CritiqueResponse:
    """An answer of a critic. `refusal` and `unreadable` say why it has no text; it was paid for all the same."""

    critic: str
    critique: str = ""
    reasons: tuple[str, ...] = ()
    scoring_issues: tuple[str, ...] = ()
    adjustment_plan: str = ""
    lessons: tuple[Lesson, ...] = ()
    usage: Usage = field(default_factory=Usage)
    refusal: str | None = None
    unreadable: str | None = None
