"""A replay's report as programs read it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from domain.learning.replay.engine import OURS, YARDSTICKS, Report
from domain.learning.replay.figures import Figures
from domain.learning.replay.rows import Skipped


def report_values(report: Report, skipped: Sequence[Skipped], ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return the figures of each stream and their mean, each by range; null for a range without rows. `models` says of
    how many posts each model was the champion; `ignored` are columns that nobody reads."""
    return {
        "streams": [
            {"name": stream.name, "n": stream.count, "models": stream.models, **_all(stream.ranges)}
            for stream in report.streams
        ],
        "mean": _all(report.ranges),
        "skipped": [{"line": each.line, "reason": each.reason} for each in skipped],
        "ignored_columns": list(ignored),
    }


def _all(found: Callable[[str], dict[str, Figures | None]]) -> dict[str, Any]:
    ours, median = found(OURS), found("running_median")
    return {
        "ranges": {name: _values(each, median[name]) for name, each in ours.items()},
        "yardsticks": {rule: {name: _values(each) for name, each in found(rule).items()} for rule in YARDSTICKS},
    }


def _values(figures: Figures | None, median: Figures | None = None) -> Mapping[str, Any] | None:
    """Return figures by name; with the running median's also the skill, 1 - gap / its gap."""
    if figures is None:
        return None
    if median is None:
        return asdict(figures)
    return asdict(figures) | {"skill": 1 - figures.gap / median.gap if median.gap else None}
