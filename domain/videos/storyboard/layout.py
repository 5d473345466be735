"""Where each element of a slide stands, in pixels of a picture of 1080 by 1920, and when it enters.

The apps lay their own buttons and captions over the edges: text and its marks stay within `SAFE`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from domain.videos.storyboard.lines import LEADING, Fitted, fit
from domain.videos.storyboard.palettes import Palette, Setting
from domain.videos.storyboard.slides import Kind, Slide

WIDTH, HEIGHT = 1080, 1920


@dataclass(frozen=True, slots=True)
class Box:
    left: int
    top: int
    right: int
    bottom: int


SAFE = Box(90, 192, 990, 1536)
"""Below the outer 10 % at the top, above the outer 20 % at the bottom, 90 pixels from the sides."""
PROGRESS = Box(90, 204, 990, 212)
"""The bar that shows how far the video is; a part for each segment."""
CONTENT = Box(90, 330, 990, 1500)

HEAVY, MEDIUM = 900, 600
"""Weights of type, as OpenType counts them."""

MARGIN = 30
"""From the end of a marker to the text on it."""

ALREADY = -1.0
"""The element does not enter: it is there when the slide begins."""

Measure = Callable[[str, int], float]
"""How wide a text is in a weight, in ems."""


class Ink(StrEnum):
    TEXT = "text"
    ACCENT = "accent"
    ON_ACCENT = "on_accent"
    CARD = "card"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, from its left end at `x`, on `baseline`. `marker` is the ink of a bar behind it."""

    text: str
    x: int
    baseline: int
    size: int
    weight: int
    ink: Ink
    at: float
    marker: Ink | None = None


class Form(StrEnum):
    BAR = "bar"
    CARD = "card"
    DISC = "disc"
    BUBBLE = "bubble"


@dataclass(frozen=True, slots=True)
class Shape:
    form: Form
    box: Box
    ink: Ink
    at: float


Element = Line | Shape
"""Elements that share a time enter together; later ones of a slide lie over earlier ones."""


@dataclass(frozen=True, slots=True)
class _Style:
    weight: int
    ink: Ink
    at: float
    marker: Ink | None = None

    def line(self, text: str, left: int, fitted: Fitted, top: float, number: int) -> Line:
        """Return line `number` of a text that begins at `top`; each enters a little after the one before."""
        at = self.at if self.at == ALREADY else self.at + 0.09 * number
        baseline = round(top + fitted.size * (LEADING * number + 0.91))
        return Line(text, left, baseline, fitted.size, self.weight, self.ink, at, self.marker)


def lay_out(slide: Slide, palette: Palette, measure: Measure) -> tuple[Element, ...]:
    """Return the elements of a slide in the order in which they are drawn."""
    return tuple(_header(slide, palette, measure)) + tuple(_DRAW[slide.kind](slide, palette, measure))


def lay_over(slide: Slide, measure: Measure) -> tuple[Line, ...]:
    """Return the lines that are set over a clip in place of the slide: what it says, on markers that any picture can be
    behind, in the upper third, which the prompts for clips ask to be left calm."""
    width = SAFE.right - SAFE.left - 2 * MARGIN
    fitted = _fit(slide.text, measure, HEAVY, (width, 420), (92, 42))
    style = _Style(HEAVY, Ink.ON_ACCENT, ALREADY, marker=Ink.ACCENT)
    return tuple(_at_left(fitted, SAFE.top + 60, SAFE.left + MARGIN, style))


