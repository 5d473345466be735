"""`/api/posts`: schedule a video on several accounts, see the calendar, change, approve and cancel posts, and learn
what became of them. `/api/posting-policy`: how a tenant wants its posts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError
from pydantic.config import JsonDict

from db.posting.planning import PostingPolicy
from domain.errors import Conflict, Rejected
from domain.identity.access import ApiScope, Caller
from domain.posting.posts import PostStatus
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.generations import IdempotencyKey
from web.api.validation import Id, Moment, Platform, RequestBody
from web.error_responses import ApiError, documented
from workers.jobs.post_plans import MOST_ACCOUNTS, SUGGESTED, ForAccount, Planned, PostRequest
from workers.ops import post_stories, posts

routes = APIRouter(tags=["posts"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.POSTS_READ)]
Writer = Annotated[Caller, requires(ApiScope.POSTS_WRITE)]
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
MISSING = documented(_404="no such post of yours")
INVALID = documented(
    _404="no such video, account or post of yours",
    _422="`POST_INVALID`: it would not be taken as it is; `details` has what is wrong, by account. Otherwise something "
    "that was sent is not as it should be",
)
EXAMPLE: JsonDict = {
    "id": "01937f41-7c8d-7dd3-9e4f-5a6b7c8d9e0f",
    "status": "scheduled",
    "video_id": "01937f40-1b2c-7aa0-9c1d-3f0a5b6c7d8e",
    "account_id": "01937f40-5a6b-7cc2-8d3e-4f5a6b7c8d9e",
    "platform": "tiktok",
    "username": "adas_bakery",
    "group_id": None,
    "caption": "Bread does not sleep.",
    "title": "",
    "hashtags": ["bread", "midnight"],
    "options": {"privacy_level": "PUBLIC_TO_EVERYONE", "allow_comment": False},
    "cover_at": 1.2,
    "first_comment": None,
    "scheduled_for": "2026-11-28T17:00:00Z",
    "submitted_at": None,
    "published_at": None,
    "external_id": None,
    "permalink": None,
    "prediction": {
        "score": 73,
        "low": 58,
        "high": 84,
        "label": "high reach",
        "model": "shrinkage/v1",
        "factors": [
            "starts from what others' posts showed",
            "food does better than your average here",
            "12 posts of evidence",
        ],
    },
    "error": None,
    "error_code": None,
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:00Z",
}
EXPLAINED: JsonDict = {
    "at": "2026-11-28T17:01:00Z",
    "status": "submitting",
    "certain": ["the call that publishes it was begun at 2026-11-28 17:00:41 UTC"],
    "uncertain": ["whether TikTok published it: it was sent, and may be published: the answer did not come in time"],
    "next": "TikTok is asked what became of it; it is sent again only if it certainly is not there",
    "next_at": "2026-11-28T17:01:11Z",
    "advice": [],
    "prediction": "73 of 100 (58 to 84), by shrinkage/v1",
    "numbers": None,
    "events": [
        {"at": "2026-11-22T12:00:00Z", "kind": "asked", "message": "scheduled for 2026-11-28 17:00 UTC"},
        {"at": "2026-11-28T17:00:02Z", "kind": "claimed", "message": "it is due"},
        {
            "at": "2026-11-28T17:00:41Z",
            "kind": "submitting",
            "message": "it is being sent: from here on it may be published",
        },
    ],
}

_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


def _moment_or_suggested(value: object) -> datetime | Literal["suggested"]:
    if value == SUGGESTED:
        return SUGGESTED
    try:
        return _MOMENT.validate_python(value)
    except ValidationError:
        raise ValueError("should be a time like 2026-12-01T09:00:00Z, or suggested") from None


At = Annotated[
    datetime | Literal["suggested"],
    PlainValidator(_moment_or_suggested, json_schema_input_type=datetime | Literal["suggested"]),
]
Caption = Annotated[str, Field(max_length=10_000)]
Title = Annotated[str, Field(max_length=500)]
Hashtags = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]
Options = Annotated[dict[str, Any], Field(max_length=30, description="What the platform lets a person choose.")]
CoverAt = Annotated[float, Field(strict=False, ge=0, le=36_000, description="Seconds from the start.")]


class Texts(RequestBody):
    """What may be different on each account."""

    caption: Caption | None = None
    title: Title | None = None
    hashtags: Hashtags | None = None
    cover_at: CoverAt | None = None
    first_comment: Caption | None = None
    at: At | None = Field(
        None, description="When; `suggested`: at the concept's time or the next good one; null: as soon as possible."
    )


class AccountTexts(Texts):
    """An account to post to, with what is to be different there."""

    account_id: Id
    options: Options = Field(default_factory=dict)


class PostsRequest(Texts):
    """A video for one or several accounts. Texts that are not named are the concept's. `options` are by platform; a
    `draft` waits until somebody approves it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "video_id": "01937f40-1b2c-7aa0-9c1d-3f0a5b6c7d8e",
                    "accounts": [{"account_id": "01937f40-5a6b-7cc2-8d3e-4f5a6b7c8d9e"}],
                    "options": {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}},
                    "at": "suggested",
                }
            ]
        }
    )

    video_id: Id
    accounts: list[AccountTexts] = Field(min_length=1, max_length=MOST_ACCOUNTS)
    options: dict[Platform, Options] = Field(default_factory=dict)
    draft: bool = False


