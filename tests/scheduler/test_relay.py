"""Rings that were lost are rung again, and the calendar fires once, whoever looks at it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import redis
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from db.transaction import SYSTEM
from scheduler.relay import Relay
from scheduler.schedule import CatchUp, Schedule, fires_between, to_fire
from workers.app import App
from workers.broker import Doorbell, bell_key, connect
from workers.job import Context, job

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOURLY = CronTrigger.from_crontab("0 * * * *", timezone="UTC")


@job("testing.noop", system=True)
def noop(ctx: Context, fire_at: datetime | None = None) -> None:
    with ctx.finish():
        pass


def a_relay(app: App, *schedules: Schedule, now: datetime = NOON, url: str | None = None) -> Relay:
    doorbell = Doorbell(connect(url), rest=0) if url else app.doorbell
    return Relay(app.db, doorbell, {"testing.noop": noop}, schedules, clock=lambda: now)


def rung(app: App, queue: str = "default") -> list[UUID]:
    """Takes every message of the queue out of Redis; returns the ids in them."""
    client = connect(app.settings.redis_url)
    bells = client.lpop(bell_key(queue), 1000) or []
    client.close()
    return [UUID(job_id) for bell in bells for job_id in bell.decode().split(",")]


def enqueue(app: App, **options: object) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return noop.with_options(**options).enqueue(tx)  # type: ignore[arg-type]


def let_time_pass(app: App, seconds: int) -> None:
    """Shift the table instead of waiting."""
    with app.db.transaction(SYSTEM) as tx:
        step = timedelta(seconds=seconds)
        tx.driver.execute(
            "UPDATE job_queue SET scheduled_for = scheduled_for - %s, ring_at = ring_at - %s", (step, step)
        )


def test_an_enqueuer_rings_after_its_commit_and_the_relay_does_not_ring_too(app: App) -> None:
    relay = a_relay(app)
    relay.ring()
    job_id = enqueue(app)
    assert rung(app) == [job_id]
    assert relay.ring() == 0


def test_a_transaction_that_is_rolled_back_rings_for_nothing(app: App) -> None:
    with pytest.raises(RuntimeError), app.db.transaction(SYSTEM) as tx:
        noop.enqueue(tx)
        raise RuntimeError
    assert rung(app) == []


def test_a_delayed_job_is_rung_when_it_is_due_and_not_before(app: App) -> None:
    relay = a_relay(app)
    relay.ring()
    job_id = enqueue(app, delay=timedelta(minutes=5))
    assert (rung(app), relay.ring()) == ([], 0)
    let_time_pass(app, 299)
    assert relay.ring() == 0
    let_time_pass(app, 1)
    assert relay.ring() == 1
    assert rung(app) == [job_id]


def test_a_row_inserted_by_another_program_is_rung(app: App) -> None:
    relay = a_relay(app)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute("INSERT INTO job_queue (job_type) VALUES ('testing.noop') RETURNING id").fetchone()
    assert row is not None
    relay.ring()
    assert rung(app) == [row[0]]


def test_a_row_for_a_queue_that_nobody_works_on_is_rung_on_the_default_one(app: App) -> None:
    """Another program may misspell it; a job that waits for ever without a word is as good as lost."""
    with app.db.transaction(SYSTEM) as tx:
        insert = "INSERT INTO job_queue (job_type, queue) VALUES ('testing.noop', 'deafult') RETURNING id"
        row = tx.driver.execute(insert).fetchone()
    assert row is not None
    a_relay(app).ring()
    assert rung(app) == [row[0]]


def test_redis_flushed_between_commit_and_ring_is_noticed_at_the_next_tick(app: App) -> None:
    relay = a_relay(app)
    relay.ring()
    job_id = enqueue(app)
    client = connect(app.settings.redis_url)
    client.flushall()
    client.close()
    assert relay.ring() == 1
    assert rung(app) == [job_id]


def test_a_ring_that_was_lost_silently_is_repeated_and_the_waits_double(app: App) -> None:
    relay = a_relay(app)
    relay.ring()
    job_id = enqueue(app)
    heard = [len(rung(app))]
    for seconds in (9, 1, 4, 1, 9, 1):
        let_time_pass(app, seconds)
        relay.ring()
        heard.append(len(rung(app)))
    assert heard == [1, 0, 1, 0, 1, 0, 1]
    assert job_id


def test_with_redis_away_no_ring_is_spent_and_all_are_made_when_it_is_back(app: App) -> None:
    job_id = enqueue(app)
    rung(app)
    relay = a_relay(app, url="redis://127.0.0.1:1/0")
    let_time_pass(app, 10)
    assert relay.ring() == 0
    relay._doorbell = app.doorbell
    assert relay.ring() == 1
    assert rung(app) == [job_id]


def test_a_queue_that_is_full_in_redis_is_left_alone(app: App) -> None:
    relay = a_relay(app)
    client = connect(app.settings.redis_url)
    client.rpush(bell_key("default"), *[b"x"] * 64)
    enqueue(app)
    let_time_pass(app, 10)
    assert relay.ring() == 0
    client.ltrim(bell_key("default"), 1, 0)
    client.close()
    assert relay.ring() == 1


# --- fires --------------------------------------------------------------------------------------------------


def hourly(catch_up: CatchUp = CatchUp.ALL) -> Schedule:
    return Schedule("hourly", HOURLY, lambda tx, fire_at: noop.enqueue(tx, fire_at=fire_at), catch_up)


def fired(app: App) -> list[datetime]:
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT payload->>'fire_at' FROM job_queue ORDER BY 1").fetchall()
    return [datetime.fromisoformat(row[0]) for row in rows]


def fire(app: App, *moments: datetime, schedule: Schedule | None = None) -> None:
    for moment in moments:
        a_relay(app, schedule or hourly(), now=moment).fire()


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


def test_two_schedulers_at_the_same_moment_fire_once(app: App) -> None:
    fire(app, NOON)
    relays = [a_relay(app, hourly(), now=NOON + timedelta(hours=2)) for _ in range(4)]
    together = threading.Barrier(4)

    def tick(relay: Relay) -> None:
        together.wait()
        for _ in range(5):
            relay.fire()

    threads = [threading.Thread(target=tick, args=(relay,)) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fired(app) == hours(1, 2)


def test_without_the_lock_the_unique_row_still_fires_once(app: App) -> None:
    """Leadership is an optimisation: two that both believe they lead make one job."""
    made: list[bool] = []

    def make(relay_saw: Callable[[], None]) -> None:
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
        Doorbell(connect("redis://127.0.0.1:1/0")).ping()
    assert Doorbell(connect("redis://127.0.0.1:1/0")).ring({"default": [UUID(int=1)]}) is False
