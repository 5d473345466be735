"""Decides which of the jobs that a queue was notified of are claimed, how many at once, and claims them.

A job that is claimed is carried through its attempt by `workers/engine/attempt.py`. Jobs that are not there to be run
(they run elsewhere, are paused, or have ended) are dropped: the row alone says what is to be done.

A job is in quarantine if a process has died while running it: it might do so again, and whoever is near it then must
not be blamed. So a process runs one quarantined job at a time, and claims it only when it is about to run it. Should
the process die, the table says of one quarantined job that it was running. Other jobs run beside it; those are in
quarantine afterwards, and no more than that. See docs/decisions/0013.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from random import Random
from time import monotonic
from uuid import UUID

import structlog

from db.queue.claim import known_types
from db.queue.transitions import ClaimedJob
from db.transaction import NO_ANSWER, SYSTEM, CommitUnknown, Contended, Database, DatabaseUnavailable, Tx
from domain.errors import Unavailable
from domain.ports import Ports
from workers.engine.attempt import Attempts, persist
from workers.engine.batcher import Batcher
from workers.engine.effects import TRY_AGAIN
from workers.engine.job import JobTypes
from workers.engine.queues import QUEUES
from workers.runtime.error_text import text_of
from workers.runtime.metrics import Metrics
from workers.runtime.tracing import Tracing

QUICK, SLOW = 0.025, 0.25
"""Seconds that jobs claimed together take: as many are claimed as take the first; after the second, one."""

QUICK_TOGETHER, SLOW_TOGETHER = 0.15, 0.6
"""The same for jobs that are handled together: none of them waits for another, and each statement is shared by all. So
more time is a batch's own; and a slow one says nothing of a single job: half as many are claimed next time."""

GROWTH = 8
"""How many times as many are claimed next time at most: little was seen of them yet."""

QUARANTINE_SHARE = 0.25
"""Seconds for which a thread goes on with one quarantined job after another, before it lets others have the rest."""

PutBack = Callable[[str, Sequence[UUID]], object]
"""Returns jobs that were not begun to the front of their queue."""

Claim = tuple[list[ClaimedJob], list[UUID]]
"""The jobs that were claimed of those requested, and those that were left because they are in quarantine."""

log = structlog.get_logger()


