"""Whose turn it is: the order in which waiting jobs are rung, decided by the table alone.

Every job that may run is *awake* (`wake_at` is NULL) and waits for its turn: by priority (lower first), then by
rank. The rank of a tenant's n-th waiting job is (cost that the tenant runs already + cost up to that job) divided by
the weight of its plan: start-time fair queueing (Goyal, Vin and Cheng, 1996), computed when turns are given instead of
when jobs are added. So it keeps no clocks that could drift or be fought over, sees a change of plan at once, and is
fair to rows that other programs inserted. One tenant's fifty thousand jobs do not delay another's one.

What cannot run yet is *asleep* until `wake_at`: it is scheduled for later, or an order or a batch holds it back.
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

# Skips from queue to queue through the index: as many probes as there are queues, however many jobs wait.
READY_QUEUES = f"""
WITH RECURSIVE strange AS (
    (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue >= %(after)s ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue > strange.queue ORDER BY queue LIMIT 1)
    FROM strange WHERE strange.queue IS NOT NULL
)
(SELECT queue FROM unnest(%(known)s::text[]) AS known (queue)
 WHERE (SELECT true FROM job_queue j WHERE j.queue = known.queue AND {READY_JOBS} ORDER BY priority LIMIT 1))
UNION ALL
(SELECT queue FROM strange WHERE queue <> ALL(%(known)s) LIMIT %(most)s)
"""

# In the same way from lane to lane; of each lane no more is read than may be given a turn.
TURNS = f"""
WITH RECURSIVE lanes AS (
    (SELECT priority, {SHARE} AS lane FROM job_queue WHERE queue = %(queue)s AND {READY_JOBS}
     ORDER BY priority, {SHARE} LIMIT 1)
    UNION ALL
    SELECT next.priority, next.lane FROM lanes CROSS JOIN LATERAL (
        SELECT priority, {SHARE} AS lane FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND (priority, {SHARE}) > (lanes.priority, lanes.lane)
        ORDER BY priority, {SHARE} LIMIT 1
    ) AS next
), busy AS (
    SELECT {SHARE} AS lane, count(*) AS jobs, sum(cost) AS cost FROM job_queue
    WHERE queue = %(queue)s AND status = 'running' GROUP BY 1
), policy AS (
    SELECT tenant_id, paused_at, max_running, max_running_per_tenant FROM queue_policies WHERE queue = %(queue)s
), open AS (
    SELECT lanes.priority, lanes.lane, coalesce(busy.cost, 0) AS busy,
           coalesce((%(weights)s::jsonb ->> t.subscription_tier)::float, 1) AS weight,
           coalesce(own.max_running, CASE WHEN t.id IS NOT NULL THEN everyones.max_running_per_tenant END)
               - coalesce(busy.jobs, 0) AS room
    FROM lanes LEFT JOIN busy USING (lane) LEFT JOIN tenants t ON t.id = lanes.lane
    LEFT JOIN policy own ON own.tenant_id = lanes.lane LEFT JOIN policy everyones ON everyones.tenant_id IS NULL
    WHERE own.paused_at IS NULL AND everyones.paused_at IS NULL
), whole AS (
    SELECT (SELECT max_running FROM policy WHERE tenant_id IS NULL) - (SELECT coalesce(sum(jobs), 0) FROM busy) AS room,
           greatest(8, 4 * %(most)s / (SELECT greatest(count(*), 1) FROM lanes)) AS share
)
SELECT job.id::text,
       job.priority::float * {PRIORITY_STEP}
         + least((open.busy + job.ahead) / open.weight, {PRIORITY_STEP} - 1) AS score,
       open.room IS NOT NULL OR whole.room IS NOT NULL AS limited
FROM whole CROSS JOIN open CROSS JOIN LATERAL (
    SELECT id, priority, scheduled_for, sum(cost) OVER (ORDER BY scheduled_for, id ROWS UNBOUNDED PRECEDING) AS ahead
    FROM (
        SELECT id, priority, scheduled_for, cost FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND priority = open.priority AND {SHARE} = open.lane
          AND scheduled_for <= now()
        ORDER BY scheduled_for, id LIMIT greatest(least(whole.share, open.room), 0)
    ) AS first
) AS job
ORDER BY score, job.scheduled_for, job.id LIMIT greatest(least(%(most)s, (SELECT room FROM whole)), 0)
"""


class ReadyJob(NamedTuple):
    """A job (its id as Redis is told it) that may run, and its place in line: lower goes first.

    `limited`: a limit lets only so many run.
    """

    job_id: str
    score: float
    limited: bool


class DispatchOrder:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def wake(self, most: int) -> int:
        """Let jobs whose alarm has gone off wait for their turn. Returns how many there were."""
        return self._driver.execute(WAKE, (most,)).rowcount

    def ready_queues(self, known: Collection[str], *, after: str, most: int) -> list[str]:
        """The queues in which a job waits for its turn, or is awake before it is due: those that are `known` first,
        then at most so many others, by name, from the name `after` on."""
        values = {"known": list(known), "after": after, "most": most}
        return [row[0] for row in self._driver.execute(READY_QUEUES, values)]

    def next(self, queue: str, most: int, weights: Mapping[str, float]) -> list[ReadyJob]:
        """The first `most` jobs in line; `weights` says how much more than one a plan's tenant gets."""
        values = {"queue": queue, "most": most, "weights": json.dumps(weights)}
        return list(starmap(ReadyJob, self._driver.execute(TURNS, values, prepare=True)))

    def explain(self, queue: str, most: int, weights: Mapping[str, float]) -> str:
        """How Postgres finds the turns, and what it reads for it."""
        values = {"queue": queue, "most": most, "weights": json.dumps(weights)}
        plan = self._driver.execute(f"EXPLAIN (ANALYZE, BUFFERS) {TURNS}".encode(), values)
        return "\n".join(row[0] for row in plan)
