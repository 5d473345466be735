"""What is, as opposed to what was counted: gauges of queues, failures, parked events, unconfirmed effects and workers.

Each count stops at `MOST`, and each query is served by an index, however much there is.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg

from db.postgres.connection import together
from db.queue.dispatch import READY_JOBS
from db.schema.queue import SHARE
from domain.events.outcomes import Status
from domain.videos.submissions import SubmissionState

MOST: Final = 10_001

READY: Final = f"""
SELECT queue, counted.jobs FROM unnest(%(queues)s::text[]) AS named (queue) CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT FROM job_queue j WHERE j.queue = named.queue AND {READY_JOBS} AND scheduled_for <= now() LIMIT {MOST}
    ) AS first
) AS counted
"""

# From one tenant's share to the next through the index: of each, the first job is its oldest.
OLDEST: Final = f"""
WITH RECURSIVE shares AS (
    (SELECT priority, {SHARE} AS tenant, scheduled_for FROM job_queue WHERE queue = %(queue)s AND {READY_JOBS}
     ORDER BY priority, {SHARE}, scheduled_for LIMIT 1)
    UNION ALL
    SELECT following.* FROM shares CROSS JOIN LATERAL (
        SELECT priority, {SHARE} AS tenant, scheduled_for FROM job_queue
        WHERE queue = %(queue)s AND {READY_JOBS} AND (priority, {SHARE}) > (shares.priority, shares.tenant)
        ORDER BY priority, {SHARE}, scheduled_for LIMIT 1
    ) AS following
)
SELECT %(queue)s, extract(epoch FROM clock_timestamp() - min(scheduled_for))
FROM (SELECT scheduled_for FROM shares LIMIT {MOST}) AS first
"""

# Of those that are to be woken now and are not, nobody wakes any: they are as old as they are due.
DEFERRED: Final = f"""
SELECT queue, count(*), extract(epoch FROM clock_timestamp() - min(wake_at)) FROM (
    SELECT queue, wake_at FROM job_queue WHERE status = 'pending' AND wake_at IS NOT NULL ORDER BY wake_at LIMIT {MOST}
) AS first GROUP BY queue
"""

RUNNING: Final = f"""
SELECT queue, count(*) FROM (SELECT queue FROM job_queue WHERE status = 'running' LIMIT {MOST}) AS first GROUP BY queue
"""

# Names that nobody declares, from one to the next through the index.
UNDECLARED: Final = f"""
WITH RECURSIVE named AS (
    (SELECT queue FROM job_queue WHERE {READY_JOBS} ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM job_queue WHERE {READY_JOBS} AND queue > named.queue ORDER BY queue LIMIT 1)
    FROM named WHERE named.queue IS NOT NULL
)
SELECT queue FROM named WHERE queue <> ALL(%(queues)s) LIMIT 20
"""

PAUSED: Final = "SELECT queue FROM queue_policies WHERE tenant_id IS NULL AND paused_at IS NOT NULL"

FAILED: Final = f"""
SELECT job_type, count(*) FROM (
    SELECT job_type FROM job_queue WHERE status = 'failed' AND completed_at IS NOT NULL
    ORDER BY completed_at DESC LIMIT {MOST}
) AS first GROUP BY job_type
"""

PARKED: Final = f"""
SELECT event.source, named.status, count(*) FROM unnest(%(parked)s::text[]) AS named (status) CROSS JOIN LATERAL (
    SELECT source FROM webhook_events e WHERE e.status LIKE 'parked:%%' AND e.status = named.status LIMIT {MOST}
) AS event GROUP BY event.source, named.status
"""

UNCONFIRMED: Final = f"""
SELECT 'clip', count(*) FROM (
    SELECT FROM provider_jobs WHERE state = '{SubmissionState.UNCONFIRMED}' LIMIT {MOST}) AS clips
UNION ALL
SELECT 'post', count(*) FROM (SELECT FROM social_posts WHERE status = 'unconfirmed' LIMIT {MOST}) AS posts
"""

WORKERS: Final = """
SELECT CASE WHEN lease_until <= now() THEN 'dead' WHEN draining THEN 'draining' ELSE 'alive' END, count(*)
FROM workers GROUP BY 1
"""


class Gauge(NamedTuple):
    """A gauge as Postgres has it: queues and job types by any name that somebody wrote."""

    name: str
    labels: Mapping[str, str]
    value: float


class Gauges:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def read(self, queues: Sequence[str]) -> list[Gauge]:
        """Read all gauges, in two round trips; `queues` are those that are declared."""
        values: dict[str, Any] = {
            "queues": list(queues),
            "parked": [status for status in Status if status.kind == "parked"],
        }
        with together(self._driver):
            cursors = [
                self._driver.execute(statement.encode(), values)
                for statement in (UNDECLARED, DEFERRED, RUNNING, PAUSED, FAILED, PARKED, UNCONFIRMED, WORKERS)
            ]
        undeclared, deferred, running, paused, failed, parked, unconfirmed, workers = (
            cursor.fetchall() for cursor in cursors
        )
        named = [*queues, *(queue for (queue,) in undeclared)]
        with together(self._driver):
            counting = self._driver.execute(READY.encode(), {"queues": named})
            aging = [self._driver.execute(OLDEST.encode(), {"queue": queue}) for queue in named]
        waiting = counting.fetchall()
        ages = [*(cursor.fetchone() or ("", None) for cursor in aging), *((row[0], row[2]) for row in deferred)]
        return [
            *_of_queues(queues, ages, {"waiting": waiting, "deferred": deferred, "running": running}, paused),
            *(Gauge("viral_jobs_failed", {"job_type": job_type}, count) for job_type, count in failed),
            *(
                Gauge("viral_events_parked", {"source": source, "reason": status.partition(":")[2]}, count)
                for source, status, count in parked
            ),
            *(Gauge("viral_effects_unconfirmed", {"kind": kind}, count) for kind, count in unconfirmed),
            *(Gauge("viral_workers", {"state": state}, count) for state, count in workers),
        ]


def _of_queues(
    queues: Sequence[str],
    ages: Sequence[tuple[Any, ...]],
    counts: Mapping[str, Sequence[tuple[Any, ...]]],
    paused: Sequence[tuple[Any, ...]],
) -> Iterator[Gauge]:
    for queue in queues:
        yield Gauge("viral_queue_oldest_due_age_seconds", {"queue": queue}, 0.0)
        yield Gauge("viral_queue_paused", {"queue": queue}, 0.0)
    for queue, age in ages:
        if age is not None:
            yield Gauge("viral_queue_oldest_due_age_seconds", {"queue": queue}, max(0.0, float(age)))
    for state, rows in counts.items():
        for queue, count, *_ in rows:
            yield Gauge("viral_queue_jobs", {"queue": queue, "state": state}, count)
    for (queue,) in paused:
        yield Gauge("viral_queue_paused", {"queue": queue}, 1.0)
