"""What is in a video file, as ffprobe, the file's boxes and its pictures say."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from domain.ports import Watch
from domain.videos.boxes import MOST_TRACKS, Boxes, read_boxes
from domain.videos.containers import HEAD, video_extension_of
from domain.videos.media import MediaUnusable, Probe
from domain.videos.profiles import why_nowhere
from integrations.studio.ffmpeg import THREADS, Program, TookTooLong, named, reads, run

QUICK = 60.0
"""Seconds that reading a file's headers may take."""
DEEP, MOST_DEEP = 30.0, 900.0
"""Seconds that looking at all of a file's pictures may take at least, and at most."""
FULL_HD = 1920 * 1080
SHORTEST, LONGEST = 0.001, 24 * 3600.0
"""Seconds. What says to be longer is damaged, or means harm."""
MOST = 2.0**31
"""What says to have more of anything has a header that makes no sense."""
MOST_SHARE_MISSING = 0.1
"""The share of its duration that a file may lack: durations are rounded, and the last picture has none."""
MOST_PICTURES_OFF = 2
"""How many pictures a file of constant rate may have more or fewer than its duration says."""
WORD = re.compile(r"[\w.-]{1,40}", re.ASCII)

ASKED = (
    "format=duration:"
    "stream=codec_type,codec_name,width,height,pix_fmt,avg_frame_rate,r_frame_rate,duration,sample_rate,channels:"
    "stream_disposition=attached_pic:stream_tags=rotate:stream_side_data=rotation"
)

BLACK = "blackdetect=d=0.3:pic_th=0.995"
"""Black is a picture of which at most one pixel in two hundred is not: a dark slide with a line of text is none."""
FROZEN = "freezedetect=n=-60dB:d=1"
SILENT = "silencedetect=n=-60dB:d=0.3"
SMALL = "scale=270:270:force_original_aspect_ratio=increase:flags=fast_bilinear"

THUMBNAIL = "scale='min(1080,iw)':-2:flags=bicubic"
COVER = 1.0
"""Seconds from the start: where the cover is taken from, if the picture there is not black."""


def look(ffprobe: Program, path: Path, *, watch: Watch) -> Probe:
    """Read the file's headers.

    Raises:
        MediaUnusable: it is no video, is cut off, or has no picture.
    """
    extension, size = _kind(path)
    boxes = None
    if extension != "webm":
        with path.open("rb") as file:
            boxes = read_boxes(file, size)
    arguments = ["-loglevel", "error", "-threads", str(THREADS), "-show_entries", ASKED, "-of", "json", *reads(path)]
    output = _run(ffprobe, arguments, watch=lambda: watch(0.0), limit=QUICK)
    return probe_of(output, extension, size, boxes)


def probe_of(output: bytes, extension: str, size: int, boxes: Boxes | None) -> Probe:
    """Return what ffprobe says in JSON. It passes on what the file says of itself, so nothing in it is relied on.

    Raises:
        MediaUnusable: that describes no video.
    """
    try:
        answer = _mapping(json.loads(output))
    except (ValueError, RecursionError) as error:
        raise MediaUnusable("the file's headers make no sense: it is damaged") from error
    streams = _mappings(answer.get("streams"))
    if len(streams) > MOST_TRACKS:
        raise MediaUnusable(f"the file has more than {MOST_TRACKS} tracks, as no real video has")
    videos = [each for each in streams if each.get("codec_type") == "video" and not _is_cover(each)]
    sounds = [each for each in streams if each.get("codec_type") == "audio"]
    if not videos:
        raise MediaUnusable(f"the file has {'sound, but ' if sounds else ''}no picture: it is no video")
    video, sound = videos[0], sounds[0] if sounds else {}
    width, height = int(_number(video.get("width"))), int(_number(video.get("height")))
    if width <= 0 or height <= 0:
        raise MediaUnusable("the size of the file's picture is not known: it is damaged")
    seconds = _seconds(_mapping(answer.get("format")), video)
    rate, base = (max(0.0, _number(video.get(name))) for name in ("avg_frame_rate", "r_frame_rate"))
    is_constant = rate > 0 and abs(rate - base) <= max(rate / 100, MOST_PICTURES_OFF / seconds)
    return Probe(
        bytes=size,
        container=extension,
        seconds=seconds,
        width=width,
        height=height,
        video_codec=_word(video.get("codec_name")),
        pixel_format=_word(video.get("pix_fmt")),
        fps=round(boxes.fps if boxes and boxes.fps else rate or base, 3),
        constant_rate=bool(boxes.constant_rate) if boxes and boxes.fps else is_constant,
        rotation=_rotation(video),
        video_streams=len(videos),
        audio_streams=len(sounds),
        audio_codec=_word(sound["codec_name"]) if "codec_name" in sound else None,
        audio_rate=max(0, int(_number(sound.get("sample_rate")))) or None,
        audio_channels=max(0, int(_number(sound.get("channels")))) or None,
        edit_lists=boxes.edit_lists if boxes else None,
        moov_first=boxes.moov_first if boxes else None,
    )


