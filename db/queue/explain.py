"""What keeps one job waiting: who is ahead of it, in its order and its queue. For a person who asks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from db.queue.dispatch import READY_JOBS
from db.schema.queue import SHARE

ORDER_AHEAD = """
SELECT id, status, count(*) OVER () FROM job_queue
WHERE ordering_key = %(ordering_key)s AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
  AND (status = 'running' OR (status = 'pending' AND id < %(id)s)) AND id <> %(id)s
ORDER BY status = 'running' DESC, id LIMIT 1
"""

# The same order as that of the turns, read as if nothing else began, ended or was added before this job's turn.
DUE = f"""
queue = %(queue)s AND {READY_JOBS} AND scheduled_for <= now() AND NOT EXISTS (
    SELECT FROM queue_policies p WHERE p.queue = j.queue AND p.tenant_id = j.tenant_id AND p.paused_at IS NOT NULL
)
"""

AHEAD = f"""
WITH busy AS (
    SELECT {SHARE} AS lane, sum(cost) AS cost FROM job_queue
    WHERE queue = %(queue)s AND status = 'running' GROUP BY 1
), line AS (
    SELECT j.id, j.scheduled_for, j.tenant_id,
           (coalesce(busy.cost, 0)
               + sum(j.cost) OVER (PARTITION BY {SHARE} ORDER BY j.scheduled_for, j.id ROWS UNBOUNDED PRECEDING)
           ) / coalesce((%(weights)s::jsonb ->> t.subscription_tier)::float, 1) AS rank
    FROM job_queue j LEFT JOIN tenants t ON t.id = j.tenant_id LEFT JOIN busy ON busy.lane = {SHARE}
    WHERE priority = %(priority)s AND {DUE}
), mine AS (
    SELECT rank, scheduled_for, id FROM line WHERE id = %(id)s
)
SELECT (SELECT count(*) FROM job_queue j WHERE priority < %(priority)s AND {DUE}),
       count(line.id) FILTER (WHERE line.tenant_id IS NOT DISTINCT FROM %(tenant_id)s),
       count(line.id) FILTER (WHERE line.tenant_id IS DISTINCT FROM %(tenant_id)s)
FROM mine LEFT JOIN line ON (line.rank, line.scheduled_for, line.id) < (mine.rank, mine.scheduled_for, mine.id)
HAVING count(mine.id) > 0
"""

RUNNING = "SELECT tenant_id, count(*) FROM job_queue WHERE status = 'running' AND queue = %s GROUP BY tenant_id"

# An id tells when its job was added, and the primary key finds those that were added later.
OVERTAKEN_BY = """
SELECT count(*) FROM (
    SELECT FROM job_queue WHERE id > %(id)s AND ordering_key = %(ordering_key)s AND status = 'completed'
        AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
    UNION ALL
    SELECT FROM job_archive WHERE id > %(id)s AND ordering_key = %(ordering_key)s AND status = 'completed'
        AND tenant_id IS NOT DISTINCT FROM %(tenant_id)s
) AS later
"""

OVERSLEPT = "SELECT min(wake_at) FROM job_queue WHERE status = 'pending' AND wake_at < now() - %s::interval"


@dataclass(frozen=True)
class Holder:
    """The first of the jobs that another one has to wait for, and how many there are."""

    id: UUID
    status: str
    count: int


@dataclass(frozen=True)
class Ahead:
    """How many jobs would be rung before this one: more urgent ones, and those of its own priority."""

    more_urgent: int
    of_its_tenant: int
    of_others: int


class Explain:
    """Query group; system scope. `job` is a row of `job_queue`."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def stand_still(self) -> None:
        """Let all queries of this transaction see the same moment. Has to come before the first of them."""
        self._driver.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def order_ahead(self, job: Mapping[str, Any]) -> Holder | None:
        """Who goes before it in its order."""
        if job["ordering_key"] is None:
            return None
        values = {name: job[name] for name in ("id", "tenant_id", "ordering_key")}
        row = self._driver.execute(ORDER_AHEAD, values).fetchone()
        return None if row is None else Holder(*row)

    def overtaken_by(self, job: Mapping[str, Any]) -> int:
        """How many jobs of its order were added later, and have completed: it failed, and they did not wait for it."""
        if job["ordering_key"] is None or job["status"] == "completed":
            return 0
        values = {name: job[name] for name in ("id", "tenant_id", "ordering_key")}
        return int(self._driver.execute(OVERTAKEN_BY, values).fetchall()[0][0])

    def ahead(self, job: Mapping[str, Any], weights: Mapping[str, float]) -> Ahead | None:
        """Who is before it in its queue; None if it does not wait for its turn. Reads all that waits there."""
        values = {name: job[name] for name in ("id", "tenant_id", "queue", "priority")}
        row = self._driver.execute(AHEAD.encode(), values | {"weights": json.dumps(weights)}).fetchone()
        return None if row is None else Ahead(*row)

    def running(self, queue: str) -> dict[UUID | None, int]:
        """How many jobs of the queue run, by tenant."""
        return dict(self._driver.execute(RUNNING, (queue,)).fetchall())

    def overslept(self, patience: timedelta) -> datetime | None:
        """Since when, at the longest, a job should be awake that is not, by more than `patience`."""
        return self._driver.execute(OVERSLEPT, (patience,)).fetchall()[0][0]  # type: ignore[no-any-return]
