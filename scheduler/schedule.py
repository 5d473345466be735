"""The whole calendar: which job is enqueued when. All times are UTC.

A schedule's run is a row `(schedule, fire_at)` that is inserted together with its job, so any number of schedulers
enqueue it once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from time import monotonic
from uuid import UUID

import structlog
from apscheduler.triggers.cron import CronTrigger

from db.transaction import SYSTEM, Database, Tx
from domain.ops.causes import Cause
from workers.engine.job import JobType
from workers.jobs import analytics, autopilot, billing, learning, outgoing, posting
from workers.jobs.accounts import find_due
from workers.jobs.generation import daily
from workers.jobs.learning import pool
from workers.jobs.quota import reset_due
from workers.jobs.reconcile import reconcile_billing, reconcile_identity
from workers.jobs.upkeep import drop_bodies, media, prune
from workers.runtime.tracing import Tracing
from workers.runtime.work import Work, working

log = structlog.get_logger()

RUNS_AT_ONCE = 1000
"""Missed runs of one schedule that are enqueued in one transaction, at most."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PATIENCE = timedelta(seconds=15)
"""How late a run may be before it means that no scheduler works."""


class CatchUp(StrEnum):
    """The missed runs that are enqueued when a scheduler works again: none, the latest, or all of them."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True)
class Schedule:
    """A timetable and what it enqueues. A run that is later than `grace` counts as missed."""

    name: str
    trigger: CronTrigger
    enqueue: Callable[[Tx, datetime], UUID]
    catch_up: CatchUp
    grace: timedelta = timedelta(minutes=1)
    due: Callable[[Tx, datetime], bool] | None = None
    """Whether the job would find anything to do; a run for nothing is recorded without one."""


def _schedule(crontab: str, job_type: JobType[[]], due: Callable[[Tx, datetime], bool] | None = None) -> Schedule:
    """A schedule with the name of its job type."""
    trigger = CronTrigger.from_crontab(crontab, timezone="UTC")
    return Schedule(job_type.name, trigger, lambda tx, fire_at: job_type.enqueue(tx), CatchUp.LATEST, due=due)


SCHEDULES = (
    _schedule("* * * * *", posting.find_due, posting.anything_due),
    _schedule("* * * * *", analytics.find_due, analytics.anything_due),
    _schedule("* * * * *", autopilot.find_due, autopilot.anything_due),
    _schedule("* * * * *", learning.find_due, learning.anything_due),
    _schedule("* * * * *", outgoing.find_due, outgoing.anything_due),
    _schedule("*/5 * * * *", billing.release_parked, billing.any_parked),
    _schedule("0 * * * *", reset_due),
    _schedule("15 * * * *", find_due),
    _schedule("40 3 * * *", reconcile_billing),
    _schedule("20 4 * * *", reconcile_identity),
    _schedule("1 * * * *", daily),
    _schedule("30 * * * *", prune),
    _schedule("35 * * * *", pool),
    _schedule("50 * * * *", drop_bodies),
    _schedule("10 5 * * *", media),
)


class Calendar:
    """Enqueues runs that are due. `clock` replaces the database's clock, for tests and rehearsals."""

    def __init__(
        self,
        db: Database,
        schedules: Sequence[Schedule],
        *,
        clock: Callable[[], datetime] | None = None,
        stopwatch: Callable[[], float] = monotonic,
        tracing: Tracing | None = None,
    ) -> None:
        self._db = db
        self._tracing = tracing or Tracing()
        self._schedules = schedules
        self._clock = clock
        self._stopwatch = stopwatch
        self._next_at = float("-inf")

    def fire_in_time(self) -> int:
        """`fire`, if a run can be due: the time of the next one follows from the last look at the database's clock."""
        return self.fire() if self._stopwatch() >= self._next_at else 0

    def fire(self) -> int:
        """Enqueue every run that is due, each once among all schedulers. Returns how many there were."""
        enqueued, began = 0, self._stopwatch()
        with self._db.transaction(SYSTEM) as tx:
            if not tx.schedule_runs.try_lock():
                return 0
            now = self._clock() if self._clock is not None else tx.now()
            early = tx.schedule_runs.set_aside([schedule.name for schedule in self._schedules], now)
            last = tx.schedule_runs.last(now)
            for schedule in self._schedules:
                if schedule.name in early:
                    reason = "they are of a time still to come; it goes on by the clock of the database"
                    log.warning("schedule.set_aside", schedule=schedule.name, runs=early[schedule.name], reason=reason)
                if schedule.name in last:
                    enqueued += _enqueue_due(tx, self._tracing, schedule, last[schedule.name], now)
                else:
                    _register(tx, schedule, now)
        self._next_at = began + min(map(partial(_seconds_to_next, now=now), self._schedules), default=0.0)
        return enqueued


