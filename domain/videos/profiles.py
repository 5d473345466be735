"""The files that each platform takes, as dated rows; and what is wrong with a file for one of them, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from domain.concepts.wording import counted
from domain.videos.media import Probe

NAMES = {
    "tiktok": "TikTok",
    "youtube-shorts": "YouTube Shorts",
    "instagram-reels": "Instagram Reels",
    "bluesky": "Bluesky",
    "mastodon": "Mastodon",
}
"""The platforms that a file can be checked for: those that concepts are made for, and those that can be posted to."""

MB = 1_000_000
GB = 1000 * MB

WHOLE = 0.95
"""From this share of its duration on, all of a file is black, silent or still."""
SOME_BLACK = 1.0
"""Seconds."""
MOSTLY = 0.5
UPRIGHT = 0.6
"""Width by height. 9:16 is 0.5625."""
SHARP = 720
"""Pixels of the shorter side."""
TOLERANCE = 0.05
"""Frames a second that a rate may be beyond a limit: it is measured."""
FOUR_TWO_ZERO = ("yuv420p", "yuvj420p", "nv12")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a platform takes, as it was read on `since`. Pairs are the least and the most; None is where the platform
    says nothing. `ratio` is width by height as it is shown, `sides` the length of each side in pixels."""

    platform: str
    since: date
    containers: tuple[str, ...]
    most_bytes: int
    video_codecs: tuple[str, ...] | None = None
    audio_codecs: tuple[str, ...] | None = None
    seconds: tuple[float, float] | None = None
    fps: tuple[float, float] | None = None
    sides: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None
    most_width: int | None = None
    most_pixels: int | None = None
    most_megabits_a_second: int | None = None
    most_audio_rate: int | None = None
    most_audio_channels: int | None = None
    only_4_2_0: bool = False
    edit_lists: bool = True
    index_anywhere: bool = True

    @property
    def name(self) -> str:
        return NAMES[self.platform]


READ_ON = date(2026, 11, 27)

PROFILES = (
    Profile(  # the longest that a client may send; what a creator may post is for creator_info to say
        platform="tiktok",
        since=READ_ON,
        containers=("mp4", "mov", "webm"),
        most_bytes=4 * GB,
        video_codecs=("h264", "hevc", "vp8", "vp9"),
        seconds=(3, 600),
        fps=(23, 60),
        sides=(360, 4096),
    ),
    Profile(  # longer, or wider than high, it is an ordinary video and no Short
        platform="youtube-shorts",
        since=READ_ON,
        containers=("mp4", "mov", "webm"),
        most_bytes=256 * GB,
        seconds=(0, 180),
        ratio=(0, 1),
    ),
    Profile(  # 300 MB from an address, 1 GB by a resumable upload: the smaller one
        platform="instagram-reels",
        since=READ_ON,
        containers=("mp4", "mov"),
        most_bytes=300 * MB,
        video_codecs=("h264", "hevc"),
        audio_codecs=("aac",),
        seconds=(3, 900),
        fps=(23, 60),
        ratio=(0.01, 10),
        most_width=1920,
        most_megabits_a_second=25,
        most_audio_rate=48_000,
        most_audio_channels=2,
        only_4_2_0=True,
        edit_lists=False,
        index_anywhere=False,
    ),
    Profile(
        platform="bluesky",
        since=READ_ON,
        containers=("mp4",),
        most_bytes=300 * MB,
        seconds=(0, 180),
    ),
    Profile(  # the largest server's limits: each says its own in /api/v2/instance
        platform="mastodon",
        since=READ_ON,
        containers=("mp4", "mov", "webm"),
        most_bytes=103_809_024,
        fps=(0, 120),
        most_pixels=8_294_400,
    ),
)


def profile_of(platform: str, today: date) -> Profile:
    """Return what the platform takes on this day, as far as we know: its newest row that has begun, else its first."""
    rows = sorted((row for row in PROFILES if row.platform == platform), key=lambda row: row.since)
    begun = [row for row in rows if row.since <= today]
    return begun[-1] if begun else rows[0]


