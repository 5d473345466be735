"""Every change of a job's state, each written once. (`complete_job` of `db/schema/queue.py` is `COMPLETE` for one job.)

    pending ──take──▶ running ──complete──▶ completed
       ▲                 │ └──end──▶ failed, cancelled ──retry──▶ pending
       └──return─────────┘

Every one is a compare-and-set on the state (and, for whoever runs the job, on its lease token), so of two that race
exactly one wins and the other sees no row. Times are the database's. This is a hot path: it speaks psycopg directly,
in the caller's transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg

from db.postgres.values import UnreadableJson, literal
from db.queue.notifications import Notifications
from domain.queue.error_groups import error_group

FAILURES = ("failed", "rejected", "lost")
"""The outcomes of attempts that failed."""

NOBODY = UUID(int=0)
"""The owner of running jobs that have used up their attempts, and whose end could not be recorded: the reaper ends
them."""

# What another program may write is taken as it is meant: nothing in one row may make the statement fail for the others.
ONE_MORE = "least(attempts, 2147483646) + 1"

# Written so that the planner cannot see through it: knowing that a partial index holds no other rows, and believing it
# nearly empty, it would walk that index, and with it every dead entry of jobs that passed through the state.
PENDING, RUNNING = "status || '' = 'pending'", "status || '' = 'running'"

LEASED = f"id = %(id)s AND {RUNNING} AND lease_token = %(lease_token)s"

# A lease token belongs to one job, so a row whose token is among the tokens is the very job that bears it.
ALL_LEASED = f"id = ANY(%(ids)b::uuid[]) AND {RUNNING} AND lease_token = ANY(%(tokens)b::bigint[])"

# --- pending → running: db/queue/claim.py decides for which jobs ---------------------------------------------

TAKE = f"""
UPDATE job_queue
SET status = 'running', attempts = {ONE_MORE}, started_at = now(), worker_id = %(worker_id)s,
    lease_token = nextval('job_lease_token'), error_message = NULL,
    deadline_at = now() + (%(job_types)s::jsonb -> job_type ->> 1)::float * interval '1 second'
"""

CLAIMED_COLUMNS = """id, tenant_id, job_type, queue, payload, attempts, max_attempts, scheduled_for, started_at,
          lease_token, clock_timestamp(), priority, payload_version, ordering_key, snoozes, deadline_at,
          cancel_requested_at, crashes, cause, traceparent"""


class ClaimedJob(NamedTuple):
    """A job that this process runs; `lease_token` is what its finish must show. `now` is the database's clock.

    `cause` and `traceparent` are the row's. `limited`: others may wait for this one to end. (A named tuple: they are
    made by the ten thousand a second.)
    """

    id: UUID
    tenant_id: UUID | None
    job_type: str
    queue: str
    payload: Mapping[str, Any] | UnreadableJson
    attempt: int
    max_attempts: int
    scheduled_for: datetime
    started_at: datetime
    lease_token: int
    now: datetime
    priority: int = 5
    payload_version: int = 1
    ordering_key: str | None = None
    snoozes: int = 0
    deadline_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    crashes: int = 0
    cause: str | None = None
    traceparent: str | None = None
    limited: bool = False


# --- running → completed ---------------------------------------------------------------------------------------

COMPLETE = f"""
UPDATE job_queue
SET status = 'completed', completed_at = now(), result = %(results)s::jsonb -> id::text, error_message = NULL
WHERE {ALL_LEASED}
RETURNING id
"""


class Done(NamedTuple):
    """A job that its handler has finished; `result` is JSON text (`domain.text.storable.to_json`)."""

    job: ClaimedJob
    result: str | None


def completing(done: Done, driver: psycopg.Connection[Any]) -> bytes:
    """`COMPLETE` of one job that holds nobody up, as the text of a statement that is sent together with COMMIT."""
    values = str(done.job.id).encode(), done.job.lease_token, literal(done.result, driver)
    return b"SELECT complete_job('%s', %d, %s); " % values


# --- running → pending -----------------------------------------------------------------------------------------


def _return(which: str, *, left: str = "true") -> str:
    """Write the statement that makes the jobs `which` pending again.

    `wait` lets them be due that much later than now; without it they keep the moment at which they were due, and so
    their place. `uncounted` attempts are given back. A job without an attempt `left` stays running and belongs to
    `NOBODY`.
    """
    return f"""