class PostChange(Texts):
    """What is named is changed. `at` null: as soon as possible; null takes a cover's time or a first comment away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"caption": "Bread never sleeps.", "at": "suggested"}]})

    options: Options | None = Field(None, description="All options that the post has then.")


class Post(BaseModel):
    """One video on one account. `error` says in words why it waits, or why it became none; `GET …/explain` says what
    is certain of it and what comes next."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    status: PostStatus
    video_id: UUID
    account_id: UUID
    platform: Platform
    username: str | None
    group_id: UUID | None
    caption: str
    title: str
    hashtags: list[str]
    options: dict[str, Any]
    cover_at: float | None
    first_comment: str | None
    scheduled_for: datetime | None
    submitted_at: datetime | None
    published_at: datetime | None
    external_id: str | None
    permalink: str | None
    prediction: dict[str, Any] | None = Field(
        description="What was expected when it was made: `score` (10 to 100), the interval from `low` to `high`, the "
        "`model`, and `factors` in words; null where the platform counts no views. It never changes."
    )
    error: str | None = Field(validation_alias="error_message", serialization_alias="error")
    error_code: str | None
    created_at: datetime
    updated_at: datetime


class Posts(BaseModel):
    posts: list[Post]


class PostPage(Posts):
    """`next` is the cursor of the next page; null on the last one."""

    next: str | None


class Counted(BaseModel):
    """How long a part is as the platform counts it, and the most that it takes."""

    part: str
    count: int
    most: int
    unit: str


class PostPreview(BaseModel):
    """What people will see. Where a platform has no label for what a program made, `ai_words` are in the text."""

    text: str
    title: str
    hashtags: list[str]
    first_comment: str | None
    options: dict[str, Any]
    counts: list[Counted]
    ai_label: str | None
    ai_words: str | None
    cover_at: float | None
    at: datetime | None


class CheckedPost(BaseModel):
    """A post as it would be. With `faults` it is not taken; `hints` are worth a look before."""

    account_id: UUID
    account: str
    platform: Platform
    faults: list[str]
    hints: list[str]
    at_reason: str | None
    preview: PostPreview


class CheckedPosts(BaseModel):
    """`valid`: all of them would be scheduled."""

    valid: bool
    posts: list[CheckedPost]


class PostEvent(BaseModel):
    at: datetime
    kind: str
    message: str


class PostExplanation(BaseModel):
    """What is `certain` of a post and what is not, what happens by itself (`next`, null: nothing) and when, and what
    somebody can do. `events` are what happened, oldest first; `prediction` is what was expected of it, and `numbers`
    the latest ones, in words (`GET …/metrics` has all)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXPLAINED]})

    at: datetime
    status: PostStatus
    certain: list[str]
    uncertain: list[str]
    next: str | None
    next_at: datetime | None
    advice: list[str]
    events: list[PostEvent]
    prediction: str | None
    numbers: str | None


class PostsQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")
    status: PostStatus | None = None
    account_id: UUID | None = None
    video_id: UUID | None = None
    platform: Platform | None = None


class CalendarQuery(RequestBody):
    model_config = ConfigDict(strict=False)

    since: Moment = Field(alias="from")
    until: Moment = Field(alias="to", description="Not itself; at most 366 days later.")
    account_id: UUID | None = None


class CreateQuery(RequestBody):
    model_config = ConfigDict(strict=False)

    dry_run: bool = Field(False, description="Only check it, and show what would be posted.")


class Retry(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"at": "2026-11-28T17:00:00Z"}]})

    at: Moment | None = Field(None, description="When; by default as soon as possible.")


class Policy(BaseModel):
    """A post that could not be begun `late_after_seconds` after its time is `missed`, and somebody is asked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"late_after_seconds": 7200, "needs_approval": False}]})

    late_after_seconds: int
    needs_approval: bool


class PolicyChange(RequestBody):
    """What is named is changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"late_after_seconds": 3600}, {"needs_approval": True}]})

    late_after_seconds: int | None = Field(None, ge=600, le=604_800)
    needs_approval: bool | None = None


@routes.post(
    "/posts",
    status_code=201,
    responses={
        200: {"model": CheckedPosts, "description": "`dry_run`: what would be posted, and what is wrong with it"},
        **INVALID,
    },
    response_model=Posts,
)
def create(
    body: PostsRequest,
    caller: Writer,
    app: Running,
    query: Annotated[CreateQuery, Query()],
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Schedule a video on all of these accounts, or, if anything is wrong with one of them, on none.

    A platform hears of the post at its time. A video is on an account once: another post of it is refused.
    """
    request = _request(body)
    if query.dry_run:
        checked = posts.check(app, caller.tenant_id, request)
        shown = CheckedPosts(valid=not any(each.faults for each in checked), posts=[_checked(each) for each in checked])
        return Response(shown.model_dump_json(), 200, media_type="application/json")
    try:
        made = posts.create(app, caller.tenant_id, request, idempotency_key)
    except Conflict as error:
        if error.code != KEY_REUSED:
            raise
        raise ApiError(422, str(error), error.code) from error
    return _all(made)


