"""How jobs end other than by completing: their process died, they overran, somebody cancelled them, they failed."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from db.claims import ClaimedJob
from db.jobs import FailedAttempt
from db.transaction import SYSTEM, Tx
from db.workers import LostJob
from domain.errors import Rejected
from domain.job import GiveUp, Retry, after_crash, after_overrun
from workers.job import FailedJob, JobType, JobTypes

RESCUED_AT_ONCE = 100
"""Jobs whose rows one transaction of the reaper locks."""

log = structlog.get_logger()


@dataclass(frozen=True)
class CancelledJob:
    """A job that was taken off its queue."""

    id: UUID
    tenant_id: UUID | None
    payload: dict[str, Any]
    payload_version: int


def rescue(tx: Tx, job_types: JobTypes, limit: int = RESCUED_AT_ONCE) -> int:
    """Return the jobs of dead processes to the queue, or fail those that keep killing. Returns their number.

    So it does with jobs that are long past their deadline, though their process lives. Runs in the system scope, in
    the reaper's transaction.
    """
    lost = tx.workers.lost(limit)
    for job in lost:
        if job.overran:
            decision = after_overrun(attempt=job.attempt, max_attempts=job.max_attempts)
            attempt = FailedAttempt("lost", "Overran", _reason(decision, "it ran past its deadline"))
        else:
            tx.workers.count_crash(job.id)
            decision = after_crash(attempt=job.attempt, max_attempts=job.max_attempts, crashes=job.crashes)
            attempt = FailedAttempt("lost", "WorkerLost", _reason(decision, "its worker process died"))
        if isinstance(decision, Retry):
            tx.jobs.reschedule(job.id, job.lease_token, attempt, decision.after)
        else:
            tx.jobs.fail(job.id, job.lease_token, attempt)
            if job.job_type in job_types:
                notify_failure(tx, job_types[job.job_type], job, attempt.error_message)
        log.warning(
            "job.lost",
            job_id=str(job.id),
            job_type=job.job_type,
            worker_id=str(job.worker_id),
            next=attempt.error_message,
        )
    return len(lost)


def cancel(tx: Tx, job_types: JobTypes, job_id: UUID) -> str | None:
    """Cancel a pending job at once ("cancelled"), ask a running one to stop ("running"); None if it has ended.

    Runs in the system scope. What the job's type does about a failure it does here too: no hold is left behind.
    """
    state = tx.jobs.cancel(job_id)
    row = tx.jobs.get(job_id) if state == "cancelled" else None
    if row is not None and row["job_type"] in job_types:
        ended = CancelledJob(job_id, row["tenant_id"], row["payload"], row["payload_version"])
        notify_failure(tx, job_types[row["job_type"]], ended, "cancelled")
    return state


def notify_failure(tx: Tx, job_type: JobType[Any], job: ClaimedJob | LostJob | CancelledJob, reason: str) -> None:
    """Run the type's `on_failure` in the transaction that ends the job, in the job's own scope."""
    if job_type.on_failure is None:
        return
    try:
        arguments = job_type.arguments(job.payload, job.tenant_id, job.payload_version)
        tx.work_as(job_type.scope(job.tenant_id))
    except Rejected:
        return
    job_type.on_failure(tx, FailedJob(job.id, job.tenant_id, arguments, reason))
    tx.work_as(SYSTEM)


def _reason(decision: Retry | GiveUp, otherwise: str) -> str:
    return decision.reason if isinstance(decision, GiveUp) else otherwise
