"""Rings that were lost are rung again, and the calendar fires once, whoever looks at it."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from db.queue.claim import Terms, known_types
from db.queue.enqueue import NewJob
from db.transaction import SYSTEM
from scheduler.dispatcher import Dispatcher
from scheduler.schedule import CatchUp, Schedule, fires_between, to_fire
from tests.builders import a_tenant, new_id
from tests.redis_servers import a_redis
from workers.app import App
from workers.engine.job import Context, job
from workers.engine.notifier import Notifier
from workers.engine.queues import notifications_key
from workers.runtime import logs
from workers.runtime.redis_client import connect

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOURLY = CronTrigger.from_crontab("0 * * * *", timezone="UTC")


@job("testing.noop", system=True)
def noop(ctx: Context, fire_at: datetime | None = None) -> None:
    with ctx.finish():
        pass


def a_dispatcher(app: App, *schedules: Schedule, now: datetime = NOON, url: str | None = None) -> Dispatcher:
    """One for which no time passes between two looks, however busy the machine is."""
    notifier = Notifier(connect(url), rest=0) if url else app.notifier
    dispatcher = Dispatcher(app.db, notifier, {"testing.noop": noop}, schedules, clock=lambda: now)
    dispatcher._stopwatch = lambda: 0.0
    return dispatcher


def notified(app: App, queue: str = "default", most: int = 100_000) -> list[UUID]:
    """Takes what was rung out of Redis, in its order."""
    client = connect(app.settings.redis_url)
    notifications = client.zpopmin(notifications_key(queue), most)
    client.close()
    return [UUID(job_id.decode()) for job_id, _ in notifications]


def enqueue(app: App, **options: object) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return noop.with_options(**options).enqueue(tx)  # type: ignore[arg-type]


def let_time_pass(app: App, seconds: int) -> None:
    """Shift the table instead of waiting."""
    with app.db.transaction(SYSTEM) as tx:
        step = timedelta(seconds=seconds)
        tx.driver.execute(
            "UPDATE job_queue SET scheduled_for = scheduled_for - %s, wake_at = wake_at - %s", (step, step)
        )


def test_an_enqueuer_notifications_after_its_commit(app: App) -> None:
    job_id = enqueue(app)
    assert notified(app) == [job_id]


def test_a_transaction_that_is_rolled_back_notifications_for_nothing(app: App) -> None:
    with pytest.raises(RuntimeError), app.db.transaction(SYSTEM) as tx:
        noop.enqueue(tx)
        raise RuntimeError
    assert notified(app) == []


def test_a_delayed_job_is_notified_when_it_is_due_and_not_before(app: App) -> None:
    dispatcher = a_dispatcher(app)
    dispatcher.notify()
    job_id = enqueue(app, delay=timedelta(minutes=5))
    assert (notified(app), dispatcher.notify()) == ([], 0)
    let_time_pass(app, 200)
    assert dispatcher.notify() == 0
    let_time_pass(app, 100)
    assert dispatcher.notify() == 1
    assert notified(app) == [job_id]


def test_a_row_inserted_by_another_program_is_notified(app: App) -> None:
    dispatcher = a_dispatcher(app)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute("INSERT INTO job_queue (job_type) VALUES ('testing.noop') RETURNING id").fetchone()
    assert row is not None
    dispatcher.notify()
    assert notified(app) == [row[0]]


def test_a_row_for_a_queue_that_nobody_works_on_is_notified_on_the_default_one(app: App) -> None:
    """Another program may misspell it; a job that waits for ever without a word is as good as lost."""
    with app.db.transaction(SYSTEM) as tx:
        insert = "INSERT INTO job_queue (job_type, queue) VALUES ('testing.noop', 'deafult') RETURNING id"
        row = tx.driver.execute(insert).fetchone()
    assert row is not None
    a_dispatcher(app).notify()
    assert notified(app) == [row[0]]


def test_redis_flushed_is_noticed_at_the_next_tick(app: App) -> None:
    dispatcher = a_dispatcher(app)
    job_ids = [enqueue(app) for _ in range(3)]
    dispatcher.notify()
    client = connect(app.settings.redis_url)
    client.flushall()
    client.close()
    assert dispatcher.notify() == 3
    assert notified(app) == job_ids


def test_what_was_notified_is_not_notified_again_while_it_may_be_on_its_way(app: App) -> None:
    dispatcher = a_dispatcher(app)
    job_id = enqueue(app)
    assert dispatcher.notify() == 1
    assert notified(app) == [job_id]
    assert dispatcher.notify() == 0
    assert notified(app) == []


class Clock:
    """The relay's stopwatch, which goes on half a second before each look, as in life."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.now = 0.0
        self._dispatcher = dispatcher
        dispatcher._stopwatch = lambda: self.now

    def look(self, times: int = 1) -> list[int]:
        """How many jobs were rung at each look."""
        notified_then = []
        for _ in range(times):
            self.now += 0.5
            notified_then.append(self._dispatcher.notify())
        return notified_then


