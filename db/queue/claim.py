"""Who runs what: the claim, the fenced completion, and what they let others do.

A claim is by primary key. Most jobs are bound by nothing but their being due, and one statement takes them. What is
left over may be bound by an ordering key, a pause or a limit; that is looked into under locks, in statements that
see what every earlier holder of those locks has committed, so no limit is ever exceeded.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import starmap
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from db.postgres.values import UnreadableJson
from db.queue.policies import read_policies
from db.queue.terms import Known as Known
from db.queue.terms import Terms as Terms
from db.queue.terms import known as known
from domain.queue.limits import Place, admit, bounds, paused

Due = dict[str, dict[UUID, int]]
"""Jobs that are to be rung, and their priorities, by queue. A queue without jobs: the relay should look at it."""


class ClaimedJob(NamedTuple):
    """A job that this process runs; `lease_token` is what its finish must show. `now` is the database's clock.

    `limited`: others may wait for this one to end. (A named tuple: they are made by the ten thousand a second.)
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
    limited: bool = False

    @property
    def holds_others_up(self) -> bool:
        """Whether something may have to be done for others when it ends."""
        return self.limited or self.ordering_key is not None


class Done(NamedTuple):
    """A job that its handler has finished; `result` is JSON text (`domain.text.storable.to_json`)."""

    job: ClaimedJob
    result: str | None


# What another program may write is taken as it is meant: nothing in one row may make the statement fail for the others.
ONE_MORE = "least(attempts, 2147483646) + 1"
ONE_LESS = "greatest(attempts - 1, 0)"

COLUMNS = """id, tenant_id, job_type, queue, payload, attempts, max_attempts, scheduled_for, started_at, lease_token,
          clock_timestamp(), priority, payload_version, ordering_key, snoozes, deadline_at,
          cancel_requested_at, crashes"""

# Written so that the planner cannot see through it: knowing that a partial index holds no other rows, and believing it
# nearly empty, it would walk that index, and with it every dead entry of jobs that passed through the state.
PENDING, RUNNING = "status || '' = 'pending'", "status || '' = 'running'"

# No row of a type that we do not know, nor of a payload that is newer than what we read.
READABLE = "coalesce(payload_version <= (%(known)s::jsonb -> job_type ->> 0)::int, false)"

DUE = f"id = ANY(%(ids)b::uuid[]) AND {PENDING} AND scheduled_for <= now()"
READY = f"{DUE} AND {READABLE}"

# A suspect: a process has died during it before.
UNQUARANTINED = "(crashes <= 0 OR %(suspects)s)"

TAKE = f"""
UPDATE job_queue
SET status = 'running', attempts = {ONE_MORE}, started_at = now(), worker_id = %(worker_id)s,
    lease_token = nextval('job_lease_token'), error_message = NULL,
    deadline_at = now() + (%(known)s::jsonb -> job_type ->> 1)::float * interval '1 second'
"""

# A locked row is being claimed by somebody else, or cancelled: not ours, and not waited for. Arrays instead of joins,
# here and below: whatever the statistics say, the plan is a probe of the primary key for each id.
CLAIM = f"""
{TAKE}
WHERE id = ANY(ARRAY(
    SELECT id FROM job_queue
    WHERE {READY} AND {UNQUARANTINED} AND ordering_key IS NULL
      AND queue <> ALL(ARRAY(SELECT queue FROM queue_policies))
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING {COLUMNS}
"""

LEFT_OVER = f"""
SELECT id, queue, tenant_id, ordering_key, {READABLE} FROM job_queue WHERE {DUE} AND {UNQUARANTINED}
ORDER BY priority, scheduled_for, id FOR NO KEY UPDATE SKIP LOCKED
"""

QUARANTINED = f"SELECT id FROM job_queue WHERE {READY} AND crashes > 0 ORDER BY priority, scheduled_for, id"

# One that is locked is being claimed, or changed by somebody who rings for it.
PUT_OFF = f"""
UPDATE job_queue SET wake_at = now() + interval '1 second'
WHERE id = ANY(ARRAY(SELECT id FROM job_queue WHERE id = ANY(%s) AND {PENDING} FOR NO KEY UPDATE SKIP LOCKED))
"""

LOCK = "SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key"

BLOCKED = """
SELECT id FROM job_queue j
WHERE id = ANY(%(ids)b::uuid[]) AND ordering_key IS NOT NULL AND EXISTS (
    SELECT FROM job_queue o WHERE o.ordering_key = j.ordering_key AND o.tenant_id IS NOT DISTINCT FROM j.tenant_id
    AND (o.status = 'running' OR (o.status = 'pending' AND o.id < j.id))
)
"""


