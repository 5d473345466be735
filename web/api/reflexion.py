"""`/api/reflexion`: what was learned from concepts, as the old app kept it: critiques, insights and adjustments.

Each has an id that its maker chooses, so that sending one again changes nothing. `performance_gap` has the field names
of the old app's type, and is kept as it is sent; a gap in it is actual minus predicted, as everywhere here. (The old
app's was the other way round: files of its own are turned when they are imported, and back when they are exported.)
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db.learning import reflexion as stored
from db.learning.reflexion import LearningCursor
from domain.dexie.kinds import LONGEST_WORD
from domain.dexie.records import LARGEST_SCORE, columns_of_gap
from domain.errors import IdTaken
from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.validation import Kept, Moment, RequestBody
from web.error_responses import ApiError, documented, not_found
from workers.engine.job import Tx

RECENT = timedelta(days=7)
"""A critique counts as recent so long."""

Reader = Annotated[Caller, requires(ApiScope.GENERATIONS_READ)]
Writer = Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)]

Word = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]
Text = Annotated[str, Field(max_length=10_000)]
Score = Annotated[float, Field(gt=-LARGEST_SCORE, lt=LARGEST_SCORE)]
Weight = Annotated[float, Field(allow_inf_nan=False)]

TAKEN = documented(_409="`ID_TAKEN`: the id cannot be used: send it under another one")


def missing(what: str) -> dict[int | str, dict[str, Any]]:
    return documented(_404=f"no such {what} of yours")


routes = APIRouter(prefix="/reflexion", tags=["reflexion"], route_class=AdmittedRoute)


class PageQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(50, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")

    def after(self) -> LearningCursor | None:
        return None if self.cursor is None else LearningCursor(*decode_cursor(self.cursor))


class CritiqueQuery(PageQuery):
    concept_id: str | None = Field(None, max_length=LONGEST_WORD, description="Only those of this concept.")
    unapplied: bool = Field(False, description="Only those that nothing was learned from yet.")


class InsightQuery(PageQuery):
    category: str | None = Field(None, max_length=LONGEST_WORD)
    pattern: str | None = Field(None, max_length=10_000)


class AdjustmentQuery(PageQuery):
    category: str | None = Field(None, max_length=LONGEST_WORD)


class CritiqueBody(RequestBody):
    """`category`, `platform` and the scores are read from `performance_gap` if they are left out. Without `applied_at`
    nothing was learned from it yet. Without `created_at` it is of now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"concept_id": "c1", "critique": "Too confident about luxury on weekdays."}]}
    )

    concept_id: Word
    critique: Text
    performance_gap: dict[str, Any] = Field(
        {}, description="In the names of the old app's type; `gap` is actual minus predicted."
    )
    hypothesized_reasons: list[Text] = Field([], max_length=100)
    scoring_issues: list[Text] = Field([], max_length=100)
    adjustment_plan: Text = ""
    confidence_level: Literal["low", "medium", "high"] = "low"
    category: Word | None = None
    platform: Word | None = None
    predicted_score: Score | None = None
    actual_score: Score | None = None
    created_at: Moment | None = None
    applied_at: Moment | None = None


class CritiqueRow(BaseModel):
    """`hypothesized_reasons`, `scoring_issues` and `performance_gap` of an imported critique hold what it held."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    concept_id: str | None
    critique: str
    performance_gap: Annotated[Any, Kept]
    hypothesized_reasons: Annotated[list[Any], Kept]
    scoring_issues: Annotated[list[Any], Kept]
    adjustment_plan: str
    confidence_level: str
    category: str | None
    platform: str | None
    predicted_score: float | None
    actual_score: float | None
    created_at: datetime
    applied_at: datetime | None


class CritiqueList(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    critiques: list[CritiqueRow]
    next: str | None


class InsightBody(RequestBody):
    """Without `discovered_at` and `last_seen_at` it was seen now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"category": "food", "platform": "tiktok", "pattern": "A recipe that fails holds viewers."}]
        }
    )

    category: Word
    platform: Word
    pattern: Text
    evidence_count: int = Field(0, ge=0, lt=2**53)
    impact: Literal["positive", "negative", "neutral"] = "neutral"
    recommendation: Text = ""
    applied_to_scoring: bool = False
    discovered_at: Moment | None = None
    last_seen_at: Moment | None = None


class InsightRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    category: str
    platform: str
    pattern: str
    evidence_count: int
    impact: str
    recommendation: str
    applied_to_scoring: bool
    discovered_at: datetime
    last_seen_at: datetime


class InsightList(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    insights: list[InsightRow]
    next: str | None


class AdjustmentBody(RequestBody):
    """A weight that was changed. Without `applied_at` it was now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"category": "food", "old_value": 1.0, "new_value": 1.1, "reason": "Eight posts did better."}]
        }
    )

    category: Word
    adjustment_type: Word = "category-weight"
    old_value: Weight | None
    new_value: Weight | None
    reason: Text = ""
    critique_id: Word | None = None
    platform: Word | None = None
    applied_at: Moment | None = None


class AdjustmentRow(BaseModel):
    """`applied_at` is null while it is only proposed: a model that was found better, and did not stand the backtest."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    category: str
    adjustment_type: str
    old_value: float | None
    new_value: float | None
    reason: str
    critique_id: str | None
    platform: str | None
    applied_at: datetime | None


class AdjustmentList(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    adjustments: list[AdjustmentRow]
    next: str | None


class Stats(BaseModel):
    """How many there are; `recent_critiques` are of the last seven days."""

    critiques: int
    insights: int
    adjustments: int
    recent_critiques: int


@routes.get("/stats")
def stats(caller: Reader, app: Running) -> Stats:
    """Count critiques, insights and adjustments."""
    with app.db.transaction(caller.tenant_id) as tx:
        return Stats(**tx.learning.stats(caller.tenant_id, tx.now() - RECENT)._asdict())


@routes.get("/critiques")
def list_critiques(caller: Reader, app: Running, query: Annotated[CritiqueQuery, Query()]) -> CritiqueList:
    """List critiques, newest first. A page has fewer than `limit` if they are large: `next` says whether there are
    more."""
    with app.db.transaction(caller.tenant_id) as tx:
        page = tx.learning.critiques(
            caller.tenant_id,
            limit=query.limit,
            after=query.after(),
            concept_id=query.concept_id,
            unapplied=query.unapplied,
        )
    rows = [CritiqueRow.model_validate(each) for each in page.found]
    return CritiqueList(critiques=rows, next=page.next and encode_cursor(page.next))


@routes.get("/critiques/{critique_id}", responses=missing("critique"))
def show_critique(critique_id: UUID, caller: Reader, app: Running) -> CritiqueRow:
    """Show one critique."""
    with app.db.transaction(caller.tenant_id) as tx:
        found = tx.learning.critique(caller.tenant_id, critique_id)
    if found is None:
        raise not_found(f"critique {critique_id}")
    return CritiqueRow.model_validate(found)


@routes.put("/critiques/{critique_id}", responses=TAKEN)
def put_critique(critique_id: UUID, body: CritiqueBody, caller: Writer, app: Running) -> CritiqueRow:
    """Keep a critique under an id of yours; the one that has the id already is replaced."""
    inside, _ = columns_of_gap(body.performance_gap)

    def save(tx: Tx) -> stored.Critique:
        sent = body.model_dump()
        sent |= {name: value for name, value in inside.items() if sent[name] is None}
        sent["created_at"] = body.created_at or tx.now()
        return tx.learning.save_critique(caller.tenant_id, stored.Critique(id=critique_id, **sent))

    return CritiqueRow.model_validate(_saved(app, caller, save))


@routes.delete("/critiques/{critique_id}", status_code=204, responses=missing("critique"))
def delete_critique(critique_id: UUID, caller: Writer, app: Running) -> None:
    """Delete a critique for good. What was adjusted because of it stays adjusted."""
    with app.db.transaction(caller.tenant_id) as tx:
        if not tx.learning.delete_critique(caller.tenant_id, critique_id):
            raise not_found(f"critique {critique_id}")


@routes.get("/insights")
def list_insights(caller: Reader, app: Running, query: Annotated[InsightQuery, Query()]) -> InsightList:
    """List insights, those seen last first."""
    with app.db.transaction(caller.tenant_id) as tx:
        page = tx.learning.insights(
            caller.tenant_id,
            limit=query.limit,
            after=query.after(),
            category=query.category,
            pattern=query.pattern,
        )
    rows = [InsightRow.model_validate(each) for each in page.found]
    return InsightList(insights=rows, next=page.next and encode_cursor(page.next))


@routes.get("/insights/{insight_id}", responses=missing("insight"))
def show_insight(insight_id: UUID, caller: Reader, app: Running) -> InsightRow:
    """Show one insight."""
    with app.db.transaction(caller.tenant_id) as tx:
        found = tx.learning.insight(caller.tenant_id, insight_id)
    if found is None:
        raise not_found(f"insight {insight_id}")
    return InsightRow.model_validate(found)


@routes.put("/insights/{insight_id}", responses=TAKEN)
def put_insight(insight_id: UUID, body: InsightBody, caller: Writer, app: Running) -> InsightRow:
    """Keep an insight. There is one for each category, platform and pattern: if it is there, it is replaced and keeps
    its id, which the answer has."""

    def save(tx: Tx) -> stored.Insight:
        sent, now = body.model_dump(), tx.now()
        sent["last_seen_at"] = body.last_seen_at or now
        sent["discovered_at"] = body.discovered_at or sent["last_seen_at"]
        return tx.learning.save_insight(caller.tenant_id, stored.Insight(id=insight_id, **sent))

    return InsightRow.model_validate(_saved(app, caller, save))


@routes.delete("/insights/{insight_id}", status_code=204, responses=missing("insight"))
def delete_insight(insight_id: UUID, caller: Writer, app: Running) -> None:
    """Delete an insight for good."""
    with app.db.transaction(caller.tenant_id) as tx:
        if not tx.learning.delete_insight(caller.tenant_id, insight_id):
            raise not_found(f"insight {insight_id}")


@routes.get("/adjustments")
def list_adjustments(caller: Reader, app: Running, query: Annotated[AdjustmentQuery, Query()]) -> AdjustmentList:
    """List adjustments of weights, newest first."""
    with app.db.transaction(caller.tenant_id) as tx:
        page = tx.learning.adjustments(
            caller.tenant_id, limit=query.limit, after=query.after(), category=query.category
        )
    rows = [AdjustmentRow.model_validate(each) for each in page.found]
    return AdjustmentList(adjustments=rows, next=page.next and encode_cursor(page.next))


@routes.get("/adjustments/{adjustment_id}", responses=missing("adjustment"))
def show_adjustment(adjustment_id: UUID, caller: Reader, app: Running) -> AdjustmentRow:
    """Show one adjustment."""
    with app.db.transaction(caller.tenant_id) as tx:
        found = tx.learning.adjustment(caller.tenant_id, adjustment_id)
    if found is None:
        raise not_found(f"adjustment {adjustment_id}")
    return AdjustmentRow.model_validate(found)


@routes.put("/adjustments/{adjustment_id}", responses=TAKEN)
def put_adjustment(adjustment_id: UUID, body: AdjustmentBody, caller: Writer, app: Running) -> AdjustmentRow:
    """Keep an adjustment under an id of yours; the one that has the id already is replaced."""

    def save(tx: Tx) -> stored.Adjustment:
        sent = body.model_dump() | {"applied_at": body.applied_at or tx.now()}
        return tx.learning.save_adjustment(caller.tenant_id, stored.Adjustment(id=adjustment_id, **sent))

    return AdjustmentRow.model_validate(_saved(app, caller, save))


@routes.delete("/adjustments/{adjustment_id}", status_code=204, responses=missing("adjustment"))
def delete_adjustment(adjustment_id: UUID, caller: Writer, app: Running) -> None:
    """Delete an adjustment from the list for good. The weight stays as it is."""
    with app.db.transaction(caller.tenant_id) as tx:
        if not tx.learning.delete_adjustment(caller.tenant_id, adjustment_id):
            raise not_found(f"adjustment {adjustment_id}")


def _saved(app: Any, caller: Caller, save: Callable[[Tx], Any]) -> Any:
    """Save in a transaction of the caller's tenant. Whose the id is that is taken is not said.

    Raises:
        ApiError: the id cannot be used.
    """
    try:
        with app.db.transaction(caller.tenant_id) as tx:
            return save(tx)
    except IdTaken:
        raise ApiError(409, "this id cannot be used here: send it under another one", "ID_TAKEN") from None