def _header(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    if slide.header:
        fitted = fit(slide.header, _in(measure, MEDIUM), width=900, height=60, largest=42, smallest=28, most_lines=1)
        yield from _text(fitted, 236, _Style(MEDIUM, Ink.ACCENT, ALREADY), palette, measure)


def _hook(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    marked = palette.setting is Setting.MARKER
    width = SAFE.right - SAFE.left - (2 * MARGIN if marked else 0)
    title = _fit(slide.text, measure, HEAVY, (width, 820), (172, 54))
    note = _fit(slide.note, measure, MEDIUM, (900, 260), (66, 42))
    top = _middle(title.height + (44 + note.height if slide.note else 0) + 58)
    if marked:
        style = _Style(HEAVY, Ink.ON_ACCENT, ALREADY, marker=Ink.ACCENT)
        yield from _at_left(title, top + 58, SAFE.left + MARGIN, style)
    else:
        yield _bar(top, palette)
        yield from _text(title, top + 58, _Style(HEAVY, Ink.TEXT, ALREADY), palette, measure)
    if slide.note:
        below = top + 58 + title.height + 44
        yield from _text(note, below, _Style(MEDIUM, Ink.ACCENT, 0.5), palette, measure)


def _statement(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    weight = HEAVY if len(slide.text) <= 80 else MEDIUM
    beside = palette.setting is Setting.LEFT and slide.segment % 2 == 1
    inset = 56 if beside else 0
    fitted = _fit(slide.text, measure, weight, (900 - inset, 1000), (152, 46))
    top = _middle(fitted.height + 58)
    if beside:
        yield Shape(Form.BAR, Box(90, round(top), 104, round(top + fitted.height)), Ink.ACCENT, 0.2)
    else:
        yield _bar(top - 58 if palette.setting is Setting.LEFT else top + fitted.height + 46, palette, 0.2)
    yield from _text(fitted, top, _Style(weight, Ink.TEXT, 0.25), palette, measure, inset=inset)


def _list(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    tallest = 1100 // len(slide.items)
    size = min(_fit(item, measure, HEAVY, (660, tallest - 96), (104, 34)).size for item in slide.items)
    rows = [_fit(item, measure, HEAVY, (660, tallest - 96), (size, 34)) for item in slide.items]
    height = min(float(tallest - 32), max(row.height for row in rows) + 2 * size)
    top = _middle((height + 32) * len(rows) - 32)
    pause = min(1.5, max(0.25, (slide.seconds - 1.2) / len(rows)))
    radius = 52
    for number, row in enumerate(rows):
        at = 0.25 + number * pause
        centre = round(top + height / 2)
        yield Shape(Form.CARD, Box(90, round(top), 990, round(top + height)), Ink.CARD, at)
        yield Shape(Form.DISC, Box(130, centre - radius, 130 + 2 * radius, centre + radius), Ink.ACCENT, at)
        digit = str(number + 1)
        x = 130 + radius - measure(digit, HEAVY) * 64 / 2
        yield Line(digit, round(x), centre + 22, 64, HEAVY, Ink.ON_ACCENT, at)
        yield from _at_left(row, centre - row.height / 2, 280, _Style(HEAVY, Ink.TEXT, at))
        top += height + 32


def _quote(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    fitted = _fit(slide.text, measure, MEDIUM, (900, 800), (132, 50))
    source = _fit(slide.note, measure, HEAVY, (820, 120), (46, 32))
    top = _middle(fitted.height + source.height + 52)
    yield from _text(fitted, top, _Style(MEDIUM, Ink.TEXT, 0.25), palette, measure)
    below = top + fitted.height + 52
    centred = palette.setting is Setting.CENTRE
    if not centred:
        middle = round(below + source.size * LEADING / 2)
        yield Shape(Form.BAR, Box(90, middle - 4, 146, middle + 4), Ink.ACCENT, 0.9)
    yield from _text(source, below, _Style(HEAVY, Ink.ACCENT, 0.9), palette, measure, inset=0 if centred else 80)


def _ask(slide: Slide, palette: Palette, measure: Measure) -> Iterator[Element]:
    fitted = _fit(slide.text, measure, HEAVY, (860, 800), (160, 54))
    top = _middle(fitted.height + 300)
    yield Shape(Form.BUBBLE, Box(425, round(top), 655, round(top) + 190), Ink.TEXT, 0.15)
    yield from _centred(fitted, top + 262, _Style(HEAVY, Ink.TEXT, 0.25), measure)


_DRAW: dict[Kind, Callable[[Slide, Palette, Measure], Iterator[Element]]] = {
    Kind.HOOK: _hook,
    Kind.STATEMENT: _statement,
    Kind.LIST: _list,
    Kind.QUOTE: _quote,
    Kind.ASK: _ask,
}


def _fit(text: str, measure: Measure, weight: int, space: tuple[int, int], sizes: tuple[int, int]) -> Fitted:
    return fit(text, _in(measure, weight), width=space[0], height=space[1], largest=sizes[0], smallest=sizes[1])


def _in(measure: Measure, weight: int) -> Callable[[str], float]:
    return lambda text: measure(text, weight)


def _middle(height: float) -> float:
    """Return where content of this height begins: a little above the middle, where it is looked for."""
    return CONTENT.top + max(0.0, (CONTENT.bottom - CONTENT.top - height) * 0.46)


def _bar(top: float, palette: Palette, at: float = ALREADY) -> Shape:
    left = WIDTH // 2 - 70 if palette.setting is Setting.CENTRE else 90
    return Shape(Form.BAR, Box(left, round(top), left + 140, round(top) + 14), Ink.ACCENT, at)


def _text(
    fitted: Fitted, top: float, style: _Style, palette: Palette, measure: Measure, *, inset: int = 0
) -> Iterator[Line]:
    """Yield the lines as the palette's setting has them."""
    if palette.setting is Setting.CENTRE and not inset:
        yield from _centred(fitted, top, style, measure)
    else:
        yield from _at_left(fitted, top, SAFE.left + inset, style)


def _at_left(fitted: Fitted, top: float, left: int, style: _Style) -> Iterator[Line]:
    for number, text in enumerate(fitted.lines):
        yield style.line(text, left, fitted, top, number)


def _centred(fitted: Fitted, top: float, style: _Style, measure: Measure) -> Iterator[Line]:
    for number, text in enumerate(fitted.lines):
        left = round((WIDTH - measure(text, style.weight) * fitted.size) / 2)
        yield style.line(text, left, fitted, top, number)