UPDATE job_queue
SET status = CASE WHEN {left} THEN 'pending' ELSE status END,
    scheduled_for = CASE WHEN {left} THEN coalesce(now() + %(wait)s::interval, scheduled_for) ELSE scheduled_for END,
    wake_at = CASE WHEN %(wait)s::interval > interval '0' THEN now() + %(wait)s::interval END,
    wake_count = CASE WHEN %(wait)s::interval IS NULL THEN wake_count ELSE 0 END,
    attempts = greatest(attempts - %(uncounted)s, 0), snoozes = least(snoozes, 2147483647 - %(snoozed)s) + %(snoozed)s,
    worker_id = CASE WHEN NOT ({left}) THEN '{NOBODY}'::uuid END,
    lease_token = CASE WHEN NOT ({left}) THEN nextval('job_lease_token') END,
    error_message = %(error_message)s
WHERE {which}
"""


RETURNED: dict[str, Any] = {"wait": None, "uncounted": 1, "snoozed": 0, "error_message": None}
"""How a job returns that was never begun: uncounted, and to its place."""

RESCHEDULE = f"{_return(LEASED)} RETURNING queue, priority"

GIVE_BACK = _return(ALL_LEASED)

GIVE_BACK_UNKNOWN = _return(
    f"id = ANY(%(ids)b::uuid[]) AND {RUNNING} AND worker_id = %(worker_id)s "
    "AND lease_token <> ALL(%(tokens)b::bigint[])"
)

# Somebody who holds such a row is just ending it, and may wait for the row of this worker: it is left alone.
_OF_WORKER = """
id = ANY(ARRAY(
    SELECT id FROM job_queue WHERE worker_id = %(worker_id)s AND status = 'running' {} FOR NO KEY UPDATE SKIP LOCKED
))"""

GIVE_BACK_ALL = f"""
WITH returned AS (
    {_return(_OF_WORKER.format(""), left="attempts <= max_attempts")}
    RETURNING id, {ONE_MORE} AS attempt, started_at
)
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_message, started_at)
SELECT id, attempt, %(worker_id)s, 'returned', 'the process was asked to stop; the attempt was given back', started_at
FROM returned RETURNING job_id
"""

# A claim whose answer was lost, or a failure that could not be recorded, leaves a row that its live owner does not
# know of. The age spares a claim whose answer is still on its way.
_UNKNOWN_AND_OLD = """
AND lease_token <> ALL(%(tokens)s) AND coalesce(started_at, '-infinity') < now() - %(age)s::interval
"""

RUNS_MORE = f"""
SELECT EXISTS (SELECT FROM job_queue WHERE status = 'running' AND worker_id = %(worker_id)s {_UNKNOWN_AND_OLD})
"""

DISOWN = f"{_return(_OF_WORKER.format(_UNKNOWN_AND_OLD), left='attempts < max_attempts')} RETURNING id"

# --- running → failed, cancelled, and what is kept of an attempt that did not complete --------------------------

END = f"""
UPDATE job_queue SET status = %(status)s, completed_at = now(), worker_id = NULL, error_message = %(error_message)s
WHERE {LEASED}
RETURNING tenant_id, ordering_key
"""

# The release is that of the process that ran it, whoever records it.
RECORD_ATTEMPT = f"""
INSERT INTO job_attempts (job_id, attempt, worker_id, outcome, error_class, error_message, traceback, started_at,
                          error_group, release)
SELECT id, attempts, worker_id, %(outcome)s, %(error_class)s, %(error_message)s, %(traceback)s, started_at,
       %(error_group)s, (SELECT nullif(version, '') FROM workers WHERE workers.id = job_queue.worker_id)
FROM job_queue WHERE {LEASED}
"""

# The attempt that this transaction has recorded, if it has.
ADD_TO_ATTEMPT = """
UPDATE job_attempts
SET error_message = concat_ws('; ', error_message, %(message)s::text),
    traceback = concat_ws(E'\\n', traceback, %(traceback)s::text)
