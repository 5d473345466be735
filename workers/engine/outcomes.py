"""Ends jobs whose attempt cannot: their process died, they overran, or somebody cancels them; and runs `on_failure`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from db.postgres.values import UnreadableJson
from db.queue.transitions import NOBODY, ClaimedJob, FailedAttempt
from db.queue.workers import LostJob
from db.transaction import NO_ANSWER, SYSTEM, Contended, Database, Tx, is_contended
from domain.errors import Rejected
from domain.queue.retries import GiveUp, Retry, after_abandonment, after_crash, after_overrun
from workers.engine.failures import described
from workers.engine.job import FailedJob, JobType, JobTypes
from workers.runtime.error_text import text_of
from workers.runtime.metrics import Metrics
from workers.runtime.work import on_behalf, working

REASONS = {"WorkerLost": "worker_lost", "Overran": "overran", "Abandoned": "abandoned"}
"""Why a job was lost, as it is counted, by its attempt's error class."""

log = structlog.get_logger()


@dataclass(frozen=True)
class CancelledJob:
    """A pending job that somebody cancelled."""

    id: UUID
    tenant_id: UUID | None
    payload: Mapping[str, Any] | UnreadableJson
    payload_version: int
    traceparent: str | None


def rescue(db: Database, job_types: JobTypes, metrics: Metrics | None = None) -> int:
    """Return the jobs of dead processes to the queue, or fail those that keep killing. Returns their number.

    So it does with jobs that are long past their deadline, though their process lives, and with those of nobody. Each
    is ended in a transaction of its own: what somebody else has locked waits for the next round, and what cannot be
    ended costs itself.

    Raises:
        DatabaseUnavailable: those that are left wait for the next round.
    """
    with db.transaction(SYSTEM) as tx:
        lost = tx.workers.lost()
    rescued, locked = 0, set()
    for job_id, tenant_id in lost:
        if tenant_id in locked:
            continue
        try:
            with db.transaction(SYSTEM) as tx:
                why = _rescue(tx, job_types, job_id)
            if why is not None:
                rescued += 1
                if metrics is not None:
                    metrics.count("viral_jobs_rescued_total", why)
        except NO_ANSWER:
            raise
        except Contended as error:
            log.info("job.rescue_put_off", job_id=str(job_id), reason=str(error))
            if tenant_id is not None:
                locked.add(tenant_id)
        except Exception as error:
            log.error("job.rescue_failed", job_id=str(job_id), error=text_of(error), exc_info=error)
    return rescued


def _rescue(tx: Tx, job_types: JobTypes, job_id: UUID) -> str | None:
    """Return why the job was lost; None if it is not."""
    tx.workers.limit_lock_wait()
    job = tx.workers.lock_lost(job_id)
    if job is None:
        return None
    attempt, decision = _lost_attempt(tx, job)
    if isinstance(decision, Retry):
        tx.transitions.reschedule(job, attempt, decision.after)
    else:
        known_end = job.worker_id == NOBODY and job.error_message is not None
        status = "cancelled" if known_end and job.unwanted else "failed"
        tx.transitions.end(job, status, attempt, recorded=known_end)
        if job.job_type in job_types:
            _run_hook(tx, job_types[job.job_type], job, attempt.error_message)
    log.warning(
        "job.lost",
        job_id=str(job.id),
        job_type=job.job_type,
        worker_id=str(job.worker_id),
        next=attempt.error_message,
    )
    return REASONS[attempt.error_class]


def _lost_attempt(tx: Tx, job: LostJob) -> tuple[FailedAttempt, Retry | GiveUp]:
    if job.worker_id == NOBODY:
        decision = after_abandonment(attempt=job.attempt, max_attempts=job.max_attempts)
        if job.error_message is not None:
            decision = GiveUp(job.error_message)
        return FailedAttempt("lost", "Abandoned", _reason(decision, "no process runs it any more")), decision
    if job.overran:
        decision = after_overrun(attempt=job.attempt, max_attempts=job.max_attempts)
        return FailedAttempt("lost", "Overran", _reason(decision, "it ran past its deadline")), decision
    tx.workers.count_crash(job.id)
    decision = after_crash(attempt=job.attempt, max_attempts=job.max_attempts, crashes=job.crashes)
    return FailedAttempt("lost", "WorkerLost", _reason(decision, "its worker process died")), decision


def cancel(tx: Tx, job_types: JobTypes, job_id: UUID) -> str | None:
    """Cancel a pending job at once ("cancelled"), ask a running one to stop ("running"); None if it has ended.

    Runs in the system scope. What the job's type does about a failure it does here too: no hold is left behind.

    Raises:
        Contended: what the type does waits for somebody else's transaction; the job must not be cancelled yet.
    """
    state = tx.transitions.cancel(job_id)
    row = tx.jobs.get(job_id) if state == "cancelled" else None
    if row is not None and row["job_type"] in job_types:
        ended = CancelledJob(job_id, row["tenant_id"], row["payload"], row["payload_version"], row["traceparent"])
        _run_hook(tx, job_types[row["job_type"]], ended, "cancelled")
    return state


def run_failure_hook(tx: Tx, job_type: JobType[Any], job: ClaimedJob, reason: str) -> None:
    """Run the type's `on_failure` in the transaction that ends the job, in the job's own scope.

    A hook that raises costs its own effects; its error is kept with the job's. One that waits in vain for a lock is
    run later: the job is left to the reaper, which tries again until both can be committed.
    """
    try:
        _run_hook(tx, job_type, job, reason)
    except Contended as error:
        log.warning("job.end_put_off", reason=str(error))
        tx.transitions.leave_to_reaper(job.id)


def _run_hook(tx: Tx, job_type: JobType[Any], job: ClaimedJob | LostJob | CancelledJob, reason: str) -> None:
    """Raises:
    Contended: the hook waited in vain for a lock.
    """
    if job_type.on_failure is None:
        return
    try:
        arguments = job_type.arguments(job.payload, job.tenant_id, job.payload_version)
        scope = job_type.scope(job.tenant_id)
    except Rejected:
        return
    try:
        with working(on_behalf(job.id, job.traceparent)), tx.savepoint(scope):
            job_type.on_failure(tx, FailedJob(job.id, job.tenant_id, arguments, reason))
        tx.work_as(SYSTEM)
    except Exception as error:
        if tx.went_away(error):
            raise
        if is_contended(error):
            raise Contended(f"{job_type.name}'s on_failure waits for a lock that another transaction holds") from error
        attempt = described(error)
        message = f"its on_failure raised {attempt.error_class}: {attempt.error_message}"
        log.exception("job.hook_failed", job_id=str(job.id), job_type=job_type.name)
        tx.transitions.add_to_error(job.id, message, attempt.traceback)


def _reason(decision: Retry | GiveUp, otherwise: str) -> str:
    return decision.reason if isinstance(decision, GiveUp) else otherwise
