"""Tables for people, JSON for programs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from domain.text.readable import plain, readable, shortened
from domain.text.visible import visible, visible_json
from workers.runtime.terminal import coloured

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Show at most this many.")]

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
    names = [readable(column) for column in said]
    cells = [[shortened(readable(row.get(column))) for column in said] for row in rows]
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
            print_line([readable(name), readable(value)], [width, 0])


def print_line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> None:
    """Cells side by side; nothing follows the last one."""
    line = Text(style=style, end="\n")
    for n, (text, width) in enumerate(zip(cells, widths, strict=True)):
        line.append(text, COLOURS.get(text))
        line.append(" " * (width - cell_len(text) + 2 if n < len(cells) - 1 else 0))
    console().print(line)


def print_json(value: object) -> None:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(plain(value), indent=2, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write(f"{visible_json(text)}\n")


def lines(text: str) -> str:
    """Visible text of several lines."""
    return "\n".join(map(readable, text.split("\n")))


def without_password(url: str) -> str:
    """The URL with its password, if it has one, blotted out; of a malformed one, rather too much than too little."""
    return re.sub(r"(password=)[^&\s]+", r"\1***", re.sub(r"(://[^:/?#]*:).*@", r"\1***@", url))
