"""Video concepts: what a generator is asked for, what it must deliver, and the rows that are kept.

Whoever writes the drafts (a language model, or the grammar of `domain/concepts/grammar.py`), the same rules hold:
exactly as
many as asked for, at most two of a category, every topic one of the trends, no banned claim, no unsourced figure.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid5

from domain.concepts import trends
from domain.concepts.categories import categories
from domain.concepts.timing import PostTime, post_times, zone_of
from domain.concepts.trends import Trend
from domain.concepts.virality import Prediction, predict
from domain.concepts.wording import claims, counted, invented, likeness, same_subject, words
from domain.errors import Conflict, Rejected

LOCAL_GRAMMAR = "local-grammar/v1"
"""The generator of `domain/concepts/grammar.py`."""
DEFAULT_COUNT = 5
MOST_PER_CATEGORY = 2
MOST_CONCEPTS = 20
REMEMBERED = timedelta(days=90)
"""How long a concept counts as known: a near-duplicate of it is not delivered again."""

LENGTHS = {
    "title": (8, 110),
    "caption": (20, 500),
    "why_it_works": (20, 400),
    "video_prompt": (80, 3000),
    "sound": (3, 300),
}
SEGMENT_LENGTHS = {"visual": (10, 400), "on_screen_text": (1, 160), "camera": (3, 120)}
SEGMENTS = (3, 8)
SECONDS = (10, 60)
HASHTAGS = (3, 8)
_HASHTAG = re.compile(r"#\w{2,40}")
EASTERN = "America/New_York"


class CountInvalid(Rejected):
    """Nobody can be given this many concepts."""


class ConceptsInvalid(Rejected):
    """What the generator delivered breaks the rules, also after it was told how."""


class TrendsTooFew(Conflict):
    """The offline generator has told what it can tell of these trends within `REMEMBERED`."""

    def __init__(self, message: str) -> None:
        super().__init__("TRENDS_TOO_FEW", message)


class GenerationRefused(Rejected):
    """The generator declined to write about these topics."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Seconds from the start of the video."""

    start: int
    end: int
    visual: str
    on_screen_text: str | None
    camera: str


@dataclass(frozen=True, slots=True)
class Variant:
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator writes. `topic` names the trend; the variants are B, C, …: A is the draft itself."""

    topic: str
    category: str
    title: str
    script: tuple[Segment, ...]
    video_prompt: str
    sound: str
    caption: str
    hashtags: tuple[str, ...]
    why_it_works: str
    variants: tuple[Variant, ...]
    format: str | None = None


@dataclass(frozen=True, slots=True)
class PastConcept:
    """A concept that the tenant has had within `REMEMBERED`."""

    title: str
    topic: str
    format: str | None = None


@dataclass(frozen=True, slots=True)
class ConceptRequest:
    """What a generator is asked for. `seed` makes the grammar's answer repeatable; `violations` are those of the answer
    before, if there was one; `patience` is how long it may take. `reserve` holds further topics for when all that can
    be said of `trends` has been said."""

    count: int
    trends: tuple[Trend, ...]
    past: tuple[PastConcept, ...]
    region: str
    seed: int
    now: datetime
    violations: tuple[str, ...] = ()
    patience: timedelta = timedelta(minutes=2)
    reserve: tuple[Trend, ...] = ()

    def trend(self, topic: str) -> Trend | None:
        """The trend of this topic, in any case of letters."""
        same = (each for each in (*self.trends, *self.reserve) if each.topic.casefold() == topic.casefold())
        return next(same, None)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model and its prices, in dollars for a million tokens."""

    provider: str
    name: str
    usd_in: Decimal
    usd_out: Decimal

    @property
    def generator(self) -> str:
        return f"{self.provider}/{self.name}"


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a response. `model` is None where no model was asked."""

    model: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: str = "0"


@dataclass(frozen=True, slots=True)
class ConceptResponse:
    """An answer. `refusal` and `unreadable` say why there are no drafts; it was paid for all the same."""

    generator: str
    drafts: tuple[Draft, ...] = ()
    usage: Usage = Usage()
    refusal: str | None = None
    unreadable: str | None = None


def check_count(count: int) -> None:
    """Raises:
    CountInvalid: fewer than 1, or more than a diverse list can have.
    """
    if not 1 <= count <= MOST_CONCEPTS:
        raise CountInvalid(f"count is {count}: ask for 1 to {MOST_CONCEPTS} concepts at once")


def usable(found: Iterable[Trend]) -> tuple[Trend, ...]:
    """The trends that concepts may be made from: nobody's death or disaster becomes one."""
    return tuple(trend for trend in found if not trend.sensitive)


