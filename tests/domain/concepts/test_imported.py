"""Files of trends: every way to write a row is read as it was meant, or named; and none is guessed."""

import csv
import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.concepts.import_files import MOST_BYTES, MOST_ROWS, FileRefused, ReadFile, read_file
from domain.concepts.imported import (
    AudioTrend,
    CompetitorVideo,
    Defaults,
    Kind,
    audio_sightings,
    competitor_sightings,
    joined,
)
from domain.concepts.trends import Collected, Report, facts, merge

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEEN = datetime(2026, 11, 28, 9, 15, tzinfo=UTC)
DEFAULTS = Defaults("US", NOW)
VIDEO: dict[str, Any] = {
    **{"platform": "tiktok", "external_id": "74", "title": "Bread at midnight", "captured_at": SEEN.isoformat()},
    "views": 1200,
}
SOUND: dict[str, Any] = {
    **{"platform": "tiktok", "external_id": "9", "title": "Espresso", "artist": "Sabrina", "usage_count": 1_200_000},
    **{"region": "DE", "captured_at": SEEN.isoformat()},
}


def read(data: bytes | str, kind: Kind | None = Kind.COMPETITORS, **how: Any) -> ReadFile:
    data = data if isinstance(data, bytes) else data.encode()
    return read_file(data, kind=kind, format=how.pop("format", None), defaults=Defaults("US", NOW, **how))


def one(**changes: Any) -> CompetitorVideo:
    """Return the video of a JSON file that has one, with these fields."""
    found = read(json.dumps([{**VIDEO, **changes}]))
    assert not found.faults, found.faults
    return found.competitors[0]


def fault(kind: Kind = Kind.COMPETITORS, **changes: Any) -> str:
    row = VIDEO if kind is Kind.COMPETITORS else SOUND
    [found] = read(json.dumps([{**row, **changes}]), kind).faults
    return found.reason


def test_a_sound_and_a_video_have_what_the_file_says() -> None:
    found = read(json.dumps({"audio": [SOUND], "competitors": [{**VIDEO, "likes": 0}]}), None)
    assert found == ReadFile(
        [AudioTrend("tiktok", "9", "Espresso", "DE", SEEN, "Sabrina", 1_200_000)],
        [CompetitorVideo("tiktok", "74", SEEN, "Bread at midnight", views=1200, details={"likes": 0})],
    )


def test_the_old_apps_names_are_understood_and_others_are_named() -> None:
    row = {
        **{"platform": "youtubeShorts", "videoId": "v1", "channelName": "Bakers", "viewCount": "12", "playCount": 3},
        **{"videoTitle": "Bread", "publishedAt": "2026-11-27", "capturedAt": int(SEEN.timestamp() * 1000)},
        **{"tenantId": "x", "id": "row-7", "engagementRate": 0.4},
    }
    found = read(json.dumps([row]))
    details = {"published_at": "2026-11-27T00:00:00+00:00"}
    video = CompetitorVideo("youtube-shorts", "v1", SEEN, "Bread", "Bakers", views=12, details=details)
    assert (found.competitors, found.ignored) == ([video], ["tenantId", "engagementRate"])


@pytest.mark.parametrize(
    ("written", "count"),
    [
        *((0, 0), ("0", 0), (1234.0, 1234), ("1234.0", 1234), ("1,234", 1234), ("1.234", 1234), ("1 234 567", 1234567)),
        *(("1\u202f234", 1234), ("12'345", 12345), ("1,234,567", 1234567), (" 7 ", 7), (None, None), ("", None)),
    ],
    ids=ascii,
)
def test_a_count_is_whole_however_it_is_written(written: Any, count: int | None) -> None:
    assert one(views=written).views == count


@pytest.mark.parametrize(
    "written",
    [
        *(-1, 1.5, True, "1.5", "1,23", "1,2345", "1.234,5", "1.2M", "12K", "many", "NaN", "-3", "1,234.567", "٣"),
        *([], {}, 10**15 + 1, "1e3", "9" * 40),
    ],
    ids=lambda each: ascii(each)[:20],
)
def test_what_is_no_count_is_not_made_one(written: Any) -> None:
    assert fault(views=written).startswith("views: ")


@pytest.mark.parametrize(
    "written",
    [
        *("2026-11-28T09:15Z", "2026-11-28T10:15:00+01:00", "2026-11-28 09:15", SEEN.timestamp()),
        *(int(SEEN.timestamp() * 1000), str(int(SEEN.timestamp()))),
    ],
    ids=str,
)
def test_a_time_is_in_utc_if_it_has_no_offset(written: Any) -> None:
    assert one(captured_at=written).captured_at == SEEN


