"""Measures over time, for charts: what was counted in each minute or hour, and what gauges said.

Where nobody looked, nothing is known: that is a gap, and not a zero.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any

from db.ops.series import Measured
from db.transaction import Tx
from domain.errors import Rejected
from domain.ops.metrics import SAMPLED, Kind, Metric, metric, percentile

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KEPT = {MINUTE: timedelta(hours=48), HOUR: timedelta(days=396)}
"""How long what was counted by the step is kept."""

MOST_POINTS = 48 * 60 + 1


class Step(Enum):
    """The length of time that a point stands for."""

    MINUTE = MINUTE
    HOUR = HOUR


class WrongSpan(Rejected):
    """A series of these times has no points, or too many."""


@dataclass(frozen=True, slots=True)
class Point:
    """One step that begins at `at`. `value` is None where nobody looked (a gap); of a counter it is what was counted in
    the step, of a gauge what it was (in an hour: the largest), of a histogram the sum of the cases. `buckets` are the
    cases of a histogram by bucket; the last has those above all bounds."""

    at: datetime
    value: float | None
    buckets: tuple[int, ...] = ()

    @property
    def cases(self) -> int:
        return sum(self.buckets)


@dataclass(frozen=True, slots=True)
class Series:
    """Points, one a step, oldest first, without a hole: [since, until). `labels` are those that were asked for."""

    metric: Metric
    labels: Mapping[str, str]
    step: timedelta
    points: tuple[Point, ...]

    @property
    def values(self) -> list[float | None]:
        return [point.value for point in self.points]

    def rates(self) -> list[float | None]:
        """Of a counter: per second."""
        seconds = self.step.total_seconds()
        return [None if point.value is None else point.value / seconds for point in self.points]

    def percentiles(self, fraction: float) -> list[float | None]:
        """Of a histogram: in each step the value below which this fraction of the cases lies; None without cases."""
        return [percentile(point.buckets, self.metric.buckets, fraction) for point in self.points]

    def percentile(self, fraction: float) -> float | None:
        """Of a histogram: over all steps together."""
        return percentile(_summed(point.buckets for point in self.points), self.metric.buckets, fraction)

    @property
    def total(self) -> float:
        """Of a counter: what was counted in all steps."""
        return sum(point.value or 0.0 for point in self.points)


def series(
    tx: Tx,
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    since: datetime,
    until: datetime,
    step: Step = Step.MINUTE,
) -> Series:
    """Return a metric over time, summed over the labels that are not asked for (of some gauges: the largest).

    `since` is taken from the start of its step. System scope.

    Raises:
        KeyError: there is no such metric.
        WrongSpan: there would be no point, or too many.
    """
    found = series_by(tx, name, None, labels, since=since, until=until, step=step)
    return found[""]


def series_by(
    tx: Tx,
    name: str,
    by: str | None,
    labels: Mapping[str, str] | None = None,
    *,
    since: datetime,
    until: datetime,
    step: Step = Step.MINUTE,
) -> dict[str, Series]:
    """Return `series` for each value of the label `by` that has a point; with None all together, by the name "".

    Raises:
        KeyError: there is no such metric, or it has no such label.
        WrongSpan: there would be no point, or too many.
    """
    measured, wanted = metric(name), dict(labels or {})
    if missing := {*wanted, *([by] if by else [])} - {*measured.labels}:
        raise KeyError(f"{name} has no label {min(missing)}: it has {', '.join(measured.labels) or 'none'}")
    length = step.value
    times = _times(since, until, length)
    looked = _looked(tx, times, step)
    rows = _rows(tx, measured, step, times, wanted, by=by)
    groups = sorted({row.labels.get(by, "") for row in rows}) if by else [""]
    found = {}
    for group in groups:
        own = [row for row in rows if by is None or row.labels.get(by, "") == group]
        shown = wanted | ({by: group} if by else {})
        found[group] = Series(measured, shown, length, _points(measured, own, times, looked))
    return found


def _times(since: datetime, until: datetime, length: timedelta) -> list[datetime]:
    first = since.replace(minute=0 if length == HOUR else since.minute, second=0, microsecond=0)
    count = max(0, -((first - until) // length))
    if not 0 < count <= max(MOST_POINTS, KEPT[HOUR] // HOUR):
        raise WrongSpan(f"a series has 1 to {MOST_POINTS:,} points: there would be {count:,}")
    return [first + n * length for n in range(count)]


def _rows(
    tx: Tx, measured: Metric, step: Step, times: Sequence[datetime], labels: Mapping[str, str], *, by: str | None
) -> list[Measured]:
    """Return the rows of a metric. What is added up anyway is added up by Postgres, and of a gauge of which the worst
    counts it finds that. Of the others the largest of an hour counts for each set of labels: these are all read."""

    def read(name: str, since: datetime, until: datetime) -> list[Measured]:
        if measured.kind is Kind.GAUGE and not measured.worst:
            return tx.series.read(measured.name, name, since, until, labels)
        buckets = len(measured.buckets) + 1 if measured.kind is Kind.HISTOGRAM else 0
        of: dict[str, Any] = {"by": by, "buckets": buckets, "largest": measured.kind is Kind.GAUGE}
        return tx.series.read_summed(measured.name, name, since, until, labels, **of)

    return _of_steps(tx, read, step, times)


def _of_steps(
    tx: Tx, read: Callable[[str, datetime, datetime], list[Measured]], step: Step, times: Sequence[datetime]
) -> list[Measured]:
    since, until = times[0], times[-1] + step.value
    if step is Step.MINUTE:
        return read("minute", since, until)
    # What is not rolled up yet is in the minutes.
    reached = tx.series.rolled_up_until()
    rows = read("hour", since, until)
    if reached is None or reached < until:
        minutes = read("minute", max(since, reached or since), until)
        rows += [row._replace(at=row.at and row.at.replace(minute=0)) for row in minutes]
    return rows


def _looked(tx: Tx, times: Sequence[datetime], step: Step) -> dict[datetime, bool]:
    """The steps of which something is known: True where a scheduler sampled, False where its last sample still holds,
    since nothing has changed: then it samples seldom, and says how seldom."""
    length, found = step.value, {}
    rows = _of_steps(tx, partial(_samples, tx), step, [times[0] - HOUR, *times])
    for row in rows:
        at = row.at or times[0]
        ends = at + max(timedelta(seconds=float(row.value)) if step is Step.MINUTE else length, length)
        found[at] = True
        while (at := at + length) < ends:
            found.setdefault(at, False)
    return found


def _samples(tx: Tx, step: str, since: datetime, until: datetime) -> list[Measured]:
    return tx.series.read(SAMPLED, step, since, until, {})


def _points(
    measured: Metric, rows: Sequence[Measured], times: Sequence[datetime], looked: Mapping[datetime, bool]
) -> tuple[Point, ...]:
    by_time: dict[datetime | None, dict[tuple[tuple[str, str], ...], list[Measured]]] = {}
    for row in rows:
        by_time.setdefault(row.at, {}).setdefault(tuple(sorted(row.labels.items())), []).append(row)
    points: list[Point] = []
    before: float | None = None
    for at in times:
        here = by_time.get(at, {})
        values = [_one(measured, each) for each in here.values()]
        if values:
            before = max(values) if measured.worst else sum(values)
        elif measured.kind is not Kind.GAUGE or looked.get(at, True):
            before = 0.0
        points.append(
            Point(
                at,
                before if values or at in looked else None,
                _summed(row.buckets or () for each in here.values() for row in each),
            )
        )
    return tuple(points)


def _one(measured: Metric, rows: Sequence[Measured]) -> float:
    """The value of one set of labels in one step, of one row or of several minutes."""
    values = [float(row.value) for row in rows]
    return max(values) if measured.kind is Kind.GAUGE else sum(values)


def _summed(many: Iterable[Sequence[int]]) -> tuple[int, ...]:
    found: list[int] = []
    for buckets in many:
        found += [0] * (len(buckets) - len(found))
        for place, cases in enumerate(buckets):
            found[place] += cases
    return tuple(found)
