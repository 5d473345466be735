"""Keeps the promises of the table: rings in its order, rescues the jobs of dead workers, fires the calendar.

Any number of copies may run: to ring twice is to ring once, and the other two skip what another copy holds.
"""

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import monotonic

import redis
import structlog

from db.transaction import NO_ANSWER, SYSTEM, Database, Tx
from domain.billing.tiers import TENANT_WEIGHTS
from scheduler.schedule import Schedule, latest_before, skipped, to_fire
from scheduler.window import WINDOW, Window
from workers.engine.failures import text_of
from workers.engine.job import JobTypes
from workers.engine.notifier import DIRECT_LIMIT, Notifier
from workers.engine.outcomes import rescue
from workers.engine.queues import QUEUES

TICK, TICK_BUSY = 0.5, 0.03
"""Seconds between two looks at the table when nobody calls: when all that waits fits in Redis, and when it does not."""

STRANGE_AT_ONCE = 20
"""Queues that nobody declares, and that are looked at in one tick; the rest have theirs in the next ones. However many
names another program makes up, the declared queues do not wait for them."""

SHORTEST_REST = 0.005
MOST_WOKEN = 5000

log = structlog.get_logger()


class Dispatcher:
    """One scheduler's work. `clock` replaces the database's clock for the calendar; for tests and rehearsals.

    `rescue_after`: how long the database must have been writable before a silent worker is taken for dead.
    """

    def __init__(
        self,
        db: Database,
        notifier: Notifier,
        job_types: JobTypes,
        schedules: Sequence[Schedule],
        *,
        clock: Callable[[], datetime] | None = None,
        rescue_after: timedelta = timedelta(0),
    ) -> None:
        self._db = db
        self._notifier = notifier
        self._types = job_types
        self._schedules = schedules
        self._clock = clock
        self._stopwatch = monotonic
        self._next_strange = ""
        self._windows: defaultdict[str, Window] = defaultdict(Window)
        self._epoch: str | None = None
        self._called = False
        self._looked_at = float("-inf")
        self._served = True
        self._rescue_after = rescue_after.total_seconds()
        self._writes_since: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Ring until `stop`: twice a second, faster while more waits than fits in Redis, at once when called."""
        while not stop.is_set():
            began = self._stopwatch()
            try:
                self.notify()
            except NO_ANSWER as error:
                if self._served:
                    log.warning("dispatcher.postgres_away", reason=str(error))
                self._served = False
            except Exception:
                log.exception("dispatcher.tick_failed")
            else:
                if not self._served:
                    log.info("dispatcher.postgres_back")
                self._served = True
            # However long a look at the table takes, the database is left alone for as long.
            if stop.wait(max(SHORTEST_REST, self._stopwatch() - began)):
                return
            try:
                self._called = self._notifier.wait_for_signal(
                    TICK_BUSY if self._next_strange or self._backlog() else TICK
                )
            except redis.RedisError:
                stop.wait(TICK)

    def notify(self) -> int:
        """Ring for the jobs whose turn it is, and put those that have been rung in their order.

        Returns how many jobs were rung that had not been, as far as this relay knows.
        """
        called, self._called = self._called, False
        if self._backlog() and not called and not self._next_strange and self._still_full():
            return 0
        self._looked_at = self._stopwatch()
        with self._db.transaction(SYSTEM) as tx:
            tx.dispatch.wake(MOST_WOKEN)
            queues = tx.dispatch.ready_queues(tuple(QUEUES), after=self._next_strange, most=STRANGE_AT_ONCE)
        strange = [queue for queue in queues if queue not in QUEUES]
        self._next_strange = strange[-1] if len(strange) == STRANGE_AT_ONCE else ""
        for gone in self._windows.keys() - set(queues):
            del self._windows[gone]
        try:
            self._notice_loss()
            waiting = self._notifier.waiting(queues)
            notified = sum(self._notify_alone(queue, waiting[queue], called=called) for queue in queues)
        except redis.RedisError:  # the client has logged it
            self._windows.clear()
            return 0
        return notified

    def _notify_alone(self, queue: str, waiting: int, *, called: bool) -> int:
        """A queue that cannot be read costs itself."""
        try:
            return self._notify_queue(queue, waiting, called=called)
        except (redis.RedisError, *NO_ANSWER):
            raise
        except Exception as error:
            log.error("dispatcher.queue_failed", queue=queue, error=text_of(error))
            return 0

    def _notify_queue(self, queue: str, waiting: int, *, called: bool) -> int:
        line, now = self._windows[queue], self._stopwatch()
        all_of_it = line.wants(waiting, now)
        if not all_of_it and not called:
            return 0
        with self._db.transaction(SYSTEM) as tx:
            dispatch = tx.dispatch.next(queue, WINDOW if all_of_it else DIRECT_LIMIT, TENANT_WEIGHTS)
        new, known = line.place(dispatch, now, all_of_it=all_of_it)
        if new or known:
            line.note(known, self._notifier.dispatch(queue, new, known), now)
        return len(new)

    def _still_full(self) -> bool:
        """With all there is to do already known, Redis tells whether there is anything to add."""
        now = self._stopwatch()
        if now - self._looked_at > TICK:
            return False
        try:
            waiting = self._notifier.waiting(self._windows)
        except redis.RedisError:
            return False
        return not any(line.wants(waiting[queue], now) for queue, line in self._windows.items())

    def _backlog(self) -> bool:
        return any(line.backlog for line in self._windows.values())

    def _notice_loss(self) -> None:
        """Redis forgot (or we cannot know what it heard): every ring of the past is owed again."""
        epoch = self._notifier.epoch(secrets.token_hex(8))
        if epoch != self._epoch:
            self._windows.clear()
        self._epoch = epoch

    def rescue(self) -> int:
        """Return the jobs of dead workers to their queues. Returns how many.

        While nothing could be written, the living could not say that they live: after an outage they get `rescue_after`
        to do so.
        """
        try:
            with self._db.transaction(SYSTEM) as tx:
                tx.workers.forget_dead()
            if self._writes_since is None:
                self._writes_since = self._stopwatch()
            settled = self._stopwatch() - self._writes_since >= self._rescue_after
            rescued = rescue(self._db, self._types) if settled else 0
        except NO_ANSWER:
            self._writes_since = None
            raise
        return rescued

    def fire(self) -> int:
        """Enqueue what the calendar says is due, each fire once among all schedulers. Returns how many fired."""
        fired = 0
        with self._db.transaction(SYSTEM) as tx:
            if not tx.fires.try_lock():
                return 0
            now = self._clock() if self._clock is not None else tx.now()
            early = tx.fires.set_aside([schedule.name for schedule in self._schedules], now)
            last = tx.fires.last(now)
            for schedule in self._schedules:
                if schedule.name in early:
                    reason = "they are of a time still to come; it goes on by the clock of the database"
                    log.warning("schedule.set_aside", schedule=schedule.name, fires=early[schedule.name], reason=reason)
                if schedule.name in last:
                    fired += _fire_due(tx, schedule, last[schedule.name], now)
                else:
                    _begin(tx, schedule, now)
        return fired


def _begin(tx: Tx, schedule: Schedule, now: datetime) -> None:
    """First sight of a schedule: it begins now, and owes nothing for the time before."""
    tx.fires.begin(schedule.name, now)
    missed = latest_before(schedule, now)
    log.info("schedule.begun", schedule=schedule.name, not_made_until=missed and missed.isoformat())


def _fire_due(tx: Tx, schedule: Schedule, last: datetime, now: datetime) -> int:
    fired = 0
    for fire_at in to_fire(schedule, last, now):
        fired += tx.fires.fire(schedule.name, fire_at, partial(schedule.enqueue, tx, fire_at))
    if fired and (missed := skipped(schedule, last, now)):
        span = {"first": missed[0].isoformat(), "last": missed[-1].isoformat()}
        log.warning("schedule.skipped", schedule=schedule.name, fires=len(missed), **span)
    return fired
