"""`/api/videos`: ask for a video of a concept or of a file of one's own, see how far it is, stop it."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from domain.errors import Conflict
from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.generations import IdempotencyKey
from web.api.validation import Id, RequestBody
from web.error_responses import ApiError, documented
from workers.app import App
from workers.ops import videos
from workers.ops.video_files import addresses, warnings_of

routes = APIRouter(prefix="/videos", tags=["videos"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.VIDEOS_READ)]
Writer = Annotated[Caller, requires(ApiScope.VIDEOS_WRITE)]
Status = Literal["pending", "rendering", "completed", "failed", "unconfirmed", "cancelled"]
Layout = Literal["storyboard", "clip", "hook", "scenes"]
ConceptId = Annotated[str, Field(min_length=1, max_length=200)]

ADDRESS_LIFETIME = timedelta(hours=1)
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
MISSING = documented(_404="no such video of yours")
NO_CONCEPT = documented(
    _404="no such generation, concept or file of yours",
    _422="the script cannot be rendered, or something that was sent is not as it should be: `error` says which",
)
EXAMPLE: JsonDict = {
    "id": "01937f40-1b2c-7aa0-9c1d-3f0a5b6c7d8e",
    "status": "rendering",
    "stage": "drawing",
    "percent": 40,
    "title": "Why everyone bakes at midnight",
    "generation_id": "6f0f5c6e-8d4e-5a3b-9a3f-1f0f5c6e8d4e",
    "concept_id": "c1",
    "media_id": None,
    "provider": "storyboard",
    "layout": "storyboard",
    "estimated_usd": 0.0,
    "cost_usd": None,
    "duration_seconds": None,
    "error": None,
    "warnings": [],
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:03Z",
    "completed_at": None,
}
DONE: JsonDict = {
    "status": "completed",
    "stage": "completed",
    "percent": 100,
    "media_id": "01937f40-3344-7bb1-8c2d-1a2b3c4d5e6f",
    "cost_usd": 0.0,
    "duration_seconds": 15.0,
    "warnings": ["made by the built-in storyboard renderer, not by a video model"],
    "completed_at": "2026-11-22T12:00:09Z",
    "queue": None,
    "url": "https://app.example.com/media/0b4c…/5f70….mp4?expires=1795811016&signature=45d4…",
    "thumbnail_url": "https://app.example.com/media/0b4c…/91aa….jpg?expires=1795811016&signature=f0e0…",
    "cover_at": 1.2,
    "sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    "submissions": [],
}


class VideoRequest(RequestBody):
    """A concept of a generation, or a file of one's own, which may be a concept's video too. Without a `layout` a
    provider makes one clip where that is long enough, else a hook."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"generation_id": "6f0f5c6e-8d4e-5a3b-9a3f-1f0f5c6e8d4e", "concept_id": "c1"}]}
    )

    generation_id: Id | None = None
    concept_id: ConceptId | None = Field(
        None, description="The concept's id, or its place such as `#2`; without it the first one is meant."
    )
    media_id: Id | None = Field(None, description="What `POST /api/media` returned.")
    provider: str = Field(
        "storyboard",
        max_length=100,
        description="`storyboard` (drawn here, free), or another name of `GET /api/videos/estimate`.",
    )
    layout: Layout | None = None
    again: bool = Field(False, description="Make another video of a concept that has a completed one.")


class Video(BaseModel):
    """`pending` and `rendering` go on: ask again in a second or two. `unconfirmed`: nobody knows whether a provider
    took a paid order, and a person has to find out. `error` says in words why a video failed."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    status: Status
    stage: str
    percent: int | None
    title: str
    generation_id: UUID | None
    concept_id: str | None
    media_id: UUID | None
    provider: str | None
    layout: str
    estimated_usd: float | None
    cost_usd: float | None
    duration_seconds: float | None
    error: str | None = Field(validation_alias="error_message", serialization_alias="error")
    warnings: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class Order(BaseModel):
    """A clip that was ordered of a provider. `queue` is its place there, where the provider says."""

    provider: str
    model: str
    state: str
    scene: int
    attempt: int
    seconds: int
    percent: int | None
    queue: int | None
    estimated_usd: float
    final_usd: float | None
    error: str | None = Field(validation_alias="error_message", serialization_alias="error")
    created_at: datetime
    ended_at: datetime | None


class VideoDetails(Video):
    """A video with its file's addresses, which end after an hour: ask again for fresh ones. `queue` is the place in the
    provider's queue now, where it says."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE | DONE]})

    queue: int | None
    url: str | None
    thumbnail_url: str | None
    cover_at: float | None
    sha256: str | None
    submissions: list[Order]


class VideosQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")
    status: Status | None = None
    generation_id: UUID | None = None


class Videos(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    videos: list[Video]
    next: str | None


class Option(BaseModel):
    """A way to make the video, as `POST /api/videos` takes it. Not `usable`: `reason` says why. `usd` is the most that
    it costs; of `auto`, with the dearest provider that may be asked."""

    model_config = ConfigDict(from_attributes=True)

    provider: str
    layout: str
    clips: int
    seconds: float
    usd: float
    usable: bool
    reason: str | None


class EstimateQuery(RequestBody):
    model_config = ConfigDict(strict=False)

    generation_id: UUID
    concept_id: ConceptId | None = None


class Estimate(BaseModel):
    options: list[Option]


class Budget(BaseModel):
    """The money for providers in a month (UTC). `own`: the limit is the tenant's own, and not its plan's."""

    month: date
    limit_usd: float
    reserved_usd: float
    spent_usd: float
    left_usd: float
    own: bool


@routes.post(
    "",
    status_code=202,
    responses={
        200: {"model": VideoDetails, "description": "there is one already, made or on its way"},
        **NO_CONCEPT,
        **documented(
            _402="`BUDGET_EXCEEDED`: it costs more than is left this month; `details` has the figures",
            _409="the request contradicts the present state: `code` says how",
        ),
    },
)
def ask(
    body: VideoRequest,
    caller: Writer,
    app: Running,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> VideoDetails:
    """Ask for a video. What it may cost has to be left this month; each clip is reserved before it is ordered, and
    given back if it is not taken.

    A concept has one video at a time: asking again gives the one that is on its way or completed.
    """
    if body.media_id is None and body.generation_id is None:
        raise ApiError(422, "body: say generation_id (and concept_id), or media_id", "INVALID")
    try:
        row = videos.request(app, caller.tenant_id, **body.model_dump(), key=idempotency_key)
    except Conflict as error:
        if error.code != KEY_REUSED:
            raise
        raise ApiError(422, str(error), error.code) from error
    if row["existing"]:
        response.status_code = 200
    response.headers["Location"] = f"/api/videos/{row['id']}"
    return _details(app, caller.tenant_id, row["id"])


@routes.get("")
def list_videos(caller: Reader, app: Running, query: Annotated[VideosQuery, Query()]) -> Videos:
    """Videos, newest first, a page at a time; what is added meanwhile moves no page."""
    page = videos.listed(
        app,
        caller.tenant_id,
        limit=query.limit,
        after=None if query.cursor is None else videos.VideoCursor(*decode_cursor(query.cursor)),
        status=query.status,
        generation_id=query.generation_id,
    )
    return Videos(
        videos=[Video.model_validate(_shown(row)) for row in page.videos], next=page.next and encode_cursor(page.next)
    )


@routes.get("/estimate", responses=NO_CONCEPT)
def estimate(caller: Reader, app: Running, query: Annotated[EstimateQuery, Query()]) -> Estimate:
    """The ways to make a video of a concept, with what each costs at most. Nothing is reserved or bought."""
    options = videos.estimate(app, caller.tenant_id, query.generation_id, query.concept_id)
    return Estimate(options=[Option.model_validate(each) for each in options])


@routes.get("/budget")
def budget(caller: Reader, app: Running) -> Budget:
    """What providers may cost this month, what is reserved, spent and left."""
    return Budget(**videos.budget(app, caller.tenant_id))


@routes.get("/{video_id}", responses=MISSING)
def get_video(video_id: UUID, caller: Reader, app: Running) -> VideoDetails:
    """Return one video: how far it is, what it cost, and where its file is."""
    return _details(app, caller.tenant_id, video_id)


@routes.post("/{video_id}/cancel", responses=MISSING | documented(_409="`NOT_LIVE`: it has ended already"))
def cancel(video_id: UUID, caller: Writer, app: Running) -> VideoDetails:
    """Stop it. What was reserved is given back, or settled once the provider says what it charges."""
    change = videos.cancel(app, caller.tenant_id, video_id)
    if not change.done:
        raise Conflict("NOT_LIVE", change.says)
    return _details(app, caller.tenant_id, video_id)


def _details(app: App, tenant_id: UUID, video_id: UUID) -> VideoDetails:
    row = videos.show(app, tenant_id, video_id)
    queue = next((each["queue"] for each in reversed(row["submissions"])), None)
    return VideoDetails.model_validate(_shown(row) | addresses(app, row, ADDRESS_LIFETIME) | {"queue": queue})


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "warnings": warnings_of(row)}
