"""Counting: what was promised, what came of it, how often each effect happened."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from db.transaction import SYSTEM
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from tests.chaos.servers import System

UNFINISHED = "SELECT count(*) FROM job_queue WHERE status IN ('pending', 'running')"
STUCK = """
SELECT q.queue, q.job_type, q.status, q.attempts, q.wake_count, q.wake_at - now() AS wakes_in,
       q.scheduled_for - now() AS due_in, w.lease_until - now() AS lease_left, count(*) OVER () AS in_all
FROM job_queue q LEFT JOIN workers w ON w.id = q.worker_id WHERE q.status IN ('pending', 'running')
ORDER BY q.created_at LIMIT 5
"""
LEASE, SWEEP, MARGIN = 30, 10, 60
BAR = LEASE + SWEEP + MARGIN
"""Seconds after the last fault in which everything must be finished."""

COUNTED = "('chaos.effect', 'chaos.grouped', 'chaos.alone', 'chaos.parent', 'chaos.hold', 'chaos.tenant')"

# A job may have no effect only if it is not finished, or is one that was asked to have none.
AUDIT = f"""
WITH effects AS (SELECT job_id, count(*) AS n FROM chaos_ledger GROUP BY job_id)
SELECT count(*) AS jobs,
       count(*) FILTER (WHERE n > 1) AS doubled,
       count(*) FILTER (WHERE status IN ('pending', 'running')) AS unfinished,
       count(*) FILTER (WHERE status = 'failed' AND crashes >= {CRASHES_BEFORE_QUARANTINE}) AS quarantined,
       count(*) FILTER (WHERE status = 'failed' AND crashes < {CRASHES_BEFORE_QUARANTINE}) AS failed,
       count(*) FILTER (WHERE status = 'completed' AND n IS NULL
                        AND payload ->> 'how' IS DISTINCT FROM 'nothing') AS empty,
       count(*) FILTER (WHERE status <> 'completed' AND n > 0) AS half,
       (SELECT count(*) FROM chaos_ledger l WHERE NOT EXISTS (SELECT FROM job_queue q WHERE q.id = l.job_id)) AS orphans
FROM job_queue LEFT JOIN effects ON job_id = id WHERE job_type IN {COUNTED}
"""

QUARANTINED = f"""
SELECT id FROM job_queue WHERE status = 'failed' AND crashes >= {CRASHES_BEFORE_QUARANTINE} AND job_type IN {COUNTED}
"""


@dataclass(frozen=True)
class Audit:
    """`vanished`: its enqueuer was told that it is there, and it is not. `empty`: completed without its effect.
    `half`: an effect without its completion. `quarantined`: kept away after too many crashes, visibly, for a person."""

    jobs: int
    doubled: int
    unfinished: int
    quarantined: int
    failed: int
    empty: int
    half: int
    orphans: int
    vanished: int

    @property
    def lost(self) -> int:
        return self.vanished + self.unfinished + self.failed + self.empty

    @property
    def twice(self) -> int:
        return self.doubled + self.half + self.orphans


def audit(system: System, promised: Collection[UUID] = ()) -> Audit:
    there = system.value("SELECT count(*) FROM job_queue WHERE id = ANY(%s)", (list(promised),))
    return Audit(*(*system.rows(AUDIT)[0], len(promised) - there))


def await_finished(
    system: System, seconds: float = BAR, *, meanwhile: Callable[[], object] = lambda: None
) -> float | None:
    """Seconds until no job is unfinished, those that wait to be retried included; None if that took too long."""
    began = time.monotonic()
    while system.value(UNFINISHED):
        if time.monotonic() - began > seconds:
            return None
        meanwhile()
        time.sleep(0.1)
    return time.monotonic() - began


def stuck(system: System) -> list[str]:
    """What the first unfinished jobs wait for, for whoever has to find out."""
    return [", ".join(map(str, row)) for row in system.rows(STUCK)]


def retry_quarantined(system: System) -> int:
    """What a person does about dead letters that were innocent. Returns how many there were."""
    ids = [row[0] for row in system.rows(QUARANTINED)]
    for job_id in ids:
        with system.app.db.transaction(SYSTEM) as tx:
            tx.transitions.retry(job_id)
    return len(ids)


def suspected(system: System) -> dict[str, int]:
    """How many jobs had so many processes die while they were claimed; those that were retried by hand left out."""
    rows = system.rows("SELECT crashes, count(*) FROM job_queue WHERE crashes > 0 GROUP BY 1 ORDER BY 1")
    return {str(crashes): count for crashes, count in rows}


def attempts(system: System, outcome: str) -> int:
    return int(system.value("SELECT count(*) FROM job_attempts WHERE outcome = %s", (outcome,)))


def landed(system: System) -> int:
    """Processes that died while they ran something: kills that hit."""
    return int(system.value("SELECT count(DISTINCT worker_id) FROM job_attempts WHERE outcome = 'lost'"))
