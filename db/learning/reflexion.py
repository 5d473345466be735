"""The reflexion storage of the old app: feedback, critiques, insights and adjustments of one tenant, in their scope."""

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Table, func, insert, select

from db.postgres.rows import put
from db.schema.learning import performance_feedback, reflexion_insights, scoring_adjustments, self_critiques

T = TypeVar("T", "Critique", "Insight", "Adjustment")


@dataclass(frozen=True, slots=True)
class Critique:
    """`applied_at` is None until something was learned from it. `performance_gap` is as the old app's type has it."""

    id: UUID
    concept_id: str
    critique: str
    created_at: datetime
    performance_gap: dict[str, Any] = field(default_factory=dict)
    hypothesized_reasons: list[str] = field(default_factory=list)
    scoring_issues: list[str] = field(default_factory=list)
    adjustment_plan: str = ""
    confidence_level: str = "low"
    applied_at: datetime | None = None
    category: str | None = None
    platform: str | None = None
    predicted_score: float | None = None
    actual_score: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Insight:
    """A tenant has one insight for each category, platform and pattern. `impact` is positive, negative or neutral."""

    id: UUID
    category: str
    platform: str
    pattern: str
    discovered_at: datetime
    last_seen_at: datetime
    evidence_count: int = 0
    impact: str = "neutral"
    recommendation: str = ""
    applied_to_scoring: bool = False


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A weight that was changed. Those of the old app have no platform."""

    id: UUID
    category: str
    adjustment_type: str
    old_value: float | None
    new_value: float | None
    applied_at: datetime
    reason: str = ""
    critique_id: str | None = None
    platform: str | None = None


class Stats(NamedTuple):
    critiques: int
    insights: int
    adjustments: int
    recent_critiques: int


@dataclass(frozen=True)
class Entity(Generic[T]):
    """A dataclass whose fields are columns of a table of tenants. `time` is the column that lists are ordered by."""

    kind: type[T]
    table: Table
    time: str

    def save(self, sql: Connection, tenant_id: UUID, thing: T, this: ColumnElement[bool]) -> None:
        put(sql, self.table, {"tenant_id": tenant_id, **asdict(thing)}, this)

    def newest(
        self, sql: Connection, tenant_id: UUID, *where: ColumnElement[bool], limit: int | None = None
    ) -> list[T]:
        columns = [self.table.c[each.name] for each in fields(self.kind)]
        newest = (self.table.c[self.time].desc(), self.table.c.id.desc())
        query = select(*columns).where(self.table.c.tenant_id == tenant_id, *where).order_by(*newest).limit(limit)
        return [self.kind(*row) for row in sql.execute(query)]

    def count(self, tenant_id: UUID, *where: ColumnElement[bool]) -> ScalarSelect[int]:
        return select(func.count()).where(self.table.c.tenant_id == tenant_id, *where).scalar_subquery()


CRITIQUES = Entity(Critique, self_critiques, "created_at")
INSIGHTS = Entity(Insight, reflexion_insights, "last_seen_at")
ADJUSTMENTS = Entity(Adjustment, scoring_adjustments, "applied_at")


class Learning:
    """Query group. Lists are newest first."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def add_feedback(self, tenant_id: UUID, columns: dict[str, Any]) -> UUID:
        """Add a row of `performance_feedback`, and return its id."""
        added = insert(performance_feedback).values({"tenant_id": tenant_id, **columns})
        feedback_id: UUID = self._sql.execute(added.returning(performance_feedback.c.id)).scalar_one()
        return feedback_id

    def save_critique(self, tenant_id: UUID, critique: Critique) -> None:
        """Add it, or change the tenant's own of this id.

        Raises:
            IdTaken: another tenant has the id.
        """
        CRITIQUES.save(self._sql, tenant_id, critique, self_critiques.c.id == critique.id)

    def critiques(self, tenant_id: UUID, limit: int = 50) -> list[Critique]:
        return CRITIQUES.newest(self._sql, tenant_id, limit=limit)

    def critiques_of_concept(self, tenant_id: UUID, concept_id: str) -> list[Critique]:
        return CRITIQUES.newest(self._sql, tenant_id, self_critiques.c.concept_id == concept_id)

    def unapplied_critiques(self, tenant_id: UUID, limit: int = 1000) -> list[Critique]:
        return CRITIQUES.newest(self._sql, tenant_id, self_critiques.c.applied_at.is_(None), limit=limit)

    def save_insight(self, tenant_id: UUID, insight: Insight) -> None:
        """Add it, or change the tenant's own of this category, platform and pattern, which keeps its id.

        Raises:
            IdTaken: another insight has the id.
        """
        insights = reflexion_insights.c
        this = (
            (insights.category == insight.category)
            & (insights.platform == insight.platform)
            & (func.md5(insights.pattern) == func.md5(insight.pattern))
        )
        INSIGHTS.save(self._sql, tenant_id, insight, this)

    def insights(self, tenant_id: UUID, category: str | None = None) -> list[Insight]:
        """Return the insights, those seen last first."""
        where = [] if category is None else [reflexion_insights.c.category == category]
        return INSIGHTS.newest(self._sql, tenant_id, *where)

    def insight_by_pattern(self, tenant_id: UUID, pattern: str) -> Insight | None:
        """Return the insight of this pattern; of several, in other categories or platforms, the one seen last."""
        found = INSIGHTS.newest(self._sql, tenant_id, reflexion_insights.c.pattern == pattern, limit=1)
        return next(iter(found), None)

    def save_adjustment(self, tenant_id: UUID, adjustment: Adjustment) -> None:
        """Add it, or change the tenant's own of this id.

        Raises:
            IdTaken: another tenant has the id.
        """
        ADJUSTMENTS.save(self._sql, tenant_id, adjustment, scoring_adjustments.c.id == adjustment.id)

    def adjustments(self, tenant_id: UUID, limit: int = 50) -> list[Adjustment]:
        return ADJUSTMENTS.newest(self._sql, tenant_id, limit=limit)

    def adjustments_of_category(self, tenant_id: UUID, category: str) -> list[Adjustment]:
        return ADJUSTMENTS.newest(self._sql, tenant_id, scoring_adjustments.c.category == category)

    def stats(self, tenant_id: UUID, since: datetime) -> Stats:
        """Count each of them, and the critiques that are younger than `since`."""
        counts = (CRITIQUES.count(tenant_id), INSIGHTS.count(tenant_id), ADJUSTMENTS.count(tenant_id))
        recent = CRITIQUES.count(tenant_id, self_critiques.c.created_at > since)
        return Stats(*self._sql.execute(select(*counts, recent)).one())
