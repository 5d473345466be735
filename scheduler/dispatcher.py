"""Sends notifications of ready jobs to the workers, in the dispatch order that the table decides.

A job that was sent and is still pending waits in Redis, or a worker has just popped it and is about to claim it. If it
does neither for longer than a claim takes, its notification is lost, however that came about (a worker died with it,
the set was evicted, deleted or left behind by a failover), and it is sent again. What waits in Redis is never sent
again, however long that lasts: twenty thousand jobs that no worker takes cost nothing but looks.

While nothing is ready and nothing runs, the dispatcher rests, until a deferred job is due or somebody enqueues one.
What was committed by a process that died before it could notify anybody, or by a program that does not, is found by a
look at the table every now and then.

Any number of dispatchers may run: a second notification of a job is the first.
"""

import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import NamedTuple
from uuid import uuid4

import redis
import structlog

from db.queue.dispatch import ReadyJob
from db.transaction import NO_ANSWER, SYSTEM, Database
from domain.billing.tiers import TENANT_WEIGHTS
from workers.engine.broker import BLOCK_SECONDS
from workers.engine.notifier import DIRECT_LIMIT, SIGNAL_KEY, Notifier, Signal
from workers.engine.queues import QUEUES
from workers.runtime.error_text import text_of
from workers.runtime.metrics import Metrics

TICK, TICK_BUSY = 0.5, 0.03
"""Seconds between two rounds without a signal: when all ready jobs wait in Redis, and when more are ready than fit."""

REST = 15.0
"""Seconds between two rounds while nothing is ready, nothing runs, and nobody enqueues."""

SHORTEST_REST = 0.005

WINDOW = 16_384
"""Jobs of a queue that wait in Redis at most: what the workers get through in a second at their fastest. They wait in
dispatch order, and one that comes later may be placed before them, so nobody is stuck behind them."""

