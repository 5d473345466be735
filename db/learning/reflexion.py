"""The reflexion storage of the old app: feedback, critiques, insights and adjustments of one tenant, in their scope."""

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import reduce
from operator import add
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Table,
    Text,
    cast,
    delete,
    func,
    insert,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from db.postgres.rows import put
from db.schema.learning import performance_feedback, reflexion_insights, scoring_adjustments, self_critiques

T = TypeVar("T", "Critique", "Insight", "Adjustment")


@dataclass(frozen=True, slots=True)
class Critique:
    """`applied_at` is None until something was learned from it. `performance_gap` has the names of the old app's
    type; its `gap` is actual minus predicted, which `domain/dexie/records.py` turns."""

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
    """A weight that was changed, or another model that scores. Those of the old app have no platform; `applied_at` is
    None while it is only proposed."""

    id: UUID
    category: str
    adjustment_type: str
    old_value: float | None
    new_value: float | None
    applied_at: datetime | None
    reason: str = ""
    critique_id: str | None = None
    platform: str | None = None


class Stats(NamedTuple):
    critiques: int
    insights: int
    adjustments: int
    recent_critiques: int


class LearningCursor(NamedTuple):
    """The last one of a page: its time, and its id."""

    time: datetime
    id: UUID


class Page(NamedTuple, Generic[T]):
    """The next page begins after `next`, which is None on the last one."""

    found: list[T]
    next: LearningCursor | None


PAGE_BYTES = 2 * 1024 * 1024
"""The limit of a page's texts and JSON, in bytes, unless the first of it alone has more."""


