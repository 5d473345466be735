"""The scheduler process: APScheduler ticks, the tables decide."""

import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from db.transaction import DatabaseUnavailable
from scheduler.relay import Relay
from scheduler.schedule import SCHEDULES
from workers import logs
from workers.app import App, build
from workers.settings import Settings

RING_EVERY = timedelta(milliseconds=500)
RESCUE_EVERY = timedelta(seconds=10)
FIRE_EVERY = timedelta(seconds=5)

log = structlog.get_logger()


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT; a tick that has begun is finished."""
    logs.configure(settings.log_format, settings.log_level)
    app = build(settings, name="viral scheduler", pool_size=4)
    stop = threading.Event()

    def asked_to_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.signal(signal.SIGINT, asked_to_stop)
    clock = tick(app)
    clock.start()
    log.info("scheduler.ready", schedules=len(SCHEDULES))
    stop.wait()
    clock.shutdown(wait=True)
    app.close()
    log.info("scheduler.stopped")


def tick(app: App) -> BackgroundScheduler:
    """APScheduler with the relay's three duties on it, not started yet."""
    relay = Relay(app.db, app.doorbell, app.job_types, SCHEDULES, clock=app.clock)
    clock = BackgroundScheduler(timezone="UTC", executors={"default": ThreadPoolExecutor(3)})
    for duty, every in ((relay.ring, RING_EVERY), (relay.rescue, RESCUE_EVERY), (relay.fire, FIRE_EVERY)):
        clock.add_job(
            _guarded(duty),
            "interval",
            seconds=every.total_seconds(),
            id=duty.__name__,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
    return clock


def _guarded(duty: Callable[[], int]) -> Callable[[], None]:
    def tick_once() -> None:
        try:
            duty()
        except DatabaseUnavailable as error:
            log.warning("scheduler.tick_missed", duty=duty.__name__, reason=str(error))
        except Exception:
            log.exception("scheduler.tick_failed", duty=duty.__name__)

    return tick_once