@pytest.mark.parametrize(
    "written", ["28.11.2026 09:15", "yesterday", True, 3, "1999-12-31", "9999-12-31T23:59", 1e300, [], "2026-11-29"]
)
def test_what_is_no_time_or_is_to_come_is_named(written: Any) -> None:
    assert fault(captured_at=written).startswith("captured_at: ")


def test_a_row_that_does_not_say_when_needs_somebody_who_does() -> None:
    row = json.dumps([{**VIDEO, "captured_at": None}])
    assert "--captured-at" in read(row).faults[0].reason
    assert read(row, captured_at=SEEN).competitors[0].captured_at == SEEN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("platform", "myspace"), ("platform", None), ("external_id", None), ("external_id", 7.4e18)),
        *(("external_id", "7.4E+18"), ("external_id", "a b"), ("external_id", "a\0"), ("external_id", "\ud800")),
        *(("external_id", "x" * 301), ("external_id", True), ("title", None), ("title", "\0"), ("title", 7)),
        *(("url", "javascript:alert(1)"), ("url", "https://"), ("url", "https://a\nb"), ("url", "//[")),
        *(("published_at", "soon"), ("likes", -1)),
    ],
    ids=ascii,
)
def test_what_cannot_be_is_named_with_its_field(field: str, value: Any) -> None:
    assert fault(**{field: value}).startswith(f"{field}: ")


@pytest.mark.parametrize(("field", "value"), [("region", "Germany"), ("rank", 0), ("artist", 3)], ids=ascii)
def test_the_same_of_sounds(field: str, value: Any) -> None:
    assert fault(Kind.AUDIO, **{field: value}).startswith(f"{field}: ")


def test_texts_lose_what_cannot_be_seen_and_what_is_too_long() -> None:
    assert one(title="  Bread\0 \u202e&amp;\ud800 salt\n").title == "Bread & salt"
    assert len(one(title="long " * 100).title) <= 300


# --- files -----------------------------------------------------------------------------------------------------------

GERMAN = (
    "\ufeffPlatform;Video-ID;Titel;Title;Views;Captured at\r\n"
    'TikTok;74;egal;"Brot; um ""Mitternacht""";1.234;2026-11-28T09:15Z\r\n'
    "\r\n"
    ";;;;;\r\n"
    'tiktok;75;egal;"Brot\nund Salz";;2026-11-28T09:15Z\r\n'
    "tiktok;76;egal;Salz;viele;2026-11-28T09:15Z\r\n"
    'tiktok;77;"egal\nund\nlang"\r\n'
)


