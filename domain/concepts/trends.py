"""Trends are what people look at now: the sightings of several sources, merged, sorted into categories and scored.

A *sighting* is one row of one source; a *trend* is what the sightings of one topic say together. Evergreen topics fill
up a short list; they are labelled as such, have no engagement, and never count as live.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from domain.concepts.categories import categories, sensitive
from domain.concepts.wording import clean, same_subject, shorten, words

EVERGREEN = "evergreen"
AUDIO, COMPETITORS = "audio-trends", "competitors"
"""The sources that are imported (`domain/concepts/imported.py`)."""
MOST_TRENDS = 30
ENOUGH = 10
"""With fewer live topics that can be used, evergreen ones fill up to this many."""
STILL_USED = timedelta(hours=24)
"""A source's older list is not used any more, however long the source fails."""
LONGEST_TOPIC = 80
RECENCY = {"today": 1.0, "yesterday": 0.95, "older": 0.85}
HEAT = 20
"""Points that the hottest trend's marks have more than those of the coldest."""

_PREFIX = re.compile(
    r"^(?:(?:show|ask|tell|launch) hn:|\[[^\]]{1,20}\]|til(?: that)?\b|(?:breaking|watch|live):)\s*", re.I
)
_PUBLISHER = re.compile(r"\s+[-|–—]\s+[^-|–—]{2,30}$")
_LABEL = re.compile(r"\s*[\[(](?:video|pdf|oc|\d{4}|official[^\])]*)[\])]\s*$", re.I)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The report of one source on one topic. `rank` counts from 1; `count` is of what `measure` names ("searches",
    "views", "points"), and is None where the source does not say. `published_at` is aware, or None for "now"."""

    source: str
    topic: str
    rank: int
    headline: str | None = None
    publisher: str | None = None
    url: str | None = None
    published_at: datetime | None = None
    count: int | None = None
    measure: str | None = None
    category: str | None = None

    @property
    def text(self) -> str:
        return f"{self.topic} {self.headline or ''}"


@dataclass(frozen=True, slots=True)
class Trend:
    """One topic, and who saw it; the first sighting is the hottest. Marks and score are 0 to 100."""

    topic: str
    category: str
    region: str
    sightings: tuple[Sighting, ...]
    recency: str
    visual_potential: int
    emotional_impact: int
    shareability: int
    score: int

    @property
    def live(self) -> bool:
        return self.sightings[0].source != EVERGREEN

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of those who saw it, each once, hottest first."""
        return tuple(dict.fromkeys(sighting.source for sighting in self.sightings))

    @property
    def sensitive(self) -> bool:
        """Whether it is about death, violence or disaster: reported, and never made into a concept."""
        text = " ".join(sighting.text for sighting in self.sightings)
        return bool(sensitive().search(text.casefold()))


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a source: "live" (asked now), "cached" (asked a while ago), "stale" (it fails, or is slow; an older
    list is used) or "failed" (nothing can be used); "imported" for one that is not asked but brought along, whose
    newest capture is of `answered_at`."""

    source: str
    state: str
    count: int
    answered_at: datetime | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """The sightings and states of all sources at one moment."""

    region: str
    at: datetime
    sightings: tuple[Sighting, ...]
    reports: tuple[Report, ...]


def merge(sightings: Iterable[Sighting], *, region: str, now: datetime) -> list[Trend]:
    """Return one trend for each topic, hottest first, at most `MOST_TRENDS`, in whatever order the sightings are."""
    groups: list[tuple[frozenset[str], list[Sighting]]] = []
    for sighting in sorted(_readable(sightings), key=_heat_first):
        about = words(sighting.topic)
        group = next((members for topic, members in groups if same_subject(topic, about)), None)
        if group is None:
            groups.append((about, [sighting]))
        else:
            group.append(sighting)
    trends = [_trend(members, region, now) for _, members in groups]
    return sorted(trends, key=lambda trend: (-trend.score, trend.topic))[:MOST_TRENDS]


def fill(trends: Sequence[Trend], *, region: str, rng: Random, now: datetime) -> list[Trend]:
    """Return the trends, with evergreen topics behind them if fewer than `ENOUGH` can be used."""
    lacking = ENOUGH - sum(not trend.sensitive for trend in trends)
    return [*trends, *evergreens(region=region, rng=rng, now=now)[: max(0, lacking)]]


def evergreens(*, region: str, rng: Random, now: datetime) -> list[Trend]:
    """Return all evergreen topics in a random order: one of each category before a second of any."""
    shuffled = [(name, rng.sample(each.evergreen, len(each.evergreen))) for name, each in categories().items()]
    rng.shuffle(shuffled)
    rounds = zip_longest(*([(category, topic) for topic in topics] for category, topics in shuffled))
    chosen = [each for one in rounds for each in one if each is not None]
    return [_trend([_evergreen(topic, category)], region, now) for category, topic in chosen]


def classify(text: str) -> str | None:
    """Return the category whose keywords occur most often; None if none does."""
    text = text.casefold()
    hits = {name: len(category.keywords.findall(text)) for name, category in categories().items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else None


def topic_of(title: str) -> str:
    """Return a source's title as a topic: without its labels and its publisher, on one line, at most 80 characters."""
    text = clean(title)
    bare = _LABEL.sub("", _PREFIX.sub("", text)).strip()
    unsigned = _PUBLISHER.sub("", bare)
    # "Celtics – Lakers" is no headline with its publisher.
    bare = unsigned if len(unsigned.split()) >= 3 else bare
    return shorten(bare or text, LONGEST_TOPIC)


