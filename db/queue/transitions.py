"""One job's life in `job_queue`: added; rescheduled, failed, cancelled, retried; read. Claims are in
`db/queue/claim.py`.

Every change of state is a compare-and-set on the state (and, for whoever runs the job, on the lease token), so of
two that race exactly one wins and the other sees no row. Times are the database's. This is a hot path: it speaks
psycopg directly, in the caller's transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import scalar_row

from db.postgres.rows import Listing, listing_of, row_of, rows_of
from db.queue.claim import ONE_MORE, RUNNING, Claims, Due
from db.queue.enqueue import NewJob, adding
from domain.errors import PayloadInvalid
from domain.text.storable import to_json


@dataclass(frozen=True)
class FailedAttempt:
    """What `job_attempts` keeps of an attempt that did not complete."""

    outcome: str
    error_class: str
    error_message: str
    traceback: str | None = None


LARGEST_PAYLOAD = 262_144
"""Characters. The table has a limit of its own, for what other programs insert."""

PART = 250
"""Jobs that are sent at once: few enough that Postgres starts early, enough that a statement costs little a job."""

LIVE_TWIN = """
SELECT id FROM job_queue
WHERE job_type = %s AND tenant_id IS NOT DISTINCT FROM %s AND unique_key = %s AND status IN ('pending', 'running')
"""

RESCHEDULE = f"""
UPDATE job_queue
SET status = 'pending', scheduled_for = now() + %(wait)s::interval,
    wake_at = CASE WHEN %(wait)s::interval > interval '0' THEN now() + %(wait)s::interval END, wake_count = 0,
    attempts = greatest(attempts - %(uncounted)s, 0), snoozes = least(snoozes, 2147483646) + %(snoozed)s,
    worker_id = NULL, lease_token = NULL, error_message = %(error_message)s
WHERE id = %(id)s AND {RUNNING} AND lease_token = %(lease_token)s
RETURNING queue, priority
"""

END = f"""
UPDATE job_queue SET status = %(status)s, completed_at = now(), worker_id = NULL, error_message = %(error_message)s
WHERE id = %(id)s AND {RUNNING} AND lease_token = %(lease_token)s
RETURNING tenant_id, ordering_key
"""

RECORD_ATTEMPT = f"""
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_class, error_message, traceback, started_at)
SELECT id, attempts, worker_id, %(outcome)s, %(error_class)s, %(error_message)s, %(traceback)s, started_at
FROM job_queue WHERE id = %(id)s AND {RUNNING} AND lease_token = %(lease_token)s
"""

# Of the attempt that this transaction has recorded, if it has.
ADD_TO_ATTEMPT = """
UPDATE job_attempts
SET error_message = concat_ws('; ', error_message, %(said)s::text),
    traceback = concat_ws(E'\\n', traceback, %(traceback)s::text)
WHERE id = (SELECT max(id) FROM job_attempts WHERE job_id = %(id)s) AND ended_at = now()
"""

ADD_TO_ERROR = "UPDATE job_queue SET error_message = concat_ws('; ', error_message, %(said)s::text) WHERE id = %(id)s"

CANCEL = """
UPDATE job_queue
SET status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    completed_at = CASE status WHEN 'pending' THEN now() END,
    cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %s AND status IN ('pending', 'running')
RETURNING status, tenant_id, ordering_key
"""

RETRY = f"""
UPDATE job_queue
SET status = 'pending', scheduled_for = now(), wake_at = NULL, wake_count = 0, completed_at = NULL, worker_id = NULL,
    lease_token = NULL, crashes = 0, cancel_requested_at = NULL, max_attempts = greatest(max_attempts, {ONE_MORE})