def faults(probe: Probe, profile: Profile) -> list[str]:
    """Return why the platform does not take the file, or why nobody would post it; nothing if all is well."""
    return [f"{fault}; {profile.name} {allowed}" for fault, allowed in _limits(probe, profile)] + list(_empty(probe))


def why_nowhere(probe: Probe) -> str | None:
    """Return why a file is longer or larger than what any platform takes, before it costs time to decode it; None if
    it is not. Where a platform names no limit, the largest that another names counts."""
    longest = max(row.seconds[1] for row in PROFILES if row.seconds)
    most_pixels = max(row.most_pixels or (row.sides[1] ** 2 if row.sides else 0) for row in PROFILES)
    if probe.seconds > longest:
        return f"it lasts {_number(probe.seconds)} s; the longest that a platform names is {_number(longest)} s"
    if probe.width * probe.height > most_pixels:
        size = f"{probe.width}x{probe.height} = {probe.width * probe.height:,} pixels"
        return f"it has {size}; the most that a platform names is {most_pixels:,}"
    return None


def hints(probe: Probe, profile: Profile) -> list[str]:
    """Return what the platform takes, but a person might want to know before they post it."""
    return list(_hints(probe, profile))


def shown_size(probe: Probe) -> tuple[int, int]:
    """Return width and height as a player shows them."""
    turned = probe.rotation % 180 == 90
    return (probe.height, probe.width) if turned else (probe.width, probe.height)


def _limits(probe: Probe, profile: Profile) -> Iterator[tuple[str, str]]:
    """Yield what was found and what is allowed."""
    yield from _format_limits(probe, profile)
    yield from _size_limits(probe, profile)
    if probe.bytes > profile.most_bytes:
        yield f"it has {_size(probe.bytes)}", f"takes at most {_size(profile.most_bytes)}"
    megabits = probe.bytes * 8 / probe.seconds / MB
    if _above(megabits, profile.most_megabits_a_second):
        yield f"it has {_number(megabits)} Mbit a second", f"takes at most {profile.most_megabits_a_second}"
    if _beyond(probe.seconds, profile.seconds):
        yield f"it lasts {_number(probe.seconds)} s", f"takes {_from_to(profile.seconds)} s"
    if _beyond(probe.fps, profile.fps, TOLERANCE):
        yield f"it has {_number(probe.fps)} frames a second", f"takes {_from_to(profile.fps)}"
    if _above(probe.audio_rate or 0, profile.most_audio_rate):
        yield f"its sound has {probe.audio_rate} Hz", f"takes at most {profile.most_audio_rate}"
    if _above(probe.audio_channels or 0, profile.most_audio_channels):
        yield f"its sound has {probe.audio_channels} channels", f"takes at most {profile.most_audio_channels}"


def _format_limits(probe: Probe, profile: Profile) -> Iterator[tuple[str, str]]:
    if probe.container not in profile.containers:
        yield f"it is a {probe.container.upper()} file", f"takes {_either(profile.containers)}"
    if probe.video_streams != 1:
        yield f"it has {probe.video_streams} video tracks", "takes one"
    if profile.video_codecs and probe.video_codec not in profile.video_codecs:
        yield f"its video codec is {probe.video_codec}", f"takes {_either(profile.video_codecs)}"
    if probe.audio_codec and profile.audio_codecs and probe.audio_codec not in profile.audio_codecs:
        yield f"its audio codec is {probe.audio_codec}", f"takes {_either(profile.audio_codecs)}"
    if profile.only_4_2_0 and not probe.pixel_format.startswith(FOUR_TWO_ZERO):
        yield f"its pixel format is {probe.pixel_format}", "takes 4:2:0 (yuv420p)"
    if not profile.edit_lists and probe.edit_lists:
        yield f"it has {counted(probe.edit_lists, 'edit list')}", "takes none (ffmpeg: -use_editlist 0)"
    if not profile.index_anywhere and probe.moov_first is False:
        yield "its index (moov) comes after the media", "takes it first (ffmpeg: -movflags +faststart)"