@dataclass(frozen=True)
class Entity(Generic[T]):
    """A dataclass whose fields are columns of a table of tenants. `time` is what lists are ordered by."""

    kind: type[T]
    table: Table
    time: ColumnElement[datetime]

    def save(self, sql: Connection, tenant_id: UUID, thing: T, this: ColumnElement[bool]) -> T:
        """Add it, or change the row `this`; return what is stored.

        Raises:
            IdTaken: another row has the id.
        """
        put(sql, self.table, {"tenant_id": tenant_id, **asdict(thing)}, this)
        return self._read(sql, self.table.c.tenant_id == tenant_id, this)[0]

    def get(self, sql: Connection, tenant_id: UUID, thing_id: UUID) -> T | None:
        return next(iter(self._read(sql, *self._this(tenant_id, thing_id))), None)

    def delete(self, sql: Connection, tenant_id: UUID, thing_id: UUID) -> bool:
        """Delete it, and return whether there was one."""
        return bool(sql.execute(delete(self.table).where(*self._this(tenant_id, thing_id))).rowcount)

    def page(
        self,
        sql: Connection,
        tenant_id: UUID,
        *where: ColumnElement[bool],
        limit: int,
        after: LearningCursor | None,
    ) -> Page[T]:
        """Return the newest ones after this place: at most `limit`, and fewer if they are large (`PAGE_BYTES`)."""
        time, row_id = self.time, self.table.c.id
        if after is not None:
            where = (*where, tuple_(time, row_id) < after)
        query = select(row_id, time, self._size()).where(self.table.c.tenant_id == tenant_id, *where)
        # The sizes first: a hundred of the largest records are hundreds of megabytes.
        rows = sql.execute(query.order_by(time.desc(), row_id.desc()).limit(limit + 1)).all()
        total = 0
        fitting: list[Any] = []
        for row in rows[:limit]:
            total += row[2]
            if fitting and total > PAGE_BYTES:
                break
            fitting.append(row)
        mine = self.table.c.tenant_id == tenant_id
        found = self._read(sql, mine, row_id.in_([row[0] for row in fitting])) if fitting else []
        more = len(rows) > len(fitting)
        return Page(found, LearningCursor(fitting[-1][1], fitting[-1][0]) if more else None)

    def count(self, tenant_id: UUID, *where: ColumnElement[bool]) -> ScalarSelect[int]:
        return select(func.count()).where(self.table.c.tenant_id == tenant_id, *where).scalar_subquery()

    def _read(self, sql: Connection, *where: ColumnElement[bool]) -> list[T]:
        columns = [self.table.c[each.name] for each in fields(self.kind)]
        newest = (self.time.desc(), self.table.c.id.desc())
        return [self.kind(*row) for row in sql.execute(select(*columns).where(*where).order_by(*newest))]

    def _this(self, tenant_id: UUID, thing_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return self.table.c.tenant_id == tenant_id, self.table.c.id == thing_id

    def _size(self) -> ColumnElement[int]:
        """Say how many bytes the fields of a row have that have no bound of their own."""
        columns = [self.table.c[each.name] for each in fields(self.kind)]
        unbounded = [each for each in columns if isinstance(each.type, JSONB | Text)]
        sizes = [func.coalesce(func.octet_length(cast(each, Text)), 0) for each in unbounded]
        return reduce(add, sizes)


CRITIQUES = Entity(Critique, self_critiques, self_critiques.c.created_at)
INSIGHTS = Entity(Insight, reflexion_insights, reflexion_insights.c.last_seen_at)
ADJUSTMENTS = Entity(
    Adjustment,
    scoring_adjustments,
    # One that is only proposed has no moment of its own yet.
    func.coalesce(scoring_adjustments.c.applied_at, scoring_adjustments.c.created_at),
)


class Learning:
    """Query group. Lists are newest first."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def add_feedback(self, tenant_id: UUID, columns: dict[str, Any]) -> UUID:
        """Add a row of `performance_feedback`, and return its id."""
        added = insert(performance_feedback).values({"tenant_id": tenant_id, **columns})
        feedback_id: UUID = self._sql.execute(added.returning(performance_feedback.c.id)).scalar_one()
        return feedback_id

    def feedback(self, tenant_id: UUID, feedback_id: UUID) -> dict[str, Any] | None:
        """Return a row of `performance_feedback`; None if the tenant has none of this id."""
        columns = performance_feedback.c
        query = select(performance_feedback).where(columns.tenant_id == tenant_id, columns.id == feedback_id)
        row = self._sql.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def save_critique(self, tenant_id: UUID, critique: Critique) -> Critique:
        """Add it, or change the tenant's own of this id; return what is stored.

        Raises:
            IdTaken: another tenant has the id.
        """
        return CRITIQUES.save(self._sql, tenant_id, critique, self_critiques.c.id == critique.id)

    def critique(self, tenant_id: UUID, critique_id: UUID) -> Critique | None:
        return CRITIQUES.get(self._sql, tenant_id, critique_id)

    def critiques(
        self,
        tenant_id: UUID,
        *,
        limit: int = 50,
        after: LearningCursor | None = None,
        concept_id: str | None = None,
        unapplied: bool = False,
    ) -> Page[Critique]:
        """Return a page of the critiques, of one concept or all, and of all or those that nothing was learned from."""
        where = [] if concept_id is None else [self_critiques.c.concept_id == concept_id]
        if unapplied:
            where.append(self_critiques.c.applied_at.is_(None))
        return CRITIQUES.page(self._sql, tenant_id, *where, limit=limit, after=after)

    def delete_critique(self, tenant_id: UUID, critique_id: UUID) -> bool:
        return CRITIQUES.delete(self._sql, tenant_id, critique_id)

    def save_insight(self, tenant_id: UUID, insight: Insight) -> Insight:
        """Add it, or change the tenant's own of this category, platform and pattern, which keeps its id; return what is
        stored.

        Raises:
            IdTaken: another insight has the id.
        """
        insights = reflexion_insights.c
        this = (
            (insights.category == insight.category)
            & (insights.platform == insight.platform)
            & (func.md5(insights.pattern) == func.md5(insight.pattern))
        )
        return INSIGHTS.save(self._sql, tenant_id, insight, this)

    def insight(self, tenant_id: UUID, insight_id: UUID) -> Insight | None:
        return INSIGHTS.get(self._sql, tenant_id, insight_id)

    def insights(
        self,
        tenant_id: UUID,
        *,
        limit: int = 50,
        after: LearningCursor | None = None,
        category: str | None = None,
        pattern: str | None = None,
    ) -> Page[Insight]:
        """Return a page of the insights, those seen last first; of one category, or of one pattern, which may stand in
        several categories and platforms."""
        where = [] if category is None else [reflexion_insights.c.category == category]
        if pattern is not None:
            where.append(reflexion_insights.c.pattern == pattern)
        return INSIGHTS.page(self._sql, tenant_id, *where, limit=limit, after=after)

    def delete_insight(self, tenant_id: UUID, insight_id: UUID) -> bool:
        return INSIGHTS.delete(self._sql, tenant_id, insight_id)

    def save_adjustment(self, tenant_id: UUID, adjustment: Adjustment) -> Adjustment:
        """Add it, or change the tenant's own of this id; return what is stored.

        Raises:
            IdTaken: another tenant has the id.
        """
        return ADJUSTMENTS.save(self._sql, tenant_id, adjustment, scoring_adjustments.c.id == adjustment.id)

    def adjustment(self, tenant_id: UUID, adjustment_id: UUID) -> Adjustment | None:
        return ADJUSTMENTS.get(self._sql, tenant_id, adjustment_id)

    def adjustments(
        self, tenant_id: UUID, *, limit: int = 50, after: LearningCursor | None = None, category: str | None = None
    ) -> Page[Adjustment]:
        """Return a page of the adjustments, of one category or all."""
        where = [] if category is None else [scoring_adjustments.c.category == category]
        return ADJUSTMENTS.page(self._sql, tenant_id, *where, limit=limit, after=after)

    def delete_adjustment(self, tenant_id: UUID, adjustment_id: UUID) -> bool:
        return ADJUSTMENTS.delete(self._sql, tenant_id, adjustment_id)

    def stats(self, tenant_id: UUID, since: datetime) -> Stats:
        """Count each of them, and the critiques that are younger than `since`."""
        counts = (CRITIQUES.count(tenant_id), INSIGHTS.count(tenant_id), ADJUSTMENTS.count(tenant_id))
        recent = CRITIQUES.count(tenant_id, self_critiques.c.created_at > since)
        return Stats(*self._sql.execute(select(*counts, recent)).one())