def _sleep(longest: str) -> str:
    return f"""
    UPDATE job_queue
    SET wake_at = now() + least(interval '5 seconds' * power(2, greatest(least(wake_count, 10), 0)), {longest}),
        wake_count = least(wake_count + 1, 1000)
    WHERE id = ANY(%(ids)b::uuid[])
    """


# What blocks a job wakes it when it ends; the alarm is for whoever slipped in between.
SLEEP = _sleep("interval '10 minutes'")

# Nothing wakes what this release cannot read, and a newer one may start at any moment.
SLEEP_UNREAD = _sleep("interval '1 minute'")

COUNT_RUNNING = """
SELECT queue, tenant_id, count(*) FROM job_queue WHERE status = 'running' AND queue = ANY(%s) GROUP BY queue, tenant_id
"""

TAKE_ADMITTED = f"{TAKE} WHERE id = ANY(%(ids)b::uuid[]) RETURNING {COLUMNS}"

# A lease token belongs to one job, so a row whose token is among the tokens is the very job that bears it.
COMPLETE = f"""
UPDATE job_queue
SET status = 'completed', completed_at = now(), result = %(results)s::jsonb -> id::text, error_message = NULL
WHERE id = ANY(%(ids)b::uuid[]) AND {RUNNING} AND lease_token = ANY(%(tokens)b::bigint[])
RETURNING id
"""

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

STANDING = f"""
SELECT CASE WHEN cancel_requested_at IS NULL THEN 'wanted' ELSE 'cancel requested' END
FROM job_queue WHERE id = %s AND {RUNNING} AND lease_token = %s FOR SHARE
"""

GIVE_BACK = f"""
UPDATE job_queue
SET status = 'pending', attempts = {ONE_LESS}, wake_at = NULL, worker_id = NULL, lease_token = NULL
WHERE id = ANY(%(ids)b::uuid[]) AND {RUNNING} AND lease_token = ANY(%(tokens)b::bigint[])
"""

TAKE_BACK = f"""
UPDATE job_queue
SET status = 'pending', attempts = attempts - 1, wake_at = NULL, worker_id = NULL, lease_token = NULL
WHERE id = ANY(%(ids)b::uuid[]) AND {RUNNING} AND worker_id = %(worker_id)s AND lease_token <> ALL(%(known)b::bigint[])
"""


