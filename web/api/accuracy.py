"""`/api/reflexion/accuracy` and `/summary`: how far predictions were off, and which model scores."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from domain.identity.access import ApiScope, Caller
from domain.learning.accuracy import AccuracyBy, report_values
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, SHOWN
from domain.learning.performance import LONGEST_PERIOD, USUAL_PERIOD
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.validation import Moment, RequestBody
from workers.ops import accuracy, reflexion

routes = APIRouter(prefix="/reflexion", tags=["reflexion"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.GENERATIONS_READ)]

ACCURACY: JsonDict = {
    "outcomes": 34,
    "gap": 12.1,
    "bias": -1.4,
    "within20": 0.65,
    "within10": 0.5,
    "coverage": 0.82,
    "compared": 34,
    "median_gap": 14.0,
    "skill": 0.136,
}
EXAMPLE: JsonDict = {
    "by": "week",
    "horizon": "24h",
    "since": "2026-08-30T18:00:00Z",
    "until": "2026-11-28T18:00:00Z",
    "time_zone": "Europe/Berlin",
    "more": False,
    "total": ACCURACY,
    "groups": [{"key": "2026-11-23", "label": "2026-W48, TikTok", "platform": "tiktok", **ACCURACY}],
    "evidence": {"learned": 34, "waiting": 0, "set_aside": {"fewer than 100 views": 3}},
    "changes": [
        {
            "at": "2026-11-25T09:12:40Z",
            "kind": "promotion",
            "platform": "tiktok",
            "horizon": "24h",
            "model": "ridge/v1",
            "reason": "its gap over the last 60 outcomes is 9.8 points, and that of shrinkage/v1 is 10.9",
        }
    ],
}


class AccuracyOf(BaseModel):
    """Of `outcomes` posts: the mean distance of prediction and outcome (`gap`), the mean of actual minus predicted
    (`bias`), both in points; shares from 0 to 1 that lie within 20 % of the prediction, within 10 points, and in the
    stated interval (`coverage`, of which 0.8 is meant). `median_gap` is what a running median of the outcomes would
    have missed by, on the `compared` ones, and `skill` is 1 - gap / median_gap: below 0 a running median is better.
    null where there is nothing to say."""

    outcomes: int
    gap: float | None
    bias: float | None
    within20: float | None
    within10: float | None
    coverage: float | None
    compared: int
    median_gap: float | None
    skill: float | None


class GroupOf(AccuracyOf):
    """`key` is null for posts without a category."""

    key: str | None
    label: str
    platform: str


class ChangeOf(BaseModel):
    """Another model scores from then on."""

    at: datetime
    kind: str
    platform: str | None
    horizon: str | None
    model: str | None
    reason: str


class EvidenceOf(BaseModel):
    """How many outcomes were learned, wait to be, and were set aside, by reason."""

    learned: int
    waiting: int
    set_aside: dict[str, int]


class Accuracy(BaseModel):
    """Outcomes whose numbers were taken from `since` to before `until`. `more`: groups with fewer outcomes are left
    out. Weeks begin on Monday in `time_zone`; their key is that day."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    by: AccuracyBy
    horizon: Horizon
    since: datetime
    until: datetime
    time_zone: str
    more: bool
    total: AccuracyOf
    groups: list[GroupOf]
    evidence: EvidenceOf
    changes: list[ChangeOf]


class AccuracyQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    by: AccuracyBy = AccuracyBy.WEEK
    horizon: Horizon = Field(SHOWN, description=f"One that is predicted: {' or '.join(LEARNED)}.")
    since: Moment | None = Field(None, description=f"By default {USUAL_PERIOD.days} days before `until`.")
    until: Moment | None = Field(
        None, description=f"Not itself; by default now. At most {LONGEST_PERIOD.days} days after `since`."
    )


SUMMARY: JsonDict = {
    "learners": [
        {
            "platform": "tiktok",
            "horizon": "24h",
            "definition": "tiktok-views/likes+comments+shares",
            "outcomes": 72,
            "champion": "shrinkage/v1",
            "previous": None,
            "champion_since": None,
            "updated_at": "2026-11-28T17:02:11Z",
            "trailing": {"running-median/v1": {"outcomes": 60, "gap": 14.0, "champions_gap": 12.1}},
            "skill": 0.136,
            "drifting": False,
            "pooled": True,
        }
    ],
    "set_aside": [{"platform": "tiktok", "horizon": "24h", "reason": "fewer than 100 views", "count": 3}],
    "waiting": 0,
    "waiting_since": None,
    "critiques": 4,
    "insights": 9,
    "adjustments": 12,
}


class TrailingOf(BaseModel):
    """The mean distance of a model, and of the champion, on the last outcomes that both had predicted."""

    outcomes: int
    gap: float
    champions_gap: float


class LearnerOf(BaseModel):
    """What was learned of one platform at one horizon, under one definition of outcomes. `champion` is the model that
    scores, `previous` the one before it, in whose shadow it is judged. `drifting`: something has changed lately, and
    older posts count less. `pooled`: what other tenants have seen is where it begins."""

    platform: str
    horizon: Horizon
    definition: str
    outcomes: int
    champion: str
    previous: str | None
    champion_since: datetime | None
    updated_at: datetime
    trailing: dict[str, TrailingOf]
    skill: float | None
    drifting: bool
    pooled: bool


class SetAsideOf(BaseModel):
    """Outcomes of which nothing was learned."""

    platform: str
    horizon: str | None
    reason: str
    count: int


class Summary(BaseModel):
    """How learning does. `waiting` outcomes are about to be learned; critiques, insights and adjustments are
    counted."""

    model_config = ConfigDict(json_schema_extra={"examples": [SUMMARY]})

    learners: list[LearnerOf]
    set_aside: list[SetAsideOf]
    waiting: int
    waiting_since: datetime | None
    critiques: int
    insights: int
    adjustments: int


@routes.get("/summary")
def get_summary(caller: Reader, app: Running) -> Summary:
    """Return which model scores on each platform, on how many outcomes, and how far off it was lately."""
    return Summary(**reflexion.status(app, caller.tenant_id))


@routes.get("/accuracy", response_model=Accuracy)
def get_accuracy(caller: Reader, app: Running, query: Annotated[AccuracyQuery, Query()]) -> Any:
    """Return how far predictions were off, beside a running median; only predictions count that were written down
    before the post was out."""
    return Accuracy(**report_values(accuracy.accuracy(app, caller.tenant_id, **query.model_dump())))