def _size_limits(probe: Probe, profile: Profile) -> Iterator[tuple[str, str]]:
    width, height = shown_size(probe)
    if _beyond(min(width, height), profile.sides) or _beyond(max(width, height), profile.sides):
        yield f"it has {width}x{height} pixels", f"takes sides of {_from_to(profile.sides)}"
    if _above(width, profile.most_width):
        yield f"it is {width} pixels wide", f"takes at most {profile.most_width}"
    if _above(width * height, profile.most_pixels):
        yield f"it has {width}x{height} = {width * height:,} pixels", f"takes at most {profile.most_pixels:,}"
    if profile.ratio and _beyond(width / height, profile.ratio):
        shape = "square or upright ones" if profile.ratio[1] == 1 else f"those from {_from_to(profile.ratio)}"
        yield f"its width is {_number(width / height)} of its height ({width}x{height})", f"takes {shape}"


def _above(value: float, most: float | None) -> bool:
    return most is not None and value > most


def _beyond(value: float, pair: tuple[float, float] | None, tolerance: float = 0.0) -> bool:
    return pair is not None and not pair[0] - tolerance <= value <= pair[1] + tolerance


def _empty(probe: Probe) -> Iterator[str]:
    for seconds, is_so in (
        (probe.black, "all of it is black"),
        (probe.silent, "it has sound, and all of that is silence"),
        (probe.frozen, "nothing in it moves: it is one picture"),
    ):
        if seconds is not None and seconds >= WHOLE * probe.seconds:
            yield f"{is_so} ({_number(seconds)} of {_number(probe.seconds)} s)"


def _hints(probe: Probe, profile: Profile) -> Iterator[str]:
    width, height = shown_size(probe)
    lasts = _number(probe.seconds)
    if probe.audio_streams == 0:
        yield "it has no sound"
    elif probe.audio_streams > 1:
        yield f"it has {probe.audio_streams} audio tracks, of which the first is likely to be used"
    if probe.black is not None and SOME_BLACK <= probe.black < WHOLE * probe.seconds:
        yield f"{_number(probe.black)} of its {lasts} s are black"
    if probe.silent is not None and MOSTLY * probe.seconds <= probe.silent < WHOLE * probe.seconds:
        yield f"{_number(probe.silent)} of its {lasts} s are silent"
    if probe.frozen is not None and MOSTLY * probe.seconds <= probe.frozen < WHOLE * probe.seconds:
        yield f"nothing moves in {_number(probe.frozen)} of its {lasts} s"
    if width / height > UPRIGHT:
        yield f"it is {width}x{height}: 1080x1920 would fill a phone's screen"
    if min(width, height) < SHARP:
        yield f"it has {width}x{height} pixels: it looks blurred on a phone, which has 1080x1920"
    if probe.rotation:
        yield f"it is turned by {probe.rotation} degrees when it is played, which some players forget"
    if not probe.constant_rate:
        yield "its frame rate varies, so that sound and picture may drift apart"
    if not profile.only_4_2_0 and not probe.pixel_format.startswith(FOUR_TWO_ZERO):
        yield f"its pixel format is {probe.pixel_format}, which some players cannot show (yuv420p is safe)"
    if profile.index_anywhere and probe.moov_first is False:
        yield "its index (moov) comes after the media: it cannot be played before all of it is there"


def _either(names: tuple[str, ...]) -> str:
    names = tuple(name.upper() if name in {"mp4", "mov", "webm"} else name for name in names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _from_to(pair: tuple[float, float] | None) -> str:
    least, most = pair or (0, 0)
    return f"{_number(least)} to {_number(most)}" if least else f"at most {_number(most)}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _size(count: int) -> str:
    return f"{_number(count / GB)} GB" if count >= GB else f"{_number(count / MB)} MB"
