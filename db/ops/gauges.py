"""What is, as opposed to what was counted: gauges of pauses, failures, parked events, unconfirmed effects and workers.
What waits in the queues is counted by `db/queue/queue_views.py`.

Each count stops at `MOST`, and each query is served by an index, however much there is.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg

from db.postgres.connection import together
from domain.events.outcomes import Status
from domain.videos.submissions import SubmissionState

MOST: Final = 10_001

PAUSED: Final = "SELECT queue, 1.0 FROM queue_policies WHERE tenant_id IS NULL AND paused_at IS NOT NULL"

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

    def read(self) -> list[Gauge]:
        """Read all gauges, in one round trip."""
        values = {"parked": [status for status in Status if status.kind == "parked"]}
        with together(self._driver):
            cursors = [
                self._driver.execute(statement.encode(), values)
                for statement in (PAUSED, FAILED, PARKED, UNCONFIRMED, WORKERS)
            ]
        paused, failed, parked, unconfirmed, workers = (cursor.fetchall() for cursor in cursors)
        return [
            *(Gauge("viral_queue_paused", {"queue": queue}, value) for queue, value in paused),
            *(Gauge("viral_jobs_failed", {"job_type": job_type}, count) for job_type, count in failed),
            *(
                Gauge("viral_events_parked", {"source": source, "reason": status.partition(":")[2]}, count)
                for source, status, count in parked
            ),
            *(Gauge("viral_effects_unconfirmed", {"kind": kind}, count) for kind, count in unconfirmed),
            *(Gauge("viral_workers", {"state": state}, count) for state, count in workers),
        ]
