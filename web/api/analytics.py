"""`/api/posts/{id}/metrics` and `/api/analytics/performance`: how posts did, by the platforms' own numbers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from domain.identity.access import ApiScope, Caller
from domain.learning.numbers import Horizon
from domain.learning.performance import (
    CELL_COLUMNS,
    HORIZON_COLUMNS,
    LONGEST_PERIOD,
    MOST_CELLS,
    USUAL_PERIOD,
    By,
    HorizonState,
    cell_rows,
)
from domain.posting.posts import PostStatus
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.csv_responses import VARY, WantsCsv, csv_response, or_csv
from web.api.validation import Moment, Platform, RequestBody
from web.error_responses import documented
from workers.ops import analytics

routes = APIRouter(tags=["analytics"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.POSTS_READ)]

LOOK: JsonDict = {
    "captured_at": "2026-11-29T17:02:11Z",
    "age_seconds": 86491,
    "views": 1840,
    "likes": 132,
    "comments": 0,
    "shares": None,
    "engagement": None,
    "details": {},
    "definition": "youtube-starts-all",
    "source": "youtube videos.batchGetStats",
}
NO_LOOK: JsonDict = dict.fromkeys(LOOK)
METRICS_EXAMPLE: JsonDict = {
    "at": "2026-11-29T18:00:00Z",
    "post_id": "01937f41-7c8d-7dd3-9e4f-5a6b7c8d9e0f",
    "platform": "youtube-shorts",
    "status": "published",
    "published_at": "2026-11-28T17:00:40Z",
    "predicted_score": 71.0,
    "next_at": "2026-12-01T17:00:40Z",
    "note": None,
    "latest": LOOK,
    "horizons": [
        {**NO_LOOK, "horizon": "1h", "state": "missed", "due_at": "2026-11-28T18:00:40Z", "reason": "no answer"},
        {**LOOK, "horizon": "24h", "state": "met", "due_at": "2026-11-29T17:00:40Z", "reason": None},
        {**NO_LOOK, "horizon": "72h", "state": "to_come", "due_at": "2026-12-01T17:00:40Z", "reason": None},
    ],
}
FIGURES: JsonDict = {
    "count": 9,
    "total": 20310,
    "least": 96,
    "lower_quartile": 410.0,
    "median": 1204.0,
    "upper_quartile": 2991.5,
    "most": 9120,
}
RATIOS: JsonDict = {
    "count": 9,
    "total": None,
    "least": 0.01,
    "lower_quartile": 0.03,
    "median": 0.05,
    "upper_quartile": 0.08,
    "most": 0.21,
}
PERFORMANCE_EXAMPLE: JsonDict = {
    "by": "platform",
    "horizon": "24h",
    "since": "2026-08-30T18:00:00Z",
    "until": "2026-11-28T18:00:00Z",
    "time_zone": "Europe/Berlin",
    "more": False,
    "cells": [
        {
            "key": "tiktok",
            "label": "TikTok",
            "platform": "tiktok",
            "posts": 12,
            "measured": 10,
            "missed": 1,
            "to_come": 1,
            "unknown": {"views": 1, "likes": 1, "comments": 1, "shares": 1, "engagement": 1},
            "views": [{**FIGURES, "definition": "tiktok-views"}],
            "engagement": [{**RATIOS, "definition": "tiktok-views"}],
            "likes": FIGURES,
            "comments": FIGURES,
            "shares": FIGURES,
        }
    ],
}


class LookValues(BaseModel):
    """What a platform said at one moment. null is unknown, 0 is a number. `age_seconds` is how old the post really was;
    `definition` names what the views count, null without views; `engagement` is likes, comments and shares together for
    each view, null unless all four are known. `details` are further counts, such as `saves`."""

    captured_at: datetime | None
    age_seconds: int | None
    views: int | None
    likes: int | None
    comments: int | None
    shares: int | None
    engagement: float | None
    details: dict[str, int] | None
    definition: str | None
    source: str | None


class AtHorizon(LookValues):
    """A post at an age of 1, 6, 24 or 72 hours or 7 days. `met`: it was measured within a tenth of that age; `missed`:
    it was not, `reason` says why, and no later number stands in; `to_come`: it will be from `due_at` on."""

    horizon: Horizon
    state: HorizonState
    due_at: datetime | None
    reason: str | None


class PostMetrics(BaseModel):
    """A post's numbers: the latest, and those of each horizon. `next_at`: when it is measured next, null: no
    more; `note`: why it could not be measured the last time, if so."""

    model_config = ConfigDict(json_schema_extra={"examples": [METRICS_EXAMPLE]})

    at: datetime
    post_id: UUID
    platform: Platform
    status: PostStatus
    published_at: datetime | None
    predicted_score: float | None
    next_at: datetime | None
    note: str | None
    latest: LookValues | None
    horizons: list[AtHorizon]


class FiguresOf(BaseModel):
    """How a number is spread over the `count` posts that have it; null without any."""

    count: int
    total: int | None = Field(description="Of these only; null for ratios.")
    least: float | None
    lower_quartile: float | None
    median: float | None
    upper_quartile: float | None
    most: float | None


class FiguresByDefinition(FiguresOf):
    """Figures of those posts whose views were counted by this definition."""

    definition: str


class CellOf(BaseModel):
    """The posts of one group on one platform: `posts` = `measured` + `missed` + `to_come`. `unknown` is of how many
    measured ones each number is not known. `key` is null for posts without a category."""

    key: str | None
    label: str
    platform: str
    posts: int
    measured: int
    missed: int
    to_come: int
    unknown: dict[Literal["views", "likes", "comments", "shares", "engagement"], int]
    views: list[FiguresByDefinition]
    engagement: list[FiguresByDefinition]
    likes: FiguresOf
    comments: FiguresOf
    shares: FiguresOf


class Performance(BaseModel):
    """Posts that were published from `since` to before `until`, at one horizon. `more`: groups with fewer posts are
    left out. Weeks begin on Monday in `time_zone`; their key is that day."""

    model_config = ConfigDict(json_schema_extra={"examples": [PERFORMANCE_EXAMPLE]})

    by: By
    horizon: Horizon
    since: datetime
    until: datetime
    time_zone: str
    more: bool
    cells: list[CellOf]


class PerformanceQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    by: By = By.PLATFORM
    horizon: Horizon = Horizon.H24
    since: Moment | None = Field(None, description=f"By default {USUAL_PERIOD.days} days before `until`.")
    until: Moment | None = Field(
        None, description=f"Not itself; by default now. At most {LONGEST_PERIOD.days} days after `since`."
    )


@routes.get(
    "/posts/{post_id}/metrics",
    response_model=PostMetrics,
    responses=or_csv("The post's numbers", ",".join(HORIZON_COLUMNS)) | documented(_404="no such post of yours"),
)
def get_metrics(post_id: UUID, caller: Reader, app: Running, response: Response, wants_csv: WantsCsv) -> Any:
    """Return what the platform said of a post at each horizon, what was missed and why, and what is to come."""
    found = analytics.metrics(app, caller.tenant_id, post_id)
    if wants_csv:
        return csv_response(f"metrics-{post_id}", HORIZON_COLUMNS, analytics.metric_rows(found))
    response.headers.update(VARY)
    return PostMetrics(**analytics.metric_values(found))


@routes.get(
    "/analytics/performance",
    response_model=Performance,
    responses=or_csv(
        f"Groups with the most posts first, at most {MOST_CELLS}; weeks in their order", ",".join(CELL_COLUMNS)
    ),
)
def get_performance(
    caller: Reader, app: Running, query: Annotated[PerformanceQuery, Query()], response: Response, wants_csv: WantsCsv
) -> Any:
    """Return how posts did, by platform, category, account or week: medians and quartiles beside sums, and of how many
    posts each is. Views of different definitions are never in one number."""
    found = analytics.performance(app, caller.tenant_id, **query.model_dump())
    if wants_csv:
        return csv_response(f"performance-by-{found.by}-{found.horizon}", CELL_COLUMNS, cell_rows(found))
    response.headers.update(VARY)
    return Performance(**analytics.performance_values(found))
