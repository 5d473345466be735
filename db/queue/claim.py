"""Decides which jobs a process may run now, and takes them.

A claim is by primary key. Most jobs are bound by nothing but their being due, and one statement takes them. What is
left over may be bound by an ordering key, a pause or a limit; that is looked into under locks, in statements that see
what every earlier holder of those locks has committed, so no limit is ever exceeded.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import starmap
from typing import Any
from uuid import UUID

import psycopg

from db.queue.policies import read_policies
from db.queue.transitions import CLAIMED_COLUMNS, PENDING, TAKE, ClaimedJob, lock, ordering_lock
from domain.queue.limits import ConcurrencyKey, admit, limiting_keys, paused


@dataclass(frozen=True)
class Terms:
    """What a worker knows of a job type: the newest payload version that it reads, and how long a run may take."""

    payload_version: int = 1
    timeout: timedelta = timedelta(minutes=10)


KnownTypes = str
"""The job types that a process can run, and on which terms, as JSON."""


def known_types(job_types: Mapping[str, Terms]) -> KnownTypes:
    """Write what a claim may take. A type that is missing, or a payload that is newer, waits for another process."""
    return json.dumps(
        {name: [terms.payload_version, terms.timeout.total_seconds()] for name, terms in job_types.items()}
    )


# No row of a type that we do not know, nor of a payload that is newer than what we read.
READABLE = "coalesce(payload_version <= (%(job_types)s::jsonb -> job_type ->> 0)::int, false)"

DUE = f"id = ANY(%(ids)b::uuid[]) AND {PENDING} AND scheduled_for <= now()"
RUNNABLE = f"{DUE} AND {READABLE}"

# A job is in quarantine if a process has died while running it.
WANTED = "(crashes <= 0 OR %(quarantined)s)"

# A locked row is being claimed by somebody else, or cancelled: not ours, and not waited for. Arrays instead of joins,
# here and below: whatever the statistics say, the plan is a probe of the primary key for each id.
CLAIM = f"""
{TAKE}
WHERE id = ANY(ARRAY(
    SELECT id FROM job_queue
    WHERE {RUNNABLE} AND {WANTED} AND ordering_key IS NULL AND queue <> ALL(ARRAY(SELECT queue FROM queue_policies))
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING {CLAIMED_COLUMNS}
"""

LEFT_OVER = f"""
SELECT id, queue, tenant_id, ordering_key, {READABLE} FROM job_queue WHERE {DUE} AND {WANTED}
ORDER BY priority, scheduled_for, id FOR NO KEY UPDATE SKIP LOCKED
"""

BLOCKED = """
SELECT id FROM job_queue j
WHERE id = ANY(%(ids)b::uuid[]) AND ordering_key IS NOT NULL AND EXISTS (
    SELECT FROM job_queue o WHERE o.ordering_key = j.ordering_key AND o.tenant_id IS NOT DISTINCT FROM j.tenant_id
    AND (o.status = 'running' OR (o.status = 'pending' AND o.id < j.id))
)
"""

COUNT_RUNNING = """
SELECT queue, tenant_id, count(*) FROM job_queue WHERE status = 'running' AND queue = ANY(%s) GROUP BY queue, tenant_id
"""

TAKE_ADMITTED = f"{TAKE} WHERE id = ANY(%(ids)b::uuid[]) RETURNING {CLAIMED_COLUMNS}"

# Looked at again ever more rarely. The job ahead in the order wakes a job that it blocks when it ends (the longest wait
# is for whoever slipped in between); nothing wakes what this release cannot read, and a newer one may start soon.
DEFER = """
UPDATE job_queue
SET wake_at = now() + least(interval '5 seconds' * power(2, greatest(least(wake_count, 10), 0)), %(longest)s),
    wake_count = least(wake_count + 1, 1000)
WHERE id = ANY(%(ids)b::uuid[])
"""
LONGEST_BLOCKED, LONGEST_UNREADABLE = timedelta(minutes=10), timedelta(minutes=1)

QUARANTINED = f"SELECT id FROM job_queue WHERE {RUNNABLE} AND crashes > 0 ORDER BY priority, scheduled_for, id"

# One that is locked is being claimed, or changed by somebody who notifies of it.
PUT_OFF = f"""
UPDATE job_queue SET wake_at = now() + interval '1 second'
WHERE id = ANY(ARRAY(SELECT id FROM job_queue WHERE id = ANY(%s) AND {PENDING} FOR NO KEY UPDATE SKIP LOCKED))
"""


class Claims:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def claim(
        self, job_ids: Sequence[UUID], worker_id: UUID, job_types: KnownTypes, *, quarantined: bool = True
    ) -> list[ClaimedJob]:
        """Take those that may run now for one attempt each, most urgent first; `quarantined` ones too, or not."""
        values: dict[str, Any] = {"worker_id": worker_id, "job_types": job_types, "quarantined": quarantined}
        claimed = list(starmap(ClaimedJob, self._driver.execute(CLAIM, values | {"ids": list(job_ids)}, prepare=True)))
        if len(claimed) < len(job_ids):
            taken = {job.id for job in claimed}
            claimed += self._claim_bound([each for each in job_ids if each not in taken], values)
        claimed.sort(key=lambda job: (job.priority, job.scheduled_for, job.id))
        return claimed

    def quarantined(self, job_ids: Sequence[UUID], job_types: KnownTypes) -> list[UUID]:
        """Select the jobs that are due and in quarantine, most urgent first."""
        return [row[0] for row in self._driver.execute(QUARANTINED, {"ids": list(job_ids), "job_types": job_types})]

    def put_off(self, job_ids: Sequence[UUID]) -> None:
        """Let the queue be notified of the jobs again in a second, if they still wait then."""
        self._driver.execute(PUT_OFF, (list(job_ids),))

    def _claim_bound(self, job_ids: Sequence[UUID], values: dict[str, Any]) -> list[ClaimedJob]:
        """Claim what an ordering key, a pause or a limit may forbid. What this release cannot read is looked at again
        later, and ever more rarely: however much of it there is, it does not stand in the way of the others."""
        found = self._driver.execute(LEFT_OVER, values | {"ids": job_ids}, prepare=True).fetchall()
        self._defer([job_id for job_id, *_, readable in found if not readable], LONGEST_UNREADABLE)
        rows = [row for row in found if row[4]]
        if not rows:
            return []
        policies = read_policies(self._driver, {queue for _, queue, *_ in rows})
        waiting: list[tuple[UUID, ConcurrencyKey]] = [
            (job_id, (queue, tenant_id)) for job_id, queue, tenant_id, *_ in rows
        ]
        waiting = [(job_id, key) for job_id, key in waiting if not paused(policies, key)]
        limiting = limiting_keys(policies, [key for _, key in waiting])
        orders = [ordering_lock(tenant_id, key) for _, _, tenant_id, key, _ in rows if key is not None]
        lock(self._driver, [*orders, *(f"slots/{queue}/{tenant_id}" for queue, tenant_id in limiting)])
        blocked = {row[0] for row in self._driver.execute(BLOCKED, {"ids": [each for each, _ in waiting]})}
        self._defer(list(blocked), LONGEST_BLOCKED)
        waiting = [(job_id, key) for job_id, key in waiting if job_id not in blocked]
        admitted = admit(waiting, self._running(limiting) if limiting else {}, policies)
        limited = {key for _, key in waiting if limiting & {key, (key[0], None)}}
        taken = starmap(ClaimedJob, self._driver.execute(TAKE_ADMITTED, values | {"ids": admitted}))
        return [job._replace(limited=(job.queue, job.tenant_id) in limited) for job in taken]

    def _defer(self, job_ids: list[UUID], longest: timedelta) -> None:
        if job_ids:
            self._driver.execute(DEFER, {"ids": job_ids, "longest": longest})

    def _running(self, limiting: Collection[ConcurrencyKey]) -> dict[ConcurrencyKey, int]:
        rows = self._driver.execute(COUNT_RUNNING, (list({queue for queue, _ in limiting}),))
        return {(queue, tenant_id): count for queue, tenant_id, count in rows}
