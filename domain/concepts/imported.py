"""What people saw elsewhere and bring along: sounds that are used (for all tenants of a region), and a tenant's
competitors' videos. Both are trends for some days: sources beside those that are asked.

A capture is what was seen at one moment. The newest of a competitor's video is kept, whatever order they come in; two
of one moment that differ are ordered by their values, so that every order of importing ends the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from domain.concepts.trends import AUDIO, COMPETITORS, Collected, Report, Sighting
from domain.concepts.wording import clean, shorten
from domain.videos.profiles import NAMES

USED_FOR = timedelta(days=7)
"""How old a capture may be to count as a trend."""
MOST_SIGHTINGS = 20
"""Sounds, and competitors' videos, that one generation looks at."""
MOST_COMPETITORS = 10_000
"""Videos that a tenant keeps of its competitors."""
LONGEST_ID, LONGEST_TITLE, LONGEST_NAME, LONGEST_URL = 300, 300, 200, 2000
MOST_COUNT = 10**15
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
CLOCKS_DIFFER = timedelta(hours=1)


class Kind(StrEnum):
    AUDIO = "audio"
    COMPETITORS = "competitors"


class Malformed(ValueError):
    """A row that cannot be taken; the text names the field and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class AudioTrend:
    """A sound on a platform, as it was seen in a region; `usage_count` videos had it."""

    platform: str
    external_id: str
    title: str
    region: str
    captured_at: datetime
    artist: str | None = None
    usage_count: int | None = None
    rank: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.platform, self.region, self.external_id, self.captured_at)


@dataclass(frozen=True, slots=True)
class CompetitorVideo:
    """A video of somebody else's, as it was seen. `details` are further counts, and when it was published."""

    platform: str
    external_id: str
    captured_at: datetime
    title: str
    channel: str | None = None
    url: str | None = None
    views: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.platform, self.external_id)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a row has that does not say it itself. Without `captured_at` each row must."""

    region: str
    now: datetime
    captured_at: datetime | None = None


FIELDS: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    Kind.AUDIO: {
        "platform": (),
        "external_id": ("sound_id", "audio_id", "music_id", "track_id", "id"),
        "title": ("sound_name", "audio_name", "track_name", "name", "song"),
        "artist": ("artist_name", "author", "creator"),
        "region": ("country", "country_code"),
        "usage_count": ("uses", "use_count", "video_count", "videos", "count"),
        "rank": ("position",),
        "captured_at": ("scraped_at", "fetched_at", "seen_at", "timestamp", "date", "created_at"),
    },
    Kind.COMPETITORS: {
        "platform": (),
        "external_id": ("video_id", "post_id", "id"),
        "title": ("video_title", "caption", "description"),
        "channel": ("channel_name", "channel_title", "competitor", "competitor_name", "creator", "author", "username"),
        "url": ("video_url", "permalink", "link"),
        "views": ("view_count", "play_count", "plays"),
        "likes": ("like_count",),
        "comments": ("comment_count",),
        "shares": ("share_count",),
        "published_at": ("posted_at", "publish_date", "upload_date"),
        "captured_at": ("scraped_at", "fetched_at", "analyzed_at", "seen_at", "timestamp", "date", "created_at"),
    },
}
"""Our names of the fields, and what else they are called; each also in camelCase, in any case of letters."""

_PLATFORMS = {name.replace("-", ""): name for name in NAMES} | {
    **{"youtube": "youtube-shorts", "shorts": "youtube-shorts", "instagram": "instagram-reels"},
    "reels": "instagram-reels",
}
_GROUPED = re.compile(r"\d{1,3}(?:([,.'’ \u00a0\u202f])\d{3})(?:\1\d{3})*")
_WHOLE = re.compile(r"\d+(?:\.0)?")
_SEPARATORS = re.compile(r"[,.'’ \u00a0\u202f]")
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MILLISECONDS = 10**11
"""A Unix time that is larger counts milliseconds, as JavaScript does."""


def plain(name: str) -> str:
    """Return a field's name as it is compared: `captured_at`, `capturedAt` and `Captured At` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def called(kind: Kind) -> dict[str, str]:
    """Return our names of the fields by all that they are called."""
    return {plain(each): name for name, others in FIELDS[kind].items() for each in (name, *others)}


def read_row(kind: Kind, row: Mapping[str, Any], defaults: Defaults) -> AudioTrend | CompetitorVideo:
    """Return a row of a file. Of two names for one field the first in `FIELDS` that has a value counts.

    Raises:
        Malformed: a field is missing, or has what it cannot have.
    """
    return read_audio(row, defaults) if kind is Kind.AUDIO else read_competitor(row, defaults)


