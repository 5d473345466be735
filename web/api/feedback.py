"""`/api/feedback`: how a concept's video did."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID, uuid5

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.identity.access import ApiScope, Caller
from domain.learning.critique.groups import is_large_miss
from domain.posting.platforms import CONCEPT_KEYS
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.generations import own
from web.api.validation import Id, Moment, Platform, RequestBody
from web.error_responses import ApiError, documented, not_found
from workers.jobs.critiques import review

routes = APIRouter(prefix="/feedback", tags=["feedback"], route_class=AdmittedRoute)

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
FIGURES = ("views", "likes", "shares", "comments", "actual_score")
CLOCKS_DIFFER = timedelta(minutes=5)
"""A caller's clock may be so far ahead of ours; what it observed counts as observed now."""

ROUNDED = 0.0001
"""A score is kept with four digits."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text of yours, new for each feedback: sending it again gives the same, and no second one.",
        pattern=r"^[!-~]{1,255}$",
    ),
]


class FeedbackRequest(RequestBody):
    """Figures of a concept's video on one platform; one of them at least; what is left out is unknown, and 0 is a
    number. Without `observed_at` they are of now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "generation_id": "6f0f5c6e-8d4e-5a3b-9a3f-1f0f5c6e8d4e",
                    "concept_id": "0b7e8a52-0d7c-5f3a-8a39-6a0f5c6e8d4e",
                    "platform": "tiktok",
                    "views": 12000,
                    "likes": 900,
                    "actual_score": 71.5,
                }
            ]
        },
    )

    generation_id: Id
    concept_id: str = Field(max_length=100)
    platform: Platform
    views: Count | None = None
    likes: Count | None = None
    shares: Count | None = None
    comments: Count | None = None
    actual_score: float | None = Field(None, ge=0, le=100)
    observed_at: Moment | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(getattr(self, name) is None for name in FIGURES):
            raise ValueError(f"say at least one of {', '.join(FIGURES)}")
        return self


class Feedback(BaseModel):
    """`predicted_score` is what the concept's prediction for this platform was."""

    id: UUID
    predicted_score: float | None
    observed_at: datetime


@routes.post(
    "",
    status_code=201,
    responses={
        200: {"model": Feedback, "description": "it was given before, with this Idempotency-Key"},
        **documented(_404="no such generation or concept of yours", _422="`IDEMPOTENCY_KEY_REUSED`, or malformed"),
    },
)
def give_feedback(
    body: FeedbackRequest,
    caller: Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)],
    app: Running,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Feedback:
    """Give figures of a concept's video that was posted elsewhere, as often as you like.

    It is what critiques are written from, as of a single large miss. Scores do not learn from it: they learn from posts
    that were made here and are measured 24 hours and 7 days after, since figures of another age say something else.
    """
    with app.db.transaction(caller.tenant_id) as tx:
        feedback_id = tx.new_id()
        if idempotency_key is not None:
            # Locked first, so that a tenant's requests come one by one: no key is used twice.
            tx.quota.lock(caller.tenant_id)
            feedback_id = uuid5(caller.tenant_id, f"feedback {idempotency_key}")
            there = tx.learning.feedback(caller.tenant_id, feedback_id)
            if there is not None:
                _check_same(there, body)
                response.status_code = 200
                return Feedback(**{name: there[name] for name in Feedback.model_fields})
        generation = own(tx, caller.tenant_id, body.generation_id, keep=True)
        concept = next((each for each in generation.concepts if _id(each) == body.concept_id), None)
        if concept is None:
            raise not_found(f"such concept in the generation {body.generation_id}")
        predicted = _score(concept, CONCEPT_KEYS.get(body.platform, body.platform))
        observed_at = _observed(body.observed_at, tx.now())
        added = {"id": feedback_id, "predicted_score": predicted, "observed_at": observed_at}
        tx.learning.add_feedback(caller.tenant_id, body.model_dump() | added)
        actual = body.actual_score
        if predicted is not None and actual is not None and is_large_miss(predicted, actual):
            review.enqueue(tx, caller.tenant_id)
    return Feedback(id=feedback_id, predicted_score=predicted, observed_at=observed_at)


def _check_same(there: Mapping[str, Any], body: FeedbackRequest) -> None:
    """Check that what was given with this key before is what is given now.

    Raises:
        ApiError: it is not.
    """
    sent = body.model_dump(exclude={"observed_at", "actual_score"})
    same = all(there[name] == value for name, value in sent.items())
    kept, score = there["actual_score"], body.actual_score
    same &= kept is None if score is None else kept is not None and abs(float(kept) - score) <= ROUNDED
    given_at = there["created_at"]  # when it was given, and observed if the caller did not say otherwise
    same &= there["observed_at"] == (given_at if body.observed_at is None else min(body.observed_at, given_at))
    if not same:
        raise ApiError(
            422, "this Idempotency-Key was sent with another body before; send a new one", "IDEMPOTENCY_KEY_REUSED"
        )


def _observed(observed_at: datetime | None, now: datetime) -> datetime:
    """Return when it was observed: now, if the caller does not say.

    Raises:
        ApiError: it is in the future.
    """
    if observed_at is not None and observed_at > now + CLOCKS_DIFFER:
        raise ApiError(422, "body.observed_at: is in the future", "INVALID")
    return now if observed_at is None else min(observed_at, now)


def _id(concept: Any) -> Any:
    return concept.get("id") if isinstance(concept, dict) else None


def _score(concept: dict[str, Any], key: str) -> float | None:
    """Imported concepts may have anything in this place."""
    try:
        score = concept["platformVirality"][key]["score"]
    except (KeyError, TypeError, IndexError):
        return None
    return score if isinstance(score, int | float) and 0 <= score <= 100 else None
