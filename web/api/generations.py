"""`/api/generate`, `/api/history`, `/api/generations` and `/api/analytics`: ask for concepts, and read those made."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from db.concepts.generations import PageCursor
from db.postgres.errors import UniqueViolation
from domain.concepts.generation import DEFAULT_COUNT, MOST_CONCEPTS, REMEMBERED, ConceptRequest
from domain.concepts.generation import Generation as Stored
from domain.errors import IdTaken
from domain.identity.access import ApiScope, Caller
from domain.ports import choose
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.jobs import Job, new_job, own_job
from web.api.validation import Kept, Moment, RequestBody
from web.error_responses import ApiError, documented, not_found, retry_later
from workers.engine.job import Tx
from workers.jobs.generation import check_variety, generate_concepts


class LargeBodyRoute(AdmittedRoute):
    """A route that takes whole generations: ours have up to a hundred kilobytes."""

    max_body = 256 * 1024
    max_values = 10_000


routes = APIRouter(tags=["generations"], route_class=AdmittedRoute)
large = APIRouter(tags=["generations"], route_class=LargeBodyRoute)

Reader = Annotated[Caller, requires(ApiScope.GENERATIONS_READ)]
Writer = Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text of yours, new for each request: sending it again within 24 hours gives the same job.",
        pattern=r"^[!-~]{1,255}$",
    ),
]
Since = Annotated[Moment | None, Field(description="The earliest date, with its offset from UTC.")]
Until = Annotated[Moment | None, Field(description="The latest date, with its offset from UTC.")]

MISSING = documented(_404="no such generation of yours")


class GenerateRequest(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"count": 5}]})

    count: int = Field(DEFAULT_COUNT, ge=1, le=MOST_CONCEPTS, description="Concepts; each is one of the quota.")
    generator: str | None = Field(
        None,
        description="`language-model` or `local-grammar/v1`; by default a language model if there is a key for one.",
    )


class Generation(BaseModel):
    """Concepts of one job, and the trends that they were made from, with the field names of the dashboard."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "6f0f5c6e-8d4e-5a3b-9a3f-1f0f5c6e8d4e",
                    "date": "2026-11-22T12:00:08Z",
                    "concepts": [{"title": "Why everyone bakes at midnight", "category": "Food", "topic": "sourdough"}],
                    "trends": [{"topic": "sourdough", "live": True}],
                    "is_favorite": False,
                    "generator": "local-grammar/v1",
                    "job_id": "01937f3c-5a30-7cc0-8f2e-0d9b0e4f6a11",
                }
            ]
        },
    )

    id: UUID
    date: datetime
    concepts: Annotated[list[Any], Kept]
    trends: Annotated[list[Any], Kept]
    is_favorite: bool
    generator: str | None
    job_id: UUID | None


class GenerationBody(RequestBody):
    """A generation that was made elsewhere, with the dashboard's own field names in `concepts` and `trends`. Without
    `date` it is of now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"concepts": [{"id": "c1", "title": "Bread"}]}]})

    concepts: list[dict[str, Any]] = Field(max_length=100)
    trends: list[dict[str, Any]] = Field([], max_length=500)
    is_favorite: bool = False
    date: Moment | None = None


class HistoryQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")
    search: str | None = Field(
        None, max_length=200, description="Part of a title, caption, hashtag, trend or its source, in any case."
    )
    since: Since = None
    until: Until = None
    favorites: bool = Field(False, description="Only favourites.")


class History(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    generations: list[Generation]
    next: str | None


class Favorite(RequestBody):
    is_favorite: bool


class Day(BaseModel):
    day: date
    generations: int


class Analytics(BaseModel):
    """Counts. `categories` and `trends` are the most frequent ones; `days` (UTC) the last ones that have any."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "generations": 2,
                    "concepts": 10,
                    "categories": {"Food": 4, "Tech": 6},
                    "trends": {"sourdough": 2},
                    "days": [{"day": "2026-11-22", "generations": 2}],
                }
            ]
        }
    )

    generations: int
    concepts: int
    categories: dict[str, int]
    trends: dict[str, int]
    days: list[Day]