def read_audio(row: Mapping[str, Any], defaults: Defaults) -> AudioTrend:
    """Return a sound; see `read_row`."""
    values = _named(Kind.AUDIO, row)
    region = values.get("region")
    return AudioTrend(
        platform=_platform(values.get("platform")),
        external_id=_external_id(values.get("external_id")),
        title=_title(values.get("title")),
        region=defaults.region if region is None else region_of(region),
        captured_at=_captured_at(values.get("captured_at"), defaults),
        artist=_text("artist", values.get("artist"), LONGEST_NAME),
        usage_count=_count("usage_count", values.get("usage_count")),
        rank=_rank(values.get("rank")),
    )


def read_competitor(row: Mapping[str, Any], defaults: Defaults) -> CompetitorVideo:
    """Return a competitor's video; see `read_row`."""
    values = _named(Kind.COMPETITORS, row)
    counts = {name: _count(name, values.get(name)) for name in ("likes", "comments", "shares")}
    published = values.get("published_at")
    at = None if published is None else _moment("published_at", published).isoformat()
    return CompetitorVideo(
        platform=_platform(values.get("platform")),
        external_id=_external_id(values.get("external_id")),
        captured_at=_captured_at(values.get("captured_at"), defaults),
        title=_title(values.get("title")),
        channel=_text("channel", values.get("channel"), LONGEST_NAME),
        url=_url(values.get("url")),
        views=_count("views", values.get("views")),
        details={name: value for name, value in {**counts, "published_at": at}.items() if value is not None},
    )


def region_of(value: object) -> str:
    """Return a region as it is kept: two capital letters.

    Raises:
        Malformed: it is no country's code.
    """
    text = str(value).strip()
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise Malformed(f"region: {_shown(value)} is no country; write two letters, such as DE")
    return text.upper()


# --- as sources of trends --------------------------------------------------------------------------------------------


def audio_sightings(rows: Sequence[AudioTrend]) -> tuple[Sighting, ...]:
    """Return sounds, most used first, as sightings; `rank` is their place here."""
    ordered = sorted(rows, key=lambda row: (row.rank or 10**6, -(row.usage_count or 0), row.external_id))
    return tuple(
        Sighting(
            AUDIO,
            row.title,
            place,
            headline=f"{row.title} by {row.artist}" if row.artist else None,
            publisher=NAMES[row.platform],
            published_at=row.captured_at,
            count=row.usage_count,
            measure="videos",
            category="music",
        )
        for place, row in enumerate(ordered[:MOST_SIGHTINGS], 1)
    )


def competitor_sightings(rows: Sequence[CompetitorVideo]) -> tuple[Sighting, ...]:
    """Return competitors' videos, most viewed first, as sightings."""
    ordered = sorted(rows, key=lambda row: (-(row.views or 0), row.platform, row.external_id))
    return tuple(
        Sighting(
            COMPETITORS,
            row.title,
            place,
            headline=row.channel,
            publisher=NAMES[row.platform],
            url=row.url,
            published_at=_published(row),
            count=row.views,
            measure="views",
        )
        for place, row in enumerate(ordered[:MOST_SIGHTINGS], 1)
    )


def reports(audio: Sequence[AudioTrend], competitors: Sequence[CompetitorVideo]) -> tuple[Report, ...]:
    """Return the state of the imported sources: "imported", of the newest capture. One without any has none."""
    kinds: Iterable[tuple[str, Sequence[AudioTrend | CompetitorVideo]]] = ((AUDIO, audio), (COMPETITORS, competitors))
    return tuple(
        Report(source, "imported", min(len(rows), MOST_SIGHTINGS), max(row.captured_at for row in rows))
        for source, rows in kinds
        if rows
    )


def joined(collected: Collected, audio: Sequence[AudioTrend], competitors: Sequence[CompetitorVideo]) -> Collected:
    """Return what was collected, with what was imported beside it."""
    return replace(
        collected,
        sightings=(*collected.sightings, *audio_sightings(audio), *competitor_sightings(competitors)),
        reports=(*collected.reports, *reports(audio, competitors)),
    )


def _published(row: CompetitorVideo) -> datetime:
    at = row.details.get("published_at")
    return datetime.fromisoformat(at) if isinstance(at, str) else row.captured_at


