"""What is in a video file, as ffprobe, the file's boxes and its pictures say."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from domain.ports import Watch
from domain.videos.boxes import Boxes, read_boxes
from domain.videos.containers import HEAD, video_extension_of
from domain.videos.media import MediaUnusable, Probe
from integrations.studio.ffmpeg import THREADS, Program, named, reads, run

QUICK = 60.0
"""Seconds that reading a file's headers may take."""
DEEP = 300.0
MOST_DEEP = 1800.0
"""Seconds that looking at all of its pictures may take, besides twice its duration; and at most."""
LONGEST = 24 * 3600.0
"""Seconds. What says to be longer is damaged, or means harm."""
MOST_SHARE_MISSING = 0.1
"""The share of its duration that a file may lack: durations are rounded, and the last picture has none."""
MOST_PICTURES_OFF = 2
"""How many pictures a file of constant rate may have more or fewer than its duration says."""

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
    output = run(ffprobe, arguments, watch=lambda: watch(0.0), limit=QUICK)
    try:
        return _probe(json.loads(output), extension, size, boxes)
    except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise MediaUnusable("the file's headers make no sense: it is damaged") from error


def look_at_pictures(ffmpeg: Program, path: Path, found: Probe, *, watch: Watch) -> Probe:
    """Decode the whole file once, and add to what was found for how long it is black, silent or does not move, and a
    time at which it shows something.

    Raises:
        MediaUnusable: less of it can be decoded than it says to have.
    """
    heard = _Heard()
    pictures = ["-map", "0:v:0", "-vf", f"{SMALL},{BLACK},{FROZEN}"]
    sound = ["-map", "0:a:0", "-af", SILENT] if found.audio_streams else []
    arguments = [
        *("-loglevel", "info", "-nostats", "-progress", "pipe:2"),
        *("-threads", str(THREADS), "-filter_threads", str(THREADS)),
        *(*reads(path), *pictures, *sound, "-f", "null", "-"),
    ]
    run(
        ffmpeg,
        arguments,
        watch=lambda: watch(min(1.0, heard.reached / found.seconds)),
        hear=heard.line,
        limit=min(DEEP + 2 * found.seconds, MOST_DEEP),
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
            run(ffmpeg, arguments, watch=lambda: watch(0.0), limit=QUICK)
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
            return video_extension_of(file.read(HEAD)), path.stat().st_size
    except OSError as error:
        raise MediaUnusable(f"the file cannot be read: {error.strerror}") from None


def _probe(output: Mapping[str, Any], extension: str, size: int, boxes: Boxes | None) -> Probe:
    streams = output.get("streams", [])
    videos = [each for each in streams if each.get("codec_type") == "video" and not _is_cover(each)]
    sounds = [each for each in streams if each.get("codec_type") == "audio"]
    if not videos:
        raise MediaUnusable(f"the file has {'sound, but ' if sounds else ''}no picture: it is no video")
    video, sound = videos[0], sounds[0] if sounds else {}
    width, height = int(video.get("width", 0)), int(video.get("height", 0))
    if width <= 0 or height <= 0:
        raise MediaUnusable("the size of the file's picture is not known: it is damaged")
    seconds = _seconds(output.get("format", {}), video)
    rate, base = _fraction(video.get("avg_frame_rate")), _fraction(video.get("r_frame_rate"))
    is_constant = bool(rate) and abs(rate - base) <= max(rate / 100, Fraction(MOST_PICTURES_OFF / seconds))
    return Probe(
        bytes=size,
        container=extension,
        seconds=seconds,
        width=width,
        height=height,
        video_codec=video.get("codec_name", "unknown"),
        pixel_format=video.get("pix_fmt", "unknown"),
        fps=round(boxes.fps if boxes and boxes.fps else float(rate or base), 3),
        constant_rate=bool(boxes.constant_rate) if boxes and boxes.fps else is_constant,
        rotation=_rotation(video),
        video_streams=len(videos),
        audio_streams=len(sounds),
        audio_codec=sound.get("codec_name"),
        audio_rate=int(sound["sample_rate"]) if "sample_rate" in sound else None,
        audio_channels=sound.get("channels"),
        edit_lists=boxes.edit_lists if boxes else None,
        moov_first=boxes.moov_first if boxes else None,
    )


def _is_cover(stream: Mapping[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _fraction(text: str | None) -> Fraction:
    above, _, below = (text or "0/1").partition("/")
    return Fraction(int(above), int(below or 1)) if int(below or 1) else Fraction(0)


def _seconds(container: Mapping[str, Any], video: Mapping[str, Any]) -> float:
    seconds = float(container.get("duration") or video.get("duration") or 0)
    if not math.isfinite(seconds) or seconds <= 0:
        raise MediaUnusable("the file does not say how long it lasts: its recording was cut off, or it has no pictures")
    if seconds > LONGEST:
        raise MediaUnusable(f"the file says to last {seconds:,.0f} s: it is damaged")
    return seconds


def _rotation(video: Mapping[str, Any]) -> int:
    """Return by how many degrees it is to be turned before it is shown: 0, 90, 180 or 270."""
    sides = [each["rotation"] for each in video.get("side_data_list", []) if "rotation" in each]
    turned = sides[0] if sides else video.get("tags", {}).get("rotate", 0)
    return round(float(turned) / 90) * 90 % 360


class _Heard:
    """Listens to the filters. Their lines begin with their name in brackets, which nothing of the file's own does."""

    LINE = re.compile(r"^\[(?:Parsed_)?(?:black|freeze|silence)detect[_0-9]* @ [^\]]*\] ")
    WORD = re.compile(r"\b(black|freeze|silence)_(start|end): ?(-?\d+(?:\.\d+)?)")
    MOST_SPANS = 10_000

    def __init__(self) -> None:
        self.reached = 0.0
        self._spans: dict[str, list[tuple[float, float]]] = {"black": [], "freeze": [], "silence": []}
        self._open: dict[str, float] = {}

    def line(self, text: str) -> None:
        if text.startswith("out_time_us="):
            digits = text.partition("=")[2]
            if digits.lstrip("-").isdecimal():
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
