"""Tables for people, JSON for programs, and how far a long command is for whoever sits before a terminal."""

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Protocol, TextIO

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from domain.text.readable import ago, plain, readable, shortened
from domain.text.visible import visible, visible_json
from workers.runtime.terminal import coloured

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most this many.")]

Simplified = Callable[[Mapping[str, Any]], dict[str, Any]]
"""It changes a row before people see it; programs get the row itself."""

COLOURS = {"completed": "green", "failed": "red", "running": "cyan", "cancelled": "dim", "-": "dim", "applied": "green"}
COLOURS |= {"alive": "green", "draining": "yellow", "dead": "red", "rendering": "cyan", "unconfirmed": "yellow"}


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


def show(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    nothing: str,
    simplified: Simplified = dict,
    whole: Collection[str] = (),
) -> None:
    """Print a table of `columns`, or all that is in the rows as a JSON list.

    A table leaves out columns in which no row has a value, cuts long texts (but those of the columns that are shown
    `whole`), and has each row as `simplified` returns
    it. `nothing` is printed where there is no row.
    """
    if as_json:
        print_json(rows)
        return
    if not rows:
        console().print(nothing)
        return
    simple = [simplified(row) for row in rows]
    used = [column for column in columns if any(row.get(column) is not None for row in simple)]
    names = [readable(column) for column in used]
    now = datetime.now(UTC)
    cells = [[_cell(row.get(column), column in whole, now) for column in used] for row in simple]
    widths = [max(cell_len(line[n]) for line in (names, *cells)) for n in range(len(used))]
    print_line(names, widths, "bold")
    for line in cells:
        print_line(line, widths)


def _cell(value: object, whole: bool, now: datetime) -> str:
    return timed(value, now) if whole else shortened(timed(value, now))


def timed(value: object, now: datetime | None = None) -> str:
    """Return a value as people read it: of a moment also how far it is from now, in one unit, so that columns stay
    narrow."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return f"{readable(value)} {ago(value, now or datetime.now(UTC), units=1)}"
    return readable(value)


def show_one(
    row: Mapping[str, Any],
    *,
    as_json: bool,
    simplified: Simplified = dict,
    part: tuple[str, Sequence[str], str] | None = None,
) -> None:
    """Print one thing, each of its values on a line, or all of it as a JSON object.

    `part` names a value that is a list of rows, with the columns of the table that follows and what stands for no row.
    """
    if as_json:
        print_json(row)
        return
    values = simplified(row)
    rows = values.pop(part[0]) if part else []
    width = max(len(name) for name in values)
    for name, value in values.items():
        if value is not None:
            print_line([readable(name), timed(value)], [width, 0])
    if part:
        console().print()
        show(rows, part[1], as_json=False, nothing=part[2])


def print_line(cells: Sequence[str], widths: Sequence[int], style: str = "") -> None:
    """Print cells side by side; nothing follows the last one."""
    line = Text(style=style, end="\n")
    for n, (text, width) in enumerate(zip(cells, widths, strict=True)):
        line.append(text, COLOURS.get(text))
        line.append(" " * (width - cell_len(text) + 2 if n < len(cells) - 1 else 0))
    console().print(line)


def print_json(value: object) -> None:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(plain(value), indent=2, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write(f"{visible_json(text)}\n")


class Step(Protocol):
    """Says how far a command is. `done` of `total`, in the same unit; None: as before, or not known."""

    def __call__(
        self, done: float | None = None, total: float | None = None, *, what: str = "", says: str = ""
    ) -> None:
        """`what` is being done, and `says` in words how far it is."""


@contextmanager
def progress(what: str, total: float | None = None, *, as_json: bool = False) -> Iterator[Step]:
    """Show a bar and the time on standard error, while that is a terminal and no JSON is asked for. It is gone at the
    end. Every command that may take more than two seconds has one."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[says]}"), TimeElapsedColumn())
    hidden = as_json or not sys.stderr.isatty()
    with Progress(*columns, console=VisibleConsole(sys.stderr), transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total, says="")

        def step(done: float | None = None, total: float | None = None, *, what: str = "", says: str = "") -> None:
            bar.update(task, completed=done, total=total, description=what or None, says=says)

        yield step


def dollars(usd: Decimal) -> str:
    """At least cents, and whatever is below them."""
    cents = usd.quantize(Decimal("0.01"))
    return f"${cents:,}" if cents == usd else f"${usd.normalize():f}"


def without_password(url: str) -> str:
    """Blot out the password of a URL; of a malformed one, rather too much than too little."""
    return re.sub(r"(password=)[^&\s]+", r"\1***", re.sub(r"(://[^:/?#]*:).*@", r"\1***@", url))
