"""Carries a claimed job through one attempt, to its outcome.

    handler ──▶ ctx.finish(), with effects ──────▶ completed, in the commit of its effects
       │             └─ without effects ─────────▶ completed, in one commit with many others
       ├── ctx.snooze() ─────────────────────────▶ pending, uncounted
       ├── somebody asked for the job to be stopped ─▶ cancelled
       ├── an error ─────────────────────────────▶ pending after a backoff, or failed
       ├── the database away, or locks held ─────▶ pending, uncounted
       └── another worker owns the job by now ───▶ nothing of this attempt is kept

The row of `job_queue` alone decides which it is. See docs/decisions/0001-the-row-is-the-job.md.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from random import Random
from time import perf_counter
from typing import TypeVar
from uuid import UUID

import structlog

from db.queue.transitions import ClaimedJob, Done, FailedAttempt
from db.transaction import (
    NO_ANSWER,
    SYSTEM,
    CommitUnknown,
    Contended,
    Database,
    DatabaseUnavailable,
    LeaseMissing,
    Tx,
)
from domain.errors import Rejected, Unavailable, ViralError
from domain.ports import Ports
from domain.queue.retries import GiveUp, Retry, after_failure, after_outage
from workers.engine.batch import Batch, BatchJob
from workers.engine.batcher import Batcher
from workers.engine.context import USUAL_STATEMENT, Context, JobCancelled, LeaseLost
from workers.engine.effects import TRY_AGAIN, Snoozed
from workers.engine.failures import described, named
from workers.engine.job import JobTypes
from workers.engine.outcomes import run_failure_hook
from workers.runtime.error_text import text_of
from workers.runtime.metrics import Metrics
from workers.runtime.tracing import Tracing, of_attempt
from workers.runtime.work import of_job, working

T = TypeVar("T")

log = structlog.get_logger()


class HandlerDidNotFinish(Exception):
    """A handler returned without `ctx.finish()`: a bug in the handler, since its job can never complete."""


class Attempts:
    """Runs attempts for one worker process. A job's lease token leaves `leases` when its outcome is written."""

    def __init__(
        self,
        db: Database,
        job_types: JobTypes,
        *,
        ports: Ports,
        rng: Random,
        clock: Callable[[], datetime] | None,
        leases: set[int],
        stopping: threading.Event,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._db = db
        self._types = job_types
        self._ports = ports
        self._rng = rng
        self._clock = clock
        self._leases = leases
        self._stopping = stopping
        self._metrics = metrics
        self._began: dict[int, float] = {}
        """When the handlers of jobs began whose outcome is not written yet, by lease token."""
        self._tracing = tracing
        self._completions = Batcher(self._complete, name="completions", limit=1000)

    def start(self) -> None:
        self._completions.start()

    def close(self) -> None:
        self._completions.stop(timeout=5)

    def run_first(self, waiting: deque[ClaimedJob]) -> None:
        """Take the first job, together with those of its type and priority if they are handled with it, and run them.

        Types alternate in a queue that several of them share: what is between them waits for one batch, not for one
        of each turn.
        """
        first = waiting.popleft()
        if self._types[first.job_type].many is None:
            self.run(first)
            return
        others = [job for job in waiting if (job.job_type, job.priority) != (first.job_type, first.priority)]
        batch = [first, *(job for job in waiting if (job.job_type, job.priority) == (first.job_type, first.priority))]
        waiting.clear()
        waiting.extend(others)
        if len(batch) == 1:
            self.run(first)
        else:
            self._run_batch(batch)

    def run(self, claimed: ClaimedJob) -> None:
        """Run one job by itself.

        Raises:
            DatabaseUnavailable, CommitUnknown: its outcome could not be written before this process was to stop.
        """
        completes_later = False
        self._began[claimed.lease_token] = perf_counter()
        span = self._tracing.process(claimed)
        with span, working(of_attempt(claimed, span)):
            try:
                completes_later = self._handle(claimed).completes_later
                if not completes_later:
                    log.info("job.completed")
                    self._count(claimed, "completed")
            except Exception as error:
                span.fail(type(error).__name__)
                self._conclude(claimed, error)
            finally:
                if not completes_later:
                    self._leases.discard(claimed.lease_token)
                    self._began.pop(claimed.lease_token, None)

    def _handle(self, claimed: ClaimedJob) -> Context:
        if claimed.cancel_requested_at is not None:
            raise JobCancelled
        job_type = self._types[claimed.job_type]
        ctx = Context(
            self._db,
            claimed,
            scope=job_type.scope(claimed.tenant_id),
            ports=self._ports,
            clock=self._clock,
            # Before the next quarantined job begins, the completion of this one must be written.
            complete=self._completions.call if claimed.crashes else self._completions.post,
        )
        job_type.handler(ctx, **job_type.arguments(claimed.payload, claimed.tenant_id, claimed.payload_version))
        if not ctx.finished:
            raise HandlerDidNotFinish(f"the handler of {claimed.job_type} returned without `ctx.finish()`")
        return ctx

    # --- an attempt that did not complete ----------------------------------------------------------------------

    def _conclude(self, claimed: ClaimedJob, error: Exception) -> None:
        match error:
            case LeaseLost():
                log.warning("job.lease_lost", kept="nothing of this attempt")
                self._count(claimed, "lease_lost")
            case Snoozed() | JobCancelled():
                try:
                    if isinstance(error, Snoozed):
                        self._snooze(claimed, error)
                    else:
                        self._cancel(claimed)
                except Unavailable:
                    raise
                except Exception as unwritable:
                    # No attempt may end without a trace.
                    self._fail(claimed, unwritable)
            case CommitUnknown():
                # The answer to a COMMIT was lost: read what became of it, on another connection.
                completed = self._persist(lambda tx: tx.transitions.completed(claimed))
                log.warning("job.commit_unknown", completed=completed)
                if completed:
                    self._count(claimed, "completed")
                else:
                    self._return(claimed, error)
            case DatabaseUnavailable() | Contended():
                self._return(claimed, error)
            case _:
                self._fail(claimed, error)

    def _snooze(self, claimed: ClaimedJob, snoozed: Snoozed) -> None:
        mine = self._reschedule(claimed, FailedAttempt("snoozed", "Snoozed", str(snoozed)), snoozed.after)
        self._count(claimed, "snoozed" if mine else "lease_lost")
        wait = round(snoozed.after.total_seconds(), 1)
        log.info("job.snoozed" if mine else "job.lease_lost", reason=str(snoozed), retry_in_s=wait)

    def _cancel(self, claimed: ClaimedJob) -> None:
        attempt = FailedAttempt("cancelled", "JobCancelled", "stopped as somebody asked for")
        mine = self._end(claimed, "cancelled", attempt, reason="cancelled")
        log.info("job.cancelled" if mine else "job.lease_lost")
        self._count(claimed, "cancelled" if mine else "lease_lost")

    def _return(self, claimed: ClaimedJob, error: DatabaseUnavailable | CommitUnknown | Contended) -> None:
        """The database went away in the middle, or others held what the job needs: nothing of the attempt was kept, and
        it is no failure of the job, unless that happens too often."""
        again = after_outage(self._persist(lambda tx: tx.jobs.outages(claimed.id)))
        if again is None:
            self._fail(claimed, error)
            return
        mine = self._reschedule(claimed, FailedAttempt("returned", type(error).__name__, str(error)), again.after)
        self._count(claimed, "returned" if mine else "lease_lost")
        wait = round(again.after.total_seconds(), 1)
        log.warning("job.returned" if mine else "job.lease_lost", reason=str(error), retry_in_s=wait)

    def _fail(self, claimed: ClaimedJob, error: Exception) -> None:
        decision = after_failure(
            error,
            attempt=claimed.attempt,
            max_attempts=claimed.max_attempts,
            backoff=self._types[claimed.job_type].backoff,
            rng=self._rng,
        )
        attempt = described(error)
        try:
            mine = self._record_failure(claimed, attempt, decision)
        except Unavailable:
            raise
        except Exception as unrecordable:
            log.exception("job.failure_not_recorded", error_class=attempt.error_class)
            attempt = named(attempt, unrecordable)
            mine = self._record_failure(claimed, attempt, decision)
        outcome = "retried" if isinstance(decision, Retry) else "failed"
        self._count(claimed, outcome if mine else "lease_lost")
        expected = isinstance(error, ViralError)
        (log.warning if expected else log.error)(
            "job.failed" if mine else "job.lease_lost",
            error=attempt.error_message,
            error_class=attempt.error_class,
            next="retry" if isinstance(decision, Retry) else decision.reason,
            retry_in_s=round(decision.after.total_seconds(), 1) if isinstance(decision, Retry) else None,
            exc_info=None if expected else error,
        )

    def _record_failure(self, claimed: ClaimedJob, attempt: FailedAttempt, decision: Retry | GiveUp) -> bool:
        if isinstance(decision, Retry):
            return self._reschedule(claimed, attempt, decision.after, counted=True)
        return self._end(claimed, "failed", attempt, reason=attempt.error_message)

    def _reschedule(
        self, claimed: ClaimedJob, attempt: FailedAttempt, after: timedelta, *, counted: bool = False
    ) -> bool:
        """Return False if the job is not ours any more."""
        return self._persist(lambda tx: tx.transitions.reschedule(claimed, attempt, after, counted=counted))

    def _end(self, claimed: ClaimedJob, status: str, attempt: FailedAttempt, *, reason: str) -> bool:
        """Return False if the job is not ours any more; otherwise the type's `on_failure` runs in the same commit."""

        def write(tx: Tx) -> bool:
            mine = tx.transitions.end(claimed, status, attempt)
            if mine:
                run_failure_hook(tx, self._types[claimed.job_type], claimed, reason)
            return mine

        return self._persist(write)

    def _persist(self, write: Callable[[Tx], T]) -> T:
        return persist(self._db, self._stopping, write)

    # --- many completions in one commit --------------------------------------------------------------------------

    def _complete(self, done: Sequence[Done]) -> list[bool]:
        """Complete jobs whose finish had no effects, as soon as Postgres takes that. Never raises."""

        def write(tx: Tx) -> set[UUID]:
            completed = tx.transitions.complete(done)
            # It may have happened in a transaction whose COMMIT was not answered.
            missing = [each.job for each in done if each.job.id not in completed]
            return completed | {job.id for job in missing if tx.transitions.completed(job)}

        try:
            completed = self._persist(write)
        except Unavailable as error:
            log.warning("jobs.completions_lost", count=len(done), reason=str(error))
            completed = set()
        except Exception as error:
            return self._complete_without_the_refused(done, error)
        else:
            if len(done) == 1 and completed:
                job = done[0].job
                with working(of_job(job, job.cause, job.traceparent)):
                    log.info("job.completed")
            elif completed:
                log.info("jobs.completed", count=len(completed))
            if lost := [str(each.job.id) for each in done if each.job.id not in completed]:
                log.warning("jobs.lease_lost", job_ids=lost)
        self._leases.difference_update(each.job.lease_token for each in done)
        self._count_all(done, completed)
        return [each.job.id in completed for each in done]

    def _complete_without_the_refused(self, done: Sequence[Done], error: Exception) -> list[bool]:
        """Halve what Postgres refuses as a whole until what it refuses stands alone, and has failed with that."""
        if len(done) > 1:
            half = len(done) // 2
            return self._complete(done[:half]) + self._complete(done[half:])
        [(job, _)] = done
        with working(of_job(job, job.cause, job.traceparent)):
            try:
                self._fail(job, error)
            except Exception:
                log.exception("job.failure_not_recorded")
            finally:
                self._leases.discard(job.lease_token)
                self._began.pop(job.lease_token, None)
        return [False]

    # --- what is counted -------------------------------------------------------------------------------------------

    def _count(self, claimed: ClaimedJob, outcome: str) -> None:
        """Count the end of an attempt, once."""
        began = self._began.pop(claimed.lease_token, None)
        if began is not None:
            self._count_ends(claimed.job_type, outcome, [perf_counter() - began])

    def _count_all(self, done: Sequence[Done], completed: Collection[UUID]) -> None:
        ended, seconds = perf_counter(), dict[tuple[str, str], list[float]]()
        for job, _ in done:
            began = self._began.pop(job.lease_token, ended)
            outcome = "completed" if job.id in completed else "lease_lost"
            seconds.setdefault((job.job_type, outcome), []).append(ended - began)
        for (job_type, outcome), each in seconds.items():
            self._count_ends(job_type, outcome, each)

    def _count_ends(self, job_type: str, outcome: str, seconds: Sequence[float]) -> None:
        self._metrics.count("viral_attempts_total", job_type, outcome, by=len(seconds))
        self._metrics.observe_all("viral_job_duration_seconds", seconds, job_type, outcome)
        if outcome == "lease_lost":
            self._metrics.count("viral_fence_refusals_total", by=len(seconds))

    # --- many jobs in one transaction -----------------------------------------------------------------------------

    def _run_batch(self, batch: Sequence[ClaimedJob]) -> None:
        """Run jobs whose type handles many at once, and alone what is left.

        Being in a batch never makes a job fail, nor costs it an attempt: what does not go well there is undone.
        """
        try:
            for claimed in self._handle_together(batch):
                self.run(claimed)
        finally:
            self._leases.difference_update(job.lease_token for job in batch)

    def _handle_together(self, batch: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Return the jobs that are to be run alone."""
        if len(batch) == 1:
            return batch
        try:
            return self._handle_batch(batch)
        except CommitUnknown as error:
            alone = self._persist(lambda tx: [job for job in batch if not tx.transitions.completed(job)])
            log.warning("batch.commit_unknown", completed=len(batch) - len(alone), reason=str(error))
            self._count_ends(batch[0].job_type, "completed", [0.0] * (len(batch) - len(alone)))
            return alone
        except DatabaseUnavailable as error:
            log.info("batch.undone", jobs=len(batch), reason=str(error))
            return batch
        except Exception as error:
            # Of a bug that only `many` has, nothing else would tell.
            unforeseen = None if isinstance(error, (ViralError, LeaseMissing)) else error
            reason = text_of(error) or type(error).__name__
            log.info("batch.halved", jobs=len(batch), reason=reason, exc_info=unforeseen, seldom=True)
            half = len(batch) // 2
            return [*self._handle_together(batch[:half]), *self._handle_together(batch[half:])]

    def _handle_batch(self, batch: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Handle the jobs in one transaction. Returns those that are left: by the handler, or as they must not run."""
        job_type = self._types[batch[0].job_type]
        jobs = [each for each in map(self._read, batch) if each is not None]
        if job_type.many is None or len(jobs) < 2:
            return batch
        began = perf_counter()
        with self._spans(jobs), self._db.transaction(SYSTEM, timeout=_patience(batch)) as tx:
            job_type.many(Batch(tx, jobs, ports=self._ports, clock=self._clock))
            handled = [each.done for each in jobs if each.left_because is None]
            tx.work_as(SYSTEM)
            if handled and len(tx.transitions.complete(handled)) < len(handled):
                raise LeaseMissing
        if handled:
            log.info("jobs.completed", count=len(handled), job_type=job_type.name)
            seconds = (perf_counter() - began) / len(handled)
            self._count_ends(job_type.name, "completed", [seconds] * len(handled))
        done = {each.job.id for each in handled}
        return [claimed for claimed in batch if claimed.id not in done]

    def _spans(self, jobs: Sequence[BatchJob]) -> ExitStack:
        """Begin a span for each job of a batch, all linked to the first one's."""
        spans = ExitStack()
        if self._tracing.on:
            for each in jobs:
                each.span = spans.enter_context(self._tracing.process(each.job, beside=jobs[0].span))
        return spans

    def _read(self, claimed: ClaimedJob) -> BatchJob | None:
        """Return the job with its arguments; None if it is to be stopped, or cannot be read."""
        job_type = self._types[claimed.job_type]
        try:
            arguments = job_type.arguments(claimed.payload, claimed.tenant_id, claimed.payload_version)
        except Rejected:
            return None
        return None if claimed.cancel_requested_at is not None else BatchJob(claimed, arguments, self._tracing)


def persist(db: Database, stopping: threading.Event, write: Callable[[Tx], T]) -> T:
    """Return what `write` returns, in a transaction of its own, which is tried again while the database is away.

    A `write` that is repeated after a COMMIT that did happen, and was not answered, must find nothing left to do.

    Raises:
        DatabaseUnavailable, CommitUnknown: the database is away, and this process was asked to stop.
    """
    while True:
        try:
            with db.transaction(SYSTEM) as tx:
                return write(tx)
        except NO_ANSWER as error:
            log.warning("worker.cannot_write", reason=str(error), seldom=True)
            if stopping.wait(TRY_AGAIN):
                raise


def _patience(batch: Sequence[ClaimedJob]) -> timedelta | None:
    """Return how long a statement may take at most, if the deadline of a job is nearer than usual."""
    left = [job.deadline_at - job.now for job in batch if job.deadline_at is not None]
    return min(left) if left and min(left) < USUAL_STATEMENT else None