def violations(response: ConceptResponse, request: ConceptRequest) -> list[str]:
    """What is wrong with the answer as a whole and with each draft; empty if it can be delivered."""
    if response.unreadable:
        return [f"the answer could not be read: {response.unreadable}"]
    drafts = response.drafts
    found = []
    if len(drafts) != request.count:
        was = "was" if request.count == 1 else "were"
        found.append(f"{counted(request.count, 'concept')} {was} asked for, and {len(drafts)} delivered")
    for category, count in Counter(draft.category for draft in drafts).items():
        if count > MOST_PER_CATEGORY:
            found.append(f"{count} concepts in {category}: at most {MOST_PER_CATEGORY} in one category")
    known = list(request.past)
    for number, draft in enumerate(drafts, 1):
        found += [f"concept {number}: {fault}" for fault in _violations_of(draft, request)]
        if near_duplicate(draft, known):
            found.append(f"concept {number}: too close to one that the customer has already: {draft.title!r}")
        known.append(PastConcept(draft.title, draft.topic, draft.format))
    return found


def near_duplicate(draft: Draft, known: Iterable[PastConcept]) -> bool:
    """Whether the title says what a known one says, or the topic was told in this very way."""
    title, topic = words(draft.title), words(draft.topic)
    return any(
        (alike := likeness(title, words(past.title))) >= 0.85
        or (same_subject(topic, words(past.topic)) and (alike >= 0.6 or (draft.format and draft.format == past.format)))
        for past in known
    )


def compose(
    response: ConceptResponse, request: ConceptRequest, *, job_id: UUID, timezone: str | None
) -> list[dict[str, Any]]:
    """The concepts as they are kept: the old app's field names, with posting times and predictions added."""
    zone = zone_of(timezone)
    times = post_times(zone, request.now, len(response.drafts))
    return [
        _row(draft, trend, at, uuid5(job_id, f"concept {n}"), generator=response.generator)
        for n, (draft, trend, at) in enumerate(zip(response.drafts, trends_of(response, request), times, strict=True))
    ]


def trends_of(response: ConceptResponse, request: ConceptRequest) -> list[Trend]:
    """The trend of each draft, in the order of the drafts.

    Raises:
        ConceptsInvalid: a draft is about something else (`violations` says so too).
    """
    found = [(draft.topic, request.trend(draft.topic)) for draft in response.drafts]
    foreign = [topic for topic, trend in found if trend is None]
    if foreign:
        raise ConceptsInvalid(f"the topic {foreign[0]!r} is not among the trends")
    return [trend for _, trend in found if trend is not None]


def draft_of(row: Mapping[str, Any]) -> Draft:
    """A draft from JSON values with the fields' own names."""
    script = tuple(Segment(**segment) for segment in row["script"])
    variants = tuple(Variant(**variant) for variant in row["variants"])
    return Draft(**{**row, "script": script, "variants": variants, "hashtags": tuple(row["hashtags"])})


def response_row(response: ConceptResponse) -> dict[str, Any]:
    """JSON values; `written_of` reads them."""
    return asdict(response)


def response_of(row: Mapping[str, Any]) -> ConceptResponse:
    return ConceptResponse(
        **{**row, "drafts": tuple(draft_of(each) for each in row["drafts"]), "usage": Usage(**row["usage"])}
    )


def _violations_of(draft: Draft, request: ConceptRequest) -> Iterable[str]:
    trend = request.trend(draft.topic)
    if trend is None:
        yield f"the topic {draft.topic!r} is not among the trends; copy it exactly"
    if draft.category not in categories():
        yield f"unknown category {draft.category!r}"
    for name, (least, most) in LENGTHS.items():
        yield from _length(name, getattr(draft, name), least, most)
    yield from _script_violations(draft.script)
    if not HASHTAGS[0] <= len(draft.hashtags) <= HASHTAGS[1]:
        yield f"{counted(len(draft.hashtags), 'hashtag')}: use {HASHTAGS[0]} to {HASHTAGS[1]}"
    yield from (f"malformed hashtag {tag!r}" for tag in draft.hashtags if not _HASHTAG.fullmatch(tag))
    if trend is not None:
        yield from _wording_violations(draft, trend, request)


