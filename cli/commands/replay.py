"""`viral reflexion replay`: how well the scores would have been learned from posts of the past."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.arguments import existing
from cli.output import AsJson, console, print_json, print_line
from domain.concepts.wording import counted
from domain.errors import Rejected
from domain.learning.replay.engine import OURS, YARDSTICKS, Options, Report, replay, trailing_gaps
from domain.learning.replay.figures import RANGES, Figures
from domain.learning.replay.report import report_values
from domain.learning.replay.rows import FileUnreadable, Post, Skipped, read
from domain.text.readable import readable

MOST_BYTES = 500_000_000
SHOWN = 20
"""Skipped rows that people are shown; programs get all."""
WIDTH = 100
"""The plot shows means of so many posts, or of a tenth of the stream if that is fewer."""
MOST_POINTS = 600
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
    path: Annotated[Path, typer.Argument(parser=existing, metavar="FILE", help="CSV with a header.")],
    tenant_per: Annotated[
        str, typer.Option(metavar="account|all", help="Each account is a tenant, or a source's accounts are one's.")
    ] = "all",
    delay: Annotated[
        int, typer.Option(min=0, help="After so many further posts of its source an outcome is there.")
    ] = 10,
    window: Annotated[int, typer.Option(min=0, help="Posts after which a tenant begins anew; 0: never.")] = 1210,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file if one row cannot be read.")] = False,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw how far off predictions were, as .svg or .png.")
    ] = None,
) -> None:
    """Predict posts of the past one after another, each before its outcome is there, by what was learned until then.

    The models, the pool and the scale are the production's. Needs no servers. Columns: source, platform, order_at,
    account, category, views, likes, comments, shares, saves, followers, duration_s, n_hashtags, text_len,
    has_question, original_sound, in any order; empty is unknown, and the first four, views and likes are needed.
    `order_at` is a time or a number.

    Each `source` is a stream. Figures are for a tenant's posts 1-30, 31-100, and all after 30, 100 and 1000: mean
    distance and mean signed gap in points, shares (0 to 1) within 20 % of the prediction, within 10 points and in the
    stated interval, and the rank correlation; beside the same of a running median of the stream and of the original's
    weights and rule. A row of which nothing can be learned is named with its line.

    \b
    viral reflexion replay posts.csv
    viral reflexion replay posts.csv --tenant-per account --plot gaps.svg
    """
    if tenant_per not in ("account", "all"):
        raise typer.BadParameter(f"{tenant_per!r} is neither account nor all", param_hint="--tenant-per")
    draw = None if plot is None else _drawing(plot)
    posts, skipped = _read(path)
    unreadable = [each for each in skipped if not each.judged]
    if strict and unreadable:
        first = "; ".join(f"line {each.line}: {each.reason}" for each in unreadable[:3])
        more = f" (and {len(unreadable) - 3} more)" if len(unreadable) > 3 else ""
        raise RowsRefused(f"{counted(len(unreadable), 'row')} cannot be read: {first}{more}")
    report = replay(posts, Options(tenant_per == "account", delay, window))
    if plot is not None and draw is not None:
        _save(plot, draw(_chart(report)))
    if as_json:
        print_json(report_values(report, skipped))
    else:
        _print(report, skipped)


def _read(path: Path) -> tuple[list[Post], list[Skipped]]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="FILE") from None
    if len(data) > MOST_BYTES:
        raise FileUnreadable(f"it has more than {MOST_BYTES // 1_000_000} MB")
    # A byte that is no UTF-8 becomes U+FFFD, which makes its row unreadable and no other.
    return read(io.StringIO(data.decode("utf-8-sig", errors="replace"), newline=""))


# --- for people ------------------------------------------------------------------------------------------------------


def _print(report: Report, skipped: Sequence[Skipped]) -> None:
    if not report.streams:
        console().print("No row has an outcome.")
    for stream in report.streams:
        _table(f"{readable(stream.name)}: {counted(stream.count, 'post')}", stream.ranges)
    if len(report.streams) > 1:
        _table(f"mean of {len(report.streams)} streams", report.ranges)
    if skipped:
        console().print(f"{counted(len(skipped), 'row')} skipped:")
        for each in skipped[:SHOWN]:
            console().print(f"  line {each.line}: {each.reason}")
        if len(skipped) > SHOWN:
            console().print(f"  and {len(skipped) - SHOWN} more (--json has all)")


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

    return charts.svg if path.suffix.lower() == ".svg" else charts.png


def _save(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--plot") from None


def _chart(report: Report) -> Any:
    from integrations.studio.charts import Chart, Line, Panel  # noqa: PLC0415

    panels = []
    for stream in report.streams:
        width = max(1, min(WIDTH, stream.count // 10))
        lines = []
        for rule, name in NAMES.items():
            points = [(float(place), gap) for place, gap in enumerate(trailing_gaps(stream.hits[rule], width), width)]
            lines.append(Line(name, points[:: max(1, len(points) // MOST_POINTS)]))
        panels.append(Panel(f"{stream.name} ({stream.count:,} posts; mean of {width})", lines))
    return Chart("How far predictions were off", "posts of the stream", "points", list(NAMES.values()), panels)
