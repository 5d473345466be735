"""`viral reflexion replay`: how well the scores would have been learned from posts of the past."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.arguments import among, existing
from cli.configuration import resolve_offline
from cli.output import AsJson, console, print_json, print_line, progress
from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.learning.replay.engine import (
    OURS,
    USUAL_DELAY,
    USUAL_WINDOW,
    YARDSTICKS,
    Options,
    Report,
    replay,
    trailing_gaps,
)
from domain.learning.replay.figures import RANGES, Figures
from domain.learning.replay.report import report_values
from domain.learning.replay.rows import MOST_BYTES, ReadFile, Skipped, read_rows
from domain.text.readable import readable

SHOWN = 20
"""Skipped rows that people are shown; programs get all."""
WIDTH = 100
"""The plot shows means of so many posts, or of a tenth of the stream if that is fewer."""
MOST_POINTS = 600
MOST_PANELS, LONGEST_TITLE = 24, 36
NAMES = {
    OURS: "champion",
    "running_median": "running median",
    "original_rule": "the original's rule",
    "original_weights": "the original's weights",
}
FORMATS = (".svg", ".png")


class RowsRefused(Rejected):
    """A row cannot be read, and --strict was asked for."""


def run_replay(
    path: Annotated[
        Path, typer.Argument(parser=existing, metavar="FILE", help="CSV with a header; -: standard input.")
    ],
    tenant_per: Annotated[
        str,
        typer.Option(
            metavar="account|all",
            help="Each account is a tenant, or a source's accounts are one's.",
            autocompletion=among(("account", "all")),
        ),
    ] = "account",
    delay: Annotated[
        int,
        typer.Option(min=0, help="After so many further posts of its source an outcome is there."),
    ] = USUAL_DELAY,
    window: Annotated[
        int, typer.Option(min=0, help="Posts of a source after which all is learned anew; 0: never.")
    ] = USUAL_WINDOW,
    pool: Annotated[
        str,
        typer.Option(
            metavar="all|source",
            help="All streams have one pool, or each has its own.",
            autocompletion=among(("all", "source")),
        ),
    ] = "source",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if one row cannot be read.")] = False,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw how far off predictions were, as .svg or .png.")
    ] = None,
) -> None:
    """Play posts of the past through the models.

    Each is predicted before its outcome is there, by what was learned until then.

    The models, the pool and the scale are the production's. Needs no servers. Columns: source, platform, order_at,
    account, category, views, likes, comments, shares, saves, followers, duration_s, n_hashtags, text_len,
    has_question, original_sound, in any order; empty is unknown, and the first four, views and likes are needed.
    `order_at` is a time or a number.

    Each `source` is a stream, and begins anew after each window: with nothing of its own, and with its pool of what
    came before. Figures are for a window's posts 1-30, 31-100, and all after 30, 100 and 1000: mean distance and mean
    signed gap in points, shares (0 to 1 in JSON) within 20 % of the prediction, within 10 points and in the stated
    interval, and the rank correlation; beside the same of a running median of the stream and of the original's weights
    and rule. skill is 1 - gap / the running median's gap. A row that cannot be read, or of which nothing can be
    learned, is named with its line.

    \b
    viral reflexion replay posts.csv
    viral reflexion replay posts.csv --tenant-per account --plot gaps.svg
    """
    if tenant_per not in ("account", "all"):
        raise typer.BadParameter(f"{tenant_per!r} is neither account nor all", param_hint="--tenant-per")
    if pool not in ("all", "source"):
        raise typer.BadParameter(f"{pool!r} is neither all nor source", param_hint="--pool")
    draw = None if plot is None else _drawing(plot)
    found = _read(path)
    if strict and found.malformed:
        first = "; ".join(f"line {each.line}: {each.reason}" for each in found.malformed[:3])
        more = f" (and {len(found.malformed) - 3} more)" if len(found.malformed) > 3 else ""
        raise RowsRefused(f"{counted(len(found.malformed), 'row')} cannot be read: {first}{more}")
    with progress("replay", as_json=as_json):
        report = replay(found.posts, Options(tenant_per == "account", delay, window, pool == "source"))
    if plot is not None and draw is not None:
        _save(plot, draw(_chart(report)))
    if as_json:
        print_json(report_values(report, found.skipped, found.ignored))
    else:
        _print(report, found)


def _read(path: Path) -> ReadFile:
    try:
        if str(path) == "-":
            return read_rows(sys.stdin.buffer.read(MOST_BYTES + 1))
        with path.open("rb") as file:
            return read_rows(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="FILE") from None


# --- for people ------------------------------------------------------------------------------------------------------


def _print(report: Report, found: ReadFile) -> None:
    if not report.streams:
        console().print("No row has an outcome.")
    for stream in report.streams:
        _table(f"{readable(stream.name)}: {counted(stream.count, 'post')}", stream.ranges)
    if len(report.streams) > 1:
        _table(f"mean of {len(report.streams)} streams", report.ranges)
    for title, rows in (
        ("cannot be read", found.malformed),
        ("teach nothing and are in no figure", [each for each in found.skipped if not each.malformed]),
    ):
        _list(title, rows)
    if found.ignored:
        console().print(f"Columns that are ignored: {', '.join(map(readable, found.ignored))}")


def _list(title: str, rows: Sequence[Skipped]) -> None:
    if not rows:
        return
    console().print(f"{counted(len(rows), 'row')} that {title}:")
    for each in rows[:SHOWN]:
        console().print(f"  line {each.line}: {readable(each.reason)}")
    if len(rows) > SHOWN:
        console().print(f"  and {len(rows) - SHOWN} more (--json has all)")


def _table(title: str, found: Callable[[str], dict[str, Figures | None]]) -> None:
    ours, others = found(OURS), {rule: found(rule) for rule in reversed(YARDSTICKS)}
    head = ("posts", "n", "gap", "bias", "within_20%", "within_10", "rank", "covered", "skill")
    cells = [head + tuple(NAMES[rule] for rule in others)]
    for name in RANGES:
        figures, median = ours[name], others["running_median"][name]
        if figures is not None and median is not None:
            skill = 1 - figures.gap / median.gap if median.gap else None
            cells.append(
                (
                    *(name, str(figures.n), _points(figures.gap), f"{figures.bias:+.1f}"),
                    *(_share(figures.within20), _share(figures.within10)),
                    *(_two(figures.rank), _share(figures.coverage), _two(skill)),
                    *(_points(each.gap if (each := others[rule][name]) else None) for rule in others),
                )
            )
    widths = [max(len(line[n]) for line in cells) for n in range(len(head) + len(others))]
    console().print(title)
    for number, line in enumerate(cells):
        print_line(line, widths, "" if number else "bold")
    console().print()


def _points(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"


def _two(value: float | None) -> str:
    return "—" if value is None else f"{value:+.2f}"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f}%"


# --- as a picture ----------------------------------------------------------------------------------------------------


def _drawing(path: Path) -> Callable[[Any], bytes]:
    """Return what draws into such a file.

    Raises:
        BadParameter: no chart can be drawn into it.
    """
    if path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path} ends neither with .svg nor with .png", param_hint="--plot")
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.absolute().parent}", param_hint="--plot")
    from integrations.studio import charts  # noqa: PLC0415 - only who draws needs it

    if path.suffix.lower() == ".svg":
        return charts.svg
    fonts = resolve_offline().fonts_dir
    return lambda chart: charts.png(chart, fonts)


def _save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--plot") from None


def _chart(report: Report) -> Any:
    from integrations.studio.charts import Chart, Line, Panel  # noqa: PLC0415

    panels = []
    drawn = sorted(sorted(report.streams, key=lambda each: -each.count)[:MOST_PANELS], key=lambda each: each.name)
    for stream in drawn:
        width = max(1, min(WIDTH, stream.count // 10))
        lines = []
        for rule, name in NAMES.items():
            points = [(float(place), gap) for place, gap in enumerate(trailing_gaps(stream.hits[rule], width), width)]
            lines.append(Line(name, points[:: max(1, len(points) // MOST_POINTS)]))
        name = readable(stream.name)
        name = name if len(name) <= LONGEST_TITLE else f"{name[: LONGEST_TITLE - 1]}…"
        panels.append(Panel(f"{name} ({stream.count:,} posts; mean of {width})", lines))
    title = "How far predictions were off"
    if len(drawn) < len(report.streams):
        title += f": the longest {len(drawn)} of {len(report.streams)} streams"
    return Chart(title, "posts of the stream", "points", list(NAMES.values()), panels)