def waiting(app: App) -> int:
    return app.notifier.waiting(["default"])["default"]


def test_a_set_that_was_deleted_is_whole_again_within_two_seconds_though_the_epoch_is_kept(app: App) -> None:
    jobs, clock = backlog(app, 500), Clock(a_dispatcher(app))
    assert clock.look(40) == [500] + [0] * 39, "what waits is not sent again"
    client = connect(app.settings.redis_url)
    assert client.delete(notifications_key("default")) == 1
    client.close()
    assert clock.look(4) == [0, 0, 500, 0]
    assert notified(app) == jobs


def test_an_evicted_set_is_whole_again_too(app: App, tmp_path: Path) -> None:
    with a_redis(tmp_path, "--maxmemory-policy", "allkeys-random") as server:
        backlog(app, 500)
        dispatcher = a_dispatcher(app, url=server.url)
        clock = Clock(dispatcher)
        assert clock.look() == [500]
        used = int(server.ask("INFO", "memory")["used_memory"])
        server.ask("CONFIG", "SET", "maxmemory", used + 500_000)
        for n in range(10_000):
            if not server.ask("EXISTS", notifications_key("default")):
                break
            server.ask("SET", f"{n}", "x" * 100_000)
        assert not server.ask("EXISTS", notifications_key("default"))
        server.ask("CONFIG", "SET", "maxmemory", 0)
        clock.look(4)
        assert server.ask("ZCARD", notifications_key("default")) == 500
        dispatcher._notifier.close()


def test_notifications_that_were_popped_and_swallowed_are_back_within_seconds_however_often(app: App) -> None:
    """Killed, stopped or starved workers do that; the waits double, and end at five seconds instead of ten minutes."""
    jobs, clock = backlog(app, 391), Clock(a_dispatcher(app))
    clock.look()
    for _ in range(5):
        assert notified(app) == jobs
        clock.look(12)
        assert waiting(app) == 391


def test_with_redis_away_no_notify_is_spent_and_all_are_made_when_it_is_back(app: App) -> None:
    job_id = enqueue(app)
    notified(app)
    dispatcher = a_dispatcher(app, url="redis://127.0.0.1:1/0")
    assert dispatcher.notify() == 0
    dispatcher._notifier = app.notifier
    assert dispatcher.notify() == 1
    assert notified(app) == [job_id]


# --- turns --------------------------------------------------------------------------------------------------


def backlog(app: App, count: int, tenant_id: UUID | None = None, **columns: object) -> list[UUID]:
    """Rows that nobody rings for."""
    jobs = [NewJob(new_id(), "testing.noop", "default", tenant_id, **columns) for _ in range(count)]  # type: ignore[arg-type]
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many(jobs)
        tx.notifications.clear()
    return [job.id for job in jobs]


def run(app: App, job_ids: list[UUID]) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        claimed = tx.claims.claim(job_ids, UUID(int=7), known_types({"testing.noop": Terms()}))
    return [job.id for job in claimed]


