"""One job's life in `job_queue`: added, claimed, completed; rescheduled, failed, cancelled, retried by hand.

Every change of state is a compare-and-set on the state (and, for whoever runs the job, on the lease token), so of
two that race exactly one wins and the other sees no row. Times are the database's. This is a hot path: it speaks
psycopg directly, in the caller's transaction.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row, scalar_row
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Done:
    """A job that its handler has finished, and under which lease."""

    id: UUID
    job_type: str
    lease_token: int
    result: Mapping[str, Any] | None


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
ON CONFLICT (job_type, tenant_id, unique_key) WHERE unique_key IS NOT NULL AND status IN ('pending', 'running')
DO NOTHING
RETURNING scheduled_for <= now()
"""

LIVE_TWIN = """
SELECT id FROM job_queue
WHERE job_type = %s AND tenant_id IS NOT DISTINCT FROM %s AND unique_key = %s AND status IN ('pending', 'running')
"""

# A row that is locked is being claimed by somebody else, or cancelled: not ours, and not waited for. Arrays instead of
# joins, here and below: whatever the statistics say, the plan is a probe of the primary key for each id.
CLAIM = """
UPDATE job_queue
SET status = 'running', attempts = attempts + 1, started_at = now(), worker_id = %(worker_id)s,
    lease_token = nextval('job_lease_token'), error_message = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM job_queue
    WHERE id = ANY(%(ids)b::uuid[]) AND status = 'pending' AND scheduled_for <= now() AND job_type = ANY(%(known)s)
    FOR UPDATE SKIP LOCKED
))
RETURNING id, tenant_id, job_type, queue, payload, attempts, max_attempts, scheduled_for, started_at, lease_token,
          clock_timestamp(), priority
"""

# A lease token belongs to one job, so a row whose token is among the tokens is the very job that bears it.
COMPLETE = """
UPDATE job_queue
SET status = 'completed', completed_at = now(), result = %(results)s::jsonb -> id::text, error_message = NULL
WHERE id = ANY(%(ids)b::uuid[]) AND status = 'running' AND lease_token = ANY(%(tokens)b::bigint[])
RETURNING id
"""

RESCHEDULE = """
UPDATE job_queue
SET status = 'pending', scheduled_for = now() + %(wait)s::interval, ring_at = now() + %(wait)s::interval, rings = 0,
    worker_id = NULL, lease_token = NULL, error_message = %(error_message)s
WHERE id = %(id)s AND status = 'running' AND lease_token = %(lease_token)s
"""

GIVE_BACK = """
UPDATE job_queue
SET status = 'pending', attempts = attempts - 1, ring_at = now() + %(grace)s, rings = 0, worker_id = NULL,
    lease_token = NULL
WHERE id = ANY(%(ids)b::uuid[]) AND status = 'running' AND lease_token = ANY(%(tokens)b::bigint[])
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
        """Insert the job; if the tenant has a live one of this type and unique key, return that one's id instead."""
        values = vars(job) | {"payload": Jsonb(dict(job.payload)), "grace": RING_GRACE}
        while True:
            added = self._driver.execute(ADD, values).fetchone()
            if added is not None:
                if added[0]:
                    self._due[job.queue].append(job.id)
                return job.id
            twin = self._driver.execute(LIVE_TWIN, (job.job_type, job.tenant_id, job.unique_key)).fetchone()
            if twin is not None:
                found: UUID = twin[0]
                return found
            # The twin finished between the two statements: the key is free again.

    def claim(self, job_ids: Sequence[UUID], worker_id: UUID, known: Sequence[str]) -> list[ClaimedJob]:
        """Take those of the jobs that are pending, due and of a `known` type for one attempt each, in their order."""
        values = {"ids": list(job_ids), "worker_id": worker_id, "known": list(known)}
        rows = self._driver.execute(CLAIM, values, prepare=True).fetchall()
        rows.sort(key=lambda row: (row[-1], row[7], row[0]))
        return [ClaimedJob(*row[:-1]) for row in rows]

    def complete(self, done: Sequence[Done]) -> set[UUID]:
        """The jobs that are completed hereby; a lease that is missing lost its job, and its effects must not stay."""
        values = {
            "ids": [each.id for each in done],
            "tokens": [each.lease_token for each in done],
            "results": json.dumps({str(each.id): each.result for each in done if each.result is not None}),
        }
        return {row[0] for row in self._driver.execute(COMPLETE, values, prepare=True)}

    def give_back(self, claimed: Collection[ClaimedJob]) -> None:
        """Return jobs that were claimed and not begun; the attempt is not counted, and they are rung again."""
        values = {"ids": [job.id for job in claimed], "tokens": [job.lease_token for job in claimed]}
        self._driver.execute(GIVE_BACK, values | {"grace": RING_GRACE})
        for job in claimed:
            self._due[job.queue].append(job.id)

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