WHERE id = %(id)s AND status IN ('failed', 'cancelled')
RETURNING queue, priority
"""


def _json(payload: Mapping[str, Any]) -> str:
    text = to_json(payload)
    if len(text) > LARGEST_PAYLOAD:
        raise PayloadInvalid(f"the payload has {len(text):,} characters; at most {LARGEST_PAYLOAD:,} can be claimed")
    return text


class Jobs:
    """Query group. `due` collects the jobs that become due with this transaction, by queue, to be rung after it."""

    def __init__(self, driver: psycopg.Connection[Any], due: Due, claims: Claims) -> None:
        self._driver = driver
        self._due = due
        self._claims = claims

    def add(self, job: NewJob) -> UUID:
        """Insert the job; if the tenant has a live one of this type and unique key, return that one's id instead.

        Raises:
            PayloadInvalid: the payload is too large.
        """
        [job_id] = self._added([job], self._insert([job]))
        return job_id

    def add_many(self, jobs: Iterable[NewJob]) -> list[UUID]:
        """`add` for any number of jobs, in one round trip. Returns their ids, in their order.

        The next part is put together while Postgres inserts the one before.
        """
        remaining = iter(jobs)
        with self._driver.pipeline():
            sent = [(part, self._insert(part)) for part in iter(lambda: list(islice(remaining, PART)), [])]
        return [job_id for part, cursor in sent for job_id in self._added(part, cursor)]

    def _insert(self, jobs: Sequence[NewJob]) -> psycopg.Cursor[Any]:
        values: dict[str, Any] = {}
        usual, varying = [], []
        for name, column in zip(NewJob._fields, zip(*jobs, strict=True), strict=True):
            if column[0] != column[-1] or column.count(column[0]) < len(column):
                varying.append(name)
                values[name] = [_json(payload) for payload in column] if name == "payload" else list(column)
            elif column[0] == NewJob._field_defaults.get(name, ...):
                usual.append(name)
            else:
                values[name] = _json(column[0]) if name == "payload" else column[0]
        return self._driver.execute(adding(frozenset(usual), tuple(varying)), values, prepare=True)

    def _added(self, jobs: Sequence[NewJob], cursor: psycopg.Cursor[Any]) -> list[UUID]:
        """The ids of the jobs, or of their twins."""
        if cursor.description is None:
            due = jobs
            ids = [job.id for job in jobs]
        else:
            is_due: dict[UUID, bool] = dict(cursor.fetchall())
            due = [job for job in jobs if is_due.get(job.id)]
            ids = [job.id if job.id in is_due else self._twin_or_add(job) for job in jobs]
        for job in due:
            self._due.setdefault(job.queue, {})[job.id] = job.priority
        return ids

    def _twin_or_add(self, job: NewJob) -> UUID:
        twin = self._driver.execute(LIVE_TWIN, (job.job_type, job.tenant_id, job.unique_key)).fetchone()
        if twin is None:
            # The twin finished between the two statements: the key is free again.
            return self.add(job)
        found: UUID = twin[0]
        return found

    def reschedule(
        self, job_id: UUID, lease_token: int, attempt: FailedAttempt, wait: timedelta, *, counted: bool = True
    ) -> bool:
        """Record the attempt and make the job due again after `wait`. False if the lease was lost.

        `counted=False`: it does not count as one of the job's attempts (a snooze, an outage of the database).
        """
        self._record(job_id, lease_token, attempt)
        values = {"id": job_id, "lease_token": lease_token, "wait": wait, "error_message": attempt.error_message}
        values |= {"uncounted": int(not counted), "snoozed": int(attempt.outcome == "snoozed")}
        row = self._driver.execute(RESCHEDULE, values).fetchone()
        if row is not None and wait <= timedelta(0):
            self._due.setdefault(row[0], {})[job_id] = row[1]
        return row is not None

    def fail(self, job_id: UUID, lease_token: int, attempt: FailedAttempt, *, recorded: bool = False) -> bool:
        """Record the attempt, unless it is `recorded`, and keep the job as dead letter. False if the lease was lost."""
        return self._end("failed", job_id, lease_token, attempt, recorded=recorded)

    def cancel_mine(self, job_id: UUID, lease_token: int, attempt: FailedAttempt, *, recorded: bool = False) -> bool:
        """Stop a job that this lease runs, as somebody asked for. False if the lease was lost."""
        return self._end("cancelled", job_id, lease_token, attempt, recorded=recorded)

    def _end(self, status: str, job_id: UUID, lease_token: int, attempt: FailedAttempt, *, recorded: bool) -> bool:
        if not recorded:
            self._record(job_id, lease_token, attempt)
        values = {"id": job_id, "lease_token": lease_token, "error_message": attempt.error_message, "status": status}
        row = self._driver.execute(END, values).fetchone()
        if row is not None:
            self._let_follow(*row)
        return row is not None

    def _let_follow(self, tenant_id: UUID | None, ordering_key: str | None) -> None:
        if ordering_key is not None:
            self._claims.wake([(tenant_id, ordering_key)])

    def _record(self, job_id: UUID, lease_token: int, attempt: FailedAttempt) -> None:
        self._driver.execute(RECORD_ATTEMPT, vars(attempt) | {"id": job_id, "lease_token": lease_token})

    def add_to_error(self, job_id: UUID, said: str, traceback: str | None) -> None:
        """Append to what is kept of the error of a job, and of its attempt, that this transaction has ended."""
        values = {"id": job_id, "said": said, "traceback": traceback}
        self._driver.execute(ADD_TO_ATTEMPT, values)
        self._driver.execute(ADD_TO_ERROR, values)

    def cancel(self, job_id: UUID) -> str | None:
        """Cancel a pending job at once ("cancelled"), ask a running one to stop ("running"); None if it has ended."""
        row = self._driver.execute(CANCEL, (job_id,)).fetchone()
        if row is None:
            return None
        if row[0] == "cancelled":
            self._let_follow(*row[1:])
        return str(row[0])

    def retry(self, job_id: UUID) -> bool:
        """Make a failed or cancelled job due now, with one attempt more than it had. False in any other state.

        Raises:
            psycopg.errors.UniqueViolation: a job of the same unique key is live.
        """
        row = self._driver.execute(RETRY, {"id": job_id}).fetchone()
        if row is None:
            return False
        self._due.setdefault(row[0], {})[job_id] = row[1]
        return True

    def live_twin(self, job: Mapping[str, Any]) -> UUID | None:
        """The pending or running job with the unique key of this row, if there is one."""
        row = self._driver.execute(LIVE_TWIN, (job["job_type"], job["tenant_id"], job["unique_key"])).fetchone()
        return None if row is None else row[0]

    def get(self, job_id: UUID) -> dict[str, Any] | None:
        """All columns of one job."""
        return row_of(self._driver, "SELECT * FROM job_queue WHERE id = %s", (job_id,))

    def attempts(self, job_id: UUID) -> list[dict[str, Any]]:
        """The attempts that did not complete, oldest first."""
        return rows_of(self._driver, "SELECT * FROM job_attempts WHERE job_id = %s ORDER BY id", (job_id,))

    def outages(self, job_id: UUID) -> int:
        """How many attempts of the job were given back because the database went away."""
        query = (
            "SELECT count(*) FROM job_attempts WHERE job_id = %s AND outcome = 'returned' AND error_class IS NOT NULL"
        )
        return int(self._driver.execute(query, (job_id,)).fetchall()[0][0])

    def recent(self, **wanted: Any) -> list[dict[str, Any]]:
        """The rows of `list_recent`."""
        return self.list_recent(**wanted).rows

    def list_recent(
        self,
        *,
        status: str | None = None,
        job_type: str | None = None,
        queue: str | None = None,
        tenant_id: UUID | None = None,
        limit: int = 50,
    ) -> Listing:
        """Newest first, as many as are not too much at once."""
        wanted = {"status": status, "job_type": job_type, "queue": queue, "tenant_id": tenant_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = %({column})s" for column in given) or "true"
        query = f"SELECT * FROM job_queue WHERE {where} ORDER BY id DESC LIMIT %(limit)s"
        return listing_of(self._driver, query, given | {"limit": limit})

    def due_now(self, limit: int = 100) -> Sequence[UUID]:
        """Ids of pending jobs that are due, in the order in which they should run. For draining in one thread."""
        query = """
            SELECT id FROM job_queue WHERE status = 'pending' AND scheduled_for <= now()
            ORDER BY priority, scheduled_for, id LIMIT %s
        """
        with self._driver.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, (limit,)).fetchall()