def _seconds_to_next(schedule: Schedule, now: datetime) -> float:
    at = schedule.trigger.get_next_fire_time(None, now + timedelta(microseconds=1))
    return float("inf") if at is None else (at - now).total_seconds()


def _register(tx: Tx, schedule: Schedule, now: datetime) -> None:
    """Let a schedule that is seen for the first time begin now: it owes nothing for the time before."""
    tx.schedule_runs.register(schedule.name, now)
    missed = _latest_before(schedule, now)
    log.info("schedule.begun", schedule=schedule.name, not_made_until=missed and missed.isoformat())


def _enqueue_due(tx: Tx, tracing: Tracing, schedule: Schedule, last: datetime, now: datetime) -> int:
    due = runs_due(schedule, last, now)
    if due and schedule.due is not None and not schedule.due(tx, now):
        tx.schedule_runs.register(schedule.name, due[-1])
        return 0
    enqueued = sum(tx.schedule_runs.fire(schedule.name, at, partial(_enqueue, tx, tracing, schedule, at)) for at in due)
    if enqueued and schedule.catch_up is not CatchUp.ALL:
        skipped = [at for at in runs_between(schedule.trigger, last, now) if at not in due]
        if skipped:
            span = {"first": skipped[0].isoformat(), "last": skipped[-1].isoformat()}
            log.warning("schedule.skipped", schedule=schedule.name, runs=len(skipped), **span)
    return enqueued


def _enqueue(tx: Tx, tracing: Tracing, schedule: Schedule, at: datetime) -> UUID:
    """Enqueue the job of a run, in the run's own name."""
    with tracing.run(schedule.name) as span, working(Work(str(Cause.of_run(schedule.name, at)), span.traceparent)):
        return schedule.enqueue(tx, at)


def runs_due(schedule: Schedule, after: datetime, now: datetime) -> list[datetime]:
    """The times of the runs to enqueue now, oldest first, if `after` was the last one enqueued."""
    due = list(runs_between(schedule.trigger, after, now))
    match schedule.catch_up:
        case CatchUp.ALL:
            return due[:RUNS_AT_ONCE]
        case CatchUp.LATEST:
            return due[-1:]
        case CatchUp.SKIP:
            return [at for at in due if now - at <= schedule.grace]


def runs_between(trigger: CronTrigger, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the time of every run in (after, until]."""
    if (steps := _steps(trigger)) is not None:
        period, offset = steps
        at = EPOCH + offset + ((after - EPOCH - offset) // period + 1) * period
        while at <= until:
            yield at
            at += period
        return
    while True:
        at = trigger.get_next_fire_time(None, after + timedelta(microseconds=1))
        if at is None or at > until:
            return
        yield at
        after = at


def _steps(trigger: CronTrigger) -> tuple[timedelta, timedelta] | None:
    """Return the period of a trigger that fires every so many minutes, or every hour, and how long after `EPOCH` it
    first did; None for any other. A schedule of every minute that slept for a month has 43,200 runs to look at, and the
    trigger itself takes a second for those."""
    fields = {each.name: str(each) for each in trigger.fields}
    minute, second = fields.pop("minute"), fields.pop("second")
    if trigger.timezone != UTC or second != "0" or set(fields.values()) != {"*"}:
        return None
    if minute.isdecimal():
        return timedelta(hours=1), timedelta(minutes=int(minute))
    count = 1 if minute == "*" else int(minute.removeprefix("*/")) if minute.removeprefix("*/").isdecimal() else 0
    return (timedelta(minutes=count), timedelta(0)) if count and 60 % count == 0 else None


def overdue_since(schedule: Schedule, last: Mapping[str, datetime], now: datetime) -> datetime | None:
    """The time of a run that should have been enqueued and was not, which means that no scheduler works."""
    due = runs_due(schedule, last[schedule.name], now - PATIENCE) if schedule.name in last else []
    return due[0] if due else None


def _latest_before(schedule: Schedule, now: datetime) -> datetime | None:
    """The time of the last run until `now`; None if there was none for a year."""
    for days in (1, 32, 366):
        if runs := list(runs_between(schedule.trigger, now - timedelta(days=days), now)):
            return runs[-1]
    return None
