"""The scheduler process of the harness: the shipped one, which can be told to sweep more often (`CHAOS_SWEEP`,
seconds), to fire a calendar with seconds in it (`CHAOS_CALENDAR`), or to break its promises (`CHAOS_SABOTAGE`)."""

import os
from typing import Any

from apscheduler.triggers.cron import CronTrigger

import scheduler.main
from scheduler.schedule import CatchUp, Schedule
from tests.chaos import crash_points
from tests.chaos.jobs.counted import effect
from tests.chaos.worker import seconds
from workers.settings import load

EVERY_SECOND_ONE = 2


def run() -> None:
    crash_points.install_in_scheduler()
    main: Any = scheduler.main
    main.RESCUE_EVERY = seconds("CHAOS_SWEEP", main.RESCUE_EVERY)
    if os.environ.get("CHAOS_CALENDAR"):
        main.SCHEDULES = (every_two_seconds(),)
        main.FIRE_EVERY = seconds("CHAOS_CALENDAR", main.FIRE_EVERY)
    main.run(load())


def every_two_seconds() -> Schedule:
    return Schedule(
        "chaos.often",
        CronTrigger(second=f"*/{EVERY_SECOND_ONE}", timezone="UTC"),
        lambda tx, fire_at: effect.enqueue(tx, name=f"often@{fire_at.isoformat()}"),
        CatchUp.ALL,
    )


if __name__ == "__main__":
    run()
