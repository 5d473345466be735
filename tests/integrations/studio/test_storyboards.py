"""Storyboards as files: what is seen in them and heard, the same bytes, and what happens when something ends them."""

import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

from domain.videos.media import MediaUnusable, StudioUnavailable
from domain.videos.script import Script, ScriptSegment, ScriptUnusable
from domain.videos.storyboard.layout import SAFE, Line, lay_out
from domain.videos.storyboard.palettes import PALETTES, READABLE, contrast, palette_of
from domain.videos.storyboard.slides import Kind, Slide, slides_of
from integrations.studio import sound
from integrations.studio.backdrops import backdrop
from integrations.studio.ffmpeg import Program
from integrations.studio.fonts import FontLibrary, Typesetter
from integrations.studio.frames import FULL_HD, Canvas, Planes, Scene, caption, frames
from integrations.studio.studio import FfmpegStudio
from tests.wait import until

ROOT = Path(__file__).resolve().parents[3]
SMALL = Canvas(270, 480, 30)
FEW = Canvas(270, 480, 6)
TINY = Canvas(90, 160, 4)
TITLES = {
    "German": "Überall größer: Straßenfest",
    "Russian": "Почему все любят пироги",
    "Japanese": "なぜ今レトロゲームなのか",
    "marks": "100% 'x': \\",
}


class Stopped(Exception):
    """Somebody cancelled it."""


def a_script(
    *shown: str, title: str = "Honey: the short version", category: str = "tech", seconds: float = 3
) -> Script:
    each = seconds / len(shown)
    segments = tuple(ScriptSegment(n * each, (n + 1) * each, text, "", "") for n, text in enumerate(shown))
    return Script(title, category, segments, "", "honey", ())


def draw(script: Script, target: Path, *, canvas: Canvas = SMALL, clips: dict[int, Path] | None = None) -> Path:
    FfmpegStudio(canvas=canvas).storyboard(script, target, watch=nobody, clips=clips or {})
    return target


def nobody(done: float) -> None:
    assert 0 <= done <= 1


