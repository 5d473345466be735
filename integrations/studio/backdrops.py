"""Backdrops: a gradient with soft lights, shapes of the category's pattern, and a fine grain that hides its steps."""

from collections.abc import Callable
from functools import lru_cache
from random import Random

from PIL import Image, ImageChops, ImageDraw

from domain.videos.storyboard.palettes import Palette

GRAIN = 2
"""The most that a pixel's brightness is changed by, of 255."""
_TILE = 256

Draw = ImageDraw.ImageDraw


def backdrop(size: tuple[int, int], scale: float, palette: Palette, number: int) -> Image.Image:
    """Return the backdrop of slide `number`: the same colours and pattern, placed differently from slide to slide."""
    picture = Image.composite(
        Image.new("RGB", size, palette.bottom), Image.new("RGB", size, palette.top), _slope(size, number)
    )
    rng = Random(f"{palette.pattern} {number}")  # noqa: S311 - repeatable on purpose
    picture.paste(palette.motif, (0, 0), _light(size, rng))
    doubled = 2 * size[0], 2 * size[1]
    shapes = Image.new("L", doubled, 0)
    _PATTERNS[palette.pattern](ImageDraw.Draw(shapes), doubled, 2 * scale, rng)
    picture.paste(palette.motif, (0, 0), shapes.reduce(2))
    grain = _grain(size)
    return ImageChops.add(picture, Image.merge("RGB", (grain, grain, grain)), 1, -GRAIN)


def _slope(size: tuple[int, int], number: int) -> Image.Image:
    """Return a gradient, from 0 to 255; from slide to slide it comes from another side."""
    slope = Image.linear_gradient("L").rotate((0, 90, 180, 270)[number % 4] if number % 4 in {0, 2} else 0)
    return slope.resize(size, Image.Resampling.BICUBIC)


