"""Tables for people, JSON for programs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Annotated, Any, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from domain.text.visible import visible, visible_json
from workers.runtime.terminal import coloured

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Show at most this many.")]

LONGEST_CELL = 60
WITHOUT_END = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "cancelled": "dim", "-": "dim", "applied": "green"}
COLOURS |= {"alive": "green", "draining": "yellow", "dead": "red"}


class VisibleConsole(Console):
    """Colours what it shows, and obeys no text: neither its characters nor what looks like markup.

    Lines are as long as they are: a terminal wraps them by itself, a program wants them whole.
    """

    def __init__(self, file: TextIO, **options: Any) -> None:
        super().__init__(file=coloured(file), highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, keep="\n\t"), segment.style)


def console() -> VisibleConsole:
    return VisibleConsole(sys.stdout)


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, nothing: str) -> None:
    """The rows as a table of `columns`, or all that is in them as a JSON list.

    A column in which no row says anything is left out, and long texts are cut: JSON, and `show`, have all.
    """
    if as_json:
        print_json(rows)
        return
    if not rows:
        console().print(nothing)
        return
    said = [column for column in columns if any(row.get(column) is not None for row in rows)]
    names = [cell(column) for column in said]
    cells = [[shortened(cell(row.get(column))) for column in said] for row in rows]
    widths = [max(cell_len(line[n]) for line in (names, *cells)) for n in range(len(said))]
    print_line(names, widths, "bold")
    for line in cells:
        print_line(line, widths)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line each of what it says."""
    if as_json:
        print_json(row)
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        if value is not None:
            print_line([cell(name), cell(value)], [width, 0])


def print_line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> None:
    """Cells side by side; nothing follows the last one."""
    line = Text(style=style, end="\n")
    for n, (text, width) in enumerate(zip(cells, widths, strict=True)):
        line.append(text, COLOURS.get(text))
        line.append(" " * (width - cell_len(text) + 2 if n < len(cells) - 1 else 0))
    console().print(line)


def print_json(value: object) -> None:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(_plain(value), indent=2, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write(f"{visible_json(text)}\n")


def cell(value: object) -> str:
    """One line of visible text."""
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case timedelta():
            return span(value)
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return visible_json(json.dumps(_plain(value), ensure_ascii=False))
    return visible(" ".join(re.split(r"[\n\r\t]", str(value))))


def lines(text: str) -> str:
    """Visible text of several lines."""
    return "\n".join(map(cell, text.split("\n")))


def span(length: timedelta) -> str:
    """A duration in its two largest units: `3d 4h`, `2h`, `59s`. Less than a second is `0s`."""
    seconds = max(0, int(length.total_seconds()))
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    first = next((n for n, (_, count) in enumerate(units) if count), len(units) - 1)
    shown = [f"{count}{unit}" for unit, count in units[first : first + 2] if count]
    return " ".join(shown) or "0s"


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def without_password(url: str) -> str:
    """The URL with its password, if it has one, blotted out; of a malformed one, rather too much than too little."""
    return re.sub(r"(password=)[^&\s]+", r"\1***", re.sub(r"(://[^:/?#]*:).*@", r"\1***@", url))


def _plain(value: Any) -> Any:
    """The value as JSON has it: what JSON has no form for is text, as Postgres' own `to_json` writes it."""
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return _plain(value.value)
        case str():
            return str(value)
        case float() | Decimal():
            number = float(value)
            return number if isfinite(number) else WITHOUT_END[str(number)]
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode(errors="replace")
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case Iterable():
            return [_plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain(asdict(value))
    return str(value)
