"""The scheduler process: APScheduler ticks, the tables decide."""

import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from queue import SimpleQueue
from types import FrameType

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from db.transaction import NO_ANSWER
from domain.ops.connections import Role, usual_pool
from scheduler.dispatcher import TICK, Dispatcher
from scheduler.schedule import SCHEDULES
from workers.app import App, build
from workers.engine.notifier import Notifier
from workers.runtime import logs
from workers.runtime.redis_client import connect
from workers.runtime.startup import when_served
from workers.settings import Settings

RESCUE_EVERY = timedelta(seconds=10)
FIRE_EVERY = timedelta(seconds=5)

log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT; a tick that has begun is finished.

    Raises:
        SchemaNewer: this release must not work on this database.
    """
    logs.configure(settings.log_format, settings.log_level)
    app = build(settings, name="viral scheduler", pool_size=usual_pool(Role.SCHEDULER))
    # Not an event: a signal that interrupts `set` or `wait` would wait for the event's own lock, for ever.
    asked: SimpleQueue[int] = SimpleQueue()

    def asked_to_stop(signum: int, frame: FrameType | None) -> None:
        asked.put(signum)

    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.signal(signal.SIGINT, asked_to_stop)
    if when_served(app.check_schema, asked, waits="scheduler.waits"):
        app.start()
        ticker = Ticker(app)
        ticker.start()
        log.info("scheduler.ready", schedules=len(SCHEDULES))
        asked.get()
        ticker.stop()
    app.close()
    log.info("scheduler.stopped")


class Ticker:
    """The relay at work: its ringing on a thread of its own, which waits to be called; the rest on APScheduler."""

    def __init__(self, app: App) -> None:
        self._notifier = Notifier(connect(app.settings.redis_url, patience=TICK + 1, used_for="dispatching"))
        dispatcher = Dispatcher(
            app.db, self._notifier, app.job_types, SCHEDULES, clock=app.clock, rescue_after=RESCUE_EVERY
        )
        self._stop = threading.Event()
        self._dispatching = threading.Thread(target=dispatcher.run, args=(self._stop,), name="dispatcher", daemon=True)
        self._clock = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(2)})
        self._duties = [_guarded(dispatcher.rescue), _guarded(dispatcher.fire)]
        for duty, every in zip(self._duties, (RESCUE_EVERY, FIRE_EVERY), strict=True):
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
        """Every duty is done once before this returns: who finds a scheduler ready finds the calendar begun."""
        for duty in self._duties:
            duty()
        self._clock.start()
        self._dispatching.start()

    def stop(self) -> None:
        """What has begun is finished first."""
        self._stop.set()
        self._clock.shutdown(wait=True)
        self._dispatching.join()
        self._notifier.close()


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
