"""`/api/autopilot`: what a tenant lets the autopilot do, to which accounts, for how much money, and where each of its
chains stands. It posts to no account that did not consent, and spends nothing above its own budget."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from db.autopilot.autopilot import ChainCursor
from domain.autopilot.chains import Mode, Stage
from domain.autopilot.settings import MOST_TIMES
from domain.errors import Rejected
from domain.identity.access import ApiScope, Caller
from domain.posting.posts import PostStatus
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.validation import RequestBody
from web.error_responses import ApiError, documented
from workers.ops import autopilot

routes = APIRouter(prefix="/autopilot", tags=["autopilot"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.POSTS_READ)]
Writer = Annotated[Caller, requires(ApiScope.ACCOUNTS_WRITE)]

MISSING = documented(_404="no such account of yours")
CHAIN: JsonDict = {
    "id": "01937f42-2c3d-7bb1-8e4f-5a6b7c8d9e0f",
    "day": "2026-11-28",
    "place": 1,
    "mode": "auto",
    "stage": "posts",
    "reason": "the video is scheduled on 2 accounts",
    "generation_id": "01937f42-3d4e-7cc2-9f50-6a7b8c9d0e1f",
    "concept_id": "c-2",
    "title": "Bread that does not sleep",
    "score": 74.5,
    "video_id": "01937f42-4e5f-7dd3-a061-7b8c9d0e1f20",
    "reserved_usd": 0.0,
    "spent_usd": 0.0,
    "created_at": "2026-11-28T06:00:12Z",
    "updated_at": "2026-11-28T06:02:41Z",
    "ended_at": None,
}
ACCOUNT: JsonDict = {
    "id": "01937f40-5a6b-7cc2-8d3e-4f5a6b7c8d9e",
    "platform": "tiktok",
    "username": "adas_bakery",
    "consented_at": "2026-11-20T12:00:00Z",
    "consented_by": "ada@example.com",
    "obstacle": None,
}
EXAMPLE: JsonDict = {
    "mode": "auto",
    "least_score": 60,
    "videos_a_day": 1,
    "concepts_a_day": 5,
    "times": ["18:30"],
    "provider": "storyboard",
    "budget_usd": 0.0,
    "timezone": "Europe/Berlin",
    "changed_at": "2026-11-20T12:00:00Z",
    "changed_by": "ada@example.com",
    "money": {"month": "2026-11-01", "budget_usd": 0.0, "reserved_usd": 0.0, "spent_usd": 0.0, "left_usd": 0.0},
    "accounts": [ACCOUNT],
    "chains": [CHAIN],
    "next": [
        "the next day begins at 2026-11-29 06:00 (Europe/Berlin): it makes 5 concepts, and a video of the best of "
        "them, if its predicted score is at least 60 on each account",
        "the video is drawn here, for nothing",
        "it is posted at 18:30 (Europe/Berlin) to adas_bakery (TikTok); nobody is asked before",
    ],
}
EXPLAINED: JsonDict = {
    "at": "2026-11-28T06:10:00Z",
    "chain": CHAIN,
    "stands": "its video is made, and waits for its time on each account",
    "why": "the video is scheduled on 2 accounts",
    "decision": {
        "concept_id": "c-2",
        "title": "Bread that does not sleep",
        "score": 74.5,
        "least_score": 60,
        "passed_over": [
            {"concept_id": "c-1", "title": "Three loaves", "score": 48.0, "why": "48 is less than the 60 that it needs"}
        ],
    },
    "cost": "it has cost nothing: its video is drawn here",
    "posts": [
        {
            "id": "01937f41-7c8d-7dd3-9e4f-5a6b7c8d9e0f",
            "account_id": "01937f40-5a6b-7cc2-8d3e-4f5a6b7c8d9e",
            "platform": "tiktok",
            "username": "adas_bakery",
            "status": "scheduled",
            "says": "it is posted at 2026-11-28 17:30 UTC",
            "scheduled_for": "2026-11-28T17:30:00Z",
            "permalink": None,
            "explain": "/api/posts/01937f41-7c8d-7dd3-9e4f-5a6b7c8d9e0f/explain",
        }
    ],
    "left_out": ["adas_bread on bluesky: the consent for this account was withdrawn"],
    "certain": ["nothing is published yet"],
    "uncertain": [],
    "next": "it is posted to adas_bakery (TikTok)",
    "next_at": "2026-11-28T17:30:00Z",
    "advice": [],
    "events": [
        {"at": "2026-11-28T06:00:12Z", "kind": "begun", "message": "the day's concepts are made", "job_id": None}
    ],
}

Time = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="By each account's clock, as `18:30`.")]


class AutopilotChange(RequestBody):
    """What is named is changed, and all else stays. `times` are when posts are made, by each account's clock; none: at
    each concept's own. `budget_usd` is what clips may cost a month, of what the tenant's budget for videos has."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"mode": "auto", "times": ["18:30"], "least_score": 70},
                {"provider": "runway", "budget_usd": 40},
                {"mode": "off"},
            ]
        }
    )

    mode: Annotated[Mode, Field(strict=False)] | None = Field(
        None, description="`off`; `approve`: each post waits until a person approves it; `auto`: nobody is asked."
    )
    least_score: int | None = Field(None, ge=0, le=100, description="No concept with a lower prediction is made.")
    videos_a_day: int | None = Field(None, ge=1, le=10)
    concepts_a_day: int | None = Field(None, ge=1, le=20, description="They count as concepts of the month's quota.")
    times: Annotated[list[Time], Field(json_schema_extra={"maxItems": MOST_TIMES})] | None = Field(
        None, description="At least an hour apart, over midnight, too: so posts of an account are."
    )
    provider: str | None = Field(None, min_length=1, max_length=100, description="`storyboard` costs nothing.")
    budget_usd: float | None = Field(None, ge=0, lt=1_000_000)