LOOK_AGAIN = 2.0
"""Seconds after which the whole window is read again, though enough of it waits in Redis: a notification may have been
lost in the middle of it, or another tenant be next."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 5.0
"""Seconds that a job which was sent may be missing in Redis and not claimed, before it is sent again. The wait doubles
each time: some jobs are popped and never claimed, as those of a type that only a newer release knows."""

UNDECLARED_PER_ROUND = 20
"""Queues that nobody declares, and that one round looks at; the others follow in the next rounds. However many names
another program makes up, the declared queues do not wait for them."""

WOKEN_PER_ROUND = 5000

Scores = dict[str, float]

log = structlog.get_logger()


class Dispatcher:
    """One scheduler's dispatching. `window` is how many jobs of a queue wait in Redis at most, and `rest` how many
    seconds it does without a look at the table.

    `next_undeclared` is the queue that nobody declares with which the next round begins; "" stands for the first.
    """

    def __init__(
        self,
        db: Database,
        notifier: Notifier,
        *,
        stopwatch: Callable[[], float] = monotonic,
        window: int = WINDOW,
        rest: float = REST,
        metrics: Metrics | None = None,
    ) -> None:
        self._db = db
        self._metrics = metrics or Metrics()
        self._notifier = notifier
        self._stopwatch = stopwatch
        self._size = window
        self._longest_rest = rest
        self._rest: float | None = None
        self._active = True
        self._call = f"{SIGNAL_KEY}:{uuid4().hex}"
        self._windows: dict[str, Window] = {}
        self._epoch: str | None = None
        self._looked_at = float("-inf")
        self.next_undeclared = ""

    @property
    def idle(self) -> bool:
        """Whether no job was ready or running at the last look at the table."""
        return self._rest is not None

    @property
    def rests(self) -> bool:
        """Whether it waits to be woken."""
        return self.idle and not self._active

    def run(self, stop: threading.Event) -> None:
        """Dispatch until `stop` (and `end_wait`): twice a second while jobs are ready or run, faster while more is
        ready than fits in Redis, at once on a signal, hardly ever while there is nothing to do."""
        signalled, reachable = False, True
        while not stop.is_set():
            began = self._stopwatch()
            try:
                self.dispatch(signalled=signalled)
            except NO_ANSWER as error:
                if reachable:
                    log.warning("dispatcher.postgres_away", reason=str(error))
                reachable = False
            except Exception:
                log.exception("dispatcher.tick_failed")
            else:
                if not reachable:
                    log.info("dispatcher.postgres_back")
                reachable = True
            # However long a look at the table takes, the database is left alone for as long.
            if stop.wait(max(SHORTEST_REST, self._stopwatch() - began)):
                return
            try:
                signalled = self._wait(stop) is Signal.DECIDE
            except redis.RedisError:
                signalled, self._active = False, True
                stop.wait(TICK)

    def end_wait(self, notifier: Notifier) -> None:
        """Have `run` see at once that it is to stop; `notifier` is another than the one that waits."""
        notifier.call_off(self._call)

    def _wait(self, stop: threading.Event) -> Signal | None:
        """Wait until it is time for the next round, or somebody asks for one."""
        if not self.idle:
            self._active = True
            busy = self.next_undeclared or self._has_backlog()
            return self._wait_for_signal(TICK_BUSY if busy else TICK)
        if self._active:
            # Who looked for a dispatcher before this, and found one active, committed before the next round.
            self._notifier.rest()
            self._active = False
            return self._wait_for_signal(TICK)
        # What is due and was not woken is locked by somebody.
        ends = self._stopwatch() + min(self._rest or TICK, self._longest_rest)
        while not stop.is_set() and (left := ends - self._stopwatch()) > 0:
            signal = self._wait_for_signal(min(max(left, SHORTEST_REST), BLOCK_SECONDS))
            if signal is Signal.WAKE:
                # Whoever enqueued the job has notified its workers, and hardly any is lost: it is looked for later.
                self._active = True
                self._notifier.stay_active()
                return self._wait_for_signal(TICK)
            if signal is not None:
                return signal
        return None

    def _wait_for_signal(self, seconds: float) -> Signal | None:
        return self._notifier.wait_for_signal(seconds, called_off=self._call)

    def dispatch(self, *, signalled: bool = False) -> int:
        """Wake deferred jobs that are due, and send what is next in each queue. `signalled`: an enqueuer asked for it.

        Returns how many jobs were sent that, as far as this dispatcher knows, did not wait in Redis.
        """
        if self._has_backlog() and not signalled and not self.next_undeclared and self._all_full():
            return 0
        self._looked_at, self._rest = self._stopwatch(), None
        with self._db.transaction(SYSTEM) as tx:
            tx.dispatch.wake(WOKEN_PER_ROUND)
            queues = tx.dispatch.ready_queues(tuple(QUEUES), start=self.next_undeclared, limit=UNDECLARED_PER_ROUND)
            rest = None if queues else tx.dispatch.rest()
        self._rest = rest
        undeclared = [queue for queue in queues if queue not in QUEUES]
        self.next_undeclared = undeclared[-1] if len(undeclared) == UNDECLARED_PER_ROUND else ""
        self._windows = {queue: window for queue, window in self._windows.items() if queue in queues}
        if self.idle:
            return 0
        try:
            self._notifier.stay_active()
            if not queues:
                return 0
            self._check_epoch()
            waiting = self._notifier.waiting(queues)
            return sum(self._dispatch_queue(queue, waiting[queue], signalled=signalled) for queue in queues)
        except redis.RedisError:  # the client has logged it
            self._windows.clear()
            return 0

    def _dispatch_queue(self, queue: str, waiting: int, *, signalled: bool) -> int:
        """Send what is next in one queue. A queue whose rows cannot be read costs only itself."""
        window, now = self._windows.setdefault(queue, Window(self._size)), self._stopwatch()
        whole = window.is_due(waiting, now)
        if not whole and not signalled:
            return 0
        try:
            with self._db.transaction(SYSTEM) as tx:
                jobs = tx.dispatch.next(queue, self._size if whole else DIRECT_LIMIT, TENANT_WEIGHTS)
            new, sent = window.update(jobs, now, whole=whole)
            if window.repeated:
                self._metrics.count("viral_notifications_lost_total", "missing", by=window.repeated)
            if new or sent:
                window.note_missing(sent, self._notifier.dispatch(queue, new, sent), now)
        except (redis.RedisError, *NO_ANSWER):
            raise
        except Exception as error:
            log.error("dispatcher.queue_failed", queue=queue, error=text_of(error))
            return 0
        return len(new)

    def _all_full(self) -> bool:
        """Ask Redis alone whether every window is full, so that the table need not be read."""
        now = self._stopwatch()
        if now - self._looked_at > TICK:
            return False
        try:
            waiting = self._notifier.waiting(self._windows)
        except redis.RedisError:
            return False
        return not any(window.is_due(waiting[queue], now) for queue, window in self._windows.items())

    def _has_backlog(self) -> bool:
        return any(window.backlog for window in self._windows.values())

    def _check_epoch(self) -> None:
        """If Redis has lost its data, or was away and may have, all that was sent has to be sent again."""
        epoch = self._notifier.epoch(secrets.token_hex(8))
        if epoch != self._epoch:
            self._windows.clear()
        self._epoch = epoch


class Sent(NamedTuple):
    """A job that was sent. `missing_since`: when it was first not found in Redis; None while it is there."""

    missing_since: float | None
    wait: float


class Window:
    """The first `size` jobs of one queue, and which of them have been sent.

    It is kept in memory only: another dispatcher, or this one after a restart, sends a few jobs twice.
    """

    def __init__(self, size: int = WINDOW) -> None:
        self.backlog = False
        self.repeated = 0
        """How many jobs the last update sends again because Redis did not have them any more."""
        self._size = size
        self._read_at = float("-inf")
        self._sent: dict[str, Sent] = {}

    def is_due(self, waiting: int, now: float) -> bool:
        """Whether it is time to read the whole window from the table, with so many jobs waiting in Redis."""
        return waiting <= self._size // 2 or now - self._read_at > LOOK_AGAIN

    def update(self, jobs: Sequence[ReadyJob], now: float, *, whole: bool) -> tuple[Scores, Scores]:
        """Take in what the table says is next: return scores of the jobs to send now, and of those sent before.

        `whole`: the jobs are the whole window, so those that are not among them need not be remembered.
        """
        new: Scores = {}
        before: Scores = {}
        self.repeated = 0
        remembered = {} if whole else self._sent
        for job_id, score, limited in jobs:
            sent = self._sent.get(job_id)
            if sent is None:
                new[job_id] = score
                remembered[job_id] = Sent(None, FIRST_WAIT)
            # A limit may have refused what it would admit now.
            elif limited or (sent.missing_since is not None and now - sent.missing_since >= sent.wait):
                self.repeated += not limited
                new[job_id] = score
                remembered[job_id] = Sent(None, min(sent.wait * 2, LONGEST_WAIT))
            else:
                before[job_id] = score
                remembered[job_id] = sent
        if whole:
            self.backlog = len(jobs) >= self._size
            self._read_at = now
        self._sent = remembered
        return new, before

    def note_missing(self, before: Collection[str], missing: Collection[str], now: float) -> None:
        """Remember which of the jobs sent `before` were not in Redis."""
        for job_id in before:
            sent = self._sent[job_id]
            if (sent.missing_since is not None) != (job_id in missing):
                self._sent[job_id] = sent._replace(missing_since=now if job_id in missing else None)