def look_at_pictures(ffmpeg: Program, path: Path, found: Probe, *, watch: Watch) -> Probe:
    """Decode the whole file once, and add to what was found for how long it is black, silent or does not move, and a
    time at which it shows something.

    Raises:
        MediaUnusable: no platform takes a file of its length or size, less of it can be decoded than it says to have,
            or that takes too long.
    """
    if (reason := why_nowhere(found)) is not None:
        raise MediaUnusable(reason)
    heard = _Heard()
    pictures = ["-map", "0:v:0", "-vf", f"{SMALL},{BLACK},{FROZEN}"]
    sound = ["-map", "0:a:0", "-af", SILENT] if found.audio_streams else []
    arguments = [
        *("-loglevel", "info", "-nostats", "-progress", "pipe:2"),
        *("-threads", str(THREADS), "-filter_threads", str(THREADS)),
        *(*reads(path), *pictures, *sound, "-f", "null", "-"),
    ]
    _run(
        ffmpeg,
        arguments,
        watch=lambda: watch(min(1.0, heard.reached / found.seconds)),
        hear=heard.line,
        limit=patience(found),
    )
    if heard.reached < found.seconds * (1 - MOST_SHARE_MISSING) - 0.5:
        raise MediaUnusable(
            f"the file says to last {found.seconds:.1f} s, of which {heard.reached:.1f} s can be decoded: it is damaged"
        )
    return replace(
        found,
        black=heard.seconds("black", found.seconds),
        frozen=heard.seconds("freeze", found.seconds),
        silent=heard.seconds("silence", found.seconds) if found.audio_streams else None,
        cover_at=_cover_at(heard.spans("black", found.seconds), found.seconds),
    )


def patience(found: Probe) -> float:
    """Return how many seconds looking at all of its pictures may take: its duration, where they are larger than full HD
    as much longer, and a little more."""
    return min(DEEP + found.seconds * max(1.0, found.width * found.height / FULL_HD), MOST_DEEP)


def write_thumbnail(ffmpeg: Program, path: Path, target: Path, *, at: float, watch: Watch) -> None:
    """Write the picture at `at` seconds, or the nearest before it that can be decoded, as a JPEG no wider than 1080.

    Raises:
        MediaUnusable: no picture of it can be decoded.
    """
    _kind(path)
    for seconds in dict.fromkeys(max(0.0, each) for each in (at, at - 0.5, at - 2, 0.0)):
        arguments = [
            *("-loglevel", "error", "-y", "-threads", str(THREADS), "-ss", f"{seconds:.3f}", *reads(path)),
            *("-map", "0:v:0", "-frames:v", "1", "-vf", THUMBNAIL, "-an", "-map_metadata", "-1"),
            *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-pix_fmt", "yuvj420p", "-c:v", "mjpeg", "-q:v", "3"),
            *("-f", "mjpeg", named(target)),
        ]
        with suppress(MediaUnusable):  # an earlier picture may be whole
            _run(ffmpeg, arguments, watch=lambda: watch(0.0), limit=QUICK)
            if target.exists() and target.stat().st_size:
                return
        target.unlink(missing_ok=True)
    raise MediaUnusable("no picture of the file can be decoded: it is damaged")


def _kind(path: Path) -> tuple[str, int]:
    """Return the extension that fits the file, and its size."""
    if path.exists() and not path.is_file():
        raise MediaUnusable("it is no file")  # opening a pipe would wait for who writes to it
    try:
        with path.open("rb") as file:
            return video_extension_of(file.read(HEAD)), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise MediaUnusable(f"the file cannot be read: {error.strerror}") from None


