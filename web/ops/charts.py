"""Charts as SVG, drawn here: a browser with scripts puts a cursor on them, one without shows them as they are."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from web.ops.filters import short
from workers.ops.overview import Chart

WIDTH, HEIGHT = 600, 160
INKS: Final = ("link", "doubt", "good", "bad", "text", "quiet")
"""Colours of lines, by their place; their dashes differ too."""


def drawn(chart: Chart, since: datetime, until: datetime, changed: Sequence[datetime]) -> Mapping[str, Any]:
    """Return what the template shows of a chart: paths from zero at the bottom to `top`, and the numbers, newest
    first. `marks` are the places of what was changed."""
    top = max((value for line in chart.lines for value in line.values if value is not None), default=0.0)
    measured = [
        at for place, at in enumerate(chart.times) if any(line.values[place] is not None for line in chart.lines)
    ]
    return {
        "name": chart.name,
        "unit": chart.unit,
        "top": short(top),
        "lines": [
            {
                "name": line.name,
                "ink": INKS[place % len(INKS)],
                "path": _path(line.values, top),
                "last": _last(line.values),
            }
            for place, line in enumerate(chart.lines)
        ],
        "marks": [round(WIDTH * ((at - since) / (until - since)), 1) for at in changed],
        "rows": [
            (at, [line.values[place] for line in chart.lines]) for place, at in reversed([*enumerate(chart.times)])
        ],
        "measured_until": min(until, max(measured) + _length(chart.times)) if measured else None,
        "since": chart.times[0] if chart.times else since,
        "until": until,
    }


def _path(values: Sequence[float | None], top: float) -> str:
    """Return the `d` of a path with a gap wherever nothing is known; a value between two gaps is a short dash."""
    step = WIDTH / max(1, len(values) - 1)
    found, drawing = [], False
    for place, value in enumerate(values):
        if value is not None:
            at = f"{place * step:.1f} {HEIGHT - (HEIGHT - 4) * value / (top or 1) - 2:.1f}"
            alone = not drawing and (place + 1 == len(values) or values[place + 1] is None)
            found.append(f"{'L' if drawing else 'M'}{at}{'h3' if alone else ''}")
        drawing = value is not None
    return "".join(found)


def _last(values: Sequence[float | None]) -> str:
    return short(next((value for value in reversed(values) if value is not None), None))


def _length(times: Sequence[datetime]) -> timedelta:
    return next((after - before for before, after in pairwise(times)), timedelta(0))