WHERE id = (SELECT max(id) FROM job_attempts WHERE job_id = %(id)s) AND ended_at = now()
"""

ADD_TO_ERROR = (
    "UPDATE job_queue SET error_message = concat_ws('; ', error_message, %(message)s::text) WHERE id = %(id)s"
)

LEAVE_TO_REAPER = """
UPDATE job_queue SET status = 'running', completed_at = NULL, worker_id = %s, lease_token = nextval('job_lease_token')
WHERE id = %s AND status IN ('failed', 'cancelled')
"""

# --- what operators do ------------------------------------------------------------------------------------------

CANCEL = """
UPDATE job_queue
SET status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    completed_at = CASE status WHEN 'pending' THEN now() END,
    cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %s AND status IN ('pending', 'running')
RETURNING status, tenant_id, ordering_key
"""

# What failed has had its consequences; only its word changes, and with it that somebody has to look.
GIVE_UP = """
UPDATE job_queue SET status = 'cancelled', cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %s AND status = 'failed'
"""

RETRY = f"""
UPDATE job_queue
SET status = 'pending', scheduled_for = now(), wake_at = NULL, wake_count = 0, completed_at = NULL, worker_id = NULL,
    lease_token = NULL, crashes = 0, cancel_requested_at = NULL, max_attempts = greatest(max_attempts, {ONE_MORE})