def _run(
    program: Program,
    arguments: Sequence[str],
    *,
    watch: Callable[[], object],
    limit: float,
    hear: Callable[[str], object] | None = None,
) -> bytes:
    """Run it on a file from outside. If that takes longer than it does with any real file, trying again is of no use:
    it would keep the machine from others' files."""
    try:
        return run(program, arguments, watch=watch, limit=limit, hear=hear)
    except TookTooLong as error:
        raise MediaUnusable(f"the file takes too long to read: {error}") from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    """Return a number, or a fraction such as 30000/1001, that a file says; 0 for what is missing or makes no sense:
    `inf`, `nan`, and more than `MOST`."""
    if not isinstance(value, str | int | float):
        return 0.0
    try:
        above, _, below = str(value).partition("/")
        number = float(above) / float(below or 1)
    except (ValueError, ArithmeticError):
        return 0.0
    return number if abs(number) <= MOST else 0.0


def _word(value: object) -> str:
    return value if isinstance(value, str) and WORD.fullmatch(value) else "unknown"


def _is_cover(stream: Mapping[str, Any]) -> bool:
    return _number(_mapping(stream.get("disposition")).get("attached_pic")) != 0


def _seconds(container: Mapping[str, Any], video: Mapping[str, Any]) -> float:
    seconds = _number(container.get("duration")) or _number(video.get("duration"))
    if seconds < SHORTEST:
        raise MediaUnusable("the file does not say how long it lasts: its recording was cut off, or it has no pictures")
    if seconds > LONGEST:
        raise MediaUnusable(f"the file says to last {seconds:,.0f} s: it is damaged")
    return seconds


def _rotation(video: Mapping[str, Any]) -> int:
    """Return by how many degrees it is to be turned before it is shown: 0, 90, 180 or 270."""
    sides = [each["rotation"] for each in _mappings(video.get("side_data_list")) if "rotation" in each]
    turned = sides[0] if sides else _mapping(video.get("tags")).get("rotate")
    return round(_number(turned) / 90) * 90 % 360


class _Heard:
    """Listens to the filters. Their lines begin with their name in brackets, which nothing of the file's own does."""

    LINE = re.compile(r"^\[(?:Parsed_)?(?:black|freeze|silence)detect[_0-9]* @ [^\]]*\] ")
    WORD = re.compile(r"\b(black|freeze|silence)_(start|end): ?(-?\d+(?:\.\d+)?)")
    MICROSECONDS = re.compile(r"-?[0-9]{1,18}")
    MOST_SPANS = 10_000

    def __init__(self) -> None:
        self.reached = 0.0
        self._spans: dict[str, list[tuple[float, float]]] = {"black": [], "freeze": [], "silence": []}
        self._open: dict[str, float] = {}

    def line(self, text: str) -> None:
        if text.startswith("out_time_us="):
            digits = text.partition("=")[2]
            if self.MICROSECONDS.fullmatch(digits):
                self.reached = max(self.reached, int(digits) / 1e6)
        elif self.LINE.match(text):
            for kind, what, seconds in self.WORD.findall(text):
                self._take(kind, what, float(seconds))

    def _take(self, kind: str, what: str, at: float) -> None:
        if what == "start":
            self._open[kind] = at
        elif kind in self._open and len(self._spans[kind]) < self.MOST_SPANS:
            self._spans[kind].append((self._open.pop(kind), at))

    def spans(self, kind: str, until: float) -> list[tuple[float, float]]:
        """Return from when to when it was so; what had not ended lasts until the end."""
        last = [(self._open[kind], until)] if kind in self._open else []
        return [(max(0.0, start), min(end, until)) for start, end in [*self._spans[kind], *last] if end > start]

    def seconds(self, kind: str, until: float) -> float:
        return round(sum(max(0.0, end - start) for start, end in self.spans(kind, until)), 3)


def _cover_at(black: list[tuple[float, float]], seconds: float) -> float:
    """Return the first time from the usual one on that is not black, else the last before it; the usual one if all
    of it is."""
    usual = min(COVER, seconds / 2)
    free = _gaps(black, seconds)
    after = [max(usual, min(start + 0.05, end)) for start, end in free if end > usual]
    before = [(start + end) / 2 for start, end in free if end <= usual]
    return round(after[0] if after else before[-1] if before else usual, 3)


def _gaps(black: list[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    """Return the times that are not black and long enough to have a picture."""
    starts = [0.0, *(end for _, end in black)]
    ends = [*(start for start, _ in black), seconds]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end - start >= 0.1]