def picture(program: Program, path: Path, at: float, size: tuple[int, int]) -> Image.Image:
    """Decode the frame at `at` seconds; gray, as bright as it is shown."""
    command = [program.path, "-v", "error", "-nostdin", "-ss", str(at), "-i", path, "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True).stdout
    return Image.frombytes("L", size, raw)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a video in full size with one of the titles."""
    folder = tmp_path_factory.mktemp("titles")

    def made(name: str) -> Path:
        path = folder / f"{name}.mp4"
        return path if path.exists() else draw(a_script("", title=TITLES[name]), path, canvas=Canvas(fps=6))

    return made


def expected(title: str, font: Path) -> tuple[Image.Image, list[Line]]:
    """Draw the title's lines where they belong, by Pillow alone, in one font."""
    slide = slides_of(a_script("", title=title))[0]
    elements = lay_out(slide, palette_of("tech"), Typesetter(FontLibrary()).measure)
    lines = [element for element in elements if isinstance(element, Line)]
    sheet = Image.new("L", (FULL_HD.width, FULL_HD.height), 0)
    for line in lines:
        face = ImageFont.truetype(font, line.size)
        ImageDraw.Draw(sheet).text((line.x, line.baseline), line.text, fill=255, font=face, anchor="ls")
    return sheet.point(lambda value: 255 * (value > 127)), lines


def overlap(one: Image.Image, other: Image.Image) -> float:
    """Return which share of what is white in one of them is so in both."""
    return _white(ImageChops.darker(one, other)) / max(1, _white(ImageChops.lighter(one, other)))


def _white(sheet: Image.Image) -> int:
    return sheet.histogram()[255]


def seen(program: Program, path: Path) -> Image.Image:
    """Return what is written on the first slide: white on the dark backdrop, without the bar of progress."""
    shown = picture(program, path, 1.0, (FULL_HD.width, FULL_HD.height)).point(lambda value: 255 * (value > 190))
    shown.paste(0, (0, 0, FULL_HD.width, SAFE.top + 40))
    return shown


SANS = next(face.path for face in FontLibrary().faces() if face.path.name == "SourceSansPro-Black.ttf")
CJK = next(face.path for face in FontLibrary().faces() if face.path.name == "NotoSansCJKjp-Bold.otf")


@pytest.mark.proof
@pytest.mark.parametrize("name", TITLES)
def test_a_title_is_readable_in_the_picture(name: str, program: Program, drawn: Callable[[str], Path]) -> None:
    font = CJK if name == "Japanese" else SANS
    wanted, lines = expected(TITLES[name], font)
    assert "".join("".join(line.text for line in lines).split()) == "".join(TITLES[name].split())
    shown = seen(program, drawn(name))
    for line in lines:  # the accent bar above is not text
        region = (0, line.baseline - line.size, FULL_HD.width, line.baseline + line.size // 4)
        assert overlap(shown.crop(region), wanted.crop(region)) > 0.93
    boxes, _ = expected("".join("\uffff" if char.isalnum() else char for char in TITLES[name]), font)
    assert overlap(shown, boxes) < 0.5
    for other in TITLES.keys() - {name}:
        assert overlap(shown, seen(program, drawn(other))) < 0.5


def test_the_japanese_title_would_be_boxes_in_the_other_font(program: Program, drawn: Callable[[str], Path]) -> None:
    assert overlap(seen(program, drawn("Japanese")), expected(TITLES["Japanese"], SANS)[0]) < 0.5


def rgb(planes: Planes) -> Image.Image:
    """Convert a frame to RGB, as a player does."""
    parts = [plane.resize(planes[0].size, Image.Resampling.NEAREST) for plane in planes]
    matrix = (1.1644, 0, 1.7927, -248.1, 1.1644, -0.2132, -0.5329, 76.9, 1.1644, 2.1124, 0, -289.0)
    return Image.merge("RGB", parts).convert("RGB", matrix)


@pytest.mark.parametrize("category", PALETTES)
@pytest.mark.parametrize("kind", [Kind.STATEMENT, Kind.ASK])
def test_the_pixels_behind_text_leave_it_readable(category: str, kind: Kind) -> None:
    palette = PALETTES[category].inverted if kind is Kind.ASK else PALETTES[category]
    for number in range(4):
        picture = backdrop((SMALL.width, SMALL.height), SMALL.scale, palette, number)
        colours = picture.getcolors(SMALL.width * SMALL.height)
        assert colours is not None
        behind = [colour for _, colour in colours if isinstance(colour, tuple)]
        for pixel in behind:
            colour = (pixel[0], pixel[1], pixel[2])
            assert contrast(palette.text, colour) >= READABLE
            assert contrast(palette.accent, colour) >= READABLE


def slides_with(text: str) -> list[Slide]:
    items = (text[:80] or "x",) * 5
    hook = Slide(Kind.HOOK, 0, 0, 4, text, text)
    rest = (Kind.STATEMENT, Kind.LIST, Kind.QUOTE, Kind.ASK)
    return [hook, *(Slide(kind, 1, 0, 4, text, text[:60], text[:44], items) for kind in rest)]


@pytest.mark.parametrize("category", ["tech", "absurd", "food"])
@pytest.mark.parametrize(
    "text", ["Go", "Ягодный пирог (jq), " * 10, "漢字かなカナ" * 30], ids=["short", "long", "wide"]
)
def test_nothing_is_drawn_outside_the_safe_area(category: str, text: str) -> None:
    typesetter, palette = Typesetter(FontLibrary()), palette_of(category)
    outside = Image.new("L", (SMALL.width, SMALL.height), 255)
    left, top, right, bottom = (round(edge * SMALL.scale) for edge in (SAFE.left, SAFE.top, SAFE.right, SAFE.bottom))
    outside.paste(0, (left - 1, top - 1, right + 1, bottom + 1))
    for number, slide in enumerate(slides_with(text)):
        empty = Slide(slide.kind, slide.segment, slide.start, slide.end, "", "", "", ("",))
        full, bare = (Scene(each, number, palette, typesetter, SMALL) for each in (slide, empty))
        for at in (0.0, 0.3, 0.4, 0.7, 3.9):
            difference = ImageChops.difference(full.frame(at)[0], bare.frame(at)[0])
            assert ImageChops.darker(difference, outside).getbbox() is None
            if at == 3.9:
                assert difference.getbbox() is not None


def test_every_frame_differs_from_the_one_before() -> None:
    """Nothing stands still: the backdrop pans from the first moment of a slide to its last."""
    canvas = Canvas(1080, 192, 30)
    slides = [Slide(Kind.STATEMENT, n, n, n + 1, "") for n in range(4)]
    shown = [planes[0] for planes in frames(slides, palette_of("tech"), Typesetter(FontLibrary()), canvas)]
    assert len(shown) == 120
    assert all(ImageChops.difference(before, after).getbbox() for before, after in pairwise(shown))


def test_slides_fade_into_each_other_at_the_beats_of_the_script() -> None:
    typesetter = Typesetter(FontLibrary())
    slides = slides_of(a_script("one", "two?", seconds=4))  # the last slide is bright
    shown = [ImageStat.Stat(planes[0]).mean[0] for planes in frames(slides, palette_of("tech"), typesetter, SMALL)]
    dark, bright = shown[55], shown[75]
    fading = shown[60:72]
    assert all(abs(each - dark) < 4 for each in shown[40:60])
    assert fading == sorted(fading)
    assert len({round(each) for each in fading}) == len(fading)
    assert dark + 4 < fading[0] < fading[-1] < bright
    assert all(abs(each - bright) < 4 for each in shown[72:])


# Files


@pytest.mark.proof
def test_the_file_is_the_one_that_every_platform_takes(tmp_path: Path) -> None:
    done = FfmpegStudio().storyboard(a_script("a", "b?"), tmp_path / "a.mp4", watch=nobody)
    probe = FfmpegStudio().probe(tmp_path / "a.mp4", watch=nobody, deep=True)
    assert (probe.width, probe.height, probe.fps, probe.constant_rate) == (1080, 1920, 30, True)
    assert (probe.video_codec, probe.pixel_format, probe.audio_codec) == ("h264", "yuv420p", "aac")
    assert (probe.audio_rate, probe.audio_channels, probe.video_streams, probe.audio_streams) == (48000, 2, 1, 1)
    assert (probe.edit_lists, probe.moov_first, probe.rotation) == (0, True, 0)
    assert (probe.black, probe.silent, probe.frozen) == (0, 0, 0)
    assert probe.seconds == pytest.approx(3, abs=0.05)
    assert done.probe.bytes == (tmp_path / "a.mp4").stat().st_size
    assert 0 < done.cover_at < 1.5
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


DRAW = """
import sys
from pathlib import Path
from domain.videos.script import Script, ScriptSegment
from integrations.studio.frames import Canvas
from integrations.studio.studio import FfmpegStudio
shown = ("For · Against", "“So it is” (The Post).", "漢字?")
segments = tuple(ScriptSegment(n, n + 1, text, "", "") for n, text in enumerate(shown))
script = Script("Größe", "music", segments, "", "x", ())
FfmpegStudio(canvas=Canvas(270, 480, 6)).storyboard(script, Path(sys.argv[1]), watch=lambda done: None)
"""


@pytest.mark.proof
def test_the_same_script_gives_the_same_bytes_in_another_process_folder_and_year(tmp_path: Path) -> None:
    hashes = set()
    for name, extra in (("a", {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"}), ("b", {"PYTHONHASHSEED": "2"})):
        place = tmp_path / name
        place.mkdir()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(place), **extra}
        target = place / f"{name}.mp4"
        cores = {0} if name == "a" else os.sched_getaffinity(0)
        subprocess.run(
            [sys.executable, "-c", DRAW, target],
            check=True,
            cwd=place,
            env=environment,
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),  # type: ignore[misc]
        )
        hashes.add(sha256(target.read_bytes()).hexdigest())
        assert list(place.iterdir()) == [target]
    assert len(hashes) == 1


@pytest.mark.proof
def test_another_text_gives_other_bytes(tmp_path: Path) -> None:
    one, other = (draw(a_script("a", text), tmp_path / text, canvas=FEW).read_bytes() for text in ("b", "c"))
    assert one != other


@pytest.mark.proof
def test_threads_that_draw_with_one_studio_do_not_disturb_each_other(tmp_path: Path) -> None:
    studio = FfmpegStudio(canvas=TINY)

    def drawn(number: int) -> str:
        path = tmp_path / f"{number}.mp4"
        studio.storyboard(a_script("Größe · 漢字 · пирог", "b 🎉?"), path, watch=nobody)
        return sha256(path.read_bytes()).hexdigest()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(drawn, range(4)))) == 1


@pytest.mark.proof
def test_the_bed_is_quiet_never_silent_and_of_each_category(tmp_path: Path) -> None:
    heard = {}
    for category in PALETTES:
        sound.write_bed(tmp_path / "bed", category, 9.7)
        samples = array("h", (tmp_path / "bed").read_bytes())
        assert len(samples) == round(9.7 * 48000)
        assert max(map(abs, samples)) < 32768 * 0.1  # -20 dB
        for start in range(0, len(samples) - 4800, 4800):  # each tenth of a second
            assert max(samples[start : start + 4800]) > 32768 * 0.01  # -40 dB
        heard[category] = sha256(samples).digest()
    assert len(set(heard.values())) >= 9


def test_a_script_without_any_text_is_drawn(tmp_path: Path) -> None:
    script = Script("", "", (ScriptSegment(0, 3, "", "", ""),), "", "", ())
    assert FfmpegStudio(canvas=FEW).probe(draw(script, tmp_path / "a.mp4", canvas=FEW), watch=nobody).seconds > 2.9


def test_what_no_font_has_is_named(tmp_path: Path) -> None:
    script = a_script("🎉 مر", "b 🎉", title="Hi 👀")
    assert FfmpegStudio(canvas=FEW).storyboard(script, tmp_path / "a.mp4", watch=nobody).left_out == (
        "👀",
        "🎉",
        "م",
        "ر",
    )


@pytest.mark.parametrize(("title", "named"), [("مر!", "م ر"), ("👀 🎉", "👀 🎉")])
def test_a_title_of_which_no_font_has_a_letter_is_refused(title: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ScriptUnusable) as refused:
        draw(a_script("one", "two", title=title), tmp_path / "a.mp4", canvas=TINY)
    assert str(refused.value) == f"no font here has the characters of the title, {named}: FONTS_DIR can add one"


@pytest.mark.proof(but=["20-3"])
@pytest.mark.parametrize(("count", "seconds"), [(1, 180), (20, 3)])
def test_long_short_and_many_segments(count: int, seconds: float, tmp_path: Path) -> None:
    path = draw(a_script(*["word"] * count, seconds=seconds), tmp_path / "a.mp4", canvas=TINY)
    assert FfmpegStudio().probe(path, watch=nobody).seconds == pytest.approx(seconds, abs=0.2)


# Clips


def the_clip(program: Program, path: Path, *options: str, seconds: float = 1.0) -> Path:
    """Make a clip that is plain green, with a loud tone unless `options` say otherwise."""
    green = ["-f", "lavfi", "-i", f"color=0x20c040:size=180x320:rate=24:duration={seconds}"]
    tone = ["-f", "lavfi", "-i", f"sine=frequency=1000:duration={seconds}:sample_rate=44100,volume=6dB"]
    command = [program.path, "-v", "error", "-y", *green, *tone, "-c:v", "libx264", "-pix_fmt", "yuv420p", *options]
    subprocess.run([*command, path], check=True, stdin=subprocess.DEVNULL)
    return path


def loudest(program: Program, path: Path, start: float, end: float) -> int:
    command = [program.path, "-v", "error", "-nostdin", "-i", path, "-af", f"atrim={start}:{end}", "-vn"]
    raw = subprocess.run([*command, "-f", "s16le", "-ac", "1", "-"], check=True, capture_output=True).stdout
    return max(map(abs, array("h", raw)))


def middle(program: Program, path: Path, at: float) -> tuple[int, int, int]:
    command = [program.path, "-v", "error", "-nostdin", "-ss", str(at), "-i", path, "-frames:v", "1"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    red, green, blue = Image.frombytes("RGB", (SMALL.width, SMALL.height), raw).resize((3, 3)).getpixel((1, 1))  # type: ignore[misc]
    return red, green, blue


def is_green(colour: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, (0x20, 0xC0, 0x40), strict=True)) < 14


def test_a_clip_replaces_its_segments_slide_as_long_as_it_lasts(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4")
    path = draw(a_script("a", "b", "c?", seconds=6), tmp_path / "a.mp4", clips={1: clip})
    assert [is_green(middle(program, path, at)) for at in (1.8, 2.1, 2.8, 3.2, 4.5)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert FfmpegStudio().probe(path, watch=nobody).seconds == pytest.approx(6, abs=0.05)


@pytest.mark.proof
def test_a_clip_longer_than_its_segment_is_cut(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4", seconds=5)
    path = draw(a_script("a", "b", "c?", seconds=6), tmp_path / "a.mp4", clips={0: clip, 2: clip})
    assert [is_green(middle(program, path, at)) for at in (0.1, 1.9, 2.1, 3.9, 4.1, 5.9)] == [
        *(True, True, False, False, True, True)
    ]
    assert FfmpegStudio().probe(path, watch=nobody).seconds == pytest.approx(6, abs=0.05)


@pytest.mark.proof
def test_a_clip_keeps_its_sound_and_one_without_has_the_bed(program: Program, tmp_path: Path) -> None:
    loud, mute = the_clip(program, tmp_path / "loud.mp4"), the_clip(program, tmp_path / "mute.mp4", "-an")
    path = draw(a_script("a", "b", "c?", seconds=6), tmp_path / "a.mp4", clips={1: loud, 2: mute})
    bed = loudest(program, path, 0, 1.9)
    assert 500 < bed < 4000
    assert loudest(program, path, 2.2, 2.8) > 2 * bed
    assert 500 < loudest(program, path, 3.3, 3.9) < 4000
    assert 500 < loudest(program, path, 4.2, 4.8) < 4000


@pytest.mark.proof
def test_a_wide_clip_is_shown_whole(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4", "-vf", "scale=320:180")
    path = draw(a_script("a", "b?", seconds=4), tmp_path / "a.mp4", clips={0: clip})
    frame = picture(program, path, 0.5, (SMALL.width, SMALL.height))
    column = [frame.getpixel((135, y)) for y in (10, 30, 240, 380, 470)]
    assert column[2] > 2 * max(column[0], column[1], column[3], column[4])  # type: ignore[operator, type-var]


@pytest.mark.proof
def test_what_the_slide_says_is_set_over_its_clip_as_long_as_it_is_shown(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4")
    path = draw(a_script("", "b?", title=TITLES["German"], seconds=4), tmp_path / "a.mp4", clips={0: clip})
    frame = picture(program, path, 0.5, (SMALL.width, SMALL.height))
    typesetter, palette = Typesetter(FontLibrary()), palette_of("tech")
    slide = Slide(Kind.HOOK, 0, 0, 2, TITLES["German"])
    drawn = caption(slide, palette, typesetter, SMALL)
    assert drawn
    sheet, left, top = drawn
    box = (left, top, left + sheet.width, top + sheet.height)
    dark, wanted = (each.point(lambda value: 255 * (value < 110)) for each in (frame.crop(box), sheet.convert("L")))
    opaque = sheet.getchannel("A").point(lambda value: 255 * (value > 250))
    assert overlap(ImageChops.darker(dark, opaque), ImageChops.darker(wanted, opaque)) > 0.8
    assert left >= SAFE.left * SMALL.scale - 1
    assert top >= SAFE.top * SMALL.scale
    assert not is_green(middle(program, path, 1.5))


@pytest.mark.proof
def test_the_last_frame_asks_also_where_the_last_segment_is_a_clip(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4", seconds=4)
    path = draw(a_script("a", "b", seconds=6), tmp_path / "a.mp4", clips={1: clip})
    assert [is_green(middle(program, path, at)) for at in (3.2, 4.4, 5.9)] == [True, True, False]


@pytest.mark.proof
def test_the_clip_of_a_single_segment_is_the_whole_video(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4", seconds=4)
    path = draw(a_script("", seconds=4), tmp_path / "a.mp4", clips={0: clip})
    assert all(is_green(middle(program, path, at)) for at in (0, 2, 3.9))


@pytest.mark.proof
def test_clips_give_the_same_bytes_again(program: Program, tmp_path: Path) -> None:
    clip = the_clip(program, tmp_path / "clip.mp4")
    one, other = (
        draw(a_script("a", "b?", seconds=4), tmp_path / name, clips={0: clip}).read_bytes() for name in ("a", "b")
    )
    assert one == other


def test_a_clip_that_cannot_be_decoded_is_refused_by_the_number_of_its_segment(
    program: Program, tmp_path: Path
) -> None:
    whole = the_clip(program, tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no video " * 1000)
    for name in ("cut.mp4", "text.mp4"):
        with pytest.raises(MediaUnusable, match="the clip of segment 2: "):
            draw(a_script("a", "b?"), tmp_path / "a.mp4", clips={1: tmp_path / name})
    assert not (tmp_path / "a.mp4").exists()


# Ends


def children(of: int = os.getpid()) -> set[int]:
    """Return the processes that a process, else this one, has started and that still run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == of and state != "Z":
            found.add(int(stat.parent.name))
    return found


def test_what_watch_raises_ends_it_long_before_its_end_and_leaves_nothing(tmp_path: Path) -> None:
    before, raised = children(), []

    def stop(done: float) -> None:
        if done > 0.005:
            assert children() - before
            raised.append(time.monotonic())
            raise Stopped

    with pytest.raises(Stopped):
        FfmpegStudio().storyboard(a_script("a", "b", seconds=180), tmp_path / "a.mp4", watch=stop)
    assert time.monotonic() - raised[0] < 20  # a busy machine is no failure; all of it takes more than a minute
    assert children() == before
    assert not users_of(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
def test_watch_is_called_often_and_sees_it_grow(tmp_path: Path) -> None:
    calls: list[tuple[float, float]] = []
    FfmpegStudio(canvas=Canvas(540, 960, 30)).storyboard(
        a_script("a", "b", seconds=12), tmp_path / "a.mp4", watch=lambda done: calls.append((time.monotonic(), done))
    )
    assert [done for _, done in calls] == sorted(done for _, done in calls)
    assert calls[0][1] < calls[-1][1]
    rests = sorted(later - sooner for (sooner, _), (later, _) in pairwise(calls))
    assert rests[len(rests) // 2] < 2  # a machine that stops for a while is no failure


@pytest.mark.proof(but=["drawing was killed"])
@pytest.mark.parametrize("killed", ["drawing was killed", "ffmpeg was killed"])
def test_a_process_that_is_killed_is_said_to_have_been(killed: str, tmp_path: Path) -> None:
    before = children()

    def kill(done: float) -> None:
        if done > 0.005:
            for drawing in children() - before:  # it has ended already, where this is called once more
                for child in [drawing] if killed.startswith("drawing") else children(drawing):
                    os.kill(child, signal.SIGKILL)

    with pytest.raises(StudioUnavailable, match=killed):
        FfmpegStudio().storyboard(a_script("a", "b", seconds=180), tmp_path / "a.mp4", watch=kill)
    until(lambda: not users_of(tmp_path), "the end of both")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
def test_what_goes_wrong_in_the_process_that_draws_is_raised_here(tmp_path: Path) -> None:
    """A fault of ours is shown with its lines, as if it had been raised here; little memory is for trying later."""
    with pytest.raises(RuntimeError, match="Traceback"):
        draw(a_script("a"), tmp_path / "a.mp4", canvas=Canvas(-2, -2, 6))
    with pytest.raises(StudioUnavailable, match="memory"):
        draw(a_script("a"), tmp_path / "a.mp4", canvas=Canvas(60000, 106000, 6))
    assert list(tmp_path.iterdir()) == []


ALONE = """
import resource, sys
from pathlib import Path
from domain.errors import ViralError
from domain.videos.script import Script, ScriptSegment
from integrations.studio.ffmpeg import find
from integrations.studio.studio import FfmpegStudio
find("ffmpeg"), find("ffprobe")
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
script = Script("Long", "news", (ScriptSegment(0, float(sys.argv[3]), "text", "", ""),), "", "x", ())
try:
    FfmpegStudio().storyboard(script, Path(sys.argv[1]), watch=lambda done: print(done, flush=True))
except ViralError as error:
    print(type(error).__name__, error)
"""


def alone(target: Path, *, limit: int = 0, seconds: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ALONE, target, str(limit), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_no_ffmpeg_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    process = alone(tmp_path / "a.mp4", seconds=180)
    assert process.stdout
    while float(process.stdout.readline()) < 0.005:
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not users_of(tmp_path), "the end of ffmpeg")


def users_of(folder: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_text()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.proof(but=["sound"])
@pytest.mark.parametrize("limit", [300_000, 600_000], ids=["sound", "video"])
def test_a_full_disk_is_said_in_one_line(limit: int, tmp_path: Path) -> None:
    """The limit of a file's size stands in for a disk: first our own file meets it, then ffmpeg's."""
    with alone(tmp_path / "a.mp4", limit=limit, seconds=6) as process:
        assert process.stdout
        last = process.stdout.read().splitlines()[-1]
    assert last.startswith("StudioUnavailable"), last
    assert list(tmp_path.iterdir()) == []
