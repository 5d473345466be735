"""The calendar alone, with a simulated clock: `Calendar.fire` over and over, at the time that the harness
has written into the file `CHAOS_TIME` (Unix seconds). Run by R8 and R2, any number of copies at once."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from apscheduler.triggers.cron import CronTrigger

import tests.chaos.jobs
import workers.jobs
from db.transaction import DatabaseUnavailable, Tx
from scheduler.schedule import Calendar, CatchUp, Schedule
from tests.chaos import crash_points
from tests.chaos.jobs.counted import effect
from workers.app import build
from workers.runtime import logs
from workers.settings import load

BETWEEN = "between_fire_and_job"


def enqueuer(name: str) -> Callable[[Tx, datetime], UUID]:
    """Called by the product after it has written the row of a fire: the job is one effect named after the two."""

    def enqueue(tx: Tx, fire_at: datetime) -> UUID:
        if crash_points.take(BETWEEN):
            crash_points.die(BETWEEN, [name, fire_at.isoformat()])
        return effect.enqueue(tx, name=f"{name}@{fire_at.isoformat()}")

    return enqueue


def entry(name: str, crontab: str, catch_up: CatchUp) -> Schedule:
    trigger = CronTrigger.from_crontab(crontab, timezone="UTC")
    return Schedule(name, trigger, enqueuer(name), catch_up, grace=timedelta(minutes=1))


SCHEDULES = (
    entry("all", "*/5 * * * *", CatchUp.ALL),
    entry("latest", "*/10 * * * *", CatchUp.LATEST),
    entry("skip", "*/15 * * * *", CatchUp.SKIP),
    entry("hourly", "0 * * * *", CatchUp.ALL),
    entry("daily", "30 3 * * *", CatchUp.LATEST),
)


def run() -> None:
    settings = load()
    logs.configure(settings.log_format, settings.log_level)
    clock_file = Path(os.environ["CHAOS_TIME"])
    app = build(settings, name="chaos schedules", pool_size=1, packages=(workers.jobs, tests.chaos.jobs))

    def clock() -> datetime:
        return datetime.fromtimestamp(float(clock_file.read_text()), UTC)

    calendar = Calendar(app.db, SCHEDULES, clock=clock)
    while True:
        with suppress(DatabaseUnavailable):
            calendar.fire()
        time.sleep(0.003)


def set_clock(file: Path, moment: datetime) -> None:
    """Set the clock; a reader sees the old time or the new one."""
    draft = file.with_suffix(".new")
    draft.write_text(str(moment.timestamp()))
    draft.replace(file)