class Runner:
    """Runs jobs on behalf of one worker process, from any number of threads, whose claims share commits."""

    def __init__(
        self,
        db: Database,
        job_types: JobTypes,
        *,
        worker_id: UUID,
        ports: Ports,
        rng: Random,
        tracing: Tracing | None = None,
        put_back: PutBack = lambda queue, job_ids: None,
        clock: Callable[[], datetime] | None = None,
        stopwatch: Callable[[], float] = monotonic,
        batch_size: int = 1,
        metrics: Metrics | None = None,
    ) -> None:
        """`batch_size` is how many jobs are claimed at once before their speed is known."""
        self.worker_id = worker_id
        self._db = db
        self._types = job_types
        self._known_types = known_types({name: job_type.terms for name, job_type in job_types.items()})
        self._put_back = put_back
        self._stopwatch = stopwatch
        self._metrics = metrics or Metrics()
        self._stopping = threading.Event()
        self._leases: set[int] = set()
        self._batch_sizes: defaultdict[str, int] = defaultdict(lambda: batch_size)
        self._quarantine = threading.Lock()
        self.on_claim: Callable[[Tx], object] = lambda tx: None
        """Called in each transaction that has claimed jobs."""
        self._claims = Batcher(self._claim_for_all, name="claims", limit=64)
        self._attempts = Attempts(
            db,
            job_types,
            ports=ports,
            rng=rng,
            clock=clock,
            leases=self._leases,
            stopping=self._stopping,
            metrics=self._metrics,
            tracing=tracing or Tracing(),
        )

    @property
    def leases(self) -> frozenset[int]:
        """Lease tokens of the jobs that threads of this process are running now."""
        return frozenset(self._leases)

    def start(self) -> None:
        """Batch from here on. Before, everything happens in the caller's own thread, at once."""
        self._claims.start()
        self._attempts.start()

    def stop(self) -> None:
        """Take no further job. Those left over in a message stay pending; their queue is notified of them again."""
        self._stopping.set()

    def close(self) -> None:
        """Write down what has been completed."""
        self._claims.stop(timeout=5)
        self._attempts.close()

    def batch_size(self, queue: str) -> int:
        """How many jobs of the queue a thread should be given at once: as many as it gets through in a moment, by the
        experience of this process."""
        return self._batch_sizes[queue]

    def run(self, queue: str, job_ids: Sequence[str]) -> None:
        """Run each job of a message that is there to be run; the others are dropped. Never raises."""
        left = list(_readable(job_ids))
        while left and not self._stopping.is_set():
            size = self._batch_sizes[queue]
            batch, left = left[:size], left[size:]
            try:
                seconds, together = self._run_batch(queue, batch)
            except (*NO_ANSWER, Contended) as error:
                log.warning("job.postponed", jobs=len(batch) + len(left), reason=str(error), seldom=True)
                self._put_back(queue, [*batch, *left])
                self._stopping.wait(TRY_AGAIN)
                return
            except Exception:
                log.exception("job.runner_failed")
                return
            if len(batch) == size or seconds > SLOW:
                self._batch_sizes[queue] = next_size(size, seconds, together=together, most=QUEUES.get(queue, 1))
            if left and seconds >= QUICK:
                # These take their time: let other threads and processes have a share.
                self._put_back(queue, left)
                return

    def run_one(self, job_id: UUID) -> bool:
        """Claim the job and carry it to the end of this attempt. False if there was nothing to claim."""
        with self._undoing_unknown_claims([job_id]):
            claimed, quarantined = self._claims.call([job_id])
        for job in claimed:
            self._attempts.run(job)
        return bool(claimed) or any(map(self._run_quarantined, quarantined))

    def claim(self, job_ids: Sequence[UUID], *, quarantined: bool) -> Claim:
        """Claim together; if Postgres refuses that, one by one, so that the row that it refuses costs only itself.

        Raises:
            DatabaseUnavailable: nothing was claimed.
        """
        try:
            # A claim that a server crash forgets is harmless: the fence refuses its finish, and the job runs again.
            with (
                self._metrics.timed("viral_claim_duration_seconds"),
                self._db.transaction(SYSTEM, durable=False) as tx,
            ):
                claimed = tx.claims.claim(job_ids, self.worker_id, self._known_types, quarantined=quarantined)
                left = tx.claims.quarantined(job_ids, self._known_types) if len(claimed) < len(job_ids) else []
                if claimed:
                    self.on_claim(tx)
        except Unavailable:
            raise
        except Exception as error:
            if len(job_ids) == 1:
                log.error("job.claim_refused", job_id=str(job_ids[0]), error=text_of(error))
                return [], []
            claims = [self.claim([job_id], quarantined=quarantined) for job_id in job_ids]
            return [job for claimed, _ in claims for job in claimed], [job_id for _, left in claims for job_id in left]
        self._leases.update(job.lease_token for job in claimed)
        self._observe_waits(claimed)
        return claimed, left

    def _observe_waits(self, claimed: Sequence[ClaimedJob]) -> None:
        waits: dict[str, list[float]] = {}
        for job in claimed:
            waits.setdefault(job.queue, []).append((job.started_at - job.scheduled_for).total_seconds())
        for queue, seconds in waits.items():
            self._metrics.observe_all("viral_job_wait_seconds", seconds, queue)

    def _run_batch(self, queue: str, job_ids: Sequence[UUID]) -> tuple[float, bool]:
        """Claim and run these; give back those that would have to wait for a slow one.

        Returns the seconds taken, and whether most of the jobs are of types that handle many together.
        """
        with self._undoing_unknown_claims(job_ids):
            claimed, quarantined = self._claims.call(job_ids)
        together = 2 * sum(self._types[job.job_type].many is not None for job in claimed) > len(claimed)
        waiting, began = deque(claimed), self._stopwatch()
        try:
            while waiting:
                self._attempts.run_first(waiting)
                if waiting and (self._stopping.is_set() or self._stopwatch() - began > SLOW):
                    persist(self._db, self._stopping, lambda tx: tx.transitions.give_back(waiting))
                    break
        finally:
            # What could not be given back is disowned by the heartbeat, now that nobody here claims to run it.
            self._leases.difference_update(job.lease_token for job in waiting)
        seconds = self._stopwatch() - began
        if quarantined:
            self._run_quarantined_in_turn(queue, quarantined)
        return seconds, together

    def _run_quarantined_in_turn(self, queue: str, job_ids: Sequence[UUID]) -> None:
        """Run them one after another. If another thread is at one that takes its time, they are put off."""
        if not self._quarantine.acquire(timeout=QUARANTINE_SHARE * 2):
            with self._db.transaction(SYSTEM) as tx:
                tx.claims.put_off(job_ids)
            return
        left = deque(job_ids)
        try:
            began = self._stopwatch()
            while left and not self._stopping.is_set() and self._stopwatch() - began < QUARANTINE_SHARE:
                self._run_quarantined(left.popleft())
        finally:
            self._quarantine.release()
        if left:
            self._put_back(queue, left)

    def _run_quarantined(self, job_id: UUID) -> bool:
        with self._undoing_unknown_claims([job_id]):
            claimed, _ = self.claim([job_id], quarantined=True)
        for job in claimed:
            self._attempts.run(job)
        return bool(claimed)

    def _claim_for_all(self, requests: Sequence[Sequence[UUID]]) -> list[Claim]:
        """Claim what each of the requests asks for, except quarantined jobs."""
        if len(requests) == 1:
            return [self.claim(requests[0], quarantined=False)]
        claimed, left = self.claim([job_id for job_ids in requests for job_id in job_ids], quarantined=False)
        request_of = {job_id: n for n, job_ids in enumerate(requests) for job_id in job_ids}
        claims: list[Claim] = [([], []) for _ in requests]
        for job in claimed:
            claims[request_of[job.id]][0].append(job)
        for job_id in left:
            claims[request_of[job_id]][1].append(job_id)
        return claims

    @contextmanager
    def _undoing_unknown_claims(self, job_ids: Sequence[UUID]) -> Iterator[None]:
        """Undo a claim whose COMMIT was not answered: nobody here has begun what it took.

        Raises:
            DatabaseUnavailable: nothing is claimed.
        """
        try:
            yield
        except CommitUnknown as error:
            returned = persist(
                self._db,
                self._stopping,
                lambda tx: tx.transitions.give_back_unknown(job_ids, self.worker_id, self._leases),
            )
            log.warning("jobs.claim_unknown", returned=returned, seldom=True)
            raise DatabaseUnavailable(str(error)) from error


def next_size(size: int, seconds: float, *, together: bool, most: int) -> int:
    """Return how many jobs to claim at once after `size` of them took so many seconds."""
    quick = QUICK_TOGETHER if together else QUICK
    if seconds < quick:
        return min(int(size * quick / max(seconds, quick / GROWTH)), most)
    if together:
        return max(size // 2, 1) if seconds > SLOW_TOGETHER else size
    return 1 if seconds > SLOW else size


def _readable(words: Iterable[str]) -> Iterator[UUID]:
    """Parse the ids of a message; whatever else somebody put into Redis is no reason to stop."""
    for word in words:
        try:
            yield UUID(word)
        except ValueError:
            log.warning("notifier.unreadable", word=word[:40])
