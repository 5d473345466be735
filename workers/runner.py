"""Runs jobs: claim, handle, finish; and what follows when that does not go well.

Three things can be true of an attempt, and the row of `job_queue` alone decides which: it completed (its effects and
its completion committed together), it failed (recorded, then rescheduled or kept as dead letter), or it is not ours
any more (nothing of it is kept). See docs/decisions/0001-the-row-is-the-job.md.
"""

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

import structlog

from db.jobs import ClaimedJob, FailedAttempt
from db.transaction import SYSTEM, CommitUnknown, Database, DatabaseUnavailable, Tx
from db.workers import LostJob
from domain.errors import Rejected, ViralError
from domain.job import GiveUp, Retry, after_crash, after_failure
from domain.ports import Ports
from workers.job import Context, FailedJob, JobType, LeaseLost

JobTypes = Mapping[str, JobType[Any]]

log = structlog.get_logger()


class HandlerDidNotFinish(Exception):
    """A handler returned without `ctx.finish()`: a bug in the handler, since its job can never complete."""


class Runner:
    """Runs jobs on behalf of one worker process, from any number of threads."""

    def __init__(
        self,
        db: Database,
        job_types: JobTypes,
        *,
        worker_id: UUID,
        ports: Ports,
        rng: Random,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._db = db
        self._types = job_types
        self._known = sorted(job_types)
        self._ports = ports
        self._rng = rng
        self._clock = clock
        self._stopping = threading.Event()
        self._leases: set[int] = set()

    @property
    def leases(self) -> frozenset[int]:
        """Lease tokens of the jobs that threads of this process are running now."""
        return frozenset(self._leases)

    def stop(self) -> None:
        """Take no further job. Those left over in a message stay pending, and are rung again."""
        self._stopping.set()

    def run(self, job_ids: Iterable[str]) -> None:
        """Run each job of a message that is there to be run; the others are dropped. Never raises."""
        for job_id in job_ids:
            if self._stopping.is_set():
                return
            try:
                self.run_one(UUID(job_id))
            except DatabaseUnavailable as error:
                log.warning("job.postponed", job_id=job_id, reason=str(error))
            except Exception:
                log.exception("job.runner_failed", job_id=job_id)

    def run_one(self, job_id: UUID) -> bool:
        """Claim the job and carry it to the end of this attempt. False if there was nothing to claim."""
        claimed = self._claim(job_id)
        if claimed is None:
            return False
        self._leases.add(claimed.lease_token)
        try:
            with structlog.contextvars.bound_contextvars(
                job_id=str(claimed.id), job_type=claimed.job_type, attempt=claimed.attempt
            ):
                self._attempt(claimed)
        finally:
            self._leases.discard(claimed.lease_token)
        return True

    def _claim(self, job_id: UUID) -> ClaimedJob | None:
        with self._db.transaction(SYSTEM) as tx:
            # A claim that a server crash forgets is harmless: the fence refuses its finish, and the job runs again.
            tx.driver.execute("SET LOCAL synchronous_commit = off")
            return tx.jobs.claim(job_id, self.worker_id, self._known)

    def _attempt(self, claimed: ClaimedJob) -> None:
        try:
            self._handle(claimed)
        except LeaseLost:
            log.warning("job.lease_lost", kept="nothing of this attempt")
        except CommitUnknown as error:
            self._resolve(claimed, error)
        except Exception as error:
            self._fail(claimed, error)
        else:
            log.info("job.completed")

    def _handle(self, claimed: ClaimedJob) -> None:
        job_type = self._types[claimed.job_type]
        ctx = Context(self._db, claimed, job_type.scope(claimed.tenant_id), self._ports, self._clock)
        job_type.handler(ctx, **job_type.arguments(claimed.payload, claimed.tenant_id))
        if not ctx.finished:
            raise HandlerDidNotFinish(f"the handler of {claimed.job_type} returned without `ctx.finish()`")

    def _resolve(self, claimed: ClaimedJob, error: CommitUnknown) -> None:
        """The answer to a COMMIT was lost: read what became of it, on another connection."""
        with self._db.transaction(SYSTEM) as tx:
            completed = tx.jobs.completed_under(claimed.id, claimed.lease_token)
        log.warning("job.commit_unknown", completed=completed)
        if not completed:
            self._fail(claimed, error)

    def _fail(self, claimed: ClaimedJob, error: Exception) -> None:
        job_type = self._types[claimed.job_type]
        decision = after_failure(
            error,
            attempt=claimed.attempt,
            max_attempts=claimed.max_attempts,
            backoff=job_type.backoff,
            rng=self._rng,
        )
        attempt = FailedAttempt(
            outcome="rejected" if isinstance(error, Rejected) else "failed",
            error_class=type(error).__name__,
            error_message=str(error) or type(error).__name__,
            traceback=None if isinstance(error, ViralError) else "".join(traceback.format_exception(error)),
        )
        with self._db.transaction(SYSTEM) as tx:
            if isinstance(decision, Retry):
                mine = tx.jobs.reschedule(claimed.id, claimed.lease_token, attempt, decision.after)
            else:
                mine = tx.jobs.fail(claimed.id, claimed.lease_token, attempt)
                if mine:
                    notify_failure(tx, job_type, claimed, attempt.error_message)
        level = log.warning if isinstance(error, ViralError) else log.error
        level(
            "job.failed" if mine else "job.lease_lost",
            error=attempt.error_message,
            error_class=attempt.error_class,
            next="retry" if isinstance(decision, Retry) else decision.reason,
            retry_in_s=round(decision.after.total_seconds(), 1) if isinstance(decision, Retry) else None,
            exc_info=None if isinstance(error, ViralError) else error,
        )


def rescue(tx: Tx, job_types: JobTypes, limit: int = 100) -> int:
    """Return the jobs of dead processes to the queue, or fail those that keep killing. Returns how many there were.

    Runs in the system scope, in the reaper's transaction.
    """
    lost = tx.workers.lost(limit)
    for job in lost:
        tx.workers.count_crash(job.id)
        decision = after_crash(attempt=job.attempt, max_attempts=job.max_attempts, crashes=job.crashes)
        reason = decision.reason if isinstance(decision, GiveUp) else "its worker process died"
        attempt = FailedAttempt("lost", "WorkerLost", reason)
        if isinstance(decision, Retry):
            tx.jobs.reschedule(job.id, job.lease_token, attempt, decision.after)
        else:
            tx.jobs.fail(job.id, job.lease_token, attempt)
            if job.job_type in job_types:
                notify_failure(tx, job_types[job.job_type], job, reason)
        log.warning("job.lost", job_id=str(job.id), job_type=job.job_type, worker_id=str(job.worker_id), next=reason)
    return len(lost)


def notify_failure(tx: Tx, job_type: JobType[Any], job: ClaimedJob | LostJob, reason: str) -> None:
    """Run the type's `on_failure` in the transaction that fails the job, in the job's own scope."""
    if job_type.on_failure is None:
        return
    try:
        arguments = job_type.arguments(job.payload, job.tenant_id)
        tx.work_as(job_type.scope(job.tenant_id))
    except Rejected:
        return
    job_type.on_failure(tx, FailedJob(job.id, job.tenant_id, arguments, reason))
    tx.work_as(SYSTEM)
