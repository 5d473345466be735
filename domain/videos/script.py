"""The script of a concept, as a renderer reads it: titled segments, in seconds from the start of the video.

Concepts come from our generators, from language models and from the old app, so nothing of their shape is taken for
granted. A concept that cannot be rendered is refused before anything is reserved or drawn.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from domain.errors import Rejected, UnknownConcept

SECONDS = (3, 180)
"""The shortest and longest script: shorter is no Reel, longer is no Short (facts of November 2026)."""
MOST_SEGMENTS = 20
MOST_CHARACTERS = 4000
"""Of all that is shown on the screen: half an hour of reading is no short video."""
MOST_TITLE = 200
MOST_SHOWN = 300
"""Characters of a title, and of the text on the screen in one segment."""
_RANGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*s?\s*[-–—]\s*(\d+(?:\.\d+)?)\s*s?\s*")


class ScriptUnusable(Rejected):
    """The concept has no script that a video can be made from; the text says why."""


@dataclass(frozen=True, slots=True)
class ScriptSegment:
    """A part of the video. `shown` is the text on the screen ("" for none), `visual` describes the picture."""

    start: float
    end: float
    shown: str
    visual: str
    camera: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Script:
    """All of a concept that a video shows or is made from. `prompt` is for text-to-video models."""

    title: str
    category: str
    segments: tuple[ScriptSegment, ...]
    prompt: str
    topic: str
    hashtags: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.segments[-1].end


def script_of(concept: Mapping[str, Any]) -> Script:
    """Return the script of a concept as `generations.concepts` keeps it.

    Raises:
        ScriptUnusable: there is none, it is too long or too short, or its segments do not follow each other.
    """
    title = _text(concept.get("title"))
    if not title:
        raise ScriptUnusable("the concept has no title")
    if len(title) > MOST_TITLE:
        raise ScriptUnusable(f"the title has {len(title):,} characters; at most {MOST_TITLE} can be shown")
    rows = concept.get("script")
    if not isinstance(rows, list) or not rows:
        raise ScriptUnusable("the concept has no script: no video can be made from a title alone")
    if len(rows) > MOST_SEGMENTS:
        raise ScriptUnusable(f"the script has {len(rows)} segments; at most {MOST_SEGMENTS} can be rendered")
    segments = tuple(_segment(number, row) for number, row in enumerate(rows, 1))
    _check_times(segments)
    shown = len(title) + sum(len(segment.shown) for segment in segments)
    if shown > MOST_CHARACTERS:
        raise ScriptUnusable(f"the script shows {shown:,} characters; at most {MOST_CHARACTERS:,} can be read in time")
    return Script(
        title=title,
        category=_text(concept.get("category")).lower(),
        segments=segments,
        prompt=_text(concept.get("soraPrompt")) or _text(concept.get("veoPrompt")),
        topic=_text(concept.get("topic")),
        hashtags=tuple(_text(tag) for tag in concept.get("hashtags") or () if _text(tag)),
    )


def concept_ids(concepts: Sequence[Any]) -> list[str]:
    """Return how each concept of a generation is addressed: by its id, or by its number, as "#2", if it has none of its
    own."""
    ids = [concept.get("id") if isinstance(concept, Mapping) else None for concept in concepts]
    return [
        each if isinstance(each, str) and each and ids.count(each) == 1 else f"#{number}"
        for number, each in enumerate(ids, 1)
    ]


def concept_at(concepts: Sequence[Any], concept_id: str) -> Mapping[str, Any]:
    """Return the concept with this address; its number is one too.

    Raises:
        UnknownConcept: there is none.
    """
    addresses = concept_ids(concepts)
    numbers = [f"#{number}" for number in range(1, len(concepts) + 1)]
    for listed in (addresses, numbers):
        if concept_id in listed and isinstance(found := concepts[listed.index(concept_id)], Mapping):
            return found
    raise UnknownConcept(
        f"the generation has no concept {concept_id!r}; it has {', '.join(addresses) or 'none at all'}"
    )


def _segment(number: int, row: Any) -> ScriptSegment:
    if not isinstance(row, Mapping):
        raise ScriptUnusable(f"segment {number} of the script is no object")
    times = _RANGE.fullmatch(_text(row.get("timeRange")))
    if times is None:
        raise ScriptUnusable(f"segment {number} has no time range such as 0-3s")
    shown = _text(row.get("onScreenText"))
    if len(shown) > MOST_SHOWN:
        raise ScriptUnusable(
            f"segment {number} shows {len(shown):,} characters; at most {MOST_SHOWN} can be read in time"
        )
    return ScriptSegment(float(times[1]), float(times[2]), shown, _text(row.get("visual")), _text(row.get("camera")))


def _check_times(segments: tuple[ScriptSegment, ...]) -> None:
    for number, segment in enumerate(segments, 1):
        if segment.seconds <= 0:
            raise ScriptUnusable(f"segment {number} ends before it begins")
    if segments[0].start != 0:
        raise ScriptUnusable("the script does not begin at 0 seconds")
    for number, (before, after) in enumerate(pairwise(segments), 2):
        if before.end != after.start:
            raise ScriptUnusable(f"segment {number} does not begin where the one before it ends")
    seconds = segments[-1].end
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ScriptUnusable(f"the script lasts {seconds:g} s; a video has {SECONDS[0]} to {SECONDS[1]} s")


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
