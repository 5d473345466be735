"""The clock's memory: which fires of which schedule have happened."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

CLOCK_LOCK = 0x766972616C01
"""Key of the advisory lock under which one scheduler at a time works out the fires."""

BY_HAND = " by hand"
"""Fires that a person makes are remembered under the schedule's name and this. The timetable goes on from its own last
fire: one by hand at 12:30 must swallow neither the 12:00 that was missed nor the 13:00 to come."""


class Fires:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def try_lock(self) -> bool:
        """Until the end of this transaction, be the one scheduler that works out fires."""
        row = self._driver.execute("SELECT pg_try_advisory_xact_lock(%s)", (CLOCK_LOCK,)).fetchone()
        return row is not None and bool(row[0])

    def last(self) -> dict[str, datetime]:
        """The latest fire (or, for a schedule that never fired, its first sighting) of each schedule."""
        rows = self._driver.execute("SELECT schedule, max(fire_at) FROM schedule_fires GROUP BY schedule")
        return dict(rows.fetchall())

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

    def made(self) -> dict[str, tuple[datetime, UUID]]:
        """The latest fire of each schedule that enqueued a job, and that job."""
        rows = self._driver.execute(
            "SELECT DISTINCT ON (schedule) schedule, fire_at, job_id FROM schedule_fires WHERE job_id IS NOT NULL "
            "ORDER BY schedule, fire_at DESC"
        )
        return {schedule: (fire_at, job_id) for schedule, fire_at, job_id in rows}

    def _record(self, schedule: str, fire_at: datetime) -> bool:
        inserted = self._driver.execute(
            "INSERT INTO schedule_fires (schedule, fire_at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (schedule, fire_at)
        )
        return inserted.rowcount == 1
