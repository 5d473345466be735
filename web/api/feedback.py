"""`/api/feedback`: how a concept's video did."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.generations import own
from web.api.validation import Id, Moment, RequestBody
from web.error_responses import ApiError, documented, not_found

routes = APIRouter(prefix="/feedback", tags=["feedback"], route_class=AdmittedRoute)

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
FIGURES = ("views", "likes", "shares", "comments", "actual_score")
CLOCKS_DIFFER = timedelta(minutes=5)
"""A caller's clock may be so far ahead of ours; what it observed counts as observed now."""

PLATFORM_KEYS = {"tiktok": "tiktok", "youtube-shorts": "youtubeShorts", "instagram-reels": "instagramReels"}
"""A concept's names of the platforms that it has predictions for."""


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
    platform: Literal["tiktok", "youtube-shorts", "instagram-reels", "bluesky", "mastodon"]
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
    """`predicted_score` is what the concept's prediction for this platform said."""

    id: UUID
    predicted_score: float | None
    observed_at: datetime


@routes.post("", status_code=201, responses=documented(_404="no such generation or concept of yours"))
def give_feedback(
    body: FeedbackRequest, caller: Annotated[Caller, requires(ApiScope.GENERATIONS_WRITE)], app: Running
) -> Feedback:
    """Tell how a concept did, as often as you like; the scores learn from it."""
    with app.db.transaction(caller.tenant_id) as tx:
        generation = own(tx, caller.tenant_id, body.generation_id, keep=True)
        concept = next((each for each in generation.concepts if _id(each) == body.concept_id), None)
        if concept is None:
            raise not_found(f"such concept in the generation {body.generation_id}")
        predicted = _score(concept, PLATFORM_KEYS.get(body.platform, body.platform))
        observed_at = _observed(body.observed_at, tx.now())
        columns = body.model_dump() | {"predicted_score": predicted, "observed_at": observed_at}
        feedback_id = tx.learning.add_feedback(caller.tenant_id, columns)
    return Feedback(id=feedback_id, predicted_score=predicted, observed_at=observed_at)


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
