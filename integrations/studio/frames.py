"""The frames of a storyboard, as raw pictures for ffmpeg (yuv420p, BT.709).

A backdrop is drawn once a slide, larger than the picture and converted to planes; a frame is a crop of it at whole
pixels, over which the few elements are pasted. So a moving frame costs about as much as copying it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from domain.videos.storyboard.layout import (
    ALREADY,
    HEIGHT,
    MARGIN,
    PROGRESS,
    WIDTH,
    Element,
    Form,
    Ink,
    Line,
    lay_out,
    lay_over,
)
from domain.videos.storyboard.motion import ENTRANCE, RISE, crossfade, entered, pan_range, panned
from domain.videos.storyboard.palettes import Colour, Palette
from domain.videos.storyboard.slides import Kind, Slide
from integrations.studio.backdrops import backdrop
from integrations.studio.fonts import Typesetter


@dataclass(frozen=True, slots=True)
class Canvas:
    """The size of the picture and the frames a second. Tests draw smaller ones."""

    width: int = WIDTH
    height: int = HEIGHT
    fps: int = 30

    @property
    def scale(self) -> float:
        return self.width / WIDTH

    def even(self, length: float) -> int:
        """Return a length of the layout in pixels of this picture: even, since colour has half the resolution."""
        return 2 * round(length * self.scale / 2)


FULL_HD = Canvas()

Planes = tuple[Image.Image, Image.Image, Image.Image]
"""Brightness in full, and two differences of colour in half the resolution."""

_TO_YUV = (
    *(0.182586, 0.614231, 0.062007, 16.0),
    *(-0.100644, -0.338572, 0.439216, 128.0),
    *(0.439216, -0.398942, -0.040274, 128.0),
)
"""RGB to limited-range BT.709, which players take pictures of this height to be."""
_FADES = 16
_TABLES = [[value * step // _FADES for value in range(256)] for step in range(_FADES + 1)]


@dataclass(frozen=True, slots=True)
class Sprite:
    """An element as it is pasted: its planes, how opaque each pixel is, and where it comes to rest."""

    planes: Planes
    mask: Image.Image
    small_mask: Image.Image
    x: int
    y: int
    at: float
    """Seconds after the slide's start at which it begins to enter."""


class Scene:
    """A slide that is ready to be drawn at any time of it."""

    def __init__(self, slide: Slide, number: int, palette: Palette, typesetter: Typesetter, canvas: Canvas) -> None:
        self._slide, self._canvas = slide, canvas
        self._palette = palette.inverted if slide.kind is Kind.ASK else palette
        self._range = canvas.even(pan_range(slide.seconds))
        self._upright = number % 2 == 0
        self._back = number % 4 >= 2
        width = canvas.width + (0 if self._upright else self._range)
        height = canvas.height + (self._range if self._upright else 0)
        self._backdrop = planes_of(backdrop((width, height), canvas.scale, self._palette, number))
        elements = lay_out(slide, palette, typesetter.measure)
        self._sprites = [sprite_of(element, self._palette, typesetter, canvas) for element in elements]

    def frame(self, at: float, *, leaving: float = 0.0) -> Planes:
        """Return the picture `at` seconds of the video, without the bar of progress. From `leaving` 0 to 1 the elements
        go and the backdrop stays."""
        since = at - self._slide.start
        gone = min(self._range, round(panned(since) * self._canvas.scale))
        shift = self._range - gone if self._back else gone
        left, top = (0, shift) if self._upright else (shift, 0)
        picture = _cropped(self._backdrop, left, top, self._canvas)
        for sprite in self._sprites:
            entering = since - sprite.at if sprite.at != ALREADY else ENTRANCE
            opacity = min(1.0, entering / (ENTRANCE * 0.6)) * (1 - leaving)
            if opacity > 0:
                _paste(picture, sprite, self._canvas.even(RISE * (1 - entered(entering))), opacity)
        return picture


