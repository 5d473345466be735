"""The clock's memory: which rings are owed to pending jobs, and which fires of which schedule have happened."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

# A ring may be swallowed by a process that is dying or stopped. Each one that leads to nothing doubles the wait for
# the next, from 5 s to 10 min.
TAKE_DUE_RINGS = """
UPDATE job_queue
SET ring_at = now() + least(interval '5 seconds' * power(2, least(rings, 10)), interval '10 minutes'),
    rings = least(rings + 1, 1000)
WHERE id = ANY(ARRAY(
    SELECT id FROM job_queue
    WHERE status = 'pending' AND ring_at <= now() AND queue = ANY(%(queues)s)
    ORDER BY ring_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))
RETURNING queue, id, priority, scheduled_for
"""

EXPECT_RINGS_AGAIN = """
UPDATE job_queue SET ring_at = now(), rings = 0
WHERE status = 'pending' AND scheduled_for <= now() AND ring_at > now()
"""

CLOCK_LOCK = 0x766972616C01
"""Key of the advisory lock under which one scheduler at a time works out the fires."""


class Fires:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def take_due_rings(self, queues: Sequence[str], limit: int) -> dict[str, list[UUID]]:
        """Jobs to ring now, by queue, in the order in which they should run; each is next due after its timer."""
        rows = self._driver.execute(TAKE_DUE_RINGS, {"queues": list(queues), "limit": limit}).fetchall()
        rings: defaultdict[str, list[UUID]] = defaultdict(list)
        for queue, job_id, _, _ in sorted(rows, key=lambda row: (row[2], row[3], row[1])):
            rings[queue].append(job_id)
        return rings

    def expect_rings_again(self) -> int:
        """Every ring sent so far may be lost: make all due jobs ring at the next tick. Returns how many."""
        return self._driver.execute(EXPECT_RINGS_AGAIN).rowcount

    def waiting_queues(self) -> list[str]:
        """Queues with a pending job whose ring is owed now."""
        query = "SELECT DISTINCT queue FROM job_queue WHERE status = 'pending' AND ring_at <= now()"
        return [row[0] for row in self._driver.execute(query)]

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

    def _record(self, schedule: str, fire_at: datetime) -> bool:
        inserted = self._driver.execute(
            "INSERT INTO schedule_fires (schedule, fire_at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (schedule, fire_at)
        )
        return inserted.rowcount == 1
