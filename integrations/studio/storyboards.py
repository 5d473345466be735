"""A storyboard as a file: our frames and sound, and the clips that replace some of them, encoded by ffmpeg.

The file is the one that every platform takes: H.264 High in yuv420p, constant rate, closed groups of two seconds, AAC
at 48 kHz in stereo, no edit lists, the index first. The same input gives the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from domain.ports import Watch
from domain.videos.media import MediaUnusable, Probe, StudioUnavailable
from domain.videos.script import Script, ScriptUnusable
from domain.videos.storyboard.palettes import Colour, Palette, palette_of
from domain.videos.storyboard.slides import Slide, slides_of
from integrations.studio import sound
from integrations.studio.ffmpeg import Program, named, reads, run
from integrations.studio.fonts import Typesetter
from integrations.studio.frames import Canvas, Planes, caption, frames

DRAWN = "drawn.mp4"
ENCODER_THREADS = 2
"""Fixed, since x264 writes other bytes for another number of threads."""
KEYFRAME_EVERY = 2
"""Seconds."""
MOST_NAMED = 12
"""Characters that no font has, in an error."""
CROPPED = (0.45, 0.8)
"""Clips of these shapes (width by height) are cropped to fill the picture; others are shown whole, with margins."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip as it is shown, in place of the slide of a segment, for so many seconds."""

    path: Path
    probe: Probe
    slide: Slide
    caption: "Caption | None"

    @property
    def start(self) -> float:
        return self.slide.start

    @property
    def seconds(self) -> float:
        return min(self.slide.seconds, self.probe.seconds)


@dataclass(frozen=True, slots=True)
class Caption:
    """What a slide says, as a file of raw RGBA that is laid over the clip."""

    path: Path
    size: tuple[int, int]
    place: tuple[int, int]


def draw(
    ffmpeg: Program,
    typesetter: Typesetter,
    script: Script,
    folder: Path,
    *,
    clips: Mapping[int, tuple[Path, Probe]],
    canvas: Canvas,
    watch: Watch,
) -> float:
    """Draw the script to `DRAWN` in the folder and return a time, in seconds, at which its first slide is all there.

    Raises:
        StudioUnavailable: ffmpeg was killed.
        MediaUnusable: a clip cannot be decoded.
        ScriptUnusable: no font here has a letter of the title, and no clip was bought that is worth showing anyway.
    """
    if script.title and not clips and not typesetter.drawable(script.title) and typesetter.left_out:
        lacking = " ".join(typesetter.left_out[:MOST_NAMED])
        raise ScriptUnusable(f"no font here has the characters of the title, {lacking}: FONTS_DIR can add one")
    script = _drawable(script, typesetter)
    slides, palette = slides_of(script), palette_of(script.category)
    progress = _Progress(watch, round(script.seconds * canvas.fps))
    bed = folder / "bed.pcm"
    sound.write_bed(bed, script.category, script.seconds)
    shown = [
        Clip(path, probe, slide, _captioned(slide, palette, typesetter, canvas, folder))
        for slide, (path, probe) in _replaced(slides, clips)
    ]
    arguments = [
        *("-loglevel", "error", *_pictures(canvas), *_bed(bed)),
        *(argument for clip in shown for argument in reads(clip.path)),
        *(argument for clip in shown if clip.caption for argument in _raw(clip.caption)),
        *_joined(shown, canvas, palette.top),
        *_encoded(canvas.fps),
        named(folder / DRAWN),
    ]
    pictures = progress.counted(frames(slides, palette, typesetter, canvas))
    _run(ffmpeg, arguments, shown, watch=progress.look, frames=pictures, folder=folder)
    return min(1.5, slides[0].end * 0.8)


def probed(clips: Mapping[int, Path], probe: Callable[[Path], Probe]) -> dict[int, tuple[Path, Probe]]:
    """Return the clips by the number of their segment, in order, with what a probe found in each.

    Raises:
        MediaUnusable: one is no video; the text says of which segment.
    """
    found = {}
    for number, path in sorted(clips.items()):
        try:
            found[number] = path, probe(path)
        except MediaUnusable as error:
            raise MediaUnusable(f"the clip of segment {number + 1}: {error}") from error
    return found


def _replaced(
    slides: Sequence[Slide], clips: Mapping[int, tuple[Path, Probe]]
) -> Iterator[tuple[Slide, tuple[Path, Probe]]]:
    """Yield each slide that a clip replaces, with the clip. A slide that asks at the end stays, unless the clip of a
    single segment is the whole video."""
    for number, clip in clips.items():
        slide = next(slide for slide in slides if slide.segment == number)
        alone = slides[-1].segment == 0
        yield (replace(slide, end=slides[-1].end) if alone else slide), clip


def _captioned(slide: Slide, palette: Palette, typesetter: Typesetter, canvas: Canvas, folder: Path) -> Caption | None:
    drawn = caption(slide, palette, typesetter, canvas)
    if drawn is None:
        return None
    sheet, left, top = drawn
    path = folder / f"caption-{slide.segment}.rgba"
    path.write_bytes(sheet.tobytes())
    return Caption(path, sheet.size, (left, top))


def _drawable(script: Script, typesetter: Typesetter) -> Script:
    """Return the script with the text that it shows as far as there are fonts for it."""
    title = typesetter.drawable(script.title)
    shown = tuple(replace(segment, shown=typesetter.drawable(segment.shown)) for segment in script.segments)
    return replace(script, title=title, topic=typesetter.drawable(script.topic), segments=shown)


