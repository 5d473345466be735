"""Each run of a schedule is enqueued once, whoever looks at the calendar and whatever its clock did."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM, Tx
from scheduler.schedule import Calendar, CatchUp, Schedule, runs_between, runs_due
from workers.app import App
from workers.engine.job import Context, job
from workers.runtime import logs

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOURLY = CronTrigger.from_crontab("0 * * * *", timezone="UTC")


@job("testing.noop", system=True)
def noop(ctx: Context, fire_at: datetime | None = None) -> None:
    with ctx.finish():
        pass


def a_calendar(app: App, now: datetime, schedule: Schedule) -> Calendar:
    return Calendar(app.db, (schedule,), clock=lambda: now)


def hourly(catch_up: CatchUp = CatchUp.ALL) -> Schedule:
    return Schedule("hourly", HOURLY, lambda tx, fire_at: noop.enqueue(tx, fire_at=fire_at), catch_up)


def enqueued(app: App) -> list[datetime]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT payload->>'fire_at' FROM job_queue ORDER BY 1").fetchall()
    return [datetime.fromisoformat(row[0]) for row in rows]


def fire(app: App, *moments: datetime, schedule: Schedule | None = None) -> None:
    for moment in moments:
        a_calendar(app, moment, schedule or hourly()).fire()


def hours(*after_noon: int) -> list[datetime]:
    return [NOON + timedelta(hours=h) for h in after_noon]


STEADY = ("* * * * *", "*/5 * * * *", "*/20 * * * *", "*/7 * * * *", "0 * * * *", "59 * * * *", "1,31 * * * *")
NOT_STEADY = ("10-20 * * * *", "40 3 * * *", "0 0 1 * *", "*/5 8 * * *", "0 * * * mon")


@pytest.mark.parametrize("crontab", STEADY + NOT_STEADY)
@settings(max_examples=15)
@given(seconds=st.floats(0, 2e9), hours=st.floats(0, 30))
def test_runs_are_those_of_the_trigger(crontab: str, seconds: float, hours: float) -> None:
    after = datetime.fromtimestamp(seconds, UTC)
    trigger = CronTrigger.from_crontab(crontab, timezone="UTC")
    until, expected, at = after + timedelta(hours=hours), [], after
    while (at := trigger.get_next_fire_time(None, at + timedelta(microseconds=1))) <= until:
        expected.append(at)
    assert list(runs_between(trigger, after, until)) == expected


def test_runs_of_a_zone_with_summer_time_are_the_triggers_own() -> None:
    """Every hour of a zone is not every hour of UTC where clocks move by less than one (Lord Howe Island)."""
    trigger = CronTrigger.from_crontab("0 * * * *", timezone="Australia/Lord_Howe")
    winter = datetime(2026, 7, 1, tzinfo=UTC)
    found = list(runs_between(trigger, winter, winter + timedelta(hours=2)))
    assert [at.astimezone(UTC).minute for at in found] == [30, 30]


def test_a_year_of_minutes_is_looked_at_in_no_time() -> None:
    trigger = CronTrigger.from_crontab("* * * * *", timezone="UTC")
    assert sum(1 for _ in runs_between(trigger, NOON, NOON + timedelta(days=365))) == 525_600


def test_a_new_schedule_owes_nothing_for_the_past(app: App) -> None:
    fire(app, NOON + timedelta(minutes=30), NOON + timedelta(minutes=59))
    assert enqueued(app) == []


def test_each_run_is_enqueued_once(app: App) -> None:
    fire(app, NOON, *hours(1, 1, 1, 2, 2))
    assert enqueued(app) == hours(1, 2)


def test_a_run_that_would_find_nothing_is_recorded_without_a_job(app: App) -> None:
    asked: list[datetime] = []

    def due(tx: Tx, now: datetime) -> bool:
        asked.append(now)
        return now == hours(3)[0]

    fire(app, NOON, *hours(1, 2, 3, 3), schedule=replace(hourly(CatchUp.LATEST), due=due))
    assert enqueued(app) == hours(3)
    assert asked == hours(1, 2, 3), "each moment once"


def test_the_calendar_is_looked_at_when_a_run_can_be_due_and_not_before(app: App) -> None:
    now, at = [NOON + timedelta(minutes=50)], [100.0]
    calendar = Calendar(app.db, (hourly(),), clock=lambda: now[0], stopwatch=lambda: at[0])
    calendar.fire_in_time()
    now[0], at[0] = NOON + timedelta(hours=1), 699.0
    assert calendar.fire_in_time() == 0
    at[0] = 700.0
    assert calendar.fire_in_time() == 1


@pytest.mark.parametrize(("policy", "made"), [(CatchUp.ALL, [1, 2, 3]), (CatchUp.LATEST, [3]), (CatchUp.SKIP, [])])
def test_after_an_outage_the_policy_says_which_missed_runs_are_enqueued(
    app: App, policy: CatchUp, made: list[int]
) -> None:
    fire(app, NOON, NOON + timedelta(hours=3, minutes=30), schedule=hourly(policy))
    assert enqueued(app) == hours(*made)
    fire(app, NOON + timedelta(hours=4, seconds=5), schedule=hourly(policy))
    assert enqueued(app) == hours(*made, 4)


def record(app: App, *moments: str, schedule: str = "hourly", job_id: UUID | None = None) -> None:
    """As a database may have it that was filled before there was a rule for such rows."""
    with psycopg.connect(app.settings.direct_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE schedule_fires DROP CONSTRAINT IF EXISTS schedule_fires_times_check")
    with app.db.transaction(SYSTEM) as tx:
        for moment in moments:
            values = (schedule, moment, job_id)
            tx.driver.execute("INSERT INTO schedule_fires (schedule, fire_at, job_id) VALUES (%s, %s, %s)", values)


@pytest.mark.parametrize("policy", CatchUp)
def test_runs_recorded_in_the_future_stop_nothing(app: App, policy: CatchUp) -> None:
    """A clock ran ahead for a day, and made what belonged to it; each run is made again when its time comes."""
    fire(app, NOON, schedule=hourly(policy))
    record(app, *(str(moment) for moment in hours(*range(2, 26))), "3000-01-01Z", "9998-12-31Z")
    fire(app, *hours(1, 1, 2, 2, 3, 4, 25), schedule=hourly(policy))
    assert enqueued(app)[:4] == hours(1, 2, 3, 4)
    assert enqueued(app)[-1] == hours(25)[0]
    assert len(set(enqueued(app))) == len(enqueued(app))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.schedule_runs.count_ahead(hours(25)[0]) == {"hourly": 2}


def test_a_run_of_a_clock_that_is_a_little_ahead_is_not_made_again(app: App) -> None:
    """The server that took over is four minutes behind the one that made it."""
    fire(app, NOON, *hours(1))
    before = NOON + timedelta(minutes=56)
    fire(app, before, before + timedelta(minutes=4), *hours(1, 2))
    assert enqueued(app) == hours(1, 2)


def test_a_schedule_that_is_known_only_from_the_future_begins_now(app: App) -> None:
    record(app, str(NOON + timedelta(days=365)))
    fire(app, NOON + timedelta(minutes=30), *hours(1))
    assert enqueued(app) == hours(1)


def test_a_run_of_long_ago_stops_nothing(app: App) -> None:
    record(app, "1970-01-02Z")
    fire(app, NOON, schedule=hourly(CatchUp.LATEST))
    fire(app, *hours(1), schedule=hourly(CatchUp.LATEST))
    assert enqueued(app)[-1:] == hours(1)


def logged(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, filter(None, capsys.readouterr().err.splitlines()))
    return [line for line in lines if line["event"] == event]


def test_what_is_skipped_is_logged_once(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")
    fire(app, NOON + timedelta(minutes=30), NOON + timedelta(minutes=31))
    [begun] = logged(capsys, "schedule.begun")
    assert (begun["schedule"], begun["not_made_until"]) == ("hourly", NOON.isoformat())
    fire(app, *hours(5, 5), schedule=hourly(CatchUp.LATEST))
    [skipped] = logged(capsys, "schedule.skipped")
    assert (skipped["runs"], skipped["first"], skipped["last"]) == (4, *(each.isoformat() for each in hours(1, 4)))
    record(app, *(str(moment) for moment in hours(7, 8)))
    fire(app, *hours(5, 6))
    [aside] = logged(capsys, "schedule.set_aside")
    assert (aside["schedule"], aside["runs"]) == ("hourly", 2)


def test_two_schedulers_at_the_same_moment_fire_once(app: App) -> None:
    fire(app, NOON)
    calendars = [a_calendar(app, NOON + timedelta(hours=2), hourly()) for _ in range(4)]
    together = threading.Barrier(4)

    def tick(calendar: Calendar) -> None:
        together.wait()
        for _ in range(5):
            calendar.fire()

    threads = [threading.Thread(target=tick, args=(calendar,)) for calendar in calendars]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert enqueued(app) == hours(1, 2)


def test_without_the_lock_the_unique_row_still_fires_once(app: App) -> None:
    """Leadership is an optimisation: two that both believe they lead make one job."""
    made: list[bool] = []

    def make() -> None:
        with app.db.transaction(SYSTEM) as tx:
            made.append(tx.schedule_runs.fire("hourly", NOON, lambda: noop.enqueue(tx, fire_at=NOON)))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert enqueued(app) == [NOON]


def test_an_enqueue_that_fails_undoes_its_run(app: App) -> None:
    def breaks(tx: object, fire_at: datetime) -> UUID:
        raise RuntimeError

    fire(app, NOON)
    with pytest.raises(RuntimeError):
        fire(app, *hours(1), schedule=replace(hourly(), enqueue=breaks))
    fire(app, *hours(1))
    assert enqueued(app) == hours(1)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_however_time_is_cut_the_same_runs_result(a: int, b: int) -> None:
    first, last = NOON + timedelta(minutes=min(a, b)), NOON + timedelta(minutes=max(a, b))
    whole = list(runs_between(HOURLY, NOON, last))
    assert whole == list(runs_between(HOURLY, NOON, first)) + list(runs_between(HOURLY, first, last))
    assert whole == hours(*range(1, max(a, b) // 60 + 1))


def test_a_day_has_24_hourly_runs_and_catching_up_is_bounded() -> None:
    assert len(runs_due(hourly(), NOON, NOON + timedelta(days=1))) == 24
    assert len(runs_due(hourly(), NOON, NOON + timedelta(days=365))) == 1000
