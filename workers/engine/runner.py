"""Runs jobs: claim, handle, finish; and what follows when that does not go well.

Three things can be true of an attempt, and the row of `job_queue` alone decides which: it completed (its effects and
its completion committed together), it failed (recorded, then rescheduled or kept as dead letter), or it is not ours
any more (nothing of it is kept). See docs/decisions/0001-the-row-is-the-job.md.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from random import Random
from time import monotonic
from typing import TypeVar
from uuid import UUID

import structlog

from db.queue.transitions import ClaimedJob, Done, FailedAttempt
from db.transaction import NO_ANSWER, SYSTEM, CommitUnknown, Contended, Database, DatabaseUnavailable, Tx
from domain.errors import Unavailable, ViralError
from domain.ports import Ports
from domain.queue.retries import GiveUp, Retry, after_failure, after_outage
from workers.engine.batcher import Batcher
from workers.engine.claiming import Claimer
from workers.engine.context import TRY_AGAIN, Context, JobCancelled, LeaseLost, Snoozed
from workers.engine.failures import described, named
from workers.engine.groups import GroupedContext, run_group, take_group
from workers.engine.job import JobTypes
from workers.engine.outcomes import notify_failure
from workers.engine.quarantine import Quarantine
from workers.engine.queues import QUEUES
from workers.runtime import logs

QUICK, SLOW = 0.025, 0.25
"""Seconds that jobs claimed together take: below the first, more are claimed next time; above the second, one."""

AnyContext = TypeVar("AnyContext", bound=Context)
T = TypeVar("T")

log = structlog.get_logger()


class HandlerDidNotFinish(Exception):
    """A handler returned without `ctx.finish()`: a bug in the handler, since its job can never complete."""


class Runner:
    """Runs jobs on behalf of one worker process, from any number of threads.

    Claims of all threads, and completions without effects in the database, are merged: they share commits.
    """

    def __init__(
        self,
        db: Database,
        job_types: JobTypes,
        *,
        worker_id: UUID,
        ports: Ports,
        rng: Random,
        put_back: Callable[[str, Sequence[UUID]], object] = lambda queue, job_ids: None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._db = db
        self._types = job_types
        self._ports = ports
        self._rng = rng
        self._put_back = put_back
        self._clock = clock
        self._stopwatch = monotonic
        self._stopping = threading.Event()
        self._leases: set[int] = set()
        self._at_once: defaultdict[str, int] = defaultdict(lambda: 1)
        self._claimer = Claimer(db, worker_id, job_types, self._leases)
        self._claims = Batcher(self._claimer.take_for_all, name="claims", limit=64)
        self._completions = Batcher(self._complete, name="completions", limit=1000)
        self._quarantine = Quarantine(db, run=self._run_quarantined, put_back=put_back)

    @property
    def leases(self) -> frozenset[int]:
        """Lease tokens of the jobs that threads of this process are running now."""
        return frozenset(self._leases)

    def start(self) -> None:
        """Merge from here on. Before, everything happens in the caller's own thread, at once."""
        self._claims.start()
        self._completions.start()

    def stop(self) -> None:
        """Take no further job. Those left over in a message stay pending, and are rung again."""
        self._stopping.set()

    def close(self) -> None:
        """Write down what has been completed."""
        self._claims.stop(timeout=5)
        self._completions.stop(timeout=5)

    def batch_size(self, queue: str) -> int:
        """How many jobs of the queue a thread should be given at once."""
        return self._at_once[queue]

    def run(self, queue: str, job_ids: Sequence[str]) -> None:
        """Run each job of a message that is there to be run; the others are dropped. Never raises.

        As many are claimed at once as this process gets through in a moment, by its experience with the queue.
        """
        left = list(_readable(job_ids))
        while left and not self._stopping.is_set():
            size = self._at_once[queue]
            chunk, left = left[:size], left[size:]
            try:
                took = self._run_chunk(queue, chunk)
            except (*NO_ANSWER, Contended) as error:
                log.warning("job.postponed", jobs=len(chunk) + len(left), reason=str(error), seldom=True)
                self._put_back(queue, [*chunk, *left])
                self._stopping.wait(TRY_AGAIN)
                return
            except Exception:
                log.exception("job.runner_failed")
                return
            if took < QUICK:
                if len(chunk) == size:
                    self._at_once[queue] = min(size * 2, QUEUES.get(queue, 1))
                continue
            if took > SLOW:
                self._at_once[queue] = 1
            if left:
                # These take their time: let other threads and processes have a share.
                self._put_back(queue, left)
                return

    def run_one(self, job_id: UUID) -> bool:
        """Claim the job and carry it to the end of this attempt. False if there was nothing to claim."""
        with self._claiming([job_id]):
            claimed, quarantined = self._claims.call([job_id])
        for job in claimed:
            self._attempt(job)
        return bool(claimed) or any(map(self._run_quarantined, quarantined))

    def _run_chunk(self, queue: str, job_ids: Sequence[UUID]) -> float:
        """Claim and run these; return to the queue those that would have to wait for a slow one. Returns seconds."""
        with self._claiming(job_ids):
            claimed, quarantined = self._claims.call(job_ids)
        waiting, began = deque(claimed), self._stopwatch()
        try:
            while waiting:
                group = take_group(waiting, self._types)
                if len(group) > 1:
                    self._attempt_together(group)
                else:
                    self._attempt(group[0])
                if waiting and (self._stopping.is_set() or self._stopwatch() - began > SLOW):
                    self._give_back(waiting)
                    break
        finally:
            # What could not be given back is disowned by the heartbeat, now that nobody here claims to run it.
            self._leases.difference_update(job.lease_token for job in waiting)
        took = self._stopwatch() - began
        if quarantined:
            self._quarantine.run(queue, quarantined, self._stopping)
        return took

    def _run_quarantined(self, job_id: UUID) -> bool:
        with self._claiming([job_id]):
            claimed, _ = self._claimer.take([job_id], quarantined=True)
        for job in claimed:
            self._attempt(job)
        return bool(claimed)

    @contextmanager
    def _claiming(self, job_ids: Sequence[UUID]) -> Iterator[None]:
        """Undo a claim whose COMMIT was not answered: nobody here has begun what it took.

        Raises:
            DatabaseUnavailable: nothing is claimed.
        """
        try:
            yield
        except CommitUnknown as error:
            returned = self._persist(lambda tx: self._claimer.take_back(tx, job_ids))
            log.warning("jobs.claim_unknown", returned=returned, seldom=True)
            raise DatabaseUnavailable(str(error)) from error

    def _give_back(self, jobs: Collection[ClaimedJob]) -> None:
        self._persist(lambda tx: tx.transitions.give_back(jobs))
        self._leases.difference_update(job.lease_token for job in jobs)

    def _complete(self, done: Sequence[Done]) -> list[bool]:
        """Write down completions, as soon as Postgres takes them."""

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
                log.info("job.completed", job_id=str(done[0].job.id), job_type=done[0].job.job_type)
            elif completed:
                log.info("jobs.completed", count=len(completed))
            if lost := [str(each.job.id) for each in done if each.job.id not in completed]:
                log.warning("jobs.lease_lost", job_ids=lost)
        self._leases.difference_update(each.job.lease_token for each in done)
        return [each.job.id in completed for each in done]

    def _complete_without_the_refused(self, done: Sequence[Done], error: Exception) -> list[bool]:
        """Halve what Postgres refuses as a whole until what it refuses stands alone, and has failed with that."""
        if len(done) > 1:
            half = len(done) // 2
            return self._complete(done[:half]) + self._complete(done[half:])
        token = logs.current_job.set(done[0].job)
        try:
            self._fail(done[0].job, error)
        except Exception:
            log.exception("job.failure_not_recorded")
        finally:
            logs.current_job.reset(token)
            self._leases.discard(done[0].job.lease_token)
        return [False]

    def _attempt(self, claimed: ClaimedJob) -> None:
        token = logs.current_job.set(claimed)
        deferred = False
        try:
            deferred = self._handle(claimed, Context).deferred
        except LeaseLost:
            log.warning("job.lease_lost", kept="nothing of this attempt")
        except (Snoozed, JobCancelled) as wish:
            self._heed(claimed, wish)
        except CommitUnknown as error:
            self._resolve(claimed, error)
        except (DatabaseUnavailable, Contended) as error:
            self._return(claimed, error)
        except Exception as error:
            self._fail(claimed, error)
        else:
            if not deferred:
                log.info("job.completed")
        finally:
            logs.current_job.reset(token)
            if not deferred:
                self._leases.discard(claimed.lease_token)

    def _attempt_together(self, group: Sequence[ClaimedJob]) -> None:
        try:
            for claimed in self._run_group(group):
                self._attempt(claimed)
        finally:
            self._leases.difference_update(job.lease_token for job in group)

    def _run_group(self, group: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        try:
            return run_group(self._db, group, self._handle_in_group)
        except CommitUnknown as error:
            left = self._persist(lambda tx: [job for job in group if not tx.transitions.completed(job)])
            log.warning("group.commit_unknown", completed=len(group) - len(left), reason=str(error))
            return left

    def _handle_in_group(self, claimed: ClaimedJob, tx: Tx) -> GroupedContext:
        token = logs.current_job.set(claimed)
        try:
            return self._handle(claimed, partial(GroupedContext, shared=tx))
        finally:
            logs.current_job.reset(token)

    def _handle(self, claimed: ClaimedJob, context: Callable[..., AnyContext]) -> AnyContext:
        if claimed.cancel_requested_at is not None:
            raise JobCancelled
        job_type = self._types[claimed.job_type]
        ctx = context(
            self._db,
            claimed,
            scope=job_type.scope(claimed.tenant_id),
            ports=self._ports,
            clock=self._clock,
            complete=self._completions.call if claimed.crashes else self._completions.post,
        )
        job_type.handler(ctx, **job_type.arguments(claimed.payload, claimed.tenant_id, claimed.payload_version))
        if not ctx.finished:
            raise HandlerDidNotFinish(f"the handler of {claimed.job_type} returned without `ctx.finish()`")
        return ctx

    def _resolve(self, claimed: ClaimedJob, error: CommitUnknown) -> None:
        """The answer to a COMMIT was lost: read what became of it, on another connection."""
        completed = self._persist(lambda tx: tx.transitions.completed(claimed))
        log.warning("job.commit_unknown", completed=completed)
        if not completed:
            self._return(claimed, error)

    def _return(self, claimed: ClaimedJob, error: DatabaseUnavailable | CommitUnknown | Contended) -> None:
        """The database went away in the middle, or others held what the job needs: nothing of the attempt was kept, and
        it is no failure of the job."""
        attempt = FailedAttempt("returned", type(error).__name__, str(error))

        def write(tx: Tx) -> tuple[Retry | None, bool]:
            again = after_outage(tx.jobs.outages(claimed.id))
            if again is None:
                return None, True
            return again, tx.transitions.reschedule(claimed, attempt, again.after, counted=False)

        again, mine = self._persist(write)
        if again is None:
            self._fail(claimed, error)
            return
        wait = round(again.after.total_seconds(), 1)
        log.warning("job.returned" if mine else "job.lease_lost", reason=str(error), retry_in_s=wait)

    def _persist(self, write: Callable[[Tx], T]) -> T:
        """What `write` returns, in a transaction of its own, which is tried again while the database is away.

        `write` finds out for itself if an earlier try, whose COMMIT was not answered, has done it.

        Raises:
            DatabaseUnavailable, CommitUnknown: the database is away, and this process was asked to stop.
        """
        while True:
            try:
                with self._db.transaction(SYSTEM) as tx:
                    return write(tx)
            except NO_ANSWER as error:
                log.warning("worker.cannot_write", reason=str(error), seldom=True)
                if self._stopping.wait(TRY_AGAIN):
                    raise

    def _fail(self, claimed: ClaimedJob, error: Exception) -> None:
        job_type = self._types[claimed.job_type]
        decision = after_failure(
            error,
            attempt=claimed.attempt,
            max_attempts=claimed.max_attempts,
            backoff=job_type.backoff,
            rng=self._rng,
        )
        attempt = described(error)
        try:
            mine = self._record_failure(claimed, attempt, decision)
        except Unavailable:
            raise
        except Exception as refusal:
            log.exception("job.failure_not_recorded", error_class=attempt.error_class)
            attempt = named(attempt, refusal)
            mine = self._record_failure(claimed, attempt, decision)
        level = log.warning if isinstance(error, ViralError) else log.error
        level(
            "job.failed" if mine else "job.lease_lost",
            error=attempt.error_message,
            error_class=attempt.error_class,
            next="retry" if isinstance(decision, Retry) else decision.reason,
            retry_in_s=round(decision.after.total_seconds(), 1) if isinstance(decision, Retry) else None,
            exc_info=None if isinstance(error, ViralError) else error,
        )

    def _record_failure(self, claimed: ClaimedJob, attempt: FailedAttempt, decision: Retry | GiveUp) -> bool:
        """False if the job is not ours any more."""

        def write(tx: Tx) -> bool:
            if isinstance(decision, Retry):
                return tx.transitions.reschedule(claimed, attempt, decision.after)
            mine = tx.transitions.end(claimed, "failed", attempt)
            if mine:
                notify_failure(tx, self._types[claimed.job_type], claimed, attempt.error_message)
            return mine

        return self._persist(write)

    def _heed(self, claimed: ClaimedJob, wish: Snoozed | JobCancelled) -> None:
        """What is asked for and cannot be written is a failure: no attempt may end without a trace."""
        try:
            if isinstance(wish, Snoozed):
                self._snooze(claimed, wish)
            else:
                self._cancel(claimed)
        except Unavailable:
            raise
        except Exception as error:
            self._fail(claimed, error)

    def _snooze(self, claimed: ClaimedJob, snoozed: Snoozed) -> None:
        attempt = FailedAttempt("snoozed", "Snoozed", str(snoozed))

        def write(tx: Tx) -> bool:
            return tx.transitions.reschedule(claimed, attempt, snoozed.after, counted=False)

        mine = self._persist(write)
        wait = round(snoozed.after.total_seconds(), 1)
        log.info("job.snoozed" if mine else "job.lease_lost", reason=str(snoozed), retry_in_s=wait)

    def _cancel(self, claimed: ClaimedJob) -> None:
        attempt = FailedAttempt("cancelled", "JobCancelled", "stopped as somebody asked for")

        def write(tx: Tx) -> bool:
            mine = tx.transitions.end(claimed, "cancelled", attempt)
            if mine:
                notify_failure(tx, self._types[claimed.job_type], claimed, "cancelled")
            return mine

        mine = self._persist(write)
        log.info("job.cancelled" if mine else "job.lease_lost")


def _readable(words: Iterable[str]) -> Iterator[UUID]:
    """The ids in a bell; whatever else somebody put into Redis is no reason to stop."""
    for word in words:
        try:
            yield UUID(word)
        except ValueError:
            log.warning("notifier.unreadable", word=word[:40])