def _length(name: str, text: str, least: int, most: int) -> Iterable[str]:
    if not least <= len(text) <= most:
        yield f"{name} has {counted(len(text), 'character')}: use {least} to {most}"


def _script_violations(script: Sequence[Segment]) -> Iterable[str]:
    if not SEGMENTS[0] <= len(script) <= SEGMENTS[1]:
        yield f"{counted(len(script), 'script segment')}: use {SEGMENTS[0]} to {SEGMENTS[1]}"
        return
    edges = [(segment.start, segment.end) for segment in script]
    joined = edges[0][0] == 0 and all(a[1] == b[0] for a, b in pairwise(edges))
    if not joined or any(end <= start for start, end in edges):
        yield "the script's segments must begin at 0 and follow each other without gaps"
    elif not SECONDS[0] <= edges[-1][1] <= SECONDS[1]:
        yield f"the script lasts {edges[-1][1]} s: use {SECONDS[0]} to {SECONDS[1]}"
    for segment in script:
        for name, (least, most) in SEGMENT_LENGTHS.items():
            text = getattr(segment, name)
            if text is not None:
                yield from _length(name, text, least, most)


def _wording_violations(draft: Draft, trend: Trend, request: ConceptRequest) -> Iterable[str]:
    variants = [text for variant in draft.variants for text in (variant.title, variant.caption)]
    shown = [draft.title, draft.caption, *variants, *(segment.on_screen_text or "" for segment in draft.script)]
    about = words(draft.topic)
    if 2 * len(about & words(" ".join(shown))) < len(about):
        yield f"it never mentions its topic, {draft.topic!r}"
    facts = (draft.topic, *trends.facts(trend), str(request.now.year))
    own = _without(" ".join([*shown, draft.why_it_works]), facts)
    yield from (f"it claims {why}" for why in claims(own))
    made_up = invented(own, facts)
    if made_up:
        yield f"figures that no source gave: {', '.join(sorted(made_up))}"


def _without(text: str, quoted: Iterable[str]) -> str:
    """The text without what it quotes: a source may say what we would not."""
    for quote in sorted(quoted, key=len, reverse=True):
        text = re.sub(re.escape(quote), " ", text, flags=re.IGNORECASE)
    return text


def _row(draft: Draft, trend: Trend, post_time: PostTime, concept_id: UUID, *, generator: str) -> dict[str, Any]:
    predictions = predict(trend, draft.category)
    told = [Variant(draft.title, draft.caption), *draft.variants]
    return {
        "id": str(concept_id),
        "title": draft.title,
        "category": draft.category,
        "script": [
            {
                "timeRange": f"{segment.start}-{segment.end}s",
                "visual": segment.visual,
                "onScreenText": segment.on_screen_text,
                "camera": segment.camera,
            }
            for segment in draft.script
        ],
        "soraPrompt": draft.video_prompt,
        "veoPrompt": f"{draft.video_prompt}\nAudio: {draft.sound}",
        "caption": draft.caption,
        "hashtags": list(draft.hashtags),
        "postTime": {
            "utc": post_time.at.isoformat().replace("+00:00", "Z"),
            "local": post_time.at.astimezone(zone_of(post_time.zone)).isoformat(),
            "zone": post_time.zone,
            "est": f"{post_time.at.astimezone(zone_of(EASTERN)):%Y-%m-%d %H:%M %Z}",
            "reason": post_time.reason,
        },
        "whyItWorks": draft.why_it_works,
        "trendSource": trend.sightings[0].source,
        "topic": trend.topic,
        "facts": list(trends.facts(trend)),
        "platformVirality": {_KEYS[each.platform]: _virality(each) for each in predictions},
        "variants": [
            {
                "id": str(uuid5(concept_id, letter)),
                "label": letter,
                "title": variant.title,
                "caption": variant.caption,
                "hookSource": "template" if draft.format else "model",
            }
            for letter, variant in zip("ABCDEFGH", told, strict=False)
        ],
        "format": draft.format,
        "generator": generator,
    }


_KEYS = {"tiktok": "tiktok", "youtube-shorts": "youtubeShorts", "instagram-reels": "instagramReels"}


def _virality(prediction: Prediction) -> dict[str, Any]:
    return {
        "score": prediction.score,
        "low": prediction.low,
        "high": prediction.high,
        "label": prediction.label,
        "factors": list(prediction.factors),
        "model": prediction.model,
    }