@routes.get("/posts")
def list_posts(caller: Reader, app: Running, query: Annotated[PostsQuery, Query()]) -> PostPage:
    """Posts, newest first, a page at a time; what is added meanwhile moves no page."""
    wanted = query.model_dump(include={"status", "account_id", "video_id", "platform"}, exclude_none=True)
    after = None if query.cursor is None else posts.PostCursor(*decode_cursor(query.cursor))
    page = posts.listed(app, caller.tenant_id, limit=query.limit, after=after, **wanted)
    return PostPage(posts=_all(page.posts).posts, next=page.next and encode_cursor(page.next))


@routes.get("/posts/calendar")
def calendar(caller: Reader, app: Running, query: Annotated[CalendarQuery, Query()]) -> Posts:
    """Return what is planned from one moment to before another, by its time; at most 1,000 posts."""
    return _all(posts.calendar(app, caller.tenant_id, query.since, query.until, query.account_id))


@routes.get("/posts/{post_id}", responses=MISSING)
def get_post(post_id: UUID, caller: Reader, app: Running) -> Post:
    return Post(**posts.show(app, caller.tenant_id, post_id))


@routes.patch(
    "/posts/{post_id}",
    responses=INVALID | documented(_409="`NOT_EDITABLE`: it is on its way, or over; `HAS_IT_ALREADY`: see `error`"),
)
def change(post_id: UUID, body: PostChange, caller: Writer, app: Running) -> Post:
    """Change a post that is not on its way yet; one that was missed is scheduled by its new time."""
    named = body.model_dump(exclude_unset=True)
    for name in ("caption", "title", "hashtags", "options"):
        if name in named and named[name] is None:
            raise Rejected(f"{name}: name a value, or leave it out")
    return Post(**posts.edit(app, caller.tenant_id, post_id, named))


@routes.post("/posts/{post_id}/approve", responses=INVALID | documented(_409="`NOT_WAITING`: it waits for no approval"))
def approve(post_id: UUID, caller: Writer, app: Running) -> Post:
    """Schedule a draft, or a post that waits for approval; for now, if its time has passed."""
    return Post(**posts.approve(app, caller.tenant_id, post_id))


@routes.post(
    "/posts/{post_id}/cancel", responses=MISSING | documented(_409="`NOT_EDITABLE`: it is on its way, or over")
)
def cancel(post_id: UUID, caller: Writer, app: Running) -> Post:
    """Cancel a post that is not on its way yet."""
    return Post(**posts.cancel(app, caller.tenant_id, post_id))


@routes.post(
    "/posts/{post_id}/retry",
    responses=INVALID
    | documented(_409="`NOT_OVER`: it may have appeared, or is on its way; `HAS_IT_ALREADY`: see `error`"),
)
def retry(post_id: UUID, caller: Writer, app: Running, body: Retry | None = None) -> Post:
    """Try a post again that certainly did not appear: on this account only, not on those of the same request."""
    return Post(**posts.retry(app, caller.tenant_id, post_id, body.at if body else None))


@routes.get("/posts/{post_id}/explain", responses=MISSING)
def explain(post_id: UUID, caller: Reader, app: Running) -> PostExplanation:
    """Say what was sent when, what the platform answered, what is certain and what is not, and what comes next."""
    found = post_stories.explain(app, caller.tenant_id, post_id)
    return PostExplanation(
        at=found.at,
        status=found.post["status"],
        certain=found.certain,
        uncertain=found.uncertain,
        next=found.next,
        next_at=found.next_at,
        advice=[each.says for each in found.advice],
        prediction=found.prediction,
        numbers=found.numbers,
        events=[PostEvent(at=each["at"], kind=each["kind"], message=each["message"]) for each in found.events],
    )


@routes.get("/posting-policy")
def get_policy(caller: Reader, app: Running) -> Policy:
    return _policy(posts.policy(app, caller.tenant_id))


@routes.put("/posting-policy")
def set_policy(body: PolicyChange, caller: Writer, app: Running) -> Policy:
    """Change how posts are made. Those that are scheduled already stay so."""
    seconds = body.late_after_seconds
    late_after = None if seconds is None else timedelta(seconds=seconds)
    changed = posts.set_policy(app, caller.tenant_id, late_after=late_after, needs_approval=body.needs_approval)
    return _policy(changed)


def _request(body: PostsRequest) -> PostRequest:
    accounts = [ForAccount(**each.model_dump()) for each in body.accounts]
    return PostRequest(accounts=accounts, **body.model_dump(exclude={"accounts"}))


def _checked(planned: Planned) -> CheckedPost:
    return CheckedPost.model_validate(asdict(planned))


def _all(rows: Sequence[Mapping[str, Any]]) -> Posts:
    return Posts(posts=[Post(**row) for row in rows])


def _policy(policy: PostingPolicy) -> Policy:
    return Policy(late_after_seconds=round(policy.late_after.total_seconds()), needs_approval=policy.needs_approval)