def facts(trend: Trend) -> tuple[str, ...]:
    """Return what the sources say, a sentence each. Nothing else may be stated as fact; evergreen topics have none."""
    return tuple(fact for sighting in trend.sightings for fact in _facts(sighting, trend)) if trend.live else ()


def as_row(trend: Trend) -> dict[str, Any]:
    """Return the trend in the old app's field names, with what they lacked beside them."""
    first = trend.sightings[0]
    return {
        "id": str(uuid5(NAMESPACE_URL, f"trend:{trend.region}:{trend.topic}")),
        "topic": trend.topic,
        "source": first.source,
        "sourceApi": first.source if trend.live else "fallback",
        "sourceUrl": first.url,
        "sources": list(trend.sources),
        "live": trend.live,
        "region": trend.region,
        "category": trend.category,
        "recency": trend.recency,
        "visualPotential": trend.visual_potential,
        "emotionalImpact": trend.emotional_impact,
        "shareability": trend.shareability,
        "score": trend.score,
        "engagementCount": first.count,
        "engagementMeasure": first.measure,
        "timestamp": _iso(first.published_at),
        "facts": list(facts(trend)),
    }


def sighting_row(sighting: Sighting) -> dict[str, Any]:
    """Return JSON values, which `sighting_of` reads."""
    return asdict(sighting) | {"published_at": _iso(sighting.published_at)}


def sighting_of(row: Mapping[str, Any]) -> Sighting:
    return Sighting(**{**row, "published_at": _moment(row["published_at"])})


def report_row(report: Report) -> dict[str, Any]:
    """Return JSON values, in the names of the API."""
    row = asdict(report)
    return row | {"answeredAt": _iso(row.pop("answered_at"))}


def collected_row(collected: Collected) -> dict[str, Any]:
    """Return JSON values, which `collected_of` reads."""
    return {
        "region": collected.region,
        "at": collected.at.isoformat(),
        "sightings": [sighting_row(sighting) for sighting in collected.sightings],
        "reports": [report_row(report) for report in collected.reports],
    }


def collected_of(row: Mapping[str, Any]) -> Collected:
    sightings = tuple(sighting_of(sighting) for sighting in row["sightings"])
    reports = tuple(Report(answered_at=_moment(each.pop("answeredAt")), **each) for each in map(dict, row["reports"]))
    return Collected(row["region"], datetime.fromisoformat(row["at"]), sightings, reports)


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _readable(sightings: Iterable[Sighting]) -> Iterable[Sighting]:
    for sighting in sightings:
        topic = topic_of(sighting.topic)
        if words(topic):
            yield replace(sighting, topic=topic)


