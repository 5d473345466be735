"""The dispatch order: which job is next in a queue, decided by the table alone.

A job that may run is *ready* (`wake_at` is NULL). Ready jobs are ordered by priority (lower first), then by rank. The
rank of a tenant's n-th ready job is (cost that the tenant runs already + cost up to that job) divided by the weight of
its plan: start-time fair queueing (Goyal, Vin and Cheng, 1996), computed when jobs are dispatched instead of when they
are enqueued. So it keeps no clocks that could drift or be fought over, sees a change of plan at once, and is fair to
rows that other programs inserted. One tenant's fifty thousand jobs do not delay another's one.

A job that cannot run yet is *deferred* until `wake_at`: it is scheduled for later, or its ordering key holds it back.
"""

import json
from collections.abc import Collection, Mapping
from itertools import starmap
from typing import Any, NamedTuple

import psycopg

from db.schema.queue import SHARE

PRIORITY_STEP = 1_000_000
"""A score is the priority times this, plus the rank within the priority."""

READY_JOBS = "status = 'pending' AND wake_at IS NULL"

WAKE = """
UPDATE job_queue SET wake_at = NULL
WHERE id = ANY(ARRAY(
    SELECT id FROM job_queue WHERE status = 'pending' AND wake_at <= now() ORDER BY wake_at LIMIT %s
    FOR NO KEY UPDATE SKIP LOCKED
))
"""

# Skips from queue to queue through the index: as many probes as there are queues, however many jobs wait. What waits in
# a declared queue that is paused is not ready: whoever resumes it notifies of it.
READY_QUEUES = f"""
WITH RECURSIVE named AS (
    (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue >= %(start)s ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue > named.queue ORDER BY queue LIMIT 1)
    FROM named WHERE named.queue IS NOT NULL
)
(SELECT queue FROM unnest(%(declared)s::text[]) AS declared (queue)
 WHERE (SELECT true FROM job_queue j WHERE j.queue = declared.queue AND {READY_JOBS} ORDER BY priority LIMIT 1)
       AND queue <> ALL(ARRAY(
           SELECT queue FROM queue_policies WHERE tenant_id IS NULL AND paused_at IS NOT NULL)))
UNION ALL
(SELECT queue FROM named WHERE queue <> ALL(%(declared)s) LIMIT %(limit)s)
"""

# In the same way from one tenant's share to the next; of each share no more is read than may be dispatched.
NEXT = f"""
WITH RECURSIVE shares AS (
    (SELECT priority, {SHARE} AS tenant FROM job_queue WHERE queue = %(queue)s AND {READY_JOBS}
     ORDER BY priority, {SHARE} LIMIT 1)
    UNION ALL
    SELECT following.priority, following.tenant FROM shares CROSS JOIN LATERAL (
        SELECT priority, {SHARE} AS tenant FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND (priority, {SHARE}) > (shares.priority, shares.tenant)
        ORDER BY priority, {SHARE} LIMIT 1
    ) AS following
), running AS (
    SELECT {SHARE} AS tenant, count(*) AS jobs, sum(cost) AS cost FROM job_queue
    WHERE queue = %(queue)s AND status = 'running' GROUP BY 1
), policy AS (
    SELECT tenant_id, paused_at, max_running, max_running_per_tenant FROM queue_policies WHERE queue = %(queue)s
), open AS (
    SELECT shares.priority, shares.tenant, coalesce(running.cost, 0) AS running,
           coalesce((%(weights)s::jsonb ->> t.subscription_tier)::float, 1) AS weight,
           coalesce(own.max_running, CASE WHEN t.id IS NOT NULL THEN everyones.max_running_per_tenant END)
               - coalesce(running.jobs, 0) AS room
    FROM shares LEFT JOIN running USING (tenant) LEFT JOIN tenants t ON t.id = shares.tenant
    LEFT JOIN policy own ON own.tenant_id = shares.tenant LEFT JOIN policy everyones ON everyones.tenant_id IS NULL
    WHERE own.paused_at IS NULL AND everyones.paused_at IS NULL
), whole_queue AS (
    SELECT (SELECT max_running FROM policy WHERE tenant_id IS NULL)
               - (SELECT coalesce(sum(jobs), 0) FROM running) AS room,
           greatest(8, 4 * %(limit)s / (SELECT greatest(count(*), 1) FROM shares)) AS jobs_of_a_share
)
SELECT job.id::text,
       job.priority::float * {PRIORITY_STEP}
         + least((open.running + job.ahead) / open.weight, {PRIORITY_STEP} - 1) AS score,
       open.room IS NOT NULL OR whole_queue.room IS NOT NULL AS limited
FROM whole_queue CROSS JOIN open CROSS JOIN LATERAL (
    SELECT id, priority, scheduled_for, sum(cost) OVER (ORDER BY scheduled_for, id ROWS UNBOUNDED PRECEDING) AS ahead
    FROM (
        SELECT id, priority, scheduled_for, cost FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND priority = open.priority AND {SHARE} = open.tenant
          AND scheduled_for <= now()
        ORDER BY scheduled_for, id LIMIT greatest(least(whole_queue.jobs_of_a_share, open.room), 0)
    ) AS first
) AS job
ORDER BY score, job.scheduled_for, job.id LIMIT greatest(least(%(limit)s, (SELECT room FROM whole_queue)), 0)
"""


# Seconds until the first deferred job is to be woken (NULL: none is), and whether any job runs.
REST = """
SELECT (SELECT extract(epoch FROM min(wake_at) - clock_timestamp())::float FROM job_queue
        WHERE status = 'pending' AND wake_at IS NOT NULL),
       EXISTS (SELECT FROM job_queue WHERE status = 'running')
"""


class ReadyJob(NamedTuple):
    """A ready job (its id as Redis holds it) and its score in the dispatch order: the lowest is next.

    `limited`: its queue or its tenant has a limit, so a worker may have to put it off.
    """

    job_id: str
    score: float
    limited: bool


class DispatchOrder:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def wake(self, limit: int) -> int:
        """Make deferred jobs ready whose time has come, and return how many there were."""
        return self._driver.execute(WAKE, (limit,)).rowcount

    def ready_queues(self, declared: Collection[str], *, start: str, limit: int) -> list[str]:
        """Queues that have ready jobs: the `declared` ones first, then up to `limit` others, by name, from `start`."""
        values = {"declared": list(declared), "start": start, "limit": limit}
        return [row[0] for row in self._driver.execute(READY_QUEUES, values)]

    def rest(self) -> float | None:
        """Seconds until a job is ready, for all that the table knows while none is; None if one runs, whose end may
        make others so."""
        first, runs = self._driver.execute(REST).fetchone() or (None, True)
        return None if runs else float("inf") if first is None else max(0.0, first)

    def next(self, queue: str, limit: int, weights: Mapping[str, float]) -> list[ReadyJob]:
        """The first jobs in dispatch order; the tenants of a plan get `weights` times as much as one that has none."""
        values = {"queue": queue, "limit": limit, "weights": json.dumps(weights)}
        return list(starmap(ReadyJob, self._driver.execute(NEXT, values, prepare=True)))
