"""Charts of lines, several side by side, as SVG or PNG: the same marks, written by two hands.

A colour of each line keeps its difference for most eyes, and a line of ours is thicker (M. Okabe and K. Ito, "Color
Universal Design", 2008).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Protocol
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from integrations.studio.fonts import FontLibrary, Typesetter

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
INK, FAINT, PAPER = "#222222", "#d9d9d9", "#ffffff"
PANEL_WIDTH, PANEL_HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 16, 46, 46
HEAD, FOOT = 50, 44
COLUMNS = 2
TICKS = 5
SMALL, NORMAL, LARGE = 12, 14, 18
SCALE = 2
"""Pixels of a PNG for each unit, so that text is sharp."""


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y), and the name that the legend has; lines of one name have one colour in all panels."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels with axes of the same meaning, each as high as its own lines. The first name in `names` is drawn thickest,
    and last."""

    title: str
    x_label: str
    y_label: str
    names: Sequence[str]
    panels: Sequence[Panel]


class Pen(Protocol):
    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None: ...

    def text(self, x: float, y: float, text: str, size: int, anchor: str = "start", *, bold: bool = False) -> None:
        """`y` is the base line; `anchor` is start, middle or end."""


def svg(chart: Chart) -> bytes:
    pen = SvgPen()
    width, height = _draw(chart, pen)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" role="img" aria-label={quoteattr(_storable(chart.title))}>'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>'
    )
    return "\n".join([head, *pen.marks, "</svg>", ""]).encode()


def png(chart: Chart, fonts: Path | None = None) -> bytes:
    """Return the chart as a PNG; `fonts` is a folder with further fonts."""
    width, height = _size(chart)
    image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    _draw(chart, PngPen(image, ImageDraw.Draw(image), FontLibrary(fonts)))
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _size(chart: Chart) -> tuple[int, int]:
    columns = min(COLUMNS, max(1, len(chart.panels)))
    rows = max(1, ceil(len(chart.panels) / columns))
    return columns * PANEL_WIDTH, HEAD + rows * PANEL_HEIGHT + FOOT


def _draw(chart: Chart, pen: Pen) -> tuple[int, int]:
    width, height = _size(chart)
    pen.text(LEFT, 32, chart.title, LARGE, bold=True)
    for number, panel in enumerate(chart.panels):
        left, top = number % COLUMNS * PANEL_WIDTH, HEAD + number // COLUMNS * PANEL_HEIGHT
        _draw_panel(chart, panel, pen, (left, top))
    x = float(LEFT)
    for name in chart.names:
        pen.line([(x, height - 20), (x + 24, height - 20)], _colour(chart, name), _width(chart, name))
        pen.text(x + 30, height - 15, name, NORMAL)
        x += 30 + 7.5 * len(name) + 28
    return width, height


def _draw_panel(chart: Chart, panel: Panel, pen: Pen, corner: tuple[int, int]) -> None:
    left, top = corner[0] + LEFT, corner[1] + TOP
    right, bottom = corner[0] + PANEL_WIDTH - RIGHT, corner[1] + PANEL_HEIGHT - BOTTOM
    xs = [x for line in panel.lines for x, _ in line.points]
    first, last = min(xs, default=0.0), max(xs, default=1.0)
    highest = max((y for line in panel.lines for _, y in line.points), default=1.0)
    most = list(_ticks(0.0, highest))[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        along = (x - first) / (last - first) if last > first else 0.0
        return left + along * (right - left), bottom - y / most * (bottom - top)

    pen.text(left, top - 18, panel.title, NORMAL, bold=True)
    for y in _ticks(0.0, highest):
        height = place(first, y)[1]
        pen.line([(left, height), (right, height)], FAINT, 1)
        pen.text(left - 8, height + 4, f"{y:g}", SMALL, "end")
    for x in _ticks(first, last):
        if x <= last:
            pen.text(place(x, 0)[0], bottom + 18, f"{x:,g}", SMALL, "middle")
    pen.line([(left, bottom), (right, bottom)], INK, 1)
    pen.text((left + right) / 2, bottom + 36, chart.x_label, SMALL, "middle")
    pen.text(left - 8, top - 18, chart.y_label, SMALL, "end")
    for line in sorted(panel.lines, key=lambda line: chart.names.index(line.name), reverse=True):
        if line.points:
            pen.line([place(x, y) for x, y in line.points], _colour(chart, line.name), _width(chart, line.name))


def _colour(chart: Chart, name: str) -> str:
    return COLOURS[chart.names.index(name) % len(COLOURS)]


def _width(chart: Chart, name: str) -> float:
    return 2.5 if name == chart.names[0] else 1.25


def _ticks(first: float, last: float) -> Iterator[float]:
    """Yield round numbers from the one that is not above `first`, or next above it, to the first that is not below
    `last`."""
    span = max(last - first, 1e-9)
    power = 10.0 ** len(str(int(span / TICKS))) / 10 if span >= TICKS else 0.1
    step = next((power * each for each in (1, 2, 2.5, 5, 10) if span / (power * each) <= TICKS), power * 10)
    tick = ceil(first / step) * step
    yield tick
    while tick < last:
        tick += step
        yield tick


def _storable(text: str) -> str:
    """Return the text without the characters that XML cannot hold."""
    return "".join(each for each in text if each in "\t\n" or (each >= " " and not 0xD800 <= ord(each) <= 0xDFFF))


# --- the two hands ---------------------------------------------------------------------------------------------------


class SvgPen:
    def __init__(self) -> None:
        self.marks: list[str] = []

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        stroke = f'stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"'
        self.marks.append(f'<polyline points="{listed}" fill="none" {stroke}/>')

    def text(self, x: float, y: float, text: str, size: int, anchor: str = "start", *, bold: bool = False) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.marks.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}"{weight}>'
            f"{escape(_storable(text))}</text>"
        )


class PngPen:
    """It writes with the studio's fonts, which have the letters of many scripts; what none of them has is left out.
    Where there is no font at all, Pillow's own has Latin letters."""

    def __init__(self, image: Image.Image, draw: ImageDraw.ImageDraw, fonts: FontLibrary) -> None:
        self._image, self._draw = image, draw
        self._typesetter = Typesetter(fonts) if fonts.faces() else None

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * SCALE), joint="curve")

    def text(self, x: float, y: float, text: str, size: int, anchor: str = "start", *, bold: bool = False) -> None:
        if self._typesetter is None:
            self._plain(x, y, text, size, anchor)
            return
        written, weight = self._typesetter.drawable(text), 900 if bold else 600
        if not written:
            return
        mask, margin = self._typesetter.draw(written, weight, size * SCALE)
        width = self._typesetter.measure(written, weight) * size * SCALE
        left = x * SCALE - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        self._image.paste(INK, (round(left) - margin, round((y - size) * SCALE)), mask)

    def _plain(self, x: float, y: float, text: str, size: int, anchor: str) -> None:
        place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=INK, font=font, anchor=place)
