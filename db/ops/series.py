"""What the processes count, kept twice: as totals of all time, and by the minute and the hour.

A process reports what it has counted since its start, and the difference to its report before is added, in the same
transaction. So a report that comes twice counts once, a process that is killed takes with it what it has not reported,
and its row can be deleted without counting anything again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from domain.errors import ViralError
from domain.ops.metrics import SAMPLED

Labels = Mapping[str, str]

LOCK_WAIT = "SET LOCAL lock_timeout = '2s'"
"""Processes that report at once wait for each other's rows, for milliseconds. Who waits for longer reports later."""

# The number of a report makes one that comes late, after a newer one, change nothing.
ANNOUNCE = """
INSERT INTO process_metrics AS kept (id, role, hostname, pid, release)
VALUES (%(id)s, %(role)s, %(hostname)s, %(pid)s, %(release)s) ON CONFLICT (id) DO UPDATE SET reported_at = now()
RETURNING coalesce((kept.reported ->> 'number')::bigint, 0) < %(number)s, xmax = 0
"""

# Rows are written in one order by all processes. A key is the metric's name and labels, as the process writes them.
REPORT = """
WITH report AS (
    SELECT key, name, labels, value, buckets FROM jsonb_to_recordset(%(report)s::jsonb)
        AS report (key text, name text, labels jsonb, value numeric, buckets bigint[])
), change AS (
    SELECT report.name, report.labels, report.value - coalesce((kept.reported -> key ->> 'value')::numeric, 0) AS value,
           CASE WHEN report.buckets IS NOT NULL THEN ARRAY(
               SELECT now_.cases - coalesce(before.cases::bigint, 0)
               FROM unnest(report.buckets) WITH ORDINALITY AS now_ (cases, place)
               LEFT JOIN jsonb_array_elements_text(kept.reported -> key -> 'buckets') WITH ORDINALITY
                   AS before (cases, place) USING (place)
               ORDER BY place
           ) END AS buckets
    FROM report CROSS JOIN (SELECT reported FROM process_metrics WHERE id = %(id)s) AS kept
), changed AS (
    SELECT * FROM change WHERE value <> 0 OR 0 < ANY(buckets) ORDER BY name, labels
), summed AS (
    INSERT INTO metric_totals AS kept (name, labels, value, buckets) SELECT * FROM changed ORDER BY name, labels
    ON CONFLICT (name, labels) DO UPDATE SET value = kept.value + excluded.value, buckets = {added}
    RETURNING 1
), of_the_minute AS (
    INSERT INTO system_metrics AS kept (name, labels, value, buckets, step, at)
    SELECT name, labels, value, buckets, 'minute', date_trunc('minute', now()) FROM changed ORDER BY name, labels
    ON CONFLICT (name, labels, step, at) DO UPDATE SET value = kept.value + excluded.value, buckets = {added}
    RETURNING 1
)
UPDATE process_metrics SET reported_at = now(), reported = reported
    || jsonb_build_object('number', %(number)s::bigint)
    || (SELECT jsonb_object_agg(key, jsonb_build_object('value', value, 'buckets', buckets)) FROM report)
WHERE id = %(id)s AND (SELECT count(*) FROM summed) + (SELECT count(*) FROM of_the_minute) >= 0
""".format(
    added="""CASE WHEN excluded.buckets IS NOT NULL THEN ARRAY(
        SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(kept.buckets, excluded.buckets)
            WITH ORDINALITY AS both_ (a, b, place) ORDER BY place
    ) END"""
)

SAMPLE_LOCK = 0x766972616C02
"""Key of the advisory lock under which one scheduler at a time samples."""

TAKE_SAMPLE = """
SELECT pg_try_advisory_xact_lock(%(lock)s) AND NOT EXISTS (
    SELECT FROM system_metrics
    WHERE name = %(name)s AND step = 'minute' AND at = date_trunc('minute', now()) AND labels = '{}'
)
"""

KEEP_SAMPLES = """
INSERT INTO system_metrics (name, labels, value, step, at)
SELECT name, labels::jsonb, value, 'minute', date_trunc('minute', now())
FROM unnest(%s::text[], %s::text[], %s::numeric[]) AS sample (name, labels, value)
ON CONFLICT (name, labels, step, at) DO NOTHING
"""