class Money(BaseModel):
    """The autopilot's own money for clips in a month (UTC); the tenant's budget for videos bounds it, too."""

    month: date
    budget_usd: float
    reserved_usd: float
    spent_usd: float
    left_usd: float


class AutopilotAccount(BaseModel):
    """An account that the autopilot may post to (`consented_at`), or could (null). `obstacle` says why nothing is
    posted to it now, or why it cannot consent."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT]})

    id: UUID
    platform: str
    username: str | None
    consented_at: datetime | None
    consented_by: str | None
    obstacle: str | None


class Chain(BaseModel):
    """One concept's way from the day's concepts to its posts. `day` is by the tenant's clock, `place` which of the
    day's videos it is; `reason` says where it stands, or why it stopped."""

    model_config = ConfigDict(json_schema_extra={"examples": [CHAIN]})

    id: UUID
    day: date
    place: int
    mode: Mode
    stage: Stage
    reason: str | None
    generation_id: UUID | None
    concept_id: str | None
    title: str | None
    score: float | None
    video_id: UUID | None
    reserved_usd: float
    spent_usd: float
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class Autopilot(BaseModel):
    """What the tenant lets the autopilot do. `money` is this month's, `chains` are those of the last day and those
    that have not ended, and `next` says in words what will happen by itself, when, and to which accounts."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    mode: Mode
    least_score: int
    videos_a_day: int
    concepts_a_day: int
    times: list[str]
    provider: str
    budget_usd: float
    timezone: str
    changed_at: datetime | None
    changed_by: str | None
    money: Money
    accounts: list[AutopilotAccount]
    chains: list[Chain]
    next: list[str]


class ChainsQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=20, description="`next` of the page before.")
    stage: Stage | None = None


class ChainPage(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    chains: list[Chain]
    next: str | None


class PassedOver(BaseModel):
    concept_id: str | None
    title: str | None
    score: float | None
    why: str


class Decision(BaseModel):
    """Which concept was taken, and of each other one why not. `least_score` is what the tenant asked for then."""

    concept_id: str | None
    title: str | None
    score: float | None
    least_score: int | None
    passed_over: list[PassedOver]


class ChainPost(BaseModel):
    """A post of the chain's video; `explain` is where all that is known of it can be read."""

    id: UUID
    account_id: UUID
    platform: str
    username: str | None
    status: PostStatus
    says: str
    scheduled_for: datetime | None
    permalink: str | None
    explain: str


class ChainEvent(BaseModel):
    """`job_id` is the job that this began, or that says so."""

    at: datetime
    kind: str
    message: str
    job_id: UUID | None


