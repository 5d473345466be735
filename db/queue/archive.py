"""Moves jobs that ended a while ago out of the hot table into the weekly partitions of `job_archive`, finds them there,
and drops old partitions.

Nothing is deleted from the archive row by row, so nothing is left there to be vacuumed. A job is in one of the two
tables, never in both, never in neither: the move is one statement.

`job_queue_ended_idx` (status, completed_at) holds what has ended, and only that. It costs a job 84 bytes of WAL in
1,290, at its end. An index by the time of creation would cost more, and has in its way what was created long ago and
is not to be moved: past 100,000 jobs scheduled for later and 20,000 dead letters, each batch of 1,000 would read 5,100
pages and 120,000 rows. This reads 45 pages and the thousand rows, and where it ended the next batch begins, so that it
passes over nothing twice, not even what a long transaction keeps from being vacuumed.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import row_of

COLUMNS = """id, tenant_id, job_type, queue, status, priority, payload, result, error_message, attempts, max_attempts,
    scheduled_for, created_at, started_at, completed_at, unique_key, ordering_key, cause"""

ENDED = "status = %(status)s AND completed_at >= %(since)s AND completed_at < %(before)s"

MAKE_WEEK_OF_OLDEST = f"""
SELECT completed_at, least(%(before)s, date_trunc('week', completed_at, 'UTC') + interval '7 days'),
       make_job_archive_week(completed_at)
FROM (SELECT completed_at FROM job_queue WHERE {ENDED} ORDER BY completed_at LIMIT 1) AS oldest
"""

# The rule of row-level security makes the planner expect a hundredth of the rows. On a big table it then reads all that
# has ended and sorts it, for every batch, instead of walking the index until there are enough.
WALK_THE_INDEX = "SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)"

# Attempts and steps go with their job (ON DELETE CASCADE), at the end of the statement: they can still be read.
MOVE = f"""
WITH ended AS (
    SELECT id FROM job_queue WHERE {ENDED} ORDER BY completed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM job_queue WHERE id = ANY(ARRAY(SELECT id FROM ended)) RETURNING {COLUMNS}
), kept AS (
    INSERT INTO job_archive ({COLUMNS}, attempt_history, steps)
    SELECT {COLUMNS},
        coalesce((SELECT jsonb_agg(to_jsonb(a) - 'job_id' ORDER BY a.id)
                  FROM job_attempts a WHERE a.job_id = gone.id), '[]'),
        coalesce((SELECT jsonb_agg(to_jsonb(s) - 'job_id' ORDER BY s.created_at, s.step)
                  FROM job_steps s WHERE s.job_id = gone.id), '[]')
    FROM gone
    RETURNING completed_at
)
SELECT count(*), max(completed_at) FROM kept
"""


@dataclass(frozen=True)
class Moved:
    """How many jobs were moved, and the moment before which none is left: where to go on."""

    count: int
    until: datetime


class Archive:
    """Query group; system scope, except for `get`."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def move(self, status: str, since: datetime, before: datetime, limit: int) -> Moved:
        """Archive up to `limit` jobs that ended in this state in [since, before), the oldest first, all of one week.

        The week's partition is made if it is missing. What somebody else is moving is left to them.
        """
        values = {"status": status, "since": since, "before": before, "limit": limit}
        oldest = self._driver.execute(MAKE_WEEK_OF_OLDEST, values).fetchone()
        if oldest is None:
            return Moved(0, before)
        values |= {"since": oldest[0], "before": oldest[1]}
        self._driver.execute(WALK_THE_INDEX)
        [(count, last)] = self._driver.execute(MOVE, values).fetchall()
        return Moved(count, last if count == limit else oldest[1])

    def make_week(self, moment: datetime) -> bool:
        """Create the partition of the week that contains this moment; False if it was there."""
        return bool(self._driver.execute("SELECT make_job_archive_week(%s)", (moment,)).fetchall()[0][0])

    def drop_weeks(self, before: datetime) -> int:
        """Drop the weeks that were over by this moment, and all that is in them; none while others use the archive."""
        return int(self._driver.execute("SELECT drop_job_archive_weeks(%s)", (before,)).fetchall()[0][0])

    def get(self, job_id: UUID) -> dict[str, Any] | None:
        """Return one job as it was, with its `attempt_history` and `steps`, and `archived` set."""
        return row_of(self._driver, "SELECT *, true AS archived FROM job_archive WHERE id = %s", (job_id,))