# The last hour that was rolled up is rolled up again: a report of its last second may have been committed late.
ROLL_UP = """
WITH reached AS (
    SELECT greatest(coalesce(max(at), '-infinity'), %(since)s) AS at FROM system_metrics
    WHERE name = %(sampled)s AND step = 'hour'
), minutes AS (
    SELECT name, labels, date_trunc('hour', at) AS hour, value, buckets FROM system_metrics
    WHERE step = 'minute' AND at >= (SELECT at FROM reached) AND at < date_trunc('hour', now())
      AND name = ANY(%(names)s)
), cases AS (
    SELECT name, labels, hour, array_agg(cases ORDER BY place) AS buckets FROM (
        SELECT name, labels, hour, place, sum(each.cases)::bigint AS cases
        FROM minutes, unnest(minutes.buckets) WITH ORDINALITY AS each (cases, place)
        GROUP BY name, labels, hour, place
    ) AS summed GROUP BY name, labels, hour
), hours AS (
    SELECT name, labels, hour, CASE WHEN name = ANY(%(gauges)s) THEN max(value) ELSE sum(value) END AS value
    FROM minutes GROUP BY name, labels, hour
)
INSERT INTO system_metrics (name, labels, value, buckets, step, at)
SELECT hours.name, hours.labels, hours.value, cases.buckets, 'hour', hours.hour
FROM hours LEFT JOIN cases USING (name, labels, hour) ORDER BY hours.name, hours.labels, hours.hour
ON CONFLICT (name, labels, step, at) DO UPDATE SET value = excluded.value, buckets = excluded.buckets
"""

PRUNE = """
DELETE FROM system_metrics WHERE id = ANY(ARRAY(
    SELECT id FROM system_metrics WHERE name = %(name)s AND at < %(before)s AND step = %(step)s LIMIT %(limit)s
))
"""

FORGET = "DELETE FROM process_metrics WHERE reported_at < %s"

READ = """
SELECT at, labels, value, buckets FROM system_metrics
WHERE name = %(name)s AND at >= %(since)s AND at < %(until)s AND step = %(step)s AND labels @> %(labels)s::jsonb
ORDER BY at
"""

# `cases` sums up each bucket by itself; a metric has the same ones in all rows.
READ_SUMMED = """
SELECT at, coalesce(labels ->> %(by)s, ''), {of}(value), {cases} FROM system_metrics
WHERE name = %(name)s AND at >= %(since)s AND at < %(until)s AND step = %(step)s AND labels @> %(labels)s::jsonb
GROUP BY 1, 2 ORDER BY 1
"""

ROLLED_UP = "SELECT max(at) FROM system_metrics WHERE name = %s AND step = 'hour'"


class ReporterForgotten(ViralError):
    """What the process reported before is not kept any more."""


class Reported(NamedTuple):
    """What a process has counted of one metric and its labels since it started; of a histogram `value` is the sum of
    its cases, and `buckets` has their number by bucket."""

    name: str
    labels: Labels
    value: Decimal
    buckets: Sequence[int] | None = None


class Measured(NamedTuple):
    """A row of a series, or (without `at`) a total."""

    at: datetime | None
    labels: Labels
    value: Decimal
    buckets: Sequence[int] | None


@dataclass(frozen=True)
class Reporter:
    """The process that reports: `id` is new at each start."""

    id: UUID
    role: str
    hostname: str
    pid: int
    release: str