class ChainExplanation(BaseModel):
    """Where a chain `stands` and `why`, what was decided and what it cost, which accounts get no post (`left_out`) and
    why, what is `certain` and what is not, what happens by itself (`next`, null: nothing) and when, and what somebody
    can do."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXPLAINED]})

    at: datetime
    chain: Chain
    stands: str
    why: str | None
    decision: Decision | None
    cost: str
    posts: list[ChainPost]
    left_out: list[str]
    certain: list[str]
    uncertain: list[str]
    next: str | None
    next_at: datetime | None
    advice: list[str]
    events: list[ChainEvent]


@routes.get("")
def get_autopilot(caller: Reader, app: Running) -> Autopilot:
    return _shown(autopilot.show(app, caller.tenant_id))


@routes.put("")
def change(body: AutopilotChange, caller: Writer, app: Running) -> Autopilot:
    """Change what is named. The first time that it is switched on, too, `next` says what will happen."""
    named = body.model_dump(exclude_unset=True)
    for name, value in named.items():
        if value is None:
            raise Rejected(f"{name}: name a value, or leave it out")
    if "budget_usd" in named:
        named["budget_usd"] = Decimal(str(named["budget_usd"]))
    return _shown(autopilot.change(app, caller.tenant_id, named, by=_name(caller)))


@routes.put(
    "/accounts/{account_id}",
    responses=MISSING
    | documented(
        _409="`NOT_ACTIVE`: it has to be connected first; `CHOICE_NEEDED`: its owner has to choose first who sees its "
        "posts, which nobody else does"
    ),
)
def consent(account_id: UUID, caller: Writer, app: Running) -> Autopilot:
    """Let the autopilot post to this account. To consent again changes nothing."""
    return _shown(autopilot.consent(app, caller.tenant_id, account_id, by=_name(caller)))


@routes.delete("/accounts/{account_id}", responses=MISSING)
def withdraw(account_id: UUID, caller: Writer, app: Running) -> Autopilot:
    """Let the autopilot post to this account no more; its posts that are not on their way yet are cancelled."""
    return _shown(autopilot.withdraw(app, caller.tenant_id, account_id).overview)


@routes.get("/chains")
def list_chains(caller: Reader, app: Running, query: Annotated[ChainsQuery, Query()]) -> ChainPage:
    """Chains, newest first, a page at a time; what is added meanwhile moves no page."""
    after = None if query.cursor is None else _cursor(query.cursor)
    page = autopilot.chains(app, caller.tenant_id, limit=query.limit, after=after, stage=query.stage)
    return ChainPage(chains=_chains(page.chains), next=page.next and f"{page.next.day}.{page.next.place}")


@routes.get("/chains/{chain_id}", responses=documented(_404="no such chain of yours"))
def explain(chain_id: UUID, caller: Reader, app: Running) -> ChainExplanation:
    """Say where a chain stands and why, what was decided, what it cost, and what comes next."""
    found = autopilot.explain(app, caller.tenant_id, chain_id)
    says = found.explanation
    return ChainExplanation(
        at=found.at,
        chain=Chain(**found.chain),
        stands=says.stands,
        why=says.why,
        decision=None if says.decision is None else Decision(**asdict(says.decision)),
        cost=says.cost,
        posts=[ChainPost(**asdict(each), explain=f"/api/posts/{each.id}/explain") for each in says.posts],
        left_out=says.left_out,
        certain=says.certain,
        uncertain=says.uncertain,
        next=says.next,
        next_at=says.next_at,
        advice=[each.says for each in says.advice],
        events=[ChainEvent(**each) for each in found.events],
    )


def _cursor(text: str) -> ChainCursor:
    day, _, place = text.partition(".")
    try:
        if not (place.isascii() and place.isdigit() and len(place) < 4):
            raise ValueError("no place of a day")
        return ChainCursor(date.fromisoformat(day), int(place))
    except ValueError as error:
        raise ApiError(422, "cursor: not one of ours; begin without it", "INVALID") from error


def _name(caller: Caller) -> str:
    return f"user:{caller.user_id}" if caller.key_id is None else f"key:{caller.key_id}"


def _shown(found: autopilot.Overview) -> Autopilot:
    return Autopilot(
        **found.settings,
        money=Money(**found.money),
        accounts=[AutopilotAccount(**row) for row in found.accounts],
        chains=_chains(found.chains),
        next=found.next,
    )


def _chains(rows: Sequence[Mapping[str, Any]]) -> list[Chain]:
    return [Chain(**row) for row in rows]
