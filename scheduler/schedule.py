"""What runs when: the whole calendar. All times are UTC.

A fire is a row `(schedule, fire_at)` that is inserted together with its job, so any number of schedulers fire once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from apscheduler.triggers.cron import CronTrigger

from db.transaction import Tx
from workers.jobs.billing import release_parked
from workers.jobs.generation import daily
from workers.jobs.quota import reset_due
from workers.jobs.reconcile import reconcile_billing, reconcile_identity
from workers.jobs.upkeep import drop_bodies, prune

MOST_FIRES_AT_ONCE = 1000

PATIENCE = timedelta(seconds=15)
"""A scheduler that runs makes a fire within seconds."""


class CatchUp(StrEnum):
    """What to do about fires that were missed while no scheduler ran."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """A timetable and what it enqueues. `grace` is how late a fire may come before it counts as missed."""

    name: str
    trigger: CronTrigger
    enqueue: Callable[[Tx, datetime], UUID]
    catch_up: CatchUp
    grace: timedelta = timedelta(minutes=1)


SCHEDULES = (
    Schedule(
        "billing.release_parked",
        CronTrigger.from_crontab("*/5 * * * *", timezone="UTC"),
        lambda tx, fire_at: release_parked.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "quota.reset_due",
        CronTrigger.from_crontab("0 * * * *", timezone="UTC"),
        lambda tx, fire_at: reset_due.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "billing.reconcile",
        CronTrigger.from_crontab("40 3 * * *", timezone="UTC"),
        lambda tx, fire_at: reconcile_billing.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "identity.reconcile",
        CronTrigger.from_crontab("20 4 * * *", timezone="UTC"),
        lambda tx, fire_at: reconcile_identity.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "generation.daily",
        CronTrigger.from_crontab("1 * * * *", timezone="UTC"),
        lambda tx, fire_at: daily.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "upkeep.prune",
        CronTrigger.from_crontab("30 * * * *", timezone="UTC"),
        lambda tx, fire_at: prune.enqueue(tx),
        CatchUp.LATEST,
    ),
    Schedule(
        "upkeep.drop_bodies",
        CronTrigger.from_crontab("50 * * * *", timezone="UTC"),
        lambda tx, fire_at: drop_bodies.enqueue(tx),
        CatchUp.LATEST,
    ),
)


def fires_between(trigger: CronTrigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """Every fire time in (after, until]."""
    while True:
        fire_at = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
        if fire_at is None or fire_at > until:
            return
        yield fire_at
        after = fire_at


def to_fire(schedule: Schedule, after: datetime, now: datetime) -> list[datetime]:
    """The fires to make now, oldest first, given that `after` was the last one made."""
    due = list(fires_between(schedule.trigger, after, now))
    match schedule.catch_up:
        case CatchUp.ALL:
            return due[:MOST_FIRES_AT_ONCE]
        case CatchUp.LATEST:
            return due[-1:]
        case CatchUp.SKIP:
            return [fire_at for fire_at in due if now - fire_at <= schedule.grace]


def skipped(schedule: Schedule, after: datetime, now: datetime) -> list[datetime]:
    """The fires that were missed and that the schedule's policy leaves out."""
    if schedule.catch_up is CatchUp.ALL:
        return []
    made = set(to_fire(schedule, after, now))
    return [fire_at for fire_at in fires_between(schedule.trigger, after, now) if fire_at not in made]


def latest_before(schedule: Schedule, now: datetime) -> datetime | None:
    """The last fire until `now`, of a year; None if there is none."""
    for days in (1, 32, 366):
        if fires := list(fires_between(schedule.trigger, now - timedelta(days=days), now)):
            return fires[-1]
    return None


def overdue_since(schedule: Schedule, last: Mapping[str, datetime], now: datetime) -> datetime | None:
    """The fire that should have been made a while ago and was not, which means that no scheduler runs."""
    due = to_fire(schedule, last[schedule.name], now - PATIENCE) if schedule.name in last else []
    return due[0] if due else None
