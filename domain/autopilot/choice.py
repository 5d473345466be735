"""Which of a day's concepts a chain makes: the one with the best prediction on the platforms it will be posted to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.posting.platforms import CONCEPT_KEYS
from domain.videos.script import concept_ids


@dataclass(frozen=True, slots=True)
class Scored:
    """A concept that may be made, and its score, 0 to 100: the lowest of its predictions on the platforms."""

    concept_id: str
    title: str
    score: float


def ranked(concepts: Sequence[Any], platforms: Collection[str]) -> list[Scored]:
    """Return the concepts that have a prediction, best first; of equal ones the earlier.

    A platform for which nothing is predicted (Bluesky, Mastodon) does not count, unless it is so with all of them: then
    every prediction that the concept has does. Concepts of others may have anything in these places: one without any
    number is not chosen.
    """
    found = []
    for name, concept in zip(concept_ids(concepts), concepts, strict=True):
        if isinstance(concept, Mapping) and (score := _score(concept, platforms)) is not None:
            title = concept.get("title")
            found.append(Scored(name, title if isinstance(title, str) else name, score))
    return sorted(found, key=lambda each: -each.score)


def why_not(concept: Scored, taken: Scored) -> str:
    """Say why a concept was passed over for the one that was taken, which stands before it."""
    if concept.score == taken.score:
        return "an earlier one that scores the same was taken"
    return "a better one was taken"


def _score(concept: Mapping[str, Any], platforms: Collection[str]) -> float | None:
    predictions = concept.get("platformVirality")
    if not isinstance(predictions, Mapping):
        return None
    named = [_number(predictions.get(CONCEPT_KEYS.get(name, name))) for name in platforms]
    scores = [each for each in named if each is not None]
    scores = scores or [each for value in predictions.values() if (each := _number(value)) is not None]
    return min(scores, default=None)


def _number(prediction: Any) -> float | None:
    score = prediction.get("score") if isinstance(prediction, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    return float(score) if 0 <= score <= 100 else None
