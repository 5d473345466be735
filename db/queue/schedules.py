"""The runs of schedules: which moments of which schedule have been enqueued, each with its job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

CALENDAR_LOCK = 0x766972616C01
"""Key of the advisory lock under which one scheduler at a time works out the runs that are due."""

BY_HAND = " by hand"
"""Runs that a person starts are kept under the schedule's name and this. The timetable goes on from its own last run:
one by hand at 12:30 must swallow neither the 12:00 that was missed nor the 13:00 to come."""

SET_ASIDE = " set aside"
"""Runs of a time that is still to come are kept under the schedule's name and this, and count as not enqueued."""

AHEAD = timedelta(minutes=5)
"""How far in the future a run may lie and still count: the clocks of two database servers differ, and a scheduler may
have been stopped for a minute between reading the clock and looking at the runs."""

REMEMBERED = timedelta(days=366)
"""A schedule that has not run for so long begins anew."""

LAST = """
SELECT schedule, max(fire_at) FROM schedule_fires
WHERE fire_at BETWEEN %(since)s AND %(until)s GROUP BY schedule
"""

MOVE_ASIDE = """
WITH early AS (
    DELETE FROM schedule_fires WHERE schedule = ANY(%(schedules)s) AND fire_at > %(until)s
    RETURNING schedule, fire_at, job_id
), kept AS (
    INSERT INTO schedule_fires (schedule, fire_at, job_id)
    SELECT schedule || %(suffix)s, fire_at, job_id FROM early ON CONFLICT DO NOTHING
)
SELECT schedule, count(*) FROM early GROUP BY schedule ORDER BY schedule
"""

COUNT_AHEAD = """
SELECT CASE WHEN right(schedule, length(%(suffix)s)) = %(suffix)s
            THEN left(schedule, -length(%(suffix)s)) ELSE schedule END AS name, count(*)
FROM schedule_fires WHERE fire_at > %(until)s GROUP BY name
"""

# Not all runs: whatever an earlier one was to do, a later one has done.
LATEST = """
SELECT schedule, fire_at, job_id, coalesce(
    (SELECT status FROM job_queue WHERE id = job_id), (SELECT status FROM job_archive WHERE id = job_id LIMIT 1)
) AS status
FROM (
    SELECT DISTINCT ON (schedule) schedule, fire_at, job_id FROM schedule_fires
    WHERE job_id IS NOT NULL AND fire_at BETWEEN %(since)s AND %(until)s ORDER BY schedule, fire_at DESC
) AS latest
"""


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """A run and its job; `status` is None if the job is gone, neither queued nor archived."""

    schedule: str
    fire_at: datetime
    job_id: UUID
    status: str | None


class ScheduleRuns:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def try_lock(self) -> bool:
        """Until the end of this transaction, be the one scheduler that works out runs; False if another one is."""
        row = self._driver.execute("SELECT pg_try_advisory_xact_lock(%s)", (CALENDAR_LOCK,)).fetchone()
        return row is not None and bool(row[0])

    def last(self, now: datetime) -> dict[str, datetime]:
        """The time of each schedule's latest run until `now`, or of its registration if it has none."""
        return dict(self._driver.execute(LAST, _remembered(now)).fetchall())

    def set_aside(self, schedules: Sequence[str], now: datetime) -> dict[str, int]:
        """Take back the runs of these schedules that lie in the future, so that each is enqueued when its time comes.

        A clock ran ahead, or a backup is of another time. Returns how many runs there were, by schedule.
        """
        values = {"schedules": list(schedules), "until": now + AHEAD, "suffix": SET_ASIDE}
        return dict(self._driver.execute(MOVE_ASIDE, values).fetchall())

    def count_ahead(self, now: datetime) -> dict[str, int]:
        """Count the runs of a time that is still to come, recorded or set aside, by schedule."""
        values = {"until": now + AHEAD, "suffix": SET_ASIDE}
        return dict(self._driver.execute(COUNT_AHEAD, values).fetchall())

    def register(self, schedule: str, at: datetime) -> None:
        """Record a run without a job: a new schedule begins at this time, or this run would find nothing to do."""
        self._record(schedule, at)

    def fire(self, schedule: str, fire_at: datetime, enqueue: Callable[[], UUID]) -> bool:
        """Record this run and enqueue its job, in one transaction; False if it was recorded: nothing is enqueued."""
        if not self._record(schedule, fire_at):
            return False
        self._driver.execute(
            "UPDATE schedule_fires SET job_id = %s WHERE schedule = %s AND fire_at = %s",
            (enqueue(), schedule, fire_at),
        )
        return True

    def fire_by_hand(self, schedule: str, at: datetime, enqueue: Callable[[], UUID]) -> UUID:
        """Enqueue a run off the timetable, which does not notice, and return its job's id."""
        job_id = enqueue()
        self.fire(schedule + BY_HAND, at, lambda: job_id)
        return job_id

    def latest(self, now: datetime) -> dict[str, ScheduleRun]:
        """The latest run of each schedule until `now` that enqueued a job, and that job."""
        with self._driver.cursor(row_factory=class_row(ScheduleRun)) as cursor:
            return {run.schedule: run for run in cursor.execute(LATEST, _remembered(now))}

    def _record(self, schedule: str, fire_at: datetime) -> bool:
        inserted = self._driver.execute(
            "INSERT INTO schedule_fires (schedule, fire_at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (schedule, fire_at)
        )
        return inserted.rowcount == 1


def _remembered(now: datetime) -> dict[str, datetime]:
    return {"since": now - REMEMBERED, "until": now + AHEAD}
