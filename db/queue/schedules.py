"""The clock's memory: which fires of which schedule have happened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

CLOCK_LOCK = 0x766972616C01
"""Key of the advisory lock under which one scheduler at a time works out the fires."""

BY_HAND = " by hand"
"""Fires that a person makes are remembered under the schedule's name and this. The timetable goes on from its own last
fire: one by hand at 12:30 must swallow neither the 12:00 that was missed nor the 13:00 to come."""


SET_ASIDE = " set aside"
"""Fires of a time that is still to come are kept under the schedule's name and this, and count as not made."""

AHEAD = timedelta(minutes=5)
"""How far in the future a fire may lie and still count: the clocks of two database servers differ, and a scheduler may
have been stopped for a minute between reading the clock and looking at the fires."""

FORGOTTEN = timedelta(days=366)
"""A schedule that has not fired for so long begins anew."""

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

STILL_TO_COME = """
SELECT CASE WHEN right(schedule, length(%(suffix)s)) = %(suffix)s
            THEN left(schedule, -length(%(suffix)s)) ELSE schedule END AS name, count(*)
FROM schedule_fires WHERE fire_at > %(until)s GROUP BY name
"""

# Not all fires: whatever an earlier one was to do, a later one has done.
MADE = """
SELECT schedule, fire_at, job_id, coalesce(
    (SELECT status FROM job_queue WHERE id = job_id), (SELECT status FROM job_archive WHERE id = job_id LIMIT 1)
) AS status
FROM (
    SELECT DISTINCT ON (schedule) schedule, fire_at, job_id FROM schedule_fires
    WHERE job_id IS NOT NULL AND fire_at BETWEEN %(since)s AND %(until)s ORDER BY schedule, fire_at DESC
) AS latest
"""


@dataclass(frozen=True, slots=True)
class Made:
    """A fire and its job; `status` is None if the job is gone, neither queued nor archived."""

    schedule: str
    fire_at: datetime
    job_id: UUID
    status: str | None


class Fires:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def try_lock(self) -> bool:
        """Until the end of this transaction, be the one scheduler that works out fires."""
        row = self._driver.execute("SELECT pg_try_advisory_xact_lock(%s)", (CLOCK_LOCK,)).fetchone()
        return row is not None and bool(row[0])

    def last(self, now: datetime) -> dict[str, datetime]:
        """The latest fire until `now` (or, for a schedule that never fired, its first sighting) of each schedule."""
        values = {"since": now - FORGOTTEN, "until": now + AHEAD}
        return dict(self._driver.execute(LAST, values).fetchall())

    def set_aside(self, schedules: Sequence[str], now: datetime) -> dict[str, int]:
        """Take back the fires of these schedules that lie in the future, so that each is made when its time comes.

        They tell of a clock that ran ahead, or of a backup of another time. Returns how many, by schedule.
        """
        values = {"schedules": list(schedules), "until": now + AHEAD, "suffix": SET_ASIDE}
        return dict(self._driver.execute(MOVE_ASIDE, values).fetchall())

    def still_to_come(self, now: datetime) -> dict[str, int]:
        """How many fires of a time that is still to come are recorded or set aside, by schedule."""
        values = {"until": now + AHEAD, "suffix": SET_ASIDE}
        return dict(self._driver.execute(STILL_TO_COME, values).fetchall())

    def begin(self, schedule: str, at: datetime) -> None:
        """A schedule is seen for the first time: it owes nothing for the time before `at`."""
        self._record(schedule, at)

    def fire(self, schedule: str, fire_at: datetime, enqueue: Callable[[], UUID]) -> bool:
        """Make this fire with its job, in one transaction. False if it has been made already: nothing is enqueued."""
        if not self._record(schedule, fire_at):
            return False
        self._driver.execute(
            "UPDATE schedule_fires SET job_id = %s WHERE schedule = %s AND fire_at = %s",
            (enqueue(), schedule, fire_at),
        )
        return True

    def by_hand(self, schedule: str, at: datetime, enqueue: Callable[[], UUID]) -> UUID:
        """Make a fire off the timetable, which does not notice. Returns its job's id."""
        job_id = enqueue()
        self.fire(schedule + BY_HAND, at, lambda: job_id)
        return job_id

    def made(self, now: datetime) -> dict[str, Made]:
        """The latest fire of each schedule until `now` that enqueued a job, and that job."""
        values = {"since": now - FORGOTTEN, "until": now + AHEAD}
        with self._driver.cursor(row_factory=class_row(Made)) as cursor:
            return {made.schedule: made for made in cursor.execute(MADE, values)}

    def _record(self, schedule: str, fire_at: datetime) -> bool:
        inserted = self._driver.execute(
            "INSERT INTO schedule_fires (schedule, fire_at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (schedule, fire_at)
        )
        return inserted.rowcount == 1
