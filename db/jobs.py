"""One job's life in `job_queue`: added, claimed, completed; rescheduled, failed, cancelled, retried by hand.

Every change of state is a compare-and-set on the state (and, for whoever runs the job, on the lease token), so of
two that race exactly one wins and the other sees no row. Times are the database's. This is a hot path: it speaks
psycopg directly, in the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import Jsonb

RING_GRACE = timedelta(seconds=10)
"""How long the relay leaves a fresh job to the ring that its enqueuer sends after the commit."""


@dataclass(frozen=True)
class NewJob:
    """A job to be added. `scheduled_for` None means now; `delay` is added to either."""

    id: UUID
    job_type: str
    queue: str
    tenant_id: UUID | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 5
    max_attempts: int = 3
    scheduled_for: datetime | None = None
    delay: timedelta = timedelta(0)
    unique_key: str | None = None
    ordering_key: str | None = None


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this process runs; `lease_token` is what its finish must show. `now` is the database's clock."""

    id: UUID
    tenant_id: UUID | None
    job_type: str
    queue: str
    payload: dict[str, Any]
    attempt: int
    max_attempts: int
    scheduled_for: datetime
    started_at: datetime
    lease_token: int
    now: datetime


@dataclass(frozen=True)
class FailedAttempt:
    """What `job_attempts` keeps of an attempt that did not complete."""

    outcome: str
    error_class: str
    error_message: str
    traceback: str | None = None


ADD = """
INSERT INTO job_queue (id, tenant_id, job_type, queue, payload, priority, max_attempts, unique_key, ordering_key,
                       scheduled_for, ring_at)
SELECT %(id)s, %(tenant_id)s, %(job_type)s, %(queue)s, %(payload)s, %(priority)s, %(max_attempts)s, %(unique_key)s,
       %(ordering_key)s, due, CASE WHEN due <= now() THEN now() + %(grace)s ELSE due END
FROM (SELECT coalesce(%(scheduled_for)s::timestamptz, now()) + %(delay)s::interval AS due) AS moment
ON CONFLICT (job_type, unique_key) WHERE unique_key IS NOT NULL AND status IN ('pending', 'running') DO NOTHING
RETURNING scheduled_for <= now()
"""

LIVE_TWIN = """
SELECT id FROM job_queue WHERE job_type = %s AND unique_key = %s AND status IN ('pending', 'running')
"""

CLAIM = """
UPDATE job_queue
SET status = 'running', attempts = attempts + 1, started_at = now(), worker_id = %(worker_id)s,
    lease_token = nextval('job_lease_token'), error_message = NULL
WHERE id = %(id)s AND status = 'pending' AND scheduled_for <= now() AND job_type = ANY(%(known)s)
RETURNING id, tenant_id, job_type, queue, payload, attempts AS attempt, max_attempts, scheduled_for, started_at,
          lease_token, clock_timestamp() AS now
"""

COMPLETE = """
UPDATE job_queue SET status = 'completed', completed_at = now(), result = %(result)s, error_message = NULL
WHERE id = %(id)s AND status = 'running' AND lease_token = %(lease_token)s
"""

RESCHEDULE = """
UPDATE job_queue
SET status = 'pending', scheduled_for = now() + %(wait)s::interval, ring_at = now() + %(wait)s::interval, rings = 0,
    worker_id = NULL, lease_token = NULL, error_message = %(error_message)s
WHERE id = %(id)s AND status = 'running' AND lease_token = %(lease_token)s
"""

FAIL = """
UPDATE job_queue SET status = 'failed', completed_at = now(), worker_id = NULL, error_message = %(error_message)s
WHERE id = %(id)s AND status = 'running' AND lease_token = %(lease_token)s
"""

RECORD_ATTEMPT = """
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_class, error_message, traceback, started_at)
SELECT id, attempts, worker_id, %(outcome)s, %(error_class)s, %(error_message)s, %(traceback)s, started_at
FROM job_queue WHERE id = %(id)s AND status = 'running' AND lease_token = %(lease_token)s
"""

CANCEL = """
UPDATE job_queue SET status = 'cancelled', completed_at = now() WHERE id = %s AND status = 'pending'
"""

RETRY = """
UPDATE job_queue
SET status = 'pending', scheduled_for = now(), ring_at = now() + %(grace)s, rings = 0, completed_at = NULL,
    worker_id = NULL, lease_token = NULL, crashes = 0, max_attempts = greatest(max_attempts, attempts + 1)
WHERE id = %(id)s AND status IN ('failed', 'cancelled')
RETURNING queue
"""

PRUNE = """
DELETE FROM job_queue WHERE id IN (
    SELECT id FROM job_queue WHERE created_at < %(before)s AND status IN ('completed', 'cancelled')
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
"""


