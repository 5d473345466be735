"""Answers a person who asks why a job waits: which jobs of its ordering key and of its queue are ahead of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from db.queue.dispatch import READY_JOBS
from db.schema.queue import SHARE

SAME_KEY_AHEAD = """
SELECT id, status, count(*) OVER () FROM job_queue
WHERE ordering_key = %(ordering_key)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
  AND (status = 'running' OR (status = 'pending' AND id < %(id)s)) AND id <> %(id)s
ORDER BY status = 'running' DESC, id LIMIT 1
"""

# The dispatch order, as if no other job began, ended or was enqueued before this one is dispatched.
DUE = f"""
queue = %(queue)s AND {READY_JOBS} AND scheduled_for <= now() AND NOT EXISTS (
    SELECT FROM queue_policies p WHERE p.queue = j.queue AND p.tenant_id = j.tenant_id AND p.paused_at IS NOT NULL
)
"""

AHEAD = f"""
WITH running AS (
    SELECT {SHARE} AS tenant, sum(cost) AS cost FROM job_queue
    WHERE queue = %(queue)s AND status = 'running' GROUP BY 1
), ranked AS (
    SELECT j.id, j.scheduled_for, j.tenant_id,
           (coalesce(running.cost, 0)
               + sum(j.cost) OVER (PARTITION BY {SHARE} ORDER BY j.scheduled_for, j.id ROWS UNBOUNDED PRECEDING)
           ) / coalesce((%(weights)s::jsonb ->> t.subscription_tier)::float, 1) AS rank
    FROM job_queue j LEFT JOIN tenants t ON t.id = j.tenant_id LEFT JOIN running ON running.tenant = {SHARE}
    WHERE priority = %(priority)s AND {DUE}
), mine AS (
    SELECT rank, scheduled_for, id FROM ranked WHERE id = %(id)s
)
SELECT (SELECT count(*) FROM job_queue j WHERE priority < %(priority)s AND {DUE}),
       count(ranked.id) FILTER (WHERE ranked.tenant_id IS NOT DISTINCT FROM %(tenant_id)s),
       count(ranked.id) FILTER (WHERE ranked.tenant_id IS DISTINCT FROM %(tenant_id)s)
FROM mine LEFT JOIN ranked ON (ranked.rank, ranked.scheduled_for, ranked.id) < (mine.rank, mine.scheduled_for, mine.id)
HAVING count(mine.id) > 0
"""

RUNNING = "SELECT tenant_id, count(*) FROM job_queue WHERE status = 'running' AND queue = %s GROUP BY tenant_id"

# Ids are in the order in which jobs were enqueued, so the primary key finds those that came later.
OVERTAKEN_BY = """
SELECT count(*) FROM (
    SELECT FROM job_queue WHERE id > %(id)s AND ordering_key = %(ordering_key)s AND status = 'completed'
        AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
    UNION ALL
    SELECT FROM job_archive WHERE id > %(id)s AND ordering_key = %(ordering_key)s AND status = 'completed'
        AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
) AS later
"""

OVERDUE = "SELECT min(wake_at) FROM job_queue WHERE status = 'pending' AND wake_at < now() - %s::interval"


@dataclass(frozen=True)
class Holder:
    """The first of the jobs that another one waits for, and how many there are."""

    id: UUID
    status: str
    count: int


@dataclass(frozen=True)
class Ahead:
    """How many jobs would be dispatched before this one: more urgent ones, and those of its own priority."""

    more_urgent: int
    of_its_tenant: int
    of_others: int


class Explain:
    """Query group; system scope. `job` is a row of `job_queue`."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def use_one_snapshot(self) -> None:
        """Let all queries of this transaction see the same moment; called before the first of them."""
        self._driver.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def same_key_ahead(self, job: Mapping[str, Any]) -> Holder | None:
        """The jobs with its ordering key that have to end first."""
        if job["ordering_key"] is None:
            return None
        values = {name: job[name] for name in ("id", "tenant_id", "ordering_key")}
        row = self._driver.execute(SAME_KEY_AHEAD, values).fetchone()
        return None if row is None else Holder(*row)

    def overtaken_by(self, job: Mapping[str, Any]) -> int:
        """How many later jobs with its ordering key have completed: it failed, and they did not wait for it."""
        if job["ordering_key"] is None or job["status"] == "completed":
            return 0
        values = {name: job[name] for name in ("id", "tenant_id", "ordering_key")}
        return int(self._driver.execute(OVERTAKEN_BY, values).fetchall()[0][0])

    def ahead(self, job: Mapping[str, Any], weights: Mapping[str, float]) -> Ahead | None:
        """The jobs before it in its queue; None if it is not ready. Reads every ready job of the queue."""
        values = {name: job[name] for name in ("id", "tenant_id", "queue", "priority")}
        row = self._driver.execute(AHEAD.encode(), values | {"weights": json.dumps(weights)}).fetchone()
        return None if row is None else Ahead(*row)

    def running(self, queue: str) -> dict[UUID | None, int]:
        """How many jobs of the queue run, by tenant."""
        return dict(self._driver.execute(RUNNING, (queue,)).fetchall())

    def overdue_since(self, patience: timedelta) -> datetime | None:
        """The earliest time at which a job should have been woken, if that is longer than `patience` ago."""
        return self._driver.execute(OVERDUE, (patience,)).fetchall()[0][0]  # type: ignore[no-any-return]