class MetricSeries:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def report(self, reporter: Reporter, number: int, counted: Sequence[Reported], *, reported_before: bool) -> None:
        """Add what the process has counted since its report before. `counted` may leave out what has not changed since
        a report that was kept. `number` rises with each try: one that comes after a newer one changes nothing.

        Raises:
            ReporterForgotten: the process has `reported_before`, and none of that is kept any more: it was silent for
                long. Adding all that it ever counted would count it twice.
        """
        self._driver.execute(LOCK_WAIT)
        values: dict[str, Any] = {**vars(reporter), "number": number}
        [(newer, first)] = self._driver.execute(ANNOUNCE, values).fetchall()
        if first and reported_before:
            raise ReporterForgotten
        if newer and counted:
            self._driver.execute(REPORT, values | {"report": json.dumps([_row(each) for each in counted])})

    def begin_sample(self) -> bool:
        """Whether to sample now: nobody has in this minute, and nobody does."""
        row = self._driver.execute(TAKE_SAMPLE, {"lock": SAMPLE_LOCK, "name": SAMPLED}).fetchone()
        return row is not None and bool(row[0])

    def keep_sample(self, gauges: Iterable[tuple[str, Labels, float]], *, holds: timedelta) -> None:
        """Keep the gauges of this minute. `holds`: if nothing changes, the next sample is so far away."""
        rows: list[tuple[str, Labels, float]] = [*gauges, (SAMPLED, {}, holds.total_seconds())]
        columns = [[row[0] for row in rows], [_text(row[1]) for row in rows], [Decimal(repr(row[2])) for row in rows]]
        self._driver.execute(KEEP_SAMPLES, columns)

    def roll_up(self, names: Sequence[str], gauges: Sequence[str], since: datetime) -> int:
        """Sum up the minutes of whole hours that have ended after `since`; of gauges the largest counts. Doing it again
        changes nothing. Returns the number of rows."""
        values = {"names": [*names, SAMPLED], "gauges": [*gauges, SAMPLED], "sampled": SAMPLED, "since": since}
        return self._driver.execute(ROLL_UP, values).rowcount

    def prune(self, name: str, step: str, before: datetime, limit: int) -> int:
        """Delete rows of a metric from before this moment, so many at most. Returns their number."""
        values = {"name": name, "step": step, "before": before, "limit": limit}
        return self._driver.execute(PRUNE, values).rowcount

    def forget_processes(self, before: datetime) -> int:
        """Delete what processes reported last that have not done so since. What they counted stays in the totals."""
        return self._driver.execute(FORGET, (before,)).rowcount

    def read(self, name: str, step: str, since: datetime, until: datetime, labels: Labels) -> list[Measured]:
        """Return the rows of a metric in [since, until), oldest first, that have these labels (and perhaps others)."""
        values = {"name": name, "step": step, "since": since, "until": until, "labels": _text(labels)}
        return [Measured(*row) for row in self._driver.execute(READ, values)]

    def read_summed(
        self,
        name: str,
        step: str,
        since: datetime,
        until: datetime,
        labels: Labels,
        *,
        by: str | None,
        buckets: int,
        largest: bool = False,
    ) -> list[Measured]:
        """`read`, with the rows of one time summed up (or the `largest` of them), but for those with another value of
        the label `by`. The metric has so many `buckets`: none if it is no histogram. A few hundred rows a minute are
        too many to be sent."""
        cases = ", ".join(f"coalesce(sum(buckets[{place}]), 0)::bigint" for place in range(1, buckets + 1))
        of = "max" if largest else "sum"
        query = READ_SUMMED.format(of=of, cases=f"ARRAY[{cases}]" if buckets else "NULL::bigint[]")
        values = {"name": name, "step": step, "since": since, "until": until, "labels": _text(labels), "by": by or ""}
        found = self._driver.execute(query.encode(), values, binary=True)
        return [Measured(at, {by: group} if by else {}, value, cases) for at, group, value, cases in found]

    def rolled_up_until(self) -> datetime | None:
        """Return the end of the last hour that was rolled up."""
        [(last,)] = self._driver.execute(ROLLED_UP, (SAMPLED,)).fetchall()
        return None if last is None else last + timedelta(hours=1)

    def totals(self) -> dict[str, list[Measured]]:
        """Return what was ever counted, by metric."""
        found: dict[str, list[Measured]] = {}
        for name, *row in self._driver.execute(
            "SELECT name, NULL::timestamptz, labels, value, buckets FROM metric_totals ORDER BY name, labels"
        ):
            found.setdefault(name, []).append(Measured(*row))
        return found


def _text(labels: Labels) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def _row(counted: Reported) -> dict[str, Any]:
    """JSON for one row; the value is text, so that no digit of it is lost."""
    return {
        "key": f"{counted.name} {_text(counted.labels)}",
        "name": counted.name,
        "labels": dict(counted.labels),
        "value": str(counted.value),
        "buckets": None if counted.buckets is None else list(counted.buckets),
    }