class Claims:
    """Query group. `due` collects the jobs that become due with this transaction, to be rung after it."""

    def __init__(self, driver: psycopg.Connection[Any], due: Due) -> None:
        self._driver = driver
        self._due = due

    def claim(
        self, job_ids: Sequence[UUID], worker_id: UUID, known: Known, *, quarantined: bool = True
    ) -> list[ClaimedJob]:
        """Take those that may run now for one attempt each, in their order; with `suspects`, or without."""
        values: dict[str, Any] = {"ids": list(job_ids), "worker_id": worker_id, "known": known, "suspects": quarantined}
        claimed = list(starmap(ClaimedJob, self._driver.execute(CLAIM, values, prepare=True)))
        if len(claimed) < len(job_ids):
            taken = {job.id for job in claimed}
            claimed += self._claim_bound(values | {"ids": [each for each in job_ids if each not in taken]})
        claimed.sort(key=lambda job: (job.priority, job.scheduled_for, job.id))
        return claimed

    def quarantined(self, job_ids: Sequence[UUID], known: Known) -> list[UUID]:
        """Those of the jobs that are due and during which a process has died, in their order."""
        return [row[0] for row in self._driver.execute(QUARANTINED, {"ids": list(job_ids), "known": known})]

    def put_off(self, job_ids: Sequence[UUID]) -> None:
        """Let the jobs be rung again in a second, if they still wait then."""
        self._driver.execute(PUT_OFF, (list(job_ids),))

    def _claim_bound(self, values: dict[str, Any]) -> list[ClaimedJob]:
        """Claim what an ordering key, a pause or a limit may forbid. What this release cannot read is looked at again
        later, and ever more rarely: however much of it there is, it does not stand in the way of the others."""
        found = self._driver.execute(LEFT_OVER, values, prepare=True).fetchall()
        rows = [row for row in found if row[4]]
        if len(rows) < len(found):
            self._driver.execute(SLEEP_UNREAD, {"ids": [row[0] for row in found if not row[4]]})
        if not rows:
            return []
        policies = read_policies(self._driver, {row[1] for row in rows})
        waiting: list[tuple[UUID, Place]] = [(row[0], (row[1], row[2])) for row in rows]
        waiting = [(job_id, place) for job_id, place in waiting if not paused(policies, place)]
        bound = bounds(policies, [place for _, place in waiting])
        self._lock([_order(row[2], row[3]) for row in rows if row[3] is not None] + [_slots(place) for place in bound])
        blocked = {row[0] for row in self._driver.execute(BLOCKED, {"ids": [each for each, _ in waiting]})}
        if blocked:
            self._driver.execute(SLEEP, {"ids": list(blocked)})
        waiting = [(job_id, place) for job_id, place in waiting if job_id not in blocked]
        admitted = admit(waiting, self._running(bound) if bound else {}, policies)
        limited = {place for _, place in waiting if bound & {place, (place[0], None)}}
        taken = self._driver.execute(TAKE_ADMITTED, values | {"ids": admitted})
        return [ClaimedJob(*(*row, (row[3], row[1]) in limited)) for row in taken]

    def _running(self, bound: Collection[Place]) -> dict[Place, int]:
        rows = self._driver.execute(COUNT_RUNNING, (list({queue for queue, _ in bound}),))
        return {(queue, tenant_id): count for queue, tenant_id, count in rows}

    def _lock(self, names: Iterable[str]) -> None:
        """Until the end of the transaction; in one order, so that two who need the same ones do not deadlock."""
        keys = sorted({int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True) for name in names})
        if keys:
            self._driver.execute(LOCK, (keys,))

    def complete(self, done: Sequence[Done]) -> set[UUID]:
        """The jobs that are completed hereby; a lease that is missing lost its job, and its effects must not stay."""
        results = ", ".join([f'"{each.job.id}": {each.result}' for each in done if each.result is not None])
        values = {
            "ids": [each.job.id for each in done],
            "tokens": [each.job.lease_token for each in done],
            "results": f"{{{results}}}",
        }
        completed = {row[0] for row in self._driver.execute(COMPLETE, values, prepare=True)}
        self._release(each.job for each in done if each.job.id in completed)
        return completed

    def leave(self, job: ClaimedJob) -> None:
        """The job is about to end, or to wait: if it took up a place that others wait for, have the queue looked at."""
        if job.limited:
            self._due.setdefault(job.queue, {})

    def _release(self, ended: Iterable[ClaimedJob]) -> None:
        """Let those run that waited for these, which have just completed."""
        orders = set()
        for job in ended:
            self.leave(job)
            if job.ordering_key is not None:
                orders.add((job.tenant_id, job.ordering_key))
        if orders:
            self.wake(orders)

    def wake(self, orders: Collection[tuple[UUID | None, str]]) -> None:
        """Let the next of each order run."""
        woken = []
        self._lock(_order(tenant_id, key) for tenant_id, key in orders)
        for tenant_id, key in orders:
            woken += self._driver.execute(WAKE_NEXT, {"key": key, "tenant_id": tenant_id}).fetchall()
        for queue, job_id, priority in woken:
            self._due.setdefault(queue, {})[job_id] = priority

    def give_back(self, claimed: Collection[ClaimedJob]) -> None:
        """Return jobs that were claimed and not begun; the attempt is not counted, and they are rung again."""
        values = {"ids": [job.id for job in claimed], "tokens": [job.lease_token for job in claimed]}
        self._driver.execute(GIVE_BACK, values)
        for job in claimed:
            self._due.setdefault(job.queue, {})[job.id] = job.priority

    def take_back(self, job_ids: Collection[UUID], worker_id: UUID, known: Collection[int]) -> int:
        """Return those of the jobs that this process claimed without hearing of it; `known` are the lease tokens that
        it does know of. The attempt is not counted: it was not begun. Returns their number."""
        values = {"ids": list(job_ids), "worker_id": worker_id, "known": list(known)}
        return self._driver.execute(TAKE_BACK, values).rowcount

    def standing(self, job: ClaimedJob) -> str | None:
        """Of a job that this lease owns until the transaction ends: "wanted" or "cancel requested". Else None."""
        found = self._driver.execute(STANDING, (job.id, job.lease_token), prepare=True).fetchone()
        return None if found is None else str(found[0])

    def completed(self, job: ClaimedJob) -> bool:
        """After a COMMIT whose answer was lost: did this very lease complete the job?"""
        found = self._driver.execute(
            "SELECT FROM job_queue WHERE id = %s AND status = 'completed' AND lease_token = %s",
            (job.id, job.lease_token),
        )
        return found.fetchone() is not None


def completing(done: Done, driver: psycopg.Connection[Any]) -> bytes:
    """`COMPLETE` of one job, as the text of a statement that can be sent together with COMMIT."""
    call = sql.SQL("SELECT complete_job({}, {}, {}::jsonb); ")
    return call.format(str(done.job.id), done.job.lease_token, done.result).as_bytes(driver)


def _order(tenant_id: UUID | None, key: str) -> str:
    return f"order/{tenant_id}/{key}"


def _slots(place: Place) -> str:
    return f"slots/{place[0]}/{place[1]}"
