"""Every call into the inside of the engine, and every word about its tables, that the measures need: the one place to
mend when the engine changes."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from benchmarks.jobs import bench
from db.queue.claim import known_types
from db.queue.transitions import ClaimedJob, Done
from db.transaction import Tx
from workers.engine.job import JobType

LEFT = """
SELECT (SELECT count(*) FROM job_queue WHERE status = 'pending' AND wake_at IS NULL)
     + (SELECT count(*) FROM job_queue WHERE status = 'pending' AND wake_at IS NOT NULL)
     + (SELECT count(*) FROM job_queue WHERE status = 'running')
"""
"""How many jobs are not finished: one partial index for each part, however many rows of history there are. A scan of
the table would be paid by the measure, and its parallel workers be counted as the system's."""

DONE = "SELECT count(*) FROM job_queue WHERE job_type LIKE 'bench.%' AND status = 'completed' AND attempts = 1"
"""How many have completed at their first attempt; wherever finished jobs are kept."""

EFFECTS = "SELECT count(*) FROM system_metrics WHERE name = 'bench'"

HISTORY = """
INSERT INTO job_queue (id, job_type, status, attempts, created_at, scheduled_for, wake_at, started_at, completed_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       'history.noop', 'completed', 1, at, at, at, at, at + interval '5 milliseconds'
FROM generate_series(%(first)s::bigint, %(last)s) AS n, LATERAL (
    SELECT now() - interval '1 day' + interval '1 day' * (n::float / %(rows)s) AS at
) AS moment
"""
"""Jobs that finished during the last day, where finished jobs are kept, with ids that grow with time as ours do."""


def enqueue_many(tx: Tx, job_type: JobType[Any], arguments: Sequence[dict[str, Any]]) -> list[UUID]:
    """In bulk. Returns the ids."""
    return job_type.enqueue_many(tx, arguments)


def claim(tx: Tx, job_ids: Sequence[UUID], worker_id: UUID) -> list[ClaimedJob]:
    """As a worker does that knows one type of job."""
    return tx.claims.claim(job_ids, worker_id, known_types({bench.noop.name: bench.noop.terms}))


def complete(tx: Tx, claimed: Sequence[ClaimedJob]) -> None:
    tx.transitions.complete([Done(job, None) for job in claimed])