@routes.post(
    "/generate",
    status_code=202,
    responses=documented(
        _402="`QUOTA_EXCEEDED`: fewer are left than asked for; `details` has limit, used, remaining, resets_at",
        _409="`TRENDS_TOO_FEW`: the offline generator has not as many that are new to you; `error` says how many",
    ),
)
def generate(
    body: GenerateRequest,
    caller: Writer,
    app: Running,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Ask for concepts. They are taken out of the quota at once, and given back if they cannot be made.

    Too few left is 402 and not 429: trying again soon, as programs do after a 429, does not help; another plan does.
    """
    writer = choose(app.ports.writers, body.generator)
    key = None if idempotency_key is None else f"request:{idempotency_key}"
    remembered = REMEMBERED if writer.runs_out else None
    try:
        with app.db.transaction(caller.tenant_id, pipelined=True) as tx:
            # It locks, so that a tenant's requests come one by one: neither key nor quota is used twice.
            asked = tx.generating.asked(
                caller.tenant_id, job_type=generate_concepts.name, key=key, remembered=remembered
            )
            if asked.job is not None:
                job = own_job(tx, caller.tenant_id, _same_request(*asked.job, body))
            else:
                wanted = ConceptRequest(body.count, (), asked.past, asked.preferences.region, 0, asked.now)
                check_variety(tx, writer, caller.tenant_id, wanted)
                job_type = generate_concepts.with_options(unique_key=key) if key else generate_concepts
                job_id = job_type.enqueue(tx, tenant_id=caller.tenant_id, count=body.count, generator=body.generator)
                tx.quota.hold_new(caller.tenant_id, job_id, body.count, asked.now, asked.quota)
                job = new_job(job_id, generate_concepts.name, asked.now)
    except UniqueViolation:
        # An old job of the key was retried just now.
        raise retry_later("the job of this Idempotency-Key has just begun again", "OVERLOADED", 1) from None
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job


@routes.get("/history")
def history(caller: Reader, app: Running, query: Annotated[HistoryQuery, Query()]) -> History:
    """Generations, newest first, a page at a time; what is added meanwhile moves no page.

    A page has fewer than `limit` if they are large: `next` alone says whether there are more.
    """
    with app.db.transaction(caller.tenant_id) as tx:
        page = tx.generations.history(
            caller.tenant_id,
            limit=query.limit,
            after=None if query.cursor is None else PageCursor(*decode_cursor(query.cursor)),
            favorites=query.favorites,
            search=query.search,
            since=query.since,
            until=query.until,
        )
    return History(
        generations=[Generation.model_validate(each) for each in page.generations],
        next=page.next and encode_cursor(page.next),
    )


@routes.get("/generations/{generation_id}", responses=MISSING)
def get_generation(generation_id: UUID, caller: Reader, app: Running) -> Generation:
    """Return one generation."""
    with app.db.transaction(caller.tenant_id) as tx:
        return Generation.model_validate(own(tx, caller.tenant_id, generation_id))


@large.put(
    "/generations/{generation_id}",
    responses=documented(
        _409="`ID_TAKEN`: the id cannot be used; `MADE_HERE`: a job made it, so it stays as it is",
        _413="the body is larger than 256 kB",
    ),
)
def put_generation(generation_id: UUID, body: GenerationBody, caller: Writer, app: Running) -> Generation:
    """Keep a generation that was made elsewhere under an id of yours; one that you kept before is replaced. Quota is
    not consumed."""
    try:
        with app.db.transaction(caller.tenant_id) as tx:
            before = tx.generations.get(caller.tenant_id, generation_id, keep=True)
            if before is not None and before.job_id is not None:
                raise ApiError(409, "a job made this generation, and it stays as it is", "MADE_HERE")
            sent = body.model_dump() | {"date": body.date or tx.now()}
            tx.generations.save(caller.tenant_id, Stored(id=generation_id, **sent))
            return Generation.model_validate(own(tx, caller.tenant_id, generation_id))
    except IdTaken:
        raise ApiError(409, "this id cannot be used here: send it under another one", "ID_TAKEN") from None


@routes.delete(
    "/generations/{generation_id}",
    status_code=204,
    responses=MISSING | documented(_409="`STILL_USED`: videos or feedback refer to it"),
)
def delete_generation(generation_id: UUID, caller: Writer, app: Running) -> None:
    """Delete it for good. Its concepts stay counted: they were made."""
    with app.db.transaction(caller.tenant_id) as tx:
        if not tx.generations.delete(caller.tenant_id, generation_id):
            raise not_found(f"generation {generation_id}")


@routes.put("/generations/{generation_id}/favorite", responses=MISSING)
def set_favorite(generation_id: UUID, body: Favorite, caller: Writer, app: Running) -> Favorite:
    """Say whether it is a favourite; saying it twice changes nothing."""
    with app.db.transaction(caller.tenant_id) as tx:
        now = tx.generations.set_favorite(caller.tenant_id, generation_id, body.is_favorite)
    if now is None:
        raise not_found(f"generation {generation_id}")
    return Favorite(is_favorite=now)


@routes.get("/analytics")
def analytics(caller: Reader, app: Running, since: Since = None, until: Until = None) -> Analytics:
    """Totals, concepts by category, the most frequent trends, generations by day."""
    with app.db.transaction(caller.tenant_id) as tx:
        found = tx.generations.analytics(caller.tenant_id, since=since, until=until)
    return Analytics(
        generations=found.generations,
        concepts=found.concepts,
        categories=dict(found.categories),
        trends=dict(found.trends),
        days=[Day(day=day, generations=count) for day, count in found.days.items()],
    )


def own(tx: Tx, tenant_id: UUID, generation_id: UUID, *, keep: bool = False) -> Stored:
    """Return the tenant's generation; with `keep` nobody deletes it before the transaction ends.

    Raises:
        ApiError: the tenant has no such generation.
    """
    generation = tx.generations.get(tenant_id, generation_id, keep=keep)
    if generation is None:
        raise not_found(f"generation {generation_id}")
    return generation


def _same_request(job_id: UUID, payload: Mapping[str, Any], body: GenerateRequest) -> UUID:
    if _arguments(payload) != _arguments(body.model_dump()):
        raise ApiError(
            422, "this Idempotency-Key was sent with another body before; send a new one", "IDEMPOTENCY_KEY_REUSED"
        )
    return job_id


def _arguments(payload: Mapping[str, Any]) -> tuple[Any, Any]:
    return payload.get("count"), payload.get("generator")
