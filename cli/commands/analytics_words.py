"""Numbers of posts as people read them. What nobody knows is a dash, and never 0."""

from collections.abc import Mapping
from typing import Any

from cli.output import console, show
from domain.learning.horizons import next_look
from domain.learning.metrics import WORDS
from domain.learning.performance import Cell, Figures, HorizonState, Performance
from domain.text.readable import readable
from domain.videos.profiles import NAMES
from workers.ops.analytics import PostMetrics, metric_rows

UNKNOWN = "—"
COUNTS = ("views", "likes", "comments", "shares")
METRIC_COLUMNS = ("horizon", "state", "age", *COUNTS, "engagement", "further", "note")
CELL_COLUMNS = (
    *("group", "posts", "measured", "missed", "to_come", "views_sum", "views_median", "views_quartiles"),
    *("likes_median", "comments_median", "shares_median", "engagement_median", "views_are"),
)


def say_metrics(found: PostMetrics) -> None:
    """Print a post's numbers, what a dash means, and what its views are."""
    out, post = console(), found.post
    out.print(f"{NAMES[post['platform']]}, {readable(post['username'])}: {post['status']}", style="bold")
    if post["published_at"] is None:
        out.print("It is not published: numbers come from an hour after it is.")
    else:
        out.print(f"published {readable(post['published_at'])}")
    if found.predicted_score is not None:
        out.print(f"predicted score {found.predicted_score:.0f} of 100")
    rows = metric_rows(found)
    out.print()
    columns = [name for name in METRIC_COLUMNS if name != "further" or any(row["details"] for row in rows)]
    show([_horizon_row(row, found) for row in rows], columns, as_json=False, nothing="", whole=("note",))
    out.print()
    if any(row["captured_at"] and None in [row[name] for name in COUNTS] for row in rows):
        out.print(f"{UNKNOWN} is unknown: {NAMES[post['platform']]} does not say, or did not then. It is not 0.")
    _say_definitions({row["definition"] for row in rows if row["definition"]})
    says, at = next_look(post, found.at)
    if says is not None:
        out.print(f"Next: {readable(says)}{f' (at {readable(at)})' if at else ''}")


def _horizon_row(row: Mapping[str, Any], found: PostMetrics) -> dict[str, Any]:
    seen = row["captured_at"] is not None
    note = row.get("reason")
    if row.get("state") == HorizonState.TO_COME and row["due_at"] is not None:
        is_due = row["due_at"] <= found.at
        note = f"{'due since' if is_due else 'from'} {readable(row['due_at'])}"
        if is_due and found.note:
            note += f"; the last try was in vain: {readable(found.note)}"
    further = ", ".join(f"{count:,} {name}" for name, count in (row["details"] or {}).items())
    return {
        "horizon": row.get("horizon", "latest"),
        "state": str(row.get("state", f"at {readable(row['captured_at'])}")).replace("_", " "),
        "age": _age(row["age_seconds"]),
        **{name: _count(row[name]) if seen else "" for name in COUNTS},
        "engagement": _percent(row["engagement"]) if seen else "",
        "further": further,
        "note": note or "",
    }


def _age(seconds: int | None) -> str:
    if seconds is None:
        return ""
    minutes = seconds // 60
    return f"{minutes // 60}h {minutes % 60:02}m"


def say_performance(report: Performance) -> None:
    """Print a report: a line for each group, and for each definition of views in it."""
    out = console()
    since, until = readable(report.since), readable(report.until)
    out.print(f"By {report.by}, {report.horizon} after publication", style="bold")
    out.print(f"posts published from {since} to {until}; weeks in {readable(report.time_zone)}\n")
    rows = [row for cell in report.cells for row in _cell_rows(cell)]
    show(rows, CELL_COLUMNS, as_json=False, nothing="No post was published then.")
    if report.more:
        out.print("There are more groups, with fewer posts.")
    if rows:
        out.print(f"\n{UNKNOWN}: no post has the number. (9): so many posts have it; the others are not in the figure.")
    _say_definitions({definition for cell in report.cells for definition in cell.views if definition})


def _cell_rows(cell: Cell) -> list[dict[str, Any]]:
    first = {
        "group": cell.label,
        **{name: f"{getattr(cell, name):,}" for name in ("posts", "measured", "missed", "to_come")},
        **{f"{name}_median": _median(cell, getattr(cell, name)) for name in ("likes", "comments", "shares")},
    }
    rows = [
        {
            "views_sum": _of(cell, views, None if views.total is None else f"{views.total:,}"),
            "views_median": _median(cell, views),
            "views_quartiles": _quartiles(views),
            "engagement_median": _ratio(cell, cell.engagement.get(definition, Figures())),
            "views_are": definition or UNKNOWN,
        }
        for definition, views in (cell.views or {"": Figures()}).items()
    ]
    blank = {"group": cell.label, **dict.fromkeys(first.keys() - {"group"}, "")}
    return [(blank if number else first) | row for number, row in enumerate(rows)]


def _median(cell: Cell, figures: Figures) -> str:
    return _of(cell, figures, None if figures.median is None else _number(figures.median))


def _ratio(cell: Cell, figures: Figures) -> str:
    return _of(cell, figures, None if figures.median is None else _percent(figures.median))


def _of(cell: Cell, figures: Figures, text: str | None) -> str:
    if text is None:
        return UNKNOWN
    return text if figures.count == cell.measured else f"{text} ({figures.count})"


def _quartiles(figures: Figures) -> str:
    if figures.lower_quartile is None or figures.upper_quartile is None:
        return UNKNOWN
    return f"{_number(figures.lower_quartile)} to {_number(figures.upper_quartile)}"


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _number(number: float) -> str:
    return f"{number:,.1f}".removesuffix(".0")


def _percent(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.1%}"


def _say_definitions(names: set[str]) -> None:
    for name in sorted(names):
        console().print(f"{readable(name)}: {WORDS.get(name, 'views as the platform counts them')}.")