def _heat_first(sighting: Sighting) -> tuple[Any, ...]:
    return (sighting.rank, sighting.source, sighting.topic, repr(sighting))


def _trend(members: Sequence[Sighting], region: str, now: datetime) -> Trend:
    first = members[0]
    hint = next((sighting.category for sighting in members if sighting.category), None)
    category = hint if first.source == EVERGREEN else classify(first.text) or hint
    category = category if category and category in categories() else "news"
    heat = 0.0 if first.source == EVERGREEN else _heat(members)
    visual, emotional, share = (min(100, round(base + HEAT * heat)) for base in categories()[category].marks)
    recency = _recency(members, now) if first.source != EVERGREEN else "older"
    score = round((visual + emotional + share) / 3 * RECENCY[recency])
    return Trend(_cased(members), category, region, tuple(members), recency, visual, emotional, share, score)


def _cased(members: Sequence[Sighting]) -> str:
    """Return the topic; if it comes in lower case, as search terms do, with the capitals that others write it with."""
    topic = members[0].topic
    if topic != topic.casefold():
        return topic
    written = " ".join(each.text for each in members)
    capitals = {word.casefold(): word for word in re.findall(r"[^\W_]+", written) if word != word.casefold()}
    return re.sub(r"[^\W_]+", lambda word: capitals.get(word[0], word[0]), topic)


def _heat(members: Sequence[Sighting]) -> float:
    """Compute the heat, from 0 to 1, from the best rank in any list and from the number of lists."""
    best = max(0.0, 1 - (members[0].rank - 1) / MOST_TRENDS)
    return min(1.0, best + 0.2 * (len({sighting.source for sighting in members}) - 1))


def _recency(members: Sequence[Sighting], now: datetime) -> str:
    ages = [now - sighting.published_at if sighting.published_at else timedelta(0) for sighting in members]
    age = min(ages)
    return "today" if age < timedelta(hours=24) else "yesterday" if age < timedelta(hours=48) else "older"


def _evergreen(topic: str, category: str) -> Sighting:
    return Sighting(EVERGREEN, topic, MOST_TRENDS, category=category)


def _facts(sighting: Sighting, trend: Trend) -> Iterable[str]:
    if sighting.source in (AUDIO, COMPETITORS):
        yield from _imported_facts(sighting)
        return
    name = SOURCE_NAMES.get(sighting.source, sighting.source)
    if sighting.count and sighting.measure == "searches":
        yield f"More than {sighting.count:,} searches in {REGION_NAMES.get(trend.region, trend.region)} ({name})."
    elif sighting.count and sighting.measure:
        yield f"{sighting.count:,} {sighting.measure} on {name}."
    if sighting.headline and sighting.headline.casefold() != trend.topic.casefold():
        yield f"“{shorten(clean(sighting.headline), 120)}” ({clean(sighting.publisher or name)})."
    elif sighting.publisher:
        yield f"Reported by {clean(sighting.publisher)}."


def _imported_facts(sighting: Sighting) -> Iterable[str]:
    """Say what a capture says: of a sound, how many videos have it; of a competitor's video, whose it is."""
    platform, about = sighting.publisher, clean(sighting.headline or "")
    if sighting.source == AUDIO:
        if about:
            yield f"“{shorten(about, 120)}” is a sound on {platform}."
        if sighting.count:
            yield f"{sighting.count:,} videos on {platform} have this sound."
    elif sighting.count:
        yield f"{sighting.count:,} views on {platform}{f' ({shorten(about, 80)})' if about else ''}."
    else:
        yield f"Seen on {platform}{f' ({shorten(about, 80)})' if about else ''}."


SOURCE_NAMES = {
    "google-trends": "Google Trends",
    "wikimedia": "Wikipedia",
    "hacker-news": "Hacker News",
    "reddit": "Reddit",
    "youtube": "YouTube",
    "gnews": "GNews",
    AUDIO: "imported sounds",
    COMPETITORS: "imported videos",
}

REGION_NAMES = {"US": "the US", "GB": "the UK", "AE": "the UAE", "NL": "the Netherlands", "PH": "the Philippines"}