WHERE id = %s AND status IN ('failed', 'cancelled')
RETURNING queue, priority
"""

# Only one that is not due, or is held back, has something to change: of two that race one does. One that was due keeps
# its time, and so its place.
RUN_NOW = f"""
UPDATE job_queue SET scheduled_for = least(scheduled_for, now()), wake_at = NULL, wake_count = 0
WHERE id = %s AND {PENDING} AND (scheduled_for > now() OR wake_at IS NOT NULL)
RETURNING queue, priority
"""

PRIORITIZE = f"""
UPDATE job_queue SET priority = %(priority)s WHERE id = %(id)s AND {PENDING} AND priority <> %(priority)s
RETURNING queue, wake_at IS NULL AND scheduled_for <= now()
"""

# --- who waits for a job to end ---------------------------------------------------------------------------------

LOCK = "SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key"

# A successor that is locked is just being claimed, by somebody who waits for the lock that we hold: it sees for itself.
WAKE_NEXT = """
UPDATE job_queue SET wake_at = NULL, wake_count = 0
WHERE id = (
    SELECT id FROM job_queue
    WHERE ordering_key = %(key)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s AND status = 'pending'
    ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
) AND scheduled_for <= now()
RETURNING queue, id, priority
"""

# --- what a lease owns ------------------------------------------------------------------------------------------

STANDING = f"""
SELECT CASE WHEN cancel_requested_at IS NULL THEN 'wanted' ELSE 'cancel requested' END
FROM job_queue WHERE id = %s AND {RUNNING} AND lease_token = %s FOR SHARE
"""


@dataclass(frozen=True)
class FailedAttempt:
    """What `job_attempts` keeps of an attempt that did not complete."""

    outcome: str
    error_class: str
    error_message: str
    traceback: str | None = None

    @property
    def error_group(self) -> str | None:
        """The failures that this one belongs to; None if it is none."""
        return error_group(self.error_class, self.error_message) if self.outcome in FAILURES else None


class Leased(Protocol):
    """A running job, as whoever shows its lease token knows it."""

    @property
    def id(self) -> UUID: ...
    @property
    def queue(self) -> str: ...
    @property
    def lease_token(self) -> int: ...
    @property
    def limited(self) -> bool: ...


class Transitions:
    """Query group; system scope. `notifications` collects the jobs that become ready with this transaction."""

    def __init__(self, driver: psycopg.Connection[Any], notifications: Notifications) -> None:
        self._driver = driver
        self._notifications = notifications

    def complete(self, done: Sequence[Done]) -> set[UUID]:
        """Complete the jobs whose leases still own them, and return their ids; of the others no effect must stay."""
        results = ", ".join([f'"{each.job.id}": {each.result}' for each in done if each.result is not None])
        values = _leases(each.job for each in done) | {"results": f"{{{results}}}"}
        completed = {row[0] for row in self._driver.execute(COMPLETE, values, prepare=True)}
        ended = [each.job for each in done if each.job.id in completed]
        for job in ended:
            self._make_room(job)
        self._wake_next({(job.tenant_id, job.ordering_key) for job in ended if job.ordering_key is not None})
        return completed

    def reschedule(self, job: Leased, attempt: FailedAttempt, wait: timedelta, *, counted: bool = True) -> bool:
        """Record the attempt and make the job due again after `wait`. False if the lease was lost.

        `counted=False`: it does not count as one of the job's attempts (a snooze, an outage of the database).
        """
        self._record(job, attempt)
        values = {"id": job.id, "lease_token": job.lease_token, "wait": wait, "error_message": attempt.error_message}
        values |= {"uncounted": int(not counted), "snoozed": int(attempt.outcome == "snoozed")}
        row = self._driver.execute(RESCHEDULE, values).fetchone()
        self._make_room(job)
        if row is not None and wait <= timedelta(0):
            self._notifications.add(row[0], job.id, row[1])
        return row is not None

    def end(self, job: Leased, status: str, attempt: FailedAttempt, *, recorded: bool = False) -> bool:
        """End the job as "failed" (a dead letter) or "cancelled", and record the attempt, unless it is `recorded`.

        False if the lease was lost.
        """
        if not recorded:
            self._record(job, attempt)
        values = {"id": job.id, "lease_token": job.lease_token}
        values |= {"error_message": attempt.error_message, "status": status}
        row = self._driver.execute(END, values).fetchone()
        self._make_room(job)
        if row is not None:
            self._wake_next({row})
        return row is not None

    def add_to_error(self, job_id: UUID, message: str, traceback: str | None) -> None:
        """Append to what is kept of the error of a job, and of its attempt, that this transaction has ended."""
        values = {"id": job_id, "message": message, "traceback": traceback}
        self._driver.execute(ADD_TO_ATTEMPT, values)
        self._driver.execute(ADD_TO_ERROR, values)

    def leave_to_reaper(self, job_id: UUID) -> None:
        """Undo the end of a job that this transaction has ended, except for what was recorded of its attempt."""
        self._driver.execute(LEAVE_TO_REAPER, (NOBODY, job_id))

    def give_back(self, claimed: Collection[ClaimedJob]) -> None:
        """Return jobs that were claimed and not begun; the queue is notified of them again."""
        self._driver.execute(GIVE_BACK, RETURNED | _leases(claimed))
        for job in claimed:
            self._notifications.add(job.queue, job.id, job.priority)

    def give_back_unknown(self, job_ids: Collection[UUID], worker_id: UUID, known_tokens: Collection[int]) -> int:
        """Return those of the jobs that the process claimed without hearing of it: their lease token is none of those
        that it knows. None of them was begun. Returns their number."""
        values = RETURNED | {"ids": list(job_ids), "worker_id": worker_id, "tokens": list(known_tokens)}
        return self._driver.execute(GIVE_BACK_UNKNOWN, values).rowcount

    def give_back_all(self, worker_id: UUID) -> list[UUID]:
        """Return what a stopping process still runs: due at once, the attempt not counted."""
        values = RETURNED | {"worker_id": worker_id, "wait": timedelta(0)}
        return [row[0] for row in self._driver.execute(GIVE_BACK_ALL, values)]

    def runs_more(self, worker_id: UUID, known_tokens: Collection[int], age: timedelta) -> bool:
        """Whether the table says that this process runs a job that `disown` would return."""
        values = {"worker_id": worker_id, "tokens": list(known_tokens), "age": age}
        row = self._driver.execute(RUNS_MORE, values).fetchone()
        return row is not None and bool(row[0])

    def disown(self, worker_id: UUID, known_tokens: Collection[int], age: timedelta) -> list[UUID]:
        """Return jobs, begun longer ago than `age`, that the table says this process runs, and that it does not know.

        Those that have an attempt left are due at once; the others belong to `NOBODY`.
        """
        values = RETURNED | {"worker_id": worker_id, "wait": timedelta(0), "uncounted": 0}
        values |= {"tokens": list(known_tokens), "age": age}
        return [row[0] for row in self._driver.execute(DISOWN, values)]

    def cancel(self, job_id: UUID) -> str | None:
        """Cancel a pending job at once ("cancelled"), ask a running one to stop ("running"); None if it has ended."""
        row = self._driver.execute(CANCEL, (job_id,)).fetchone()
        if row is None:
            return None
        if row[0] == "cancelled":
            self._wake_next({row[1:]})
        return str(row[0])

    def give_up(self, job_id: UUID) -> bool:
        """Cancel a failed job: it waits for no person any more, and can still be retried. False in any other state."""
        return self._driver.execute(GIVE_UP, (job_id,)).rowcount == 1

    def retry(self, job_id: UUID) -> bool:
        """Make a failed or cancelled job due now, with one attempt more than it had. False in any other state.

        Raises:
            psycopg.errors.UniqueViolation: a job of the same unique key is live.
        """
        row = self._driver.execute(RETRY, (job_id,)).fetchone()
        if row is None:
            return False
        self._notifications.add(row[0], job_id, row[1])
        return True

    def run_now(self, job_id: UUID) -> bool:
        """Make a pending job due now that is due later or held back; False for any other. What held it back is looked
        at anew when it is claimed."""
        row = self._driver.execute(RUN_NOW, (job_id,)).fetchone()
        if row is None:
            return False
        self._notifications.add(row[0], job_id, row[1])
        return True

    def prioritize(self, job_id: UUID, priority: int) -> bool:
        """Give a pending job this priority; False if it has it, or is not pending. A ready one is notified of again:
        its notification has the priority that its row has."""
        row = self._driver.execute(PRIORITIZE, {"id": job_id, "priority": priority}).fetchone()
        if row is None:
            return False
        if row[1]:
            self._notifications.add(row[0], job_id, priority)
        return True

    def standing(self, job: ClaimedJob) -> str | None:
        """Tell of a job that this lease owns until the transaction ends: "wanted" or "cancel requested". Else None."""
        found = self._driver.execute(STANDING, (job.id, job.lease_token), prepare=True).fetchone()
        return None if found is None else str(found[0])

    def completed(self, job: ClaimedJob) -> bool:
        """After a COMMIT whose answer was lost: did this very lease complete the job?"""
        query = "SELECT FROM job_queue WHERE id = %s AND status = 'completed' AND lease_token = %s"
        return self._driver.execute(query, (job.id, job.lease_token)).fetchone() is not None

    def _record(self, job: Leased, attempt: FailedAttempt) -> None:
        values = vars(attempt) | {"id": job.id, "lease_token": job.lease_token, "error_group": attempt.error_group}
        self._driver.execute(RECORD_ATTEMPT, values)

    def _make_room(self, job: Leased) -> None:
        """The job runs no longer: if it took up a place that others wait for, have its queue looked at."""
        if job.limited:
            self._notifications.look_at(job.queue)

    def _wake_next(self, ended: Iterable[tuple[UUID | None, str | None]]) -> None:
        """Let the next job of each tenant's ordering key run."""
        keys = [(tenant_id, key) for tenant_id, key in ended if key is not None]
        lock(self._driver, [ordering_lock(tenant_id, key) for tenant_id, key in keys])
        for tenant_id, key in keys:
            for row in self._driver.execute(WAKE_NEXT, {"key": key, "tenant_id": tenant_id}):
                self._notifications.add(*row)


def lock(driver: psycopg.Connection[Any], names: Iterable[str]) -> None:
    """Lock until the end of the transaction; in one order, so that two who need the same ones do not deadlock."""
    keys = sorted({int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True) for name in names})
    if keys:
        driver.execute(LOCK, (keys,))


def ordering_lock(tenant_id: UUID | None, key: str) -> str:
    """Name the lock under which it is decided who of an ordering key runs next."""
    return f"order/{tenant_id}/{key}"


def _leases(jobs: Iterable[ClaimedJob]) -> dict[str, Any]:
    pairs = [(job.id, job.lease_token) for job in jobs]
    return {"ids": [job_id for job_id, _ in pairs], "tokens": [token for _, token in pairs]}
