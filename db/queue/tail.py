"""What jobs began and ended since the last look, whatever the order in which their transactions commit.

`completed_at` is when the transaction began that ended the job, and rows become visible when it commits: a place in
that order alone would pass over what commits later. So whoever tails also remembers which jobs ran. A claim commits
before the attempt begins, and its end begins after that, so of a job that ended since the last look one of two is true:

* it ran at the last look: it is missing among those that run now, and is looked up by its id, however long its last
  transaction took; or
* it was claimed after the last look: then its end began after that too, and `completed_at` is not before the moment of
  that look. Both are times of the database's one clock; `OVERLAP` is for a clock that is set back.

What never ran (a pending job that is cancelled) is found as long as its transaction is shorter than `OVERLAP`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from db.queue.job_lists import ALONG_INDEXES, SORT

OVERLAP: Final = {"completed": timedelta(seconds=1), "failed": timedelta(seconds=1), "cancelled": timedelta(seconds=60)}
AT_ONCE: Final = 5_000
"""Ended jobs of a state that one look reads; the next one goes on."""
MOST_RUNNING: Final = 20_000
FIRST_ID: Final = UUID(int=0)

COLUMNS: Final = """id, job_type, queue, tenant_id, status, attempts, scheduled_for, started_at, completed_at,
    left(error_message, 500) AS error_message"""

RUNNING = f"SELECT {COLUMNS}, lease_token FROM job_queue WHERE status = 'running' LIMIT {MOST_RUNNING}"

ENDED = f"""
SELECT {COLUMNS} FROM job_queue
WHERE status = %(status)s AND completed_at IS NOT NULL AND completed_at >= %(ended)s
  AND (completed_at, id) > (%(ended)s, %(id)s)
ORDER BY completed_at, id LIMIT {AT_ONCE}
"""

# The sum: see `FAILED_LAST`.
NAMED = """
SELECT j.id, j.job_type, j.queue, j.tenant_id, j.status, j.attempts, j.scheduled_for, j.started_at, j.completed_at,
    left(coalesce(j.error_message, last.error_message), 500) AS error_message, lease_token,
    last.outcome, last.attempt, last.started_at AS began, last.ended_at
FROM job_queue j LEFT JOIN LATERAL (
    SELECT outcome, attempt, error_message, started_at, ended_at FROM job_attempts a WHERE a.job_id = j.id
    ORDER BY a.id + 0 DESC LIMIT 1
) AS last ON true WHERE j.id = ANY(%(ids)s)
"""
ARCHIVED = f"SELECT {COLUMNS} FROM job_archive WHERE id = ANY(%(ids)s)"


@dataclass(frozen=True)
class Position:
    """A place among the jobs that ended in one state."""

    ended: datetime
    id: UUID = FIRST_ID


class JobTail:
    """Query group; system scope, in a transaction of one snapshot."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def running(self) -> list[dict[str, Any]]:
        """The jobs that run, with their lease tokens."""
        self._driver.execute(ALONG_INDEXES)
        return rows_of(self._driver, RUNNING)

    def ended(self, positions: Mapping[str, Position]) -> dict[str, list[dict[str, Any]]]:
        """Up to `AT_ONCE` jobs of each state that ended behind its position, in the order of their ends."""
        self._driver.execute(ALONG_INDEXES)
        self._driver.execute(SORT, ("off",))
        found = {
            status: rows_of(self._driver, ENDED, {"status": status, "ended": after.ended, "id": after.id})
            for status, after in positions.items()
        }
        self._driver.execute(SORT, ("on",))
        return found

    def named(self, ids: Collection[UUID]) -> list[dict[str, Any]]:
        """These jobs as they are now, of the queue (with the last attempt that did not complete) or of the archive."""
        rows = rows_of(self._driver, NAMED, {"ids": list(ids)})
        gone = set(ids) - {row["id"] for row in rows}
        return rows + (rows_of(self._driver, ARCHIVED, {"ids": list(gone)}) if gone else [])
