"""What platforms take, and what is wrong with a file, with the number that was found and the one that is allowed."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.scoring import SCORED
from domain.videos.media import Probe
from domain.videos.profiles import NAMES, PROFILES, Profile, faults, hints, profile_of, shown_size, why_nowhere

TODAY = date(2026, 11, 27)
GOOD = Probe(
    bytes=4_000_000,
    container="mp4",
    seconds=15.0,
    width=1080,
    height=1920,
    video_codec="h264",
    pixel_format="yuv420p",
    fps=30.0,
    constant_rate=True,
    rotation=0,
    video_streams=1,
    audio_streams=1,
    audio_codec="aac",
    audio_rate=48_000,
    audio_channels=2,
    edit_lists=0,
    moov_first=True,
    black=0.0,
    silent=0.0,
    frozen=1.0,
)
REELS = profile_of("instagram-reels", TODAY)
TIKTOK = profile_of("tiktok", TODAY)
SHORTS = profile_of("youtube-shorts", TODAY)
MASTODON = profile_of("mastodon", TODAY)
BLUESKY = profile_of("bluesky", TODAY)

each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.platform)


def test_every_platform_has_a_profile() -> None:
    assert {row.platform for row in PROFILES} == set(NAMES)
    assert set(SCORED) < set(NAMES)


@pytest.mark.parametrize("platform", NAMES)
def test_a_profile_is_that_of_the_day(platform: str) -> None:
    first = profile_of(platform, date.min)
    assert profile_of(platform, first.since) == first
    assert profile_of(platform, date.max).since <= TODAY + timedelta(days=3650)


@each_profile
def test_our_own_file_is_taken_by_all_without_a_hint(profile: Profile) -> None:
    assert faults(GOOD, profile) == []
    assert hints(GOOD, profile) == []


@pytest.mark.parametrize(
    ("profile", "changes", "says"),
    [
        (TIKTOK, {"fps": 15}, "it has 15 frames a second; TikTok takes 23 to 60"),
        (TIKTOK, {"seconds": 2.5}, "it lasts 2.5 s; TikTok takes 3 to 600 s"),
        (TIKTOK, {"width": 4320, "height": 7680}, "it has 4320x7680 pixels; TikTok takes sides of 360 to 4096"),
        (TIKTOK, {"bytes": 4_100_000_000, "seconds": 500}, "it has 4.1 GB; TikTok takes at most 4 GB"),
        (SHORTS, {"seconds": 180.4}, "it lasts 180.4 s; YouTube Shorts takes at most 180 s"),
        (
            SHORTS,
            {"width": 1920, "height": 1080},
            "its width is 1.78 of its height (1920x1080); YouTube Shorts takes square or upright ones",
        ),
        (REELS, {"edit_lists": 2}, "it has 2 edit lists; Instagram Reels takes none (ffmpeg: -use_editlist 0)"),
        (
            REELS,
            {"moov_first": False},
            "its index (moov) comes after the media; Instagram Reels takes it first (ffmpeg: -movflags +faststart)",
        ),
        (REELS, {"audio_rate": 96_000}, "its sound has 96000 Hz; Instagram Reels takes at most 48000"),
        (REELS, {"audio_channels": 6}, "its sound has 6 channels; Instagram Reels takes at most 2"),
        (REELS, {"container": "webm"}, "it is a WEBM file; Instagram Reels takes MP4 or MOV"),
        (REELS, {"video_codec": "vp9"}, "its video codec is vp9; Instagram Reels takes h264 or hevc"),
        (REELS, {"audio_codec": "opus"}, "its audio codec is opus; Instagram Reels takes aac"),
        (REELS, {"bytes": 301_000_000, "seconds": 400}, "it has 301 MB; Instagram Reels takes at most 300 MB"),
        (REELS, {"bytes": 60_000_000}, "it has 32 Mbit a second; Instagram Reels takes at most 25"),
        (
            REELS,
            {"pixel_format": "yuv444p"},
            "its pixel format is yuv444p; Instagram Reels takes 4:2:0 (yuv420p)",
        ),
        (REELS, {"video_streams": 2}, "it has 2 video tracks; Instagram Reels takes one"),
        (REELS, {"width": 2160, "height": 3840}, "it is 2160 pixels wide; Instagram Reels takes at most 1920"),
        (REELS, {"edit_lists": 1}, "it has 1 edit list; Instagram Reels takes none (ffmpeg: -use_editlist 0)"),
        (BLUESKY, {"container": "mov"}, "it is a MOV file; Bluesky takes MP4"),
        (BLUESKY, {"seconds": 181.0}, "it lasts 181 s; Bluesky takes at most 180 s"),
        (
            MASTODON,
            {"width": 4000, "height": 3000},
            "it has 4000x3000 = 12,000,000 pixels; Mastodon takes at most 8,294,400",
        ),
    ],
)
def test_a_fault_has_the_number_found_and_the_number_allowed(
    profile: Profile, changes: dict[str, Any], says: str
) -> None:
    assert faults(replace(GOOD, **changes), profile) == [says]


@each_profile
def test_a_file_that_shows_or_sounds_nothing_is_refused(profile: Profile) -> None:
    assert faults(replace(GOOD, black=15.0), profile) == ["all of it is black (15 of 15 s)"]
    assert faults(replace(GOOD, silent=14.9), profile) == ["it has sound, and all of that is silence (14.9 of 15 s)"]
    assert faults(replace(GOOD, frozen=15.0), profile) == ["nothing in it moves: it is one picture (15 of 15 s)"]
    assert faults(replace(GOOD, black=None, silent=None, frozen=None), profile) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"audio_streams": 0, "audio_codec": None, "audio_rate": None, "audio_channels": None}, "no sound"),
        ({"audio_streams": 2}, "2 audio tracks"),
        ({"black": 2.0}, "2 of its 15 s are black"),
        ({"silent": 10.0}, "10 of its 15 s are silent"),
        ({"frozen": 10.0}, "nothing moves in 10 of its 15 s"),
        ({"width": 1080, "height": 1080}, "it is 1080x1080"),
        ({"width": 540, "height": 960}, "blurred"),
        ({"rotation": 90, "width": 1920, "height": 1080}, "turned by 90 degrees"),
        ({"constant_rate": False}, "frame rate varies"),
        ({"pixel_format": "yuv422p10le"}, "yuv422p10le"),
        ({"moov_first": False}, "index (moov)"),
    ],
)
def test_what_is_taken_but_odd_is_a_hint(changes: dict[str, Any], says: str) -> None:
    odd = replace(GOOD, **changes)
    assert faults(odd, TIKTOK) == []
    [hint] = hints(odd, TIKTOK)
    assert says in hint


def test_what_is_longer_or_larger_than_any_platform_takes_is_taken_nowhere() -> None:
    assert why_nowhere(replace(GOOD, seconds=900.0, width=4096, height=4096)) is None
    assert why_nowhere(replace(GOOD, seconds=86_400.0)) == (
        "it lasts 86400 s; the longest that a platform names is 900 s"
    )
    assert why_nowhere(replace(GOOD, width=4320, height=7680)) == (
        "it has 4320x7680 = 33,177,600 pixels; the most that a platform names is 16,777,216"
    )


probes = st.builds(
    Probe,
    bytes=st.integers(1, 2**50),
    container=st.sampled_from(["mp4", "mov", "webm"]),
    seconds=st.floats(0.01, 86_400),
    width=st.integers(1, 16_384),
    height=st.integers(1, 16_384),
    video_codec=st.sampled_from(["h264", "hevc", "vp9", "av1", "unknown"]),
    pixel_format=st.sampled_from(["yuv420p", "yuv420p10le", "yuv444p", "unknown"]),
    fps=st.floats(0, 1000),
    constant_rate=st.booleans(),
    rotation=st.sampled_from([0, 90, 180, 270]),
    video_streams=st.integers(1, 3),
    audio_streams=st.integers(0, 3),
    audio_codec=st.sampled_from([None, "aac", "opus", "pcm_s16le"]),
    audio_rate=st.none() | st.integers(8000, 192_000),
    audio_channels=st.none() | st.integers(1, 8),
    edit_lists=st.none() | st.integers(0, 5),
    moov_first=st.none() | st.booleans(),
    black=st.none() | st.floats(0, 86_400),
    silent=st.none() | st.floats(0, 86_400),
    frozen=st.none() | st.floats(0, 86_400),
)


@given(probes, st.sampled_from(PROFILES))
def test_each_line_is_a_sentence_about_one_thing(probe: Probe, profile: Profile) -> None:
    lines = faults(probe, profile) + hints(probe, profile)
    assert len(lines) == len(set(lines))
    for line in lines:
        assert "\n" not in line
        assert "None" not in line
    for fault in faults(probe, profile):
        assert profile.name in fault or fault.endswith(" s)")


@given(probes, st.sampled_from(PROFILES))
def test_turning_the_film_and_its_sides_changes_no_fault(probe: Probe, profile: Profile) -> None:
    turned = replace(probe, width=probe.height, height=probe.width, rotation=(probe.rotation + 90) % 360)
    assert shown_size(turned) == shown_size(probe)
    assert faults(turned, profile) == faults(probe, profile)


@given(st.sampled_from(PROFILES), st.floats(0.01, 5000), st.floats(0, 300), st.integers(1, 2**42))
def test_a_limit_is_where_the_row_says(profile: Profile, seconds: float, fps: float, size: int) -> None:
    """A file is refused exactly if one of its numbers is beyond the row's."""
    probe = replace(GOOD, seconds=seconds, fps=fps, bytes=size, frozen=0)
    within = (
        (profile.seconds is None or profile.seconds[0] <= seconds <= profile.seconds[1])
        and (profile.fps is None or profile.fps[0] - 0.05 <= fps <= profile.fps[1] + 0.05)
        and size <= profile.most_bytes
        and (profile.most_megabits_a_second is None or size * 8 / seconds <= profile.most_megabits_a_second * 1_000_000)
    )
    assert (faults(probe, profile) == []) == within