def test_a_german_excels_file_is_read_and_its_bad_rows_are_named_by_line() -> None:
    found = read(GERMAN)
    assert [(each.title, each.views) for each in found.competitors] == [
        ('Brot; um "Mitternacht"', 1234),
        ("Brot und Salz", None),
    ]
    assert [(each.place, each.reason) for each in found.faults] == [
        (7, "views: 'viele' is no count; write a whole number, such as 1234 or 1,234"),
        (8, "it has 3 columns, and the header 6"),
    ]
    assert found.ignored == ["Titel"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
def test_separators_and_line_ends_change_nothing(separator: str, ending: str, head: bytes) -> None:
    written = io.StringIO()
    table = csv.writer(written, delimiter=separator, lineterminator=ending)
    table.writerows([list(VIDEO), list(VIDEO.values())])
    assert read(head + written.getvalue().encode()).competitors == [one()]


def test_excels_own_line_says_what_separates() -> None:
    head = ",".join(VIDEO).replace(",", ";")
    text = f"sep=;\r\n{head}\r\n{';'.join(map(str, VIDEO.values()))}\r\n{';'.join(['x'] * 5)}"
    found = read(text)
    assert found.competitors == [one()]
    assert [each.place for each in found.faults] == [4]


UNREADABLE: dict[str, tuple[bytes, Kind | None, str]] = {
    "empty": (b"", Kind.AUDIO, "is empty"),
    "nothing but a BOM": (b"\xef\xbb\xbf\r\n", Kind.AUDIO, "is empty"),
    "cp1252": ("platform;title\nTikTok;Brötchen".encode("cp1252"), Kind.AUDIO, "not UTF-8 .byte 25.*CSV UTF-8"),
    "utf-16": ("platform,title".encode("utf-16"), Kind.AUDIO, "not UTF-8 .byte 1."),
    "a table of what": (b"platform,title", None, "say --kind audio or --kind competitors"),
    "a list of what": (b"[]", None, "say --kind audio or --kind competitors"),
    "other columns": (b"a,b\n1,2", Kind.AUDIO, "names no column that audio have: platform, external_id"),
    "two of one name": (b"platform,title,Title\n1,2,3", Kind.AUDIO, "two columns are called title"),
    "an open quote": (b'platform,title\ntiktok,"open', Kind.AUDIO, "line 2: this is no CSV"),
    "a long field": (b"platform,title\n" + b"x" * 200_000 + b",y", Kind.AUDIO, "line 2: this is no CSV"),
    "NaN": (b'[{"views": NaN}]', Kind.AUDIO, "NaN is no JSON"),
    "other lists": (b'{"videos": []}', None, 'no list called "audio" or "competitors"'),
    "no list": (b'{"audio": {}}', None, "audio: it is no list"),
    "deep": (b"[" * 200_000, Kind.AUDIO, "is no JSON: it is too deep"),
    "a long number": (b"[" + b"9" * 5000 + b"]", Kind.AUDIO, "is no JSON"),
    "large": (b"[1" + b" " * MOST_BYTES + b"]", Kind.AUDIO, "more than 8 MB"),
    "many rows": (b"[" + b"1," * MOST_ROWS + b"1]", Kind.AUDIO, "more than 20,000 rows"),
    "many columns": (b",".join([b"title"] * 300), Kind.AUDIO, "more than 200 columns"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(name: str) -> None:
    data, kind, why = UNREADABLE[name]
    with pytest.raises(FileRefused, match=why):
        read(data, kind)


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    st.sampled_from(list(Kind)),
    st.sampled_from([None, "csv", "json"]),
)
def test_no_file_breaks_the_reading(data: bytes, kind: Kind, format: str | None) -> None:
    for head in (b"", b"platform,external_id,title,captured_at\n"):
        with suppress(FileRefused):
            assert isinstance(read(head + data, kind, format=format), ReadFile)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(st.sampled_from(list(Kind)), st.dictionaries(st.sampled_from([*VIDEO, *SOUND, "url", "likes"]), JSON))
def test_no_value_breaks_a_row(kind: Kind, values: dict[str, Any]) -> None:
    row = {**(VIDEO if kind is Kind.COMPETITORS else SOUND), **values}
    found = read(json.dumps([row]), kind)
    assert len(found.audio) + len(found.competitors) + len(found.faults) == 1


# --- as trends -------------------------------------------------------------------------------------------------------


def test_what_was_imported_is_a_trend_with_facts_of_its_own() -> None:
    sound = AudioTrend("tiktok", "9", "Espresso", "US", SEEN, "Sabrina", 1_200_000)
    video = CompetitorVideo("youtube-shorts", "v", SEEN, "Bread at midnight", "Bakers", views=1200)
    collected = joined(Collected("US", NOW, (), (Report("reddit", "failed", 0, None),)), [sound], [video])
    assert [(each.source, each.state, each.count, each.answered_at) for each in collected.reports] == [
        ("reddit", "failed", 0, None),
        ("audio-trends", "imported", 1, SEEN),
        ("competitors", "imported", 1, SEEN),
    ]
    found = {trend.topic: trend for trend in merge(collected.sightings, region="US", now=NOW)}
    assert found["Espresso"].category == "music"
    assert facts(found["Espresso"]) == (
        "“Espresso by Sabrina” is a sound on TikTok.",
        "1,200,000 videos on TikTok have this sound.",
    )
    assert facts(found["Bread at midnight"]) == ("1,200 views on YouTube Shorts (Bakers).",)
    assert {trend.live for trend in found.values()} == {True}


def test_the_most_used_and_most_viewed_come_first_whatever_the_order() -> None:
    sounds = [AudioTrend("tiktok", str(n), f"Sound {n}", "US", SEEN, usage_count=n) for n in range(30)]
    sounds[3] = AudioTrend("tiktok", "3", "Sound 3", "US", SEEN, usage_count=3, rank=1)
    videos = [CompetitorVideo("tiktok", str(n), SEEN, f"Video {n}", views=n or None) for n in range(30)]
    assert audio_sightings(sounds) == audio_sightings(sounds[::-1])
    assert [each.topic for each in audio_sightings(sounds)[:2]] == ["Sound 3", "Sound 29"]
    assert competitor_sightings(videos) == competitor_sightings(videos[::-1])
    assert competitor_sightings(videos)[0].topic == "Video 29"
    assert len(competitor_sightings(videos)) == 20


def test_an_old_video_that_was_seen_today_is_not_of_today() -> None:
    published = (NOW - timedelta(days=30)).isoformat()
    video = CompetitorVideo("tiktok", "v", SEEN, "Bread at midnight", details={"published_at": published})
    [trend] = merge(competitor_sightings([video]), region="US", now=NOW)
    assert (trend.recency, facts(trend)) == ("older", ("Seen on TikTok.",))
