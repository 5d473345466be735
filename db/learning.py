"""What the system learned: critiques, insights and adjustments of one tenant, in their scope; what the old app's
reflexion storage did."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Select, Table, func, select

from db.postgres.rows import put
from db.schema.learning import reflexion_insights, scoring_adjustments, self_critiques


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
    """One for each category, platform and pattern. `impact` is positive, negative or neutral."""

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
    """A weight that was changed. The old app's say no platform."""

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


CRITIQUE = tuple(self_critiques.c[each.name] for each in fields(Critique))
INSIGHT = tuple(reflexion_insights.c[each.name] for each in fields(Insight))
ADJUSTMENT = tuple(scoring_adjustments.c[each.name] for each in fields(Adjustment))


class Learning:
    """Query group. Lists are newest first."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def save_critique(self, tenant_id: UUID, critique: Critique) -> None:
        """Add it, or change the tenant's own of this id.

        Raises:
            IdTaken: another tenant has the id. So for adjustments.
        """
        put(self._sql, self_critiques, _values(tenant_id, critique), self_critiques.c.id == critique.id)

    def critiques(self, tenant_id: UUID, limit: int = 50) -> list[Critique]:
        return [Critique(*row) for row in self._sql.execute(_critiques(tenant_id).limit(limit))]

    def critiques_of_concept(self, tenant_id: UUID, concept_id: str) -> list[Critique]:
        query = _critiques(tenant_id).where(self_critiques.c.concept_id == concept_id)
        return [Critique(*row) for row in self._sql.execute(query)]

    def unapplied_critiques(self, tenant_id: UUID, limit: int = 1000) -> list[Critique]:
        query = _critiques(tenant_id).where(self_critiques.c.applied_at.is_(None))
        return [Critique(*row) for row in self._sql.execute(query.limit(limit))]

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
        put(self._sql, reflexion_insights, _values(tenant_id, insight), this)

    def insights(self, tenant_id: UUID, category: str | None = None) -> list[Insight]:
        """Those seen last come first."""
        query = _insights(tenant_id)
        if category is not None:
            query = query.where(reflexion_insights.c.category == category)
        return [Insight(*row) for row in self._sql.execute(query)]

    def insight_by_pattern(self, tenant_id: UUID, pattern: str) -> Insight | None:
        """Of several, in other categories or platforms, the one seen last."""
        query = _insights(tenant_id).where(reflexion_insights.c.pattern == pattern).limit(1)
        row = self._sql.execute(query).one_or_none()
        return None if row is None else Insight(*row)

    def save_adjustment(self, tenant_id: UUID, adjustment: Adjustment) -> None:
        values = _values(tenant_id, adjustment)
        put(self._sql, scoring_adjustments, values, scoring_adjustments.c.id == adjustment.id)

    def adjustments(self, tenant_id: UUID, limit: int = 50) -> list[Adjustment]:
        return [Adjustment(*row) for row in self._sql.execute(_adjustments(tenant_id).limit(limit))]

    def adjustments_of_category(self, tenant_id: UUID, category: str) -> list[Adjustment]:
        query = _adjustments(tenant_id).where(scoring_adjustments.c.category == category)
        return [Adjustment(*row) for row in self._sql.execute(query)]

    def stats(self, tenant_id: UUID, since: datetime) -> Stats:
        """How many of each there are, and how many critiques are younger than `since`."""
        recent = select(func.count()).where(
            self_critiques.c.tenant_id == tenant_id, self_critiques.c.created_at > since
        )
        counts = [_count(table, tenant_id) for table in (self_critiques, reflexion_insights, scoring_adjustments)]
        return Stats(*self._sql.execute(select(*(each.scalar_subquery() for each in (*counts, recent)))).one())


def _values(tenant_id: UUID, thing: Critique | Insight | Adjustment) -> dict[str, Any]:
    return {"tenant_id": tenant_id, **asdict(thing)}


def _of(tenant_id: UUID, table: Table, columns: Sequence[Any], time: str) -> Select[Any]:
    return select(*columns).where(table.c.tenant_id == tenant_id).order_by(table.c[time].desc(), table.c.id.desc())


def _critiques(tenant_id: UUID) -> Select[Any]:
    return _of(tenant_id, self_critiques, CRITIQUE, "created_at")


def _insights(tenant_id: UUID) -> Select[Any]:
    return _of(tenant_id, reflexion_insights, INSIGHT, "last_seen_at")


def _adjustments(tenant_id: UUID) -> Select[Any]:
    return _of(tenant_id, scoring_adjustments, ADJUSTMENT, "applied_at")


def _count(table: Table, tenant_id: UUID) -> Select[Any]:
    return select(func.count()).where(table.c.tenant_id == tenant_id)