def frames(
    slides: Sequence[Slide], palette: Palette, typesetter: Typesetter, canvas: Canvas = FULL_HD
) -> Iterator[Planes]:
    """Yield the pictures of all frames, slide after slide."""
    ends = [round(slide.end * canvas.fps) for slide in slides]
    bar = Progress(slides, palette, canvas)
    scene, before, fading, number = None, None, 0, 0
    for index, (slide, end) in enumerate(zip(slides, ends, strict=True)):
        before, scene = scene, Scene(slide, index, palette, typesetter, canvas)
        fading = round(crossfade(slides[index - 1].seconds, slide.seconds) * canvas.fps) if before else 0
        for step in range(end - number):
            at = (number + step) / canvas.fps
            picture = scene.frame(at)
            if before and step < fading:
                share = (step + 1) / (fading + 1)
                picture = _blended(before.frame(at, leaving=min(1.0, 2 * share)), picture, share)
            else:
                before = None
            bar.draw(picture, at, slide)
            yield picture
        number = max(number, end)


class Progress:
    """The bar that shows how far the video is, in a part for each segment."""

    def __init__(self, slides: Sequence[Slide], palette: Palette, canvas: Canvas) -> None:
        self._canvas = canvas
        self._palettes = {True: palette.inverted, False: palette}
        starts = list(dict.fromkeys(slide.segment for slide in slides))
        firsts = [min(slide.start for slide in slides if slide.segment == number) for number in starts]
        self._parts = list(pairwise([*firsts, slides[-1].end]))

    def draw(self, picture: Planes, at: float, slide: Slide) -> None:
        palette = self._palettes[slide.kind is Kind.ASK]
        width = PROGRESS.right - PROGRESS.left
        gap = 10 if len(self._parts) <= 12 else 4
        total = self._parts[-1][1]
        for start, end in self._parts:
            left = PROGRESS.left + width * start / total
            right = PROGRESS.left + width * end / total - (gap if end < total else 0)
            done = min(1.0, max(0.0, (at - start) / (end - start)))
            self._fill(picture, left, right, palette.card)
            if done:
                self._fill(picture, left, left + (right - left) * done, palette.accent)

    def _fill(self, picture: Planes, start: float, end: float, colour: Colour) -> None:
        even = self._canvas.even
        box = even(start), even(PROGRESS.top), even(end), max(even(PROGRESS.bottom), even(PROGRESS.top) + 2)
        if box[2] <= box[0]:
            return
        for plane, value, half in zip(picture, yuv(colour), (1, 2, 2), strict=True):
            left, top, right, bottom = (edge // half for edge in box)
            plane.paste(value, (left, top, right, bottom))


def planes_of(picture: Image.Image) -> Planes:
    bright, blue, red = picture.convert("RGB", _TO_YUV).split()
    return bright, blue.reduce(2), red.reduce(2)


def yuv(colour: Colour) -> tuple[int, int, int]:
    """Return the brightness of a colour and its two differences, as they stand in a frame."""
    bright, blue, red = Image.new("RGB", (1, 1), colour).convert("RGB", _TO_YUV).tobytes()
    return bright, blue, red


def sprite_of(element: Element, palette: Palette, typesetter: Typesetter, canvas: Canvas) -> Sprite:
    if isinstance(element, Line):
        picture, mask, x, y = _line(element, palette, typesetter, canvas)
        return _sprite(picture, mask, x, y, element.at)
    left, top = canvas.even(element.box.left), canvas.even(element.box.top)
    width = max(2, canvas.even(element.box.right - element.box.left))
    height = max(2, canvas.even(element.box.bottom - element.box.top))
    mask = Image.new("L", (width * 4, height * 4), 0)
    _FORMS[element.form](ImageDraw.Draw(mask), width * 4, height * 4)
    return _sprite(Image.new("RGB", (width, height), ink(element.ink, palette)), mask.reduce(4), left, top, element.at)


def caption(
    slide: Slide, palette: Palette, typesetter: Typesetter, canvas: Canvas
) -> tuple[Image.Image, int, int] | None:
    """Return what is laid over a clip in place of this slide, as RGBA, and where its corner is; None if it says
    nothing."""
    lines = [_line(line, palette, typesetter, canvas) for line in lay_over(slide, typesetter.measure)]
    if not lines:
        return None
    left, top = min(x for _, _, x, _ in lines), min(y for _, _, _, y in lines)
    right, bottom = max(x + mask.width for _, mask, x, _ in lines), max(y + mask.height for _, mask, _, y in lines)
    sheet = Image.new("RGBA", (right - left, bottom - top))
    for picture, mask, x, y in lines:
        sheet.paste(picture, (x - left, y - top), mask)
    return sheet, left, top


def _line(
    line: Line, palette: Palette, typesetter: Typesetter, canvas: Canvas
) -> tuple[Image.Image, Image.Image, int, int]:
    """Return a line as a picture, its mask, and where its corner is."""
    size = max(4, round(line.size * canvas.scale))
    text, before = typesetter.draw(line.text, line.weight, size)
    left, top = round(line.x * canvas.scale) - before, round(line.baseline * canvas.scale) - size
    colour = ink(line.ink, palette)
    if line.marker is None:
        # Even corners: the mask moves within a frame that is a little larger.
        frame = Image.new("L", (_up(text.width + 1), _up(text.height + 1)), 0)
        frame.paste(text, (left % 2, top % 2))
        return Image.new("RGB", frame.size, colour), frame, left - left % 2, top - top % 2
    inset, over, under = (canvas.even(part) for part in (MARGIN, line.size * 0.94, line.size * 0.34))
    width = _up(round(typesetter.measure(line.text, line.weight) * size) + 2 * inset)
    picture = Image.new("RGB", (width, over + under), ink(line.marker, palette))
    picture.paste(colour, (inset - before, over - size), text)
    mask = Image.new("L", (picture.width * 2, picture.height * 2), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), canvas.even(14) * 2, fill=255)
    x, y = canvas.even(line.x - MARGIN), canvas.even(line.baseline) - over
    return picture, mask.reduce(2), x, y


