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
from uuid import UUID

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

RUNNING = f"""running AS (
    SELECT {SHARE} AS tenant, count(*) AS jobs, sum(cost) AS cost FROM job_queue
    WHERE queue = %(queue)s AND status = 'running' GROUP BY 1
)"""
ROOM = """policy AS (
    SELECT tenant_id, paused_at, max_running, max_running_per_tenant FROM queue_policies WHERE queue = %(queue)s
), whole_queue AS (
    SELECT (SELECT max_running FROM policy WHERE tenant_id IS NULL)
               - (SELECT coalesce(sum(jobs), 0) FROM running) AS room
)"""
SCORE = f"""{{job}}.priority::float * {PRIORITY_STEP}
         + least(({{running}} + {{job}}.ahead) / {{weight}}, {PRIORITY_STEP} - 1)"""

# In the same way from one tenant's share to the next; of each share no more is read than may be dispatched. Of a queue
# that is at its limit no share is read: its room is known before.
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
), {RUNNING}, {ROOM}, open AS (
    SELECT shares.priority, shares.tenant, coalesce(running.cost, 0) AS running,
           coalesce((%(weights)s::jsonb ->> t.subscription_tier)::float, 1) AS weight,
           coalesce(own.max_running, CASE WHEN t.id IS NOT NULL THEN everyones.max_running_per_tenant END)
               - coalesce(running.jobs, 0) AS room
    FROM shares LEFT JOIN running USING (tenant) LEFT JOIN tenants t ON t.id = shares.tenant
    LEFT JOIN policy own ON own.tenant_id = shares.tenant LEFT JOIN policy everyones ON everyones.tenant_id IS NULL
    WHERE own.paused_at IS NULL AND everyones.paused_at IS NULL
), part AS (
    SELECT greatest(8, 4 * %(limit)s / greatest(count(*), 1)) AS jobs_of_a_share FROM shares
)
SELECT job.id::text,
       {SCORE.format(job="job", running="open.running", weight="open.weight")} AS score,
       open.room IS NOT NULL OR whole_queue.room IS NOT NULL AS limited
FROM whole_queue CROSS JOIN part CROSS JOIN open CROSS JOIN LATERAL (
    SELECT id, priority, scheduled_for, sum(cost) OVER (ORDER BY scheduled_for, id ROWS UNBOUNDED PRECEDING) AS ahead
    FROM (
        SELECT id, priority, scheduled_for, cost FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND priority = open.priority AND {SHARE} = open.tenant
          AND scheduled_for <= now()
        ORDER BY scheduled_for, id LIMIT greatest(least(part.jobs_of_a_share, open.room), 0)
    ) AS first
) AS job
ORDER BY score, job.scheduled_for, job.id LIMIT greatest(least(%(limit)s, (SELECT room FROM whole_queue)), 0)
"""

MOST_LOOKED_AT = 30_000
"""Ready jobs that are put in order one by one. Where more wait, it is quicker to go from share to share."""

# The same order in one pass: where thousands of tenants have a few jobs each, that is quicker than as many steps
# through the index.
UPCOMING = f"""
WITH {RUNNING}, {ROOM}, ready AS (
    SELECT id, tenant_id, priority, scheduled_for, cost, {SHARE} AS tenant FROM job_queue
    WHERE queue = %(queue)s AND {READY_JOBS} AND scheduled_for <= now() LIMIT %(most)s + 1
), placed AS (
    SELECT ready.*, sum(cost) OVER share AS ahead, row_number() OVER share AS place FROM ready
    WINDOW share AS (PARTITION BY priority, tenant ORDER BY scheduled_for, id ROWS UNBOUNDED PRECEDING)
), weighed AS (
    SELECT placed.*, coalesce(running.cost, 0) AS running, coalesce((
               %(weights)s::jsonb ->> (SELECT subscription_tier FROM tenants WHERE id = placed.tenant_id))::float, 1
           ) AS weight
    FROM placed LEFT JOIN running ON running.tenant = placed.tenant
    LEFT JOIN policy own ON own.tenant_id = placed.tenant_id
    WHERE place <= %(limit)s AND own.paused_at IS NULL
      AND NOT EXISTS (SELECT FROM policy WHERE tenant_id IS NULL AND paused_at IS NOT NULL)
      AND (place > coalesce(own.max_running, CASE WHEN placed.tenant_id IS NOT NULL THEN (
              SELECT max_running_per_tenant FROM policy WHERE tenant_id IS NULL) END) - coalesce(running.jobs, 0)
          ) IS NOT TRUE
)
SELECT id, (SELECT count(*) FROM ready) > %(most)s
FROM weighed ORDER BY {SCORE.format(job="weighed", running="running", weight="weight")}, scheduled_for, id
LIMIT greatest(least(%(limit)s, (SELECT room FROM whole_queue)), 0)
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

    def upcoming(
        self, queue: str, limit: int, weights: Mapping[str, float], *, most: int = MOST_LOOKED_AT
    ) -> list[UUID]:
        """Return the ids of `next`, for whoever only looks at them. `most`: ready jobs that are put in order one by
        one."""
        values = {"queue": queue, "limit": limit, "weights": json.dumps(weights), "most": most}
        self._driver.execute("SET LOCAL enable_nestloop = off")
        found = self._driver.execute(UPCOMING.encode(), values, prepare=False).fetchall()
        self._driver.execute("SET LOCAL enable_nestloop = on")
        if found and found[0][1]:
            return [UUID(ready.job_id) for ready in self.next(queue, limit, weights)]
        return [job_id for job_id, _ in found]