def test_a_dead_process_has_all_its_jobs_rescued_at_once_however_many(app: App) -> None:
    jobs = backlog(app, 250)
    assert run(app, jobs) == jobs
    assert a_dispatcher(app).rescue() == 250


def test_only_a_window_waits_in_redis_and_it_moves_on_as_jobs_are_taken(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("scheduler.window", "scheduler.dispatcher"):
        monkeypatch.setattr(f"{module}.WINDOW", 100)
    jobs = backlog(app, 300)
    dispatcher = a_dispatcher(app)
    assert (dispatcher.notify(), dispatcher.notify()) == (100, 0)
    assert run(app, notified(app, most=49)) == jobs[:49]
    assert dispatcher.notify() == 0, "there is enough to do"
    assert run(app, notified(app, most=1)) == jobs[49:50]
    assert dispatcher.notify() == 50
    assert notified(app) == jobs[50:150]


def test_one_tenants_thousands_do_not_delay_anothers_one(app: App) -> None:
    noisy, quiet = a_tenant(app), a_tenant(app)
    many = backlog(app, 1000, noisy)
    dispatcher = a_dispatcher(app)
    dispatcher.notify()
    [one] = backlog(app, 1, quiet)
    dispatcher._called = True
    dispatcher.notify()
    assert one in notified(app)[:2]
    assert many


def test_a_queue_that_was_emptied_in_the_meantime_has_no_dispatch(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert tx.dispatch.next("default", 64, {}) == []


def test_tenants_share_by_the_weight_of_their_plans(app: App) -> None:
    free, agency = a_tenant(app), a_tenant(app, subscription_tier="AGENCY")
    shares = {free: set(backlog(app, 200, free)), agency: set(backlog(app, 200, agency))}
    a_dispatcher(app).notify()
    first = set(notified(app)[:45])
    assert (len(first & shares[agency]), len(first & shares[free])) == (40, 5)


def test_dear_jobs_count_for_more_and_so_do_those_that_run(app: App) -> None:
    dear, cheap = a_tenant(app), a_tenant(app)
    dears, cheaps = backlog(app, 10, dear, cost=3), backlog(app, 10, cheap)
    a_dispatcher(app).notify()
    assert notified(app)[:4] == [cheaps[0], cheaps[1], dears[0], cheaps[2]]
    run(app, dears[:1] + cheaps[:1])
    a_dispatcher(app).notify()
    assert notified(app)[:4] == [cheaps[1], cheaps[2], cheaps[3], cheaps[4]]


def test_priority_goes_before_fairness(app: App) -> None:
    noisy, quiet = a_tenant(app), a_tenant(app)
    run(app, backlog(app, 50, noisy))
    urgent, usual = backlog(app, 1, noisy, priority=1), backlog(app, 1, quiet)
    a_dispatcher(app).notify()
    assert notified(app) == urgent + usual


def test_what_is_paused_or_full_is_not_notified(app: App) -> None:
    ada, bob, eve = a_tenant(app), a_tenant(app), a_tenant(app)
    jobs = {tenant: backlog(app, 5, tenant) for tenant in (ada, bob, eve)}
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default", ada)
        tx.queues.limit("default", per_tenant=2)
        tx.queues.limit("default", eve, max_running=4)
    run(app, jobs[bob][:1])
    dispatcher = a_dispatcher(app)
    dispatcher.notify()
    assert sorted(notified(app)) == sorted([jobs[bob][1], *jobs[eve][:4]])
    dispatcher.notify()
    assert sorted(notified(app)) == sorted([jobs[bob][1], *jobs[eve][:4]]), "a limit may have refused it before"
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.limit("default", max_running=2)
    dispatcher.notify()
    assert len(notified(app)) == 1
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default")
    dispatcher.notify()
    assert notified(app) == []


def test_the_dispatcher_reads_the_index_and_no_more_of_it_than_it_notifications(app: App, owner_url: str) -> None:
    """Whether the statistics say nothing, or what a full table holds."""
    tenants = [a_tenant(app) for _ in range(20)]
    backlog(app, 20_000, tenants[0])
    for tenant_id in tenants[1:]:
        backlog(app, 3, tenant_id)
    for statement in ("SELECT 1", "ANALYZE job_queue"):
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute(statement)
        with app.db.transaction(SYSTEM) as tx:
            plan = tx.dispatch.explain("default", 64, {})
        assert "Seq Scan on job_queue" not in plan
        assert int(re.findall(r"Buffers: shared hit=(\d+)", plan)[0]) < 1500


# --- fires --------------------------------------------------------------------------------------------------


def hourly(catch_up: CatchUp = CatchUp.ALL) -> Schedule:
    return Schedule("hourly", HOURLY, lambda tx, fire_at: noop.enqueue(tx, fire_at=fire_at), catch_up)


def fired(app: App) -> list[datetime]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT payload->>'fire_at' FROM job_queue ORDER BY 1").fetchall()
    return [datetime.fromisoformat(row[0]) for row in rows]


def fire(app: App, *moments: datetime, schedule: Schedule | None = None) -> None:
    for moment in moments:
        a_dispatcher(app, schedule or hourly(), now=moment).fire()


def hours(*after_noon: int) -> list[datetime]:
    return [NOON + timedelta(hours=h) for h in after_noon]


def test_a_new_schedule_owes_nothing_for_the_past(app: App) -> None:
    fire(app, NOON + timedelta(minutes=30), NOON + timedelta(minutes=59))
    assert fired(app) == []


def test_each_fire_is_made_once(app: App) -> None:
    fire(app, NOON, *hours(1, 1, 1, 2, 2))
    assert fired(app) == hours(1, 2)


@pytest.mark.parametrize(("policy", "made"), [(CatchUp.ALL, [1, 2, 3]), (CatchUp.LATEST, [3]), (CatchUp.SKIP, [])])
def test_after_an_outage_the_policy_says_which_missed_fires_are_made(
    app: App, policy: CatchUp, made: list[int]
) -> None:
    fire(app, NOON, NOON + timedelta(hours=3, minutes=30), schedule=hourly(policy))
    assert fired(app) == hours(*made)
    fire(app, NOON + timedelta(hours=4, seconds=5), schedule=hourly(policy))
    assert fired(app) == hours(*made, 4)


def record(app: App, *moments: str, schedule: str = "hourly", job_id: UUID | None = None) -> None:
    """As a database may have it that was filled before there was a rule for such rows."""
    with psycopg.connect(app.settings.direct_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE schedule_fires DROP CONSTRAINT IF EXISTS schedule_fires_times_check")
    with app.db.transaction(SYSTEM) as tx:
        for moment in moments:
            values = (schedule, moment, job_id)
            tx.driver.execute("INSERT INTO schedule_fires (schedule, fire_at, job_id) VALUES (%s, %s, %s)", values)


@pytest.mark.parametrize("policy", CatchUp)
def test_fires_recorded_in_the_future_stop_nothing(app: App, policy: CatchUp) -> None:
    """A clock ran ahead for a day, and made what belonged to it; each fire is made again when its time comes."""
    fire(app, NOON, schedule=hourly(policy))
    record(app, *(str(moment) for moment in hours(*range(2, 26))), "3000-01-01Z", "9998-12-31Z")
    fire(app, *hours(1, 1, 2, 2, 3, 4, 25), schedule=hourly(policy))
    assert fired(app)[:4] == hours(1, 2, 3, 4)
    assert fired(app)[-1] == hours(25)[0]
    assert len(set(fired(app))) == len(fired(app))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.fires.still_to_come(hours(25)[0]) == {"hourly": 2}


def test_a_fire_of_a_clock_that_is_a_little_ahead_is_not_made_again(app: App) -> None:
    """The server that took over is four minutes behind the one that made it."""
    fire(app, NOON, *hours(1))
    before = NOON + timedelta(minutes=56)
    fire(app, before, before + timedelta(minutes=4), *hours(1, 2))
    assert fired(app) == hours(1, 2)


def test_a_schedule_that_is_known_only_from_the_future_begins_now(app: App) -> None:
    record(app, str(NOON + timedelta(days=365)))
    fire(app, NOON + timedelta(minutes=30), *hours(1))
    assert fired(app) == hours(1)


def test_a_fire_of_long_ago_stops_nothing(app: App) -> None:
    record(app, "1970-01-02Z")
    fire(app, NOON, schedule=hourly(CatchUp.LATEST))
    fire(app, *hours(1), schedule=hourly(CatchUp.LATEST))
    assert fired(app)[-1:] == hours(1)


def told(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, filter(None, capsys.readouterr().err.splitlines()))
    return [line for line in lines if line["event"] == event]


def test_what_is_skipped_is_told_once(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "INFO")
    fire(app, NOON + timedelta(minutes=30), NOON + timedelta(minutes=31))
    [begun] = told(capsys, "schedule.begun")
    assert (begun["schedule"], begun["not_made_until"]) == ("hourly", NOON.isoformat())
    fire(app, *hours(5, 5), schedule=hourly(CatchUp.LATEST))
    [skipped] = told(capsys, "schedule.skipped")
    assert (skipped["fires"], skipped["first"], skipped["last"]) == (4, *(each.isoformat() for each in hours(1, 4)))
    record(app, *(str(moment) for moment in hours(7, 8)))
    fire(app, *hours(5, 6))
    [aside] = told(capsys, "schedule.set_aside")
    assert (aside["schedule"], aside["fires"]) == ("hourly", 2)


def test_two_schedulers_at_the_same_moment_fire_once(app: App) -> None:
    fire(app, NOON)
    relays = [a_dispatcher(app, hourly(), now=NOON + timedelta(hours=2)) for _ in range(4)]
    together = threading.Barrier(4)

    def tick(dispatcher: Dispatcher) -> None:
        together.wait()
        for _ in range(5):
            dispatcher.fire()

    threads = [threading.Thread(target=tick, args=(dispatcher,)) for dispatcher in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fired(app) == hours(1, 2)


def test_without_the_lock_the_unique_row_still_fires_once(app: App) -> None:
    """Leadership is an optimisation: two that both believe they lead make one job."""
    made: list[bool] = []

    def make(dispatcher_saw: Callable[[], None]) -> None:
        with app.db.transaction(SYSTEM) as tx:
            made.append(tx.fires.fire("hourly", NOON, lambda: noop.enqueue(tx, fire_at=NOON)))

    threads = [threading.Thread(target=make, args=(lambda: None,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert fired(app) == [NOON]


def test_an_enqueue_that_fails_undoes_its_fire(app: App) -> None:
    def breaks(tx: object, fire_at: datetime) -> UUID:
        raise RuntimeError

    fire(app, NOON)
    with pytest.raises(RuntimeError):
        fire(app, *hours(1), schedule=replace(hourly(), enqueue=breaks))
    fire(app, *hours(1))
    assert fired(app) == hours(1)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_however_time_is_cut_the_same_fires_result(a: int, b: int) -> None:
    first, last = NOON + timedelta(minutes=min(a, b)), NOON + timedelta(minutes=max(a, b))
    whole = list(fires_between(HOURLY, NOON, last))
    assert whole == list(fires_between(HOURLY, NOON, first)) + list(fires_between(HOURLY, first, last))
    assert whole == hours(*range(1, max(a, b) // 60 + 1))


def test_a_day_has_24_hourly_fires_and_catching_up_is_bounded() -> None:
    assert len(to_fire(hourly(), NOON, NOON + timedelta(days=1))) == 24
    assert len(to_fire(hourly(), NOON, NOON + timedelta(days=365))) == 1000


def test_no_redis_at_all_is_survived(app: App) -> None:
    with pytest.raises(redis.RedisError):
        Notifier(connect("redis://127.0.0.1:1/0")).probe()
    assert Notifier(connect("redis://127.0.0.1:1/0")).notify({"default": {UUID(int=1): 5}}) is False
