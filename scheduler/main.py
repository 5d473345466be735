"""The scheduler process: a dispatcher, and duties that APScheduler starts. The tables decide, so any number may run."""

import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from queue import SimpleQueue
from time import monotonic
from types import FrameType

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from db.transaction import NO_ANSWER, SYSTEM, Database
from domain.ops.connections import Role, usual_pool
from scheduler.dispatcher import Dispatcher
from scheduler.schedule import SCHEDULES, Calendar
from workers.app import App, build
from workers.engine.broker import BLOCK_SECONDS
from workers.engine.job import JobTypes
from workers.engine.notifier import Notifier
from workers.engine.outcomes import rescue
from workers.ops import gauges
from workers.ops.changes import start_note
from workers.ops.gauges import SAMPLE_EVERY
from workers.ops.notices import NoticeWatch
from workers.runtime import logs
from workers.runtime.metrics import REPORT_EVERY, Metrics, MetricsReport
from workers.runtime.redis_client import connect
from workers.runtime.sentry import open_errors
from workers.runtime.startup import when_served
from workers.settings import Settings

RESCUE_EVERY = timedelta(seconds=10)
FIRE_EVERY = timedelta(seconds=5)

REST = 60.0
"""Seconds between two rescues while nothing runs: nobody is lost then, and rows of dead processes can wait."""

STOPS_WITHIN = 5.0
"""Seconds that a stop waits for the dispatcher at most: longer than any of its rounds, unless Redis hangs."""

log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT; a tick that has begun is finished.

    Raises:
        SchemaNewer: this release must not work on this database.
    """
    errors = open_errors(settings.sentry_dsn.get_secret_value(), "scheduler")
    logs.configure(settings.log_format, settings.log_level, report=errors.report if errors else None)
    app = build(settings, name="viral scheduler", pool_size=usual_pool(Role.SCHEDULER))
    # Not an event: a signal that interrupts `set` or `wait` would wait for the event's own lock, for ever.
    asked: SimpleQueue[int] = SimpleQueue()

    def asked_to_stop(signum: int, frame: FrameType | None) -> None:
        asked.put(signum)

    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.signal(signal.SIGINT, asked_to_stop)
    if when_served(app.check_schema, asked, waits="scheduler.waits"):
        app.start()
        started = start_note(app, Role.SCHEDULER)
        notices = NoticeWatch(app)
        for each in (started, notices):
            each.start()
        ticker = Ticker(app)
        ticker.start()
        log.info("scheduler.ready", schedules=len(SCHEDULES))
        asked.get()
        ticker.stop()
        for each in (started, notices):
            each.stop()
    app.close()
    if errors is not None:
        errors.close()
    log.info("scheduler.stopped")


class Ticker:
    """The dispatcher on a thread of its own, which waits to be signalled, and the duties on APScheduler's threads."""

    def __init__(self, app: App) -> None:
        client = connect(app.settings.redis_url, patience=BLOCK_SECONDS + 1, used_for="dispatching")
        self._notifier = Notifier(client, metrics=app.metrics)
        idle_interval = app.settings.idle_interval
        self._dispatcher = dispatcher = Dispatcher(app.db, self._notifier, rest=idle_interval, metrics=app.metrics)
        self._call_off = app.notifier
        self._stop = threading.Event()
        self._dispatching = threading.Thread(target=dispatcher.run, args=(self._stop,), name="dispatcher", daemon=True)
        rescuer = Rescuer(app.db, app.job_types, after_outage=RESCUE_EVERY, metrics=app.metrics)
        resting = Resting(lambda: dispatcher.idle, longest=max(REST, idle_interval))
        # Left out while nothing runs, if the rests are longer than a minute; each sample says for how long it holds.
        long = timedelta(seconds=idle_interval) > SAMPLE_EVERY
        seldom = Resting(lambda: dispatcher.idle, longest=float(idle_interval) if long else 0.0)
        holds = SAMPLE_EVERY + timedelta(seconds=idle_interval if long else 0)

        def sample() -> int:
            return gauges.sample(app.db, app.metrics, holds=holds)

        calendar = Calendar(app.db, SCHEDULES, clock=app.clock, tracing=app.tracing)
        self._clock = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(2)})
        self._report = MetricsReport(app.db, app.metrics, role=Role.SCHEDULER, release=app.release)
        self._duties = {
            _guarded(resting.unless(rescuer.rescue)): RESCUE_EVERY,
            _guarded(calendar.fire_in_time): FIRE_EVERY,
            _guarded(self._report.try_to_send): timedelta(seconds=REPORT_EVERY),
            _guarded(seldom.unless(sample)): SAMPLE_EVERY,
        }
        for duty, every in self._duties.items():
            self._clock.add_job(
                duty,
                "interval",
                seconds=every.total_seconds(),
                id=duty.__name__,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )

    def start(self) -> None:
        """Do every duty once, then go on in the background: who finds a scheduler ready finds the calendar begun."""
        for duty in self._duties:
            duty()
        self._clock.start()
        self._dispatching.start()

    def stop(self) -> None:
        """Finish what has begun, and begin nothing more."""
        self._stop.set()
        self._dispatcher.end_wait(self._call_off)
        self._clock.shutdown(wait=True)
        self._dispatching.join(timeout=STOPS_WITHIN)
        self._report.try_to_send()
        self._notifier.close()


class Resting:
    """Leaves out what need not be done while nothing runs; but never for longer than `longest` seconds."""

    def __init__(self, idle: Callable[[], bool], *, longest: float, stopwatch: Callable[[], float] = monotonic) -> None:
        self._idle = idle
        self._longest = longest
        self._stopwatch = stopwatch
        self._done_at = float("-inf")

    def unless(self, duty: Callable[[], int]) -> Callable[[], int]:
        @wraps(duty)
        def do() -> int:
            now = self._stopwatch()
            if self._idle() and now - self._done_at < self._longest:
                return 0
            self._done_at = now
            return duty()

        return do


class Rescuer:
    """Returns the jobs of dead workers to their queues.

    While nothing could be written, the living could not say that they live: after an outage of the database they get
    `after_outage` to do so.
    """

    def __init__(
        self,
        db: Database,
        job_types: JobTypes,
        *,
        after_outage: timedelta = timedelta(0),
        stopwatch: Callable[[], float] = monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._db = db
        self._types = job_types
        self._after_outage = after_outage.total_seconds()
        self._stopwatch = stopwatch
        self._writable_since: float | None = None

    def rescue(self) -> int:
        """Return the number of jobs that were rescued.

        Raises:
            DatabaseUnavailable: nothing can be written.
        """
        try:
            with self._db.transaction(SYSTEM) as tx:
                tx.workers.delete_dead()
            now = self._stopwatch()
            if self._writable_since is None:
                self._writable_since = now
            if now - self._writable_since < self._after_outage:
                return 0
            return rescue(self._db, self._types, self._metrics)
        except NO_ANSWER:
            self._writable_since = None
            raise


def _guarded(duty: Callable[[], int]) -> Callable[[], None]:
    @wraps(duty)
    def tick_once() -> None:
        try:
            duty()
        except NO_ANSWER as error:
            log.warning("scheduler.tick_missed", duty=duty.__name__, reason=str(error), seldom=True)
        except Exception:
            log.exception("scheduler.tick_failed", duty=duty.__name__)

    return tick_once
