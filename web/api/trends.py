"""`/api/trends` and `/api/competitors`: what concepts are made from, and the videos of a tenant's competitors."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from domain.concepts.imported import (
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_TITLE,
    LONGEST_URL,
    CompetitorVideo,
    Defaults,
    Malformed,
    read_competitor,
)
from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.validation import Moment, Platform, RequestBody
from web.error_responses import ApiError, documented, not_found
from workers.ops import trends as ops

routes = APIRouter(tags=["trends"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.GENERATIONS_READ)]
Writer = Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Sound(BaseModel):
    """A sound, as it was last seen in the region; `usage_count` videos had it, null if nobody said."""

    model_config = ConfigDict(from_attributes=True)

    platform: str
    external_id: str
    title: str
    artist: str | None
    usage_count: int | None
    rank: int | None
    captured_at: datetime


class Trends(BaseModel):
    """What the next generation would find without asking anybody. `trends` are as in a generation; `sources` say how
    each one fared: `cached`, `stale` (it fails; its last answer is used), `failed`, or `imported`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "region": "US",
                    "at": "2026-11-28T09:15:00Z",
                    "trends": [{"topic": "Artemis III", "live": True, "sources": ["google-trends"]}],
                    "audio": [],
                    "sources": [{"source": "google-trends", "state": "cached", "count": 20, "error": None}],
                }
            ]
        }
    )

    region: str
    at: datetime
    trends: list[Any]
    audio: list[Sound]
    sources: list[Any]


class CompetitorRequest(RequestBody):
    """One video, as it was seen at `captured_at`; without that, now. What is left out is unknown, and 0 is a number."""

    platform: Platform
    external_id: str = Field(min_length=1, max_length=LONGEST_ID)
    title: str = Field(min_length=1, max_length=LONGEST_TITLE)
    channel: str | None = Field(None, max_length=LONGEST_NAME)
    url: str | None = Field(None, max_length=LONGEST_URL)
    views: Count | None = None
    likes: Count | None = None
    comments: Count | None = None
    shares: Count | None = None
    published_at: Moment | None = None
    captured_at: Moment | None = None


class CompetitorsRequest(RequestBody):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "competitors": [
                        {
                            "platform": "tiktok",
                            "external_id": "7400000000000000003",
                            "title": "Bread at midnight",
                            "channel": "nightbakers",
                            "views": 120000,
                            "captured_at": "2026-11-27T09:15:00Z",
                        }
                    ]
                }
            ]
        }
    )

    competitors: list[CompetitorRequest] = Field(min_length=1, max_length=40)


class Competitor(BaseModel):
    """`details` are likes, comments and shares, as far as somebody said, and when the video was published."""

    id: UUID
    platform: str
    external_id: str
    title: str | None
    channel: str | None
    url: str | None
    views: int | None
    details: dict[str, Any]
    captured_at: datetime


class KeptCompetitor(Competitor):
    """What is kept now. `outcome`: `added`, `replaced` (an older capture), or `kept` (what was there is as new)."""

    outcome: Literal["added", "replaced", "kept"]


class KeptCompetitors(BaseModel):
    competitors: list[KeptCompetitor]


class Competitors(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    competitors: list[Competitor]
    next: str | None


class CompetitorsQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")
    platform: Platform | None = None


@routes.get("/trends")
def get_trends(caller: Reader, app: Running) -> Trends:
    """Return what the sources last said for your region, and what was imported; nobody is asked."""
    found = ops.seen(app, caller.tenant_id)
    return Trends(
        region=found.region,
        at=found.at,
        trends=found.trends,
        audio=[Sound.model_validate(each) for each in found.audio],
        sources=found.sources,
    )


@routes.get("/competitors")
def list_competitors(caller: Reader, app: Running, query: Annotated[CompetitorsQuery, Query()]) -> Competitors:
    """Your competitors' videos, the newest capture first, a page at a time."""
    after = None if query.cursor is None else decode_cursor(query.cursor)
    page = ops.competitors(app, caller.tenant_id, platform=query.platform, after=after, limit=query.limit)
    return Competitors(
        competitors=[Competitor(**row) for row in page.rows], next=page.next and encode_cursor(page.next)
    )


@routes.put(
    "/competitors",
    responses=documented(_409="`TOO_MANY_COMPETITORS`: so many videos are not kept; delete some"),
)
def put_competitors(body: CompetitorsRequest, caller: Writer, app: Running) -> KeptCompetitors:
    """Keep the newest capture of each video; sending one again, or an older one, changes nothing.

    For a week from when they were seen they are trends of your generations.
    """
    with app.db.transaction(caller.tenant_id) as tx:
        now = tx.now()
    rows = [_row(place, each, now) for place, each in enumerate(body.competitors)]
    kept = ops.put_competitors(app, caller.tenant_id, rows)
    return KeptCompetitors(competitors=[KeptCompetitor(**row, outcome=outcome.value) for row, outcome in kept])


@routes.delete(
    "/competitors/{competitor_id}", status_code=204, responses=documented(_404="no such competitor's video of yours")
)
def delete_competitor(competitor_id: UUID, caller: Writer, app: Running) -> None:
    """Delete a video; generations that were made of it stay as they are."""
    if not ops.delete_competitor(app, caller.tenant_id, competitor_id):
        raise not_found(f"competitor's video {competitor_id}")


def _row(place: int, body: CompetitorRequest, now: datetime) -> CompetitorVideo:
    try:
        return read_competitor(body.model_dump(mode="json"), Defaults("", now, captured_at=now))
    except Malformed as error:
        raise ApiError(422, f"body.competitors.{place}.{error}", "INVALID") from None