def _sprite(picture: Image.Image, mask: Image.Image, x: int, y: int, at: float) -> Sprite:
    return Sprite(planes_of(picture), mask, mask.reduce(2), x, y, at)


def ink(name: Ink, palette: Palette) -> Colour:
    colour: Colour = getattr(palette, name.value)
    return colour


def _bar(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    draw.rounded_rectangle((0, 0, width - 1, height - 1), min(width, height) // 2, fill=255)


def _card(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    draw.rounded_rectangle((0, 0, width - 1, height - 1), height // 6, fill=235)


def _disc(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    draw.ellipse((0, 0, width - 1, height - 1), fill=255)


def _bubble(draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    """Draw a speech bubble with three dots."""
    body = height * 4 // 5
    draw.rounded_rectangle((0, 0, width - 1, body), body // 3, fill=255)
    draw.polygon([(width // 5, body - 2), (width // 5, height - 1), (width * 9 // 20, body - 2)], fill=255)
    for n in (1, 2, 3):
        x, radius = width * (n + 1) // 6 + (n - 2) * width // 40, height // 13
        draw.ellipse((x - radius, body // 2 - radius, x + radius, body // 2 + radius), fill=0)


_FORMS = {Form.BAR: _bar, Form.CARD: _card, Form.DISC: _disc, Form.BUBBLE: _bubble}


def _cropped(planes: Planes, left: int, top: int, canvas: Canvas) -> Planes:
    bright, blue, red = planes
    half = left // 2, top // 2, left // 2 + canvas.width // 2, top // 2 + canvas.height // 2
    return bright.crop((left, top, left + canvas.width, top + canvas.height)), blue.crop(half), red.crop(half)


def _paste(picture: Planes, sprite: Sprite, lower: int, opacity: float) -> None:
    masks = sprite.mask, sprite.small_mask, sprite.small_mask
    if opacity < 1:
        table = _TABLES[max(0, round(opacity * _FADES))]
        small = sprite.small_mask.point(table)
        masks = sprite.mask.point(table), small, small
    for plane, part, mask, half in zip(picture, sprite.planes, masks, (1, 2, 2), strict=True):
        plane.paste(part, (sprite.x // half, (sprite.y + lower) // half), mask)


def _blended(one: Planes, other: Planes, share: float) -> Planes:
    bright, blue, red = (Image.blend(a, b, share) for a, b in zip(one, other, strict=True))
    return bright, blue, red


def _up(length: int) -> int:
    return length + length % 2