def _light(size: tuple[int, int], rng: Random) -> Image.Image:
    """Return a soft light somewhere at an edge, as a mask."""
    light = Image.new("L", size, 0)
    across = round(size[0] * rng.uniform(1.2, 1.6))
    glow = Image.radial_gradient("L").point([max(0, 176 - value) for value in range(256)])
    glow = glow.resize((across, across), Image.Resampling.BICUBIC)
    x = rng.choice((-across // 2, size[0] - across // 2))
    light.paste(glow, (x, round(rng.uniform(-across / 3, size[1] - across / 2))))
    return light


@lru_cache(1)
def _grain_tile() -> Image.Image:
    values = Random(_TILE).randbytes(_TILE * _TILE)  # noqa: S311 - repeatable on purpose
    return Image.frombytes("L", (_TILE, _TILE), bytes(value % (2 * GRAIN + 1) for value in values))


def _grain(size: tuple[int, int]) -> Image.Image:
    grain = Image.new("L", size)
    for x in range(0, size[0], _TILE):
        for y in range(0, size[1], _TILE):
            grain.paste(_grain_tile(), (x, y))
    return grain


def _rules(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    """Draw columns of lines, as a printed page has them."""
    for column in range(3):
        left = size[0] * (0.04 + column * 0.33)
        y = rng.uniform(0, 60) * unit
        while y < size[1]:
            length = size[0] * rng.uniform(0.14, 0.29)
            draw.rounded_rectangle((left, y, left + length, y + 12 * unit), 6 * unit, fill=130)
            y += (46 if rng.random() < 0.85 else 120) * unit


def _bubbles(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    for _ in range(26):
        _circle(draw, rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(24, 150) * unit, 220)


def _diagonals(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    x = -size[1] + rng.uniform(0, 160) * unit
    while x < size[0]:
        draw.line((x, size[1], x + size[1], 0), fill=190, width=round(rng.choice((2, 2, 3, 10)) * unit))
        x += 150 * unit


def _bokeh(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    for fill in (60, 100, 150, 60, 110, 90, 140, 70, 120, 80, 60, 100, 130, 80):
        _circle(draw, rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(60, 240) * unit, fill)


def _dots(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    """Draw a grid of points, some of which are joined as on a circuit board."""
    step = 72 * unit
    columns, rows = int(size[0] / step) + 2, int(size[1] / step) + 2
    for column in range(columns):
        for row in range(rows):
            _circle(draw, column * step, row * step, 4 * unit, 230)
    for _ in range(16):
        x, y = rng.randrange(columns) * step, rng.randrange(rows) * step
        length, bend = rng.randrange(2, 6) * step, rng.choice((-1, 1)) * rng.randrange(1, 4) * step
        draw.line((x, y, x + length, y, x + length + abs(bend), y + bend), fill=200, width=round(5 * unit))
        _circle(draw, x, y, 13 * unit, 230)
        _circle(draw, x + length + abs(bend), y + bend, 13 * unit, 230)


def _halftone(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    """Draw dots that grow towards one corner, as in a printed comic."""
    step, mirrored = 56 * unit, rng.random() < 0.5
    for column in range(int(size[0] / step) + 2):
        for row in range(int(size[1] / step) + 2):
            x, y = (column + row % 2 / 2) * step, row * step
            near = (1 - x / size[0] if mirrored else x / size[0]) * 0.5 + y / size[1] * 0.5
            if near > 0.3:
                _circle(draw, x, y, (near - 0.3) * 40 * unit, 210)


def _pixels(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    step = 90 * unit
    for column in range(int(size[0] / step) + 1):
        for row in range(int(size[1] / step) + 1):
            if rng.random() < 0.2:
                x, y = column * step, row * step
                draw.rectangle((x, y, x + step - 6 * unit, y + step - 6 * unit), fill=rng.choice((90, 150, 210)))


def _stripes(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    x = -size[1] * 0.5 + rng.uniform(0, 200) * unit
    while x < size[0]:
        width = rng.choice((30, 70, 130)) * unit
        draw.polygon(
            [(x, size[1]), (x + width, size[1]), (x + width + size[1] * 0.5, 0), (x + size[1] * 0.5, 0)], fill=150
        )
        x += width + rng.choice((80, 140, 220)) * unit


def _plates(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    for _ in range(9):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(110, 260) * unit
        _circle(draw, x, y, radius, 220)
        _circle(draw, x, y, radius * 0.86, 60)
        _circle(draw, x, y, radius * 0.62, 170)


def _bars(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    """Draw columns that rise, over the lines of a chart."""
    for row in range(int(size[1] / (160 * unit)) + 1):
        draw.line((0, row * 160 * unit, size[0], row * 160 * unit), fill=110, width=round(3 * unit))
    step = 150 * unit
    count = int(size[0] / step) + 1
    for column in range(count):
        height = size[1] * (0.12 + 0.5 * column / count + rng.uniform(-0.05, 0.08))
        x = column * step + 20 * unit
        draw.rounded_rectangle((x, size[1] - height, x + 96 * unit, size[1] + 40 * unit), 16 * unit, fill=190)


def _equaliser(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    step = 54 * unit
    for row in range(int(size[1] / (720 * unit)) + 1):
        middle = (360 + row * 720) * unit
        for column in range(int(size[0] / step) + 1):
            half = rng.uniform(20, 250) * unit
            x = column * step + 12 * unit
            draw.rounded_rectangle((x, middle - half, x + 30 * unit, middle + half), 15 * unit, fill=170)


def _pairs(draw: Draw, size: tuple[int, int], unit: float, rng: Random) -> None:
    """Draw circles two by two, one over the other."""
    for _ in range(9):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(80, 190) * unit
        _circle(draw, x, y, radius, 150)
        _circle(draw, x + radius * 1.1, y + radius * 0.25, radius, 230)


def _circle(draw: Draw, x: float, y: float, radius: float, fill: int) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


_PATTERNS: dict[str, Callable[[Draw, tuple[int, int], float, Random], None]] = {
    "rules": _rules,
    "bubbles": _bubbles,
    "diagonals": _diagonals,
    "bokeh": _bokeh,
    "dots": _dots,
    "halftone": _halftone,
    "pixels": _pixels,
    "stripes": _stripes,
    "plates": _plates,
    "bars": _bars,
    "equaliser": _equaliser,
    "pairs": _pairs,
}
