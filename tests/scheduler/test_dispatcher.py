"""What waits in Redis is what the table says is next; what was lost is sent again."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
import redis
from apscheduler.triggers.cron import CronTrigger

from db.queue.claim import Terms, known_types
from db.queue.dispatch import NEXT
from db.queue.enqueue import NewJob
from db.transaction import SYSTEM
from scheduler.dispatcher import WINDOW, Dispatcher
from scheduler.main import Rescuer
from tests.builders import a_tenant, new_id
from tests.proxy import proxied
from tests.redis_servers import a_redis
from tests.wait import until
from workers.app import App
from workers.engine.broker import BLOCK_SECONDS
from workers.engine.job import Context, job
from workers.engine.notifier import Notifier
from workers.engine.queues import notifications_key
from workers.runtime.redis_client import connect

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOURLY = CronTrigger.from_crontab("0 * * * *", timezone="UTC")


@job("testing.noop", system=True)
def noop(ctx: Context, fire_at: datetime | None = None) -> None:
    with ctx.finish():
        pass


def a_dispatcher(app: App, *, url: str | None = None, window: int = WINDOW) -> Dispatcher:
    """Between two rounds of it no time passes, however busy the machine is."""
    notifier = Notifier(connect(url), rest=0) if url else app.notifier
    return Dispatcher(app.db, notifier, stopwatch=lambda: 0.0, window=window)


def notified(app: App, queue: str = "default", most: int = 100_000) -> list[UUID]:
    """Takes what was sent out of Redis, in its order."""
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


def test_an_enqueuer_notifies_after_its_commit(app: App) -> None:
    job_id = enqueue(app)
    assert notified(app) == [job_id]


def test_a_transaction_that_is_rolled_back_notifies_of_nothing(app: App) -> None:
    with pytest.raises(RuntimeError), app.db.transaction(SYSTEM) as tx:
        noop.enqueue(tx)
        raise RuntimeError
    assert notified(app) == []


def test_a_delayed_job_is_notified_when_it_is_due_and_not_before(app: App) -> None:
    dispatcher = a_dispatcher(app)
    dispatcher.dispatch()
    job_id = enqueue(app, delay=timedelta(minutes=5))
    assert (notified(app), dispatcher.dispatch()) == ([], 0)
    let_time_pass(app, 200)
    assert dispatcher.dispatch() == 0
    let_time_pass(app, 100)
    assert dispatcher.dispatch() == 1
    assert notified(app) == [job_id]


def test_a_row_inserted_by_another_program_is_notified(app: App) -> None:
    dispatcher = a_dispatcher(app)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute("INSERT INTO job_queue (job_type) VALUES ('testing.noop') RETURNING id").fetchone()
    assert row is not None
    dispatcher.dispatch()
    assert notified(app) == [row[0]]


def test_a_row_for_a_queue_that_nobody_works_on_is_notified_on_the_default_one(app: App) -> None:
    """Another program may misspell it; a job that waits for ever without a word is as good as lost."""
    with app.db.transaction(SYSTEM) as tx:
        insert = "INSERT INTO job_queue (job_type, queue) VALUES ('testing.noop', 'deafult') RETURNING id"
        row = tx.driver.execute(insert).fetchone()
    assert row is not None
    a_dispatcher(app).dispatch()
    assert notified(app) == [row[0]]


def test_redis_flushed_is_noticed_at_the_next_tick(app: App) -> None:
    dispatcher = a_dispatcher(app)
    job_ids = [enqueue(app) for _ in range(3)]
    dispatcher.dispatch()
    client = connect(app.settings.redis_url)
    client.flushall()
    client.close()
    assert dispatcher.dispatch() == 3
    assert notified(app) == job_ids


def test_what_was_notified_is_not_notified_again_while_it_may_be_on_its_way(app: App) -> None:
    dispatcher = a_dispatcher(app)
    job_id = enqueue(app)
    assert dispatcher.dispatch() == 1
    assert notified(app) == [job_id]
    assert dispatcher.dispatch() == 0
    assert notified(app) == []


class Rounds:
    """A dispatcher whose stopwatch goes on by half a second before each round."""

    def __init__(self, app: App, notifier: Notifier | None = None) -> None:
        self.now = 0.0
        self._dispatcher = Dispatcher(app.db, notifier or app.notifier, stopwatch=lambda: self.now)

    def go(self, times: int = 1) -> list[int]:
        """How many jobs were sent in each round."""
        sent = []
        for _ in range(times):
            self.now += 0.5
            sent.append(self._dispatcher.dispatch())
        return sent


def waiting(app: App) -> int:
    return app.notifier.waiting(["default"])["default"]


def test_a_set_that_was_deleted_is_whole_again_within_two_seconds_though_the_epoch_is_kept(app: App) -> None:
    jobs, rounds = backlog(app, 500), Rounds(app)
    assert rounds.go(40) == [500] + [0] * 39, "what waits is not sent again"
    client = connect(app.settings.redis_url)
    assert client.delete(notifications_key("default")) == 1
    client.close()
    assert rounds.go(4) == [0, 0, 500, 0]
    assert notified(app) == jobs


def test_an_evicted_set_is_whole_again_too(app: App, tmp_path: Path) -> None:
    with a_redis(tmp_path, "--maxmemory-policy", "allkeys-random") as server:
        backlog(app, 500)
        notifier = Notifier(connect(server.url), rest=0)
        rounds = Rounds(app, notifier)
        assert rounds.go() == [500]
        used = int(server.ask("INFO", "memory")["used_memory"])
        server.ask("CONFIG", "SET", "maxmemory", used + 500_000)
        for n in range(10_000):
            if not server.ask("EXISTS", notifications_key("default")):
                break
            server.ask("SET", f"{n}", "x" * 100_000)
        assert not server.ask("EXISTS", notifications_key("default"))
        server.ask("CONFIG", "SET", "maxmemory", 0)
        rounds.go(4)
        assert server.ask("ZCARD", notifications_key("default")) == 500
        notifier.close()


def test_jobs_that_were_popped_and_never_claimed_are_sent_again_within_seconds_however_often(app: App) -> None:
    """Killed, stopped or starved workers do that; the waits double, and end at five seconds instead of ten minutes."""
    jobs, rounds = backlog(app, 391), Rounds(app)
    rounds.go()
    for _ in range(5):
        assert notified(app) == jobs
        rounds.go(12)
        assert waiting(app) == 391


def test_what_could_not_be_sent_while_redis_was_away_is_sent_when_it_is_back(app: App) -> None:
    job_id = enqueue(app)
    notified(app)
    redis_at = urlsplit(app.settings.redis_url)
    with proxied("127.0.0.1", 1) as proxy:
        dispatcher = a_dispatcher(app, url=proxy.url(app.settings.redis_url))
        assert dispatcher.dispatch() == 0
        proxy.target = (str(redis_at.hostname), redis_at.port or 6379)
        assert dispatcher.dispatch() == 1
    assert notified(app) == [job_id]


# --- the dispatch order -------------------------------------------------------------------------------------


def backlog(app: App, count: int, tenant_id: UUID | None = None, **columns: object) -> list[UUID]:
    """Rows of which nobody is notified."""
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
    assert Rescuer(app.db, {"testing.noop": noop}).rescue() == 250


def test_only_a_window_waits_in_redis_and_it_moves_on_as_jobs_are_taken(app: App) -> None:
    jobs = backlog(app, 300)
    dispatcher = a_dispatcher(app, window=100)
    assert (dispatcher.dispatch(), dispatcher.dispatch()) == (100, 0)
    assert run(app, notified(app, most=49)) == jobs[:49]
    assert dispatcher.dispatch() == 0, "there is enough to do"
    assert run(app, notified(app, most=1)) == jobs[49:50]
    assert dispatcher.dispatch() == 50
    assert notified(app) == jobs[50:150]


def test_one_tenants_thousands_do_not_delay_anothers_one(app: App) -> None:
    noisy, quiet = a_tenant(app), a_tenant(app)
    many = backlog(app, 1000, noisy)
    dispatcher = a_dispatcher(app)
    dispatcher.dispatch()
    [one] = backlog(app, 1, quiet)
    dispatcher.dispatch(signalled=True)
    assert one in notified(app)[:2]
    assert many


def test_a_queue_that_was_emptied_in_the_meantime_has_no_next_job(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        assert tx.dispatch.next("default", 64, {}) == []


def test_tenants_share_by_the_weight_of_their_plans(app: App) -> None:
    free, agency = a_tenant(app), a_tenant(app, subscription_tier="AGENCY")
    shares = {free: set(backlog(app, 200, free)), agency: set(backlog(app, 200, agency))}
    a_dispatcher(app).dispatch()
    first = set(notified(app)[:45])
    assert (len(first & shares[agency]), len(first & shares[free])) == (40, 5)


def test_dear_jobs_count_for_more_and_so_do_those_that_run(app: App) -> None:
    dear, cheap = a_tenant(app), a_tenant(app)
    dears, cheaps = backlog(app, 10, dear, cost=3), backlog(app, 10, cheap)
    a_dispatcher(app).dispatch()
    assert notified(app)[:4] == [cheaps[0], cheaps[1], dears[0], cheaps[2]]
    run(app, dears[:1] + cheaps[:1])
    a_dispatcher(app).dispatch()
    assert notified(app)[:4] == [cheaps[1], cheaps[2], cheaps[3], cheaps[4]]


def test_priority_goes_before_fairness(app: App) -> None:
    noisy, quiet = a_tenant(app), a_tenant(app)
    run(app, backlog(app, 50, noisy))
    urgent, usual = backlog(app, 1, noisy, priority=1), backlog(app, 1, quiet)
    a_dispatcher(app).dispatch()
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
    dispatcher.dispatch()
    assert sorted(notified(app)) == sorted([jobs[bob][1], *jobs[eve][:4]])
    dispatcher.dispatch()
    assert sorted(notified(app)) == sorted([jobs[bob][1], *jobs[eve][:4]]), "a limit may have refused it before"
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.limit("default", max_running=2)
    dispatcher.dispatch()
    assert len(notified(app)) == 1
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default")
    dispatcher.dispatch()
    assert notified(app) == []


def test_the_dispatcher_reads_the_index_and_no_more_of_it_than_it_sends(app: App, owner_url: str) -> None:
    """Whether the statistics say nothing, or what a full table holds."""
    tenants = [a_tenant(app) for _ in range(20)]
    backlog(app, 20_000, tenants[0])
    for tenant_id in tenants[1:]:
        backlog(app, 3, tenant_id)
    for statement in ("SELECT 1", "ANALYZE job_queue"):
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute(statement)
        with app.db.transaction(SYSTEM) as tx:
            values = {"queue": "default", "limit": 64, "weights": "{}"}
            found = tx.driver.execute(f"EXPLAIN (ANALYZE, BUFFERS) {NEXT}".encode(), values)
            plan = "\n".join(row[0] for row in found)
        assert "Seq Scan on job_queue" not in plan
        assert int(re.findall(r"Buffers: shared hit=(\d+)", plan)[0]) < 1500


def test_no_redis_at_all_is_survived(app: App) -> None:
    with pytest.raises(redis.RedisError):
        Notifier(connect("redis://127.0.0.1:1/0")).probe()
    assert Notifier(connect("redis://127.0.0.1:1/0")).notify({"default": {UUID(int=1): 5}}) is False


# --- rest ---------------------------------------------------------------------------------------------------


SOON = BLOCK_SECONDS / 3
"""Long before a dispatcher that rests looks by itself."""


@contextmanager
def resting(app: App) -> Iterator[Dispatcher]:
    """A dispatcher at work that rests, for as long as nobody wakes it."""
    notifier = Notifier(connect(app.settings.redis_url, patience=BLOCK_SECONDS + 1))
    dispatcher, stop = Dispatcher(app.db, notifier, rest=3600), threading.Event()
    thread = threading.Thread(target=dispatcher.run, args=(stop,))
    thread.start()
    try:
        until(lambda: dispatcher.rests, "it to rest", seconds=SOON)
        yield dispatcher
    finally:
        stop.set()
        dispatcher.end_wait(app.notifier)
        thread.join(timeout=SOON)
        assert not thread.is_alive(), "a stop does not wait for the end of its rest"
        notifier.close()


def test_a_dispatcher_that_rests_wakes_a_deferred_job_in_time(app: App) -> None:
    with resting(app) as dispatcher:
        job_id = enqueue(app, delay=timedelta(seconds=1))
        until(lambda: waiting(app), "a job that was deferred meanwhile to be sent", seconds=SOON)
        assert run(app, notified(app)) == [job_id]
        with app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET status = 'completed', completed_at = now(), worker_id = NULL")
        until(lambda: dispatcher.rests, "it to rest again", seconds=SOON)


def test_a_dispatcher_that_rests_looks_after_a_job_that_somebody_notified_of(app: App) -> None:
    """The worker that takes the notification dies with it."""
    with resting(app) as dispatcher:
        job_id = enqueue(app)
        assert notified(app) == [job_id]
        until(lambda: waiting(app), "the job to be sent again", seconds=SOON)
        assert not dispatcher.rests


def test_a_dispatcher_rests_though_jobs_wait_in_a_queue_that_is_paused_until_somebody_resumes_it(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("default")
    job_id = enqueue(app)
    assert notified(app) == [job_id]
    with resting(app):
        assert not waiting(app)
        with app.db.transaction(SYSTEM) as tx:
            tx.queues.resume("default")
        until(lambda: waiting(app), "the job to be sent", seconds=SOON)
        assert notified(app) == [job_id]