class Jobs:
    """Query group. `due` collects the jobs that become due with this transaction, by queue, to be rung after it."""

    def __init__(self, driver: psycopg.Connection[Any], due: dict[str, list[UUID]]) -> None:
        self._driver = driver
        self._due = due

    def add(self, job: NewJob) -> UUID:
        """Insert the job; if one of the same type and unique key is live, do nothing and return that one's id."""
        values = vars(job) | {"payload": Jsonb(dict(job.payload)), "grace": RING_GRACE}
        while True:
            added = self._driver.execute(ADD, values).fetchone()
            if added is not None:
                if added[0]:
                    self._due[job.queue].append(job.id)
                return job.id
            twin = self._driver.execute(LIVE_TWIN, (job.job_type, job.unique_key)).fetchone()
            if twin is not None:
                found: UUID = twin[0]
                return found
            # The twin finished between the two statements: the key is free again.

    def claim(self, job_id: UUID, worker_id: UUID, known: Sequence[str]) -> ClaimedJob | None:
        """Take the job for one attempt; None if it is not pending, not due, or of a type not in `known`."""
        values = {"id": job_id, "worker_id": worker_id, "known": list(known)}
        with self._driver.cursor(row_factory=class_row(ClaimedJob)) as cursor:
            return cursor.execute(CLAIM, values).fetchone()

    def complete(self, job_id: UUID, lease_token: int, result: Mapping[str, Any] | None) -> bool:
        """False if this lease no longer owns the job: the caller must roll back."""
        values = {"id": job_id, "lease_token": lease_token, "result": None if result is None else Jsonb(result)}
        return self._driver.execute(COMPLETE, values).rowcount == 1

    def reschedule(self, job_id: UUID, lease_token: int, attempt: FailedAttempt, wait: timedelta) -> bool:
        """Record the attempt and make the job due again after `wait`. False if the lease was lost."""
        self._record(job_id, lease_token, attempt)
        values = {"id": job_id, "lease_token": lease_token, "wait": wait, "error_message": attempt.error_message}
        return self._driver.execute(RESCHEDULE, values).rowcount == 1

    def fail(self, job_id: UUID, lease_token: int, attempt: FailedAttempt) -> bool:
        """Record the attempt and keep the job as dead letter. False if the lease was lost."""
        self._record(job_id, lease_token, attempt)
        values = {"id": job_id, "lease_token": lease_token, "error_message": attempt.error_message}
        return self._driver.execute(FAIL, values).rowcount == 1

    def _record(self, job_id: UUID, lease_token: int, attempt: FailedAttempt) -> None:
        self._driver.execute(RECORD_ATTEMPT, vars(attempt) | {"id": job_id, "lease_token": lease_token})

    def owns(self, job_id: UUID, lease_token: int) -> bool:
        """Whether this lease still owns the job; it then does until the end of this transaction."""
        found = self._driver.execute(
            "SELECT FROM job_queue WHERE id = %s AND status = 'running' AND lease_token = %s FOR SHARE",
            (job_id, lease_token),
        )
        return found.fetchone() is not None

    def completed_under(self, job_id: UUID, lease_token: int) -> bool:
        """After a COMMIT whose answer was lost: did this very lease complete the job?"""
        found = self._driver.execute(
            "SELECT FROM job_queue WHERE id = %s AND status = 'completed' AND lease_token = %s", (job_id, lease_token)
        )
        return found.fetchone() is not None

    def cancel(self, job_id: UUID) -> bool:
        """False if it is not pending any more."""
        return self._driver.execute(CANCEL, (job_id,)).rowcount == 1

    def retry(self, job_id: UUID) -> bool:
        """Make a failed or cancelled job due now, with one attempt more than it had. False in any other state.

        Raises:
            psycopg.errors.UniqueViolation: a job of the same unique key is live.
        """
        row = self._driver.execute(RETRY, {"id": job_id, "grace": RING_GRACE}).fetchone()
        if row is None:
            return False
        self._due[row[0]].append(job_id)
        return True

    def get(self, job_id: UUID) -> dict[str, Any] | None:
        """All columns of one job."""
        with self._driver.cursor(row_factory=dict_row) as cursor:
            return cursor.execute("SELECT * FROM job_queue WHERE id = %s", (job_id,)).fetchone()

    def attempts(self, job_id: UUID) -> list[dict[str, Any]]:
        """The attempts that did not complete, oldest first."""
        with self._driver.cursor(row_factory=dict_row) as cursor:
            query = "SELECT * FROM job_attempts WHERE job_id = %s ORDER BY id"
            return cursor.execute(query, (job_id,)).fetchall()

    def recent(
        self,
        *,
        status: str | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        tenant_id: UUID | None = None,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """Newest first."""
        wanted = {"status": status, "job_type": job_type, "queue": queue, "tenant_id": tenant_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = %({column})s" for column in given) or "true"
        query = f"SELECT * FROM job_queue WHERE {where} ORDER BY created_at DESC, id DESC LIMIT %(limit)s"  # noqa: S608
        with self._driver.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, given | {"limit": limit}).fetchall()

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` jobs created before this moment that completed or were cancelled, and their attempts.

        Dead letters stay: they wait for a person. Returns how many were deleted.
        """
        return self._driver.execute(PRUNE, {"before": before, "limit": limit}).rowcount

    def due_now(self, limit: int = 100) -> Sequence[UUID]:
        """Ids of pending jobs that are due, in the order in which they should run. For draining in one thread."""
        query = """
            SELECT id FROM job_queue WHERE status = 'pending' AND scheduled_for <= now()
            ORDER BY priority, scheduled_for, id LIMIT %s
        """
        with self._driver.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, (limit,)).fetchall()