# --- the fields ------------------------------------------------------------------------------------------------------


def _named(kind: Kind, row: Mapping[str, Any]) -> dict[str, Any]:
    values = {plain(str(name)): value for name, value in row.items() if value is not None and value != ""}
    called = {name: [plain(each) for each in (name, *others)] for name, others in FIELDS[kind].items()}
    first = {name: next((each for each in names if each in values), None) for name, names in called.items()}
    return {name: values[each] for name, each in first.items() if each is not None}


def _platform(value: object) -> str:
    if value is None:
        raise Malformed("platform: missing")
    found = _PLATFORMS.get(plain(str(value)))
    if found is None:
        raise Malformed(f"platform: {_shown(value)} is none of {', '.join(NAMES)}")
    return found


def _external_id(value: object) -> str:
    """Ids are compared, so they are never mended: one that a spreadsheet has rounded is somebody else's."""
    if value is None:
        raise Malformed("external_id: missing")
    if isinstance(value, float) or not isinstance(value, str | int) or isinstance(value, bool):
        raise Malformed(f"external_id: {_shown(value)} is no id; write it as a text")
    text = str(value).strip()
    if not text or len(text) > LONGEST_ID or _UNSEEN.search(text):
        raise Malformed(f"external_id: {_shown(value)} is no id: 1 to {LONGEST_ID} visible characters")
    if re.fullmatch(r"\d[.,]?\d*E\+\d+", text):
        raise Malformed(f"external_id: {_shown(value)} was rounded by a spreadsheet: format the column as text")
    return text


def _title(value: object) -> str:
    title = _text("title", value, LONGEST_TITLE)
    if title is None:
        raise Malformed("title: missing")
    return title


def _text(name: str, value: object, most: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Malformed(f"{name}: {_shown(value)} is no text")
    return shorten(clean(value), most) or None


def _url(value: object) -> str | None:
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        right = False
    if not right or len(text) > LONGEST_URL or _UNSEEN.search(text):
        raise Malformed(f"url: {_shown(value)} is no address; write https://…")
    return text


def _count(name: str, value: object) -> int | None:
    """Read a count: a whole number, perhaps with a mark between groups of three digits (1,234 and 1.234 are both 1234,
    since a count has no fraction). What is abbreviated (1.2M) is not made up into digits."""
    number: int | None = None
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= 30 and text.isascii() and _WHOLE.fullmatch(text):
            number = int(text.removesuffix(".0"))
        elif len(text) <= 30 and _GROUPED.fullmatch(text):
            number = int(_SEPARATORS.sub("", text))
    elif isinstance(value, float) and isfinite(value) and value.is_integer():
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if value is None:
        return None
    if number is None or not 0 <= number <= MOST_COUNT:
        raise Malformed(f"{name}: {_shown(value)} is no count; write a whole number, such as 1234 or 1,234")
    return number


def _rank(value: object) -> int | None:
    found = _count("rank", value)
    if found is not None and not 1 <= found <= 1_000_000:
        raise Malformed(f"rank: {_shown(value)} is no rank; the first is 1")
    return found


def _captured_at(value: object, defaults: Defaults) -> datetime:
    if value is None:
        if defaults.captured_at is None:
            raise Malformed("captured_at: missing; say when this was seen, here or with --captured-at for all rows")
        return defaults.captured_at
    found = _moment("captured_at", value)
    if found > defaults.now + CLOCKS_DIFFER:
        raise Malformed(f"captured_at: {_shown(value)} is in the future")
    return found


def _moment(name: str, value: object) -> datetime:
    """Read an ISO 8601 time (UTC without an offset) or a Unix time, in seconds or as JavaScript has it."""
    try:
        text = value.strip() if isinstance(value, str) else value
        if isinstance(text, str) and re.fullmatch(r"\d{9,14}", text):
            text = int(text)
        if isinstance(text, int | float) and not isinstance(text, bool):
            seconds = text / 1000 if text > _MILLISECONDS else text
            found = datetime.fromtimestamp(seconds, UTC)
        else:
            found = datetime.fromisoformat(str(text))
            found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if EARLIEST <= found < datetime(9000, 1, 1, tzinfo=UTC):
            return found
    except (ValueError, OverflowError, OSError):
        pass
    raise Malformed(f"{name}: {_shown(value)} is no time; write 2026-11-28T09:15Z")


def _shown(value: object) -> str:
    """Return the value as it is shown to whoever wrote it: on one line, and not long."""
    return repr(shorten(clean(str(value)), 60))