def _run(
    ffmpeg: Program,
    arguments: Sequence[str],
    clips: Sequence[Clip],
    *,
    watch: Callable[[], object],
    frames: Iterator[bytes],
    folder: Path,
) -> None:
    try:
        run(ffmpeg, arguments, watch=watch, frames=frames, folder=folder)
    except MediaUnusable as error:
        if clips:
            raise
        # Nothing but our own frames was read, so it is ffmpeg that cannot do what is asked.
        raise StudioUnavailable(f"{ffmpeg.path}: {error}") from error


def _pictures(canvas: Canvas) -> list[str]:
    size = f"{canvas.width}x{canvas.height}"
    colours = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv"]
    form = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-framerate", str(canvas.fps)]
    return [*form, *colours, "-thread_queue_size", "2", "-i", "pipe:0"]


def _bed(path: Path) -> list[str]:
    return ["-f", "s16le", "-ar", str(sound.RATE), "-ch_layout", "mono", "-i", named(path)]


def _raw(caption: Caption) -> list[str]:
    width, height = caption.size
    return ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{width}x{height}", "-i", named(caption.path)]


def _joined(clips: Sequence[Clip], canvas: Canvas, margin: Colour) -> list[str]:
    """Return the filters that lay clips over the slides, and their sound in place of the bed; numbers only are put into
    the text of a filter."""
    if not clips:
        return ["-map", "0:v", "-map", "1:a"]
    chains, pictures, sounds, silent = [], "0:v", ["[bed]"], []
    captions = len(clips) + 2
    for number, clip in enumerate(clips, 2):
        chains.append(
            f"[{number}:v:0]{_sized(clip.probe, canvas, margin)},fps={canvas.fps},trim=duration={clip.seconds:.3f},"
            f"setpts=PTS-STARTPTS+{clip.start:.3f}/TB[v{number}]"
        )
        chains.append(f"[{pictures}][v{number}]overlay=eof_action=pass:format=yuv420[o{number}]")
        pictures = f"o{number}"
        until = clip.start + clip.seconds
        if clip.caption:
            (left, top), shown = clip.caption.place, f"enable='between(t,{clip.start:.3f},{until - 0.001:.3f})'"
            chains.append(f"[{captions}:v]scale=out_color_matrix=bt709:out_range=tv,format=yuva420p[c{number}]")
            chains.append(f"[{pictures}][c{number}]overlay=x={left}:y={top}:format=yuv420:{shown}[t{number}]")
            pictures = f"t{number}"
            captions += 1
        if clip.probe.audio_streams:
            silent.append(f"between(t,{clip.start:.3f},{until:.3f})")
            sounds.append(f"[a{number}]")
            chains.append(
                f"[{number}:a:0]aresample={sound.RATE},aformat=sample_fmts=fltp:channel_layouts=stereo,"
                f"atrim=duration={clip.seconds:.3f},asetpts=PTS-STARTPTS,afade=t=in:d=0.03,"
                f"adelay=delays={round(clip.start * 1000)}:all=1[a{number}]"
            )
    quiet = f",volume=0:enable='{'+'.join(silent)}'" if silent else ""
    chains.append(f"[1:a]aformat=sample_fmts=fltp:channel_layouts=stereo{quiet}[bed]")
    chains.append(f"{''.join(sounds)}amix=inputs={len(sounds)}:duration=first:normalize=0[sound]")
    return ["-filter_complex", ";".join(chains), "-map", f"[{pictures}]", "-map", "[sound]"]


def _sized(probe: Probe, canvas: Canvas, margin: Colour) -> str:
    wide, high = (probe.height, probe.width) if probe.rotation % 180 else (probe.width, probe.height)
    size = f"{canvas.width}:{canvas.height}"
    colours = "out_color_matrix=bt709:out_range=tv"
    if CROPPED[0] <= wide / high <= CROPPED[1]:
        fitted = f"scale={size}:force_original_aspect_ratio=increase:{colours},crop={size}"
    else:
        red, green, blue = margin
        fitted = (
            f"scale={size}:force_original_aspect_ratio=decrease:force_divisible_by=2:{colours},"
            f"pad={size}:(ow-iw)/2:(oh-ih)/2:color=0x{red:02x}{green:02x}{blue:02x}"
        )
    return f"{fitted},setsar=1,format=yuv420p"


def _encoded(fps: int) -> list[str]:
    keyframe = str(KEYFRAME_EVERY * fps)
    return [
        *("-c:v", "libx264", "-profile:v", "high", "-preset", "veryfast", "-crf", "21", "-pix_fmt", "yuv420p"),
        *("-threads", str(ENCODER_THREADS), "-x264-params", "cpu-independent=1:rc-lookahead=12"),
        *("-r", str(fps), "-g", keyframe, "-keyint_min", keyframe, "-sc_threshold", "0", "-bf", "0"),
        *("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv"),
        *("-c:a", "aac", "-b:a", "128k", "-ar", str(sound.RATE), "-ac", "2"),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact+cgop", "-flags:a", "+bitexact"),
        *("-use_editlist", "0", "-movflags", "+faststart", "-f", "mp4", "-y"),
    ]


class _Progress:
    """Counts the frames that the encoder was given, and shows `watch` the fraction."""

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0

    def look(self) -> None:
        self._watch(min(1.0, self._done / self._total))

    def counted(self, pictures: Iterator[Planes]) -> Iterator[bytes]:
        for planes in pictures:
            for plane in planes:
                yield plane.tobytes()
            self._done += 1
