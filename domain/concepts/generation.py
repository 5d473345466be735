"""A generation: the request for video concepts, the rules that a response must keep, and the rows that are kept.

The same rules hold for a language model and for the grammar of `domain/concepts/grammar.py`: exactly as many drafts as
asked for, at most two of a category, every topic one of the trends, no banned claim, no unsourced figure.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid5

from domain.concepts import trends
from domain.concepts.categories import categories
from domain.concepts.timing import PostTime, post_times, zone_of
from domain.concepts.trends import Collected, Trend
from domain.concepts.wording import claims, counted, invented, likeness, same_subject, words
from domain.errors import Conflict, Rejected
from domain.learning.critique.lessons import ActiveLesson
from domain.learning.outcomes import Features
from domain.learning.scoring import SCORED, Scoring, shown_row
from domain.posting.platforms import CONCEPT_KEYS

LOCAL_GRAMMAR = "local-grammar/v1"
"""The name of the generator in `domain/concepts/grammar.py`."""
DEFAULT_COUNT = 5
MOST_PER_CATEGORY = 2
MOST_CONCEPTS = 20
REMEMBERED = timedelta(days=90)
"""How long no near-duplicate of a concept is delivered again."""

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


@dataclass(frozen=True, slots=True)
class Generation:
    """`concepts` and `trends` are as the old app's types have them, in camelCase; `sources`: how each trend source
    fared."""

    id: UUID
    date: datetime
    concepts: list[dict[str, Any]]
    trends: list[dict[str, Any]]
    is_favorite: bool = False
    generator: str | None = None
    job_id: UUID | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)


class CountInvalid(Rejected):
    """No generation can have this many concepts."""


class ConceptsInvalid(Rejected):
    """The response breaks the rules, also after the generator was told how."""


class TrendsTooFew(Conflict):
    """The offline generator has no further concept of these trends that is new within `REMEMBERED`."""

    def __init__(self, message: str) -> None:
        super().__init__("TRENDS_TOO_FEW", message)


class GenerationRefused(Rejected):
    """The generator declined to write about these topics."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the script, in seconds from the start of the video."""

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
    """A concept as a generator writes it. `topic` names the trend; the draft itself is variant A, the others B, C, …"""

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
    """A request to a generator. `seed` makes the grammar's answer repeatable; `violations` are of the last answer,
    if there was one; `patience` limits how long it takes. `reserve` has further topics, for when nothing new can be
    said of `trends`. `lessons` are what the tenant's own outcomes suggest; none if they are held back."""

    count: int
    trends: tuple[Trend, ...]
    past: tuple[PastConcept, ...]
    region: str
    seed: int
    now: datetime
    violations: tuple[str, ...] = ()
    patience: timedelta = timedelta(minutes=2)
    reserve: tuple[Trend, ...] = ()
    lessons: tuple[ActiveLesson, ...] = ()

    def trend(self, topic: str) -> Trend | None:
        """Return the trend of this topic, in any case of letters."""
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
    """An answer of a generator. `refusal` and `unreadable` say why it has no drafts; it was paid for all the same."""

    generator: str
    drafts: tuple[Draft, ...] = ()
    usage: Usage = Usage()
    refusal: str | None = None
    unreadable: str | None = None


def check_count(count: int) -> None:
    """Return only if a diverse list can have this many concepts.

    Raises:
        CountInvalid: there are fewer than 1 or too many.
    """
    if not 1 <= count <= MOST_CONCEPTS:
        raise CountInvalid(f"count is {count}: ask for 1 to {MOST_CONCEPTS} concepts at once")


def usable(found: Iterable[Trend]) -> tuple[Trend, ...]:
    """Return the trends that concepts may be made from: nobody's death or disaster becomes one."""
    return tuple(trend for trend in found if not trend.sensitive)


def request_for(
    collected: Collected,
    *,
    count: int,
    past: tuple[PastConcept, ...],
    seed: int,
    lessons: tuple[ActiveLesson, ...] = (),
) -> tuple[ConceptRequest, list[Trend]]:
    """Return the request, and all trends that were seen: some of them may be too sensitive to ask about."""
    region, now = collected.region, collected.at
    live = trends.merge(collected.sightings, region=region, now=now)
    listed = trends.fill(live, region=region, rng=Random(seed), now=now)  # noqa: S311 - repeatable on purpose
    evergreens = trends.evergreens(region=region, rng=Random(seed), now=now)  # noqa: S311
    reserve = tuple(each for each in evergreens if each not in listed)
    request = ConceptRequest(count, usable(listed), past, region, seed, now, reserve=reserve, lessons=lessons)
    return request, listed


def violations(response: ConceptResponse, request: ConceptRequest) -> list[str]:
    """Say what is wrong with the response as a whole and with each draft; nothing if it can be delivered."""
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
    past = list(request.past)
    for number, draft in enumerate(drafts, 1):
        found += [f"concept {number}: {fault}" for fault in _violations_of(draft, request)]
        if near_duplicate(draft, past):
            found.append(f"concept {number}: too close to one that the customer has already: {draft.title!r}")
        past.append(PastConcept(draft.title, draft.topic, draft.format))
    return found


def near_duplicate(draft: Draft, concepts: Iterable[PastConcept]) -> bool:
    """Whether a past title says the same, or the topic had this very format."""
    title, topic = words(draft.title), words(draft.topic)
    return any(
        (alike := likeness(title, words(past.title))) >= 0.85
        or (same_subject(topic, words(past.topic)) and (alike >= 0.6 or (draft.format and draft.format == past.format)))
        for past in concepts
    )


def compose(
    response: ConceptResponse, request: ConceptRequest, scoring: Scoring, *, job_id: UUID, timezone: str | None
) -> list[dict[str, Any]]:
    """Return the concepts as they are kept: in the old app's field names, with posting times and predictions.

    Those of the strongest trend come first. A category has one score on a platform, so of concepts that score alike
    the first is the one that more people look for now.
    """
    zone = zone_of(timezone)
    times = post_times(zone, request.now, len(response.drafts))
    drafts = sorted(zip(response.drafts, trends_of(response, request), strict=True), key=_strongest_first)
    besides = {"generator": response.generator, "lessons": [str(each.id) for each in request.lessons]}
    return [
        _row(draft, trend, at, uuid5(job_id, f"concept {n}"), scoring) | besides
        for n, ((draft, trend), at) in enumerate(zip(drafts, times, strict=True))
    ]


def trends_of(response: ConceptResponse, request: ConceptRequest) -> list[Trend]:
    """Return the trend of each draft, in the order of the drafts.

    Raises:
        ConceptsInvalid: a draft is about something else (`violations` says so too).
    """
    found = [(draft.topic, request.trend(draft.topic)) for draft in response.drafts]
    foreign = [topic for topic, trend in found if trend is None]
    if foreign:
        raise ConceptsInvalid(f"the topic {foreign[0]!r} is not among the trends")
    return [trend for _, trend in found if trend is not None]


def draft_of(row: Mapping[str, Any]) -> Draft:
    """Return the draft of these JSON values, which have the fields' own names."""
    script = tuple(Segment(**segment) for segment in row["script"])
    variants = tuple(Variant(**variant) for variant in row["variants"])
    return Draft(**{**row, "script": script, "variants": variants, "hashtags": tuple(row["hashtags"])})


def response_row(response: ConceptResponse) -> dict[str, Any]:
    """Return JSON values, which `response_of` reads."""
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
    """Return the text without what it quotes: a source may say what we would not."""
    for quote in sorted(quoted, key=len, reverse=True):
        text = re.sub(re.escape(quote), " ", text, flags=re.IGNORECASE)
    return text


def _strongest_first(of: tuple[Draft, Trend]) -> tuple[bool, int]:
    _, trend = of
    return not trend.live, -trend.score


def _row(draft: Draft, trend: Trend, post_time: PostTime, concept_id: UUID, scoring: Scoring) -> dict[str, Any]:
    variants = [Variant(draft.title, draft.caption), *draft.variants]
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
        "platformVirality": _predictions(draft.category, scoring, post_time.at.date()),
        "variants": [
            {
                "id": str(uuid5(concept_id, letter)),
                "label": letter,
                "title": variant.title,
                "caption": variant.caption,
                "hookSource": "template" if draft.format else "model",
            }
            for letter, variant in zip("ABCDEFGH", variants, strict=False)
        ],
        "format": draft.format,
    }


def _predictions(category: str, scoring: Scoring, on: date) -> dict[str, Any]:
    """Return what is expected of a concept by the platforms' names, whatever the account is that it will be on."""
    features = Features("", category)
    found = {platform: scoring.shown(platform, features, on) for platform in SCORED}
    return {CONCEPT_KEYS.get(name, name): shown_row(each) for name, each in found.items() if each is not None}
