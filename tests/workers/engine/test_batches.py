"""Many jobs at once: claimed and completed together, and shared out again when they take their time."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.errors import Rejected
from workers.app import App
from workers.engine.job import Batch, Context, JobType, JobTypes, job
from workers.engine.queues import notifications_key
from workers.engine.runner import GROWTH, QUICK_TOGETHER, SLOW, SLOW_TOGETHER, Runner, next_size
from workers.runtime.redis_client import connect

ran: list[UUID]
spent: float
"""Seconds that handlers have taken by the runner's stopwatch: however busy the machine is, the others took none."""


@pytest.fixture(autouse=True)
def _forget() -> None:
    global ran, spent
    ran, spent = [], 0.0


@job("testing.nothing", system=True)
def nothing(ctx: Context) -> None:
    ran.append(ctx.job.id)
    with ctx.finish():
        pass


@job("testing.slow", system=True)
def slow(ctx: Context) -> None:
    global spent  # noqa: PLW0603
    ran.append(ctx.job.id)
    spent += SLOW * 1.2
    with ctx.finish():
        pass


@job("testing.effect", system=True)
def effect(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('effect', 1)")


TYPES = {declared.name: declared for declared in (nothing, slow, effect)}


class Process:
    """A worker process's runner; notes what it puts back."""

    def __init__(self, app: App, job_types: JobTypes = TYPES, batch_size: int = 1) -> None:
        self.app = app
        self.notified: list[UUID] = []
        current = replace(app, job_types=job_types)
        self.runner: Runner = current.runner(put_back=self._note, stopwatch=lambda: spent, batch_size=batch_size)
        with app.db.transaction(SYSTEM) as tx:
            lease = timedelta(seconds=30)
            tx.workers.beat(self.runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=lease)

    def _note(self, queue: str, job_ids: Sequence[UUID]) -> None:
        self.notified += job_ids


@pytest.fixture
def process(app: App) -> Iterator[Process]:
    process = Process(app)
    process.runner.start()
    yield process
    process.runner.close()


def enqueue(app: App, job_type: str, count: int) -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        return [TYPES[job_type].enqueue(tx) for _ in range(count)]


def statuses(app: App, job_ids: list[UUID]) -> dict[str, int]:
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT status, count(*)::int FROM job_queue WHERE id = ANY(%s) GROUP BY 1"
        return dict(tx.driver.execute(query, (job_ids,)).fetchall())


def test_quick_jobs_are_all_run_and_completed(app: App, process: Process) -> None:
    job_ids = enqueue(app, "testing.nothing", 300)
    process.runner.run("default", [str(job_id) for job_id in job_ids])
    process.runner.close()
    assert ran == job_ids, "in the order in which they were enqueued"
    assert statuses(app, job_ids) == {"completed": 300}
    assert process.runner.leases == frozenset()
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.driver.execute("SELECT count(DISTINCT started_at), sum(attempts) FROM job_queue").fetchall()
    assert rows[0][0] < 30, "they are claimed in few commits"
    assert rows[0][1] == 300


def test_two_threads_told_of_the_same_jobs_run_each_once(app: App, process: Process) -> None:
    job_ids = enqueue(app, "testing.nothing", 200)
    orders = (job_ids, job_ids[::-1])
    threads = [
        threading.Thread(target=process.runner.run, args=("default", [str(job_id) for job_id in order]))
        for order in orders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.runner.close()
    assert sorted(ran) == sorted(job_ids)
    assert statuses(app, job_ids) == {"completed": 200}


def test_behind_a_slow_job_nothing_waits(app: App, process: Process) -> None:
    """It met quick ones before, so it claims several at once; the first turns out slow: the others go back."""
    process.runner.run("default", [str(job_id) for job_id in enqueue(app, "testing.nothing", 100)])
    slow_ones, quick_ones = enqueue(app, "testing.slow", 1), enqueue(app, "testing.nothing", 40)
    client = connect(app.settings.redis_url)
    client.delete(notifications_key("default"))
    ran.clear()
    process.runner.run("default", [str(job_id) for job_id in slow_ones + quick_ones])
    process.runner.close()
    assert ran == slow_ones
    assert statuses(app, quick_ones) == {"pending": 40}
    notifications = client.zrange(notifications_key("default"), 0, -1)
    client.close()
    notified = {UUID(member.decode()) for member in notifications} | set(process.notified)
    assert notified == set(quick_ones)
    with app.db.transaction(SYSTEM) as tx:
        used = tx.driver.execute("SELECT sum(attempts) FROM job_queue WHERE id = ANY(%s)", (quick_ones,)).fetchone()
    assert used == (0,), "an attempt that was not begun is not counted"


def test_jobs_of_a_slow_queue_are_taken_one_by_one(app: App, process: Process) -> None:
    first, second = enqueue(app, "testing.slow", 2)
    process.runner.run("llm", [str(first), str(second)])
    process.runner.close()
    assert ran == [first]
    assert statuses(app, [first, second]) == {"completed": 1, "pending": 1}
    assert process.notified == [second]


def test_a_lease_lost_before_the_completion_is_written_completes_nothing(app: App) -> None:
    [job_id] = enqueue(app, "testing.nothing", 1)

    def lose_it(ctx: Context) -> None:
        with app.db.transaction(SYSTEM) as tx:
            tx.transitions.give_back_all(process.runner.worker_id)
        with ctx.finish():
            pass

    process = Process(app, {"testing.nothing": job("testing.nothing", system=True)(lose_it)})
    process.runner.run_one(job_id)
    assert statuses(app, [job_id]) == {"pending": 1}


def test_when_an_attempt_cannot_even_be_recorded_nothing_stays_claimed_in_secret(app: App) -> None:
    """Whatever this process does not run any more, its heartbeat must be able to disown."""

    def refuse(ctx: Context) -> None:
        raise Rejected("never")

    job_ids = enqueue(app, "testing.nothing", 10)
    process = Process(app, {"testing.nothing": job("testing.nothing", system=True)(refuse)}, batch_size=100)
    with psycopg.connect(app.settings.direct_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE job_attempts ADD CONSTRAINT nothing_is_written CHECK (false) NOT VALID")
    process.runner.run("default", [str(job_id) for job_id in job_ids])
    process.runner.close()
    assert process.runner.leases == frozenset()
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET started_at = started_at - interval '1 hour' WHERE status = 'running'")
        tx.transitions.disown(process.runner.worker_id, process.runner.leases, timedelta(seconds=30))
    assert statuses(app, job_ids) == {"pending": 10}


def test_effects_still_commit_with_their_own_completion(app: App, process: Process) -> None:
    process.notified = enqueue(app, "testing.effect", 50)
    while process.notified:
        put_back, process.notified = process.notified, []
        process.runner.run("default", [str(job_id) for job_id in put_back])
    with app.db.transaction(SYSTEM) as tx:
        query = """
            SELECT count(*) FROM system_metrics m JOIN job_queue j ON j.completed_at = m.at AND j.xmin = m.xmin
        """
        assert tx.driver.execute(query).fetchone() == (50,)


def test_types_that_alternate_in_a_queue_are_handled_in_one_batch_each(app: App) -> None:
    handled: list[tuple[str, int]] = []

    def declared(name: str) -> JobType[[]]:
        def many(batch: Batch) -> None:
            handled.append((name, len(batch.jobs)))

        return job(name, system=True, many=many)(nothing.handler)

    types = [declared("testing.one"), declared("testing.other")]
    process = Process(app, {each.name: each for each in types}, batch_size=100)
    with app.db.transaction(SYSTEM) as tx:
        job_ids = [each.enqueue(tx) for _ in range(10) for each in types]
        urgent = types[1].with_options(priority=1).enqueue(tx)
    process.runner.run("default", [str(job_id) for job_id in [*job_ids, urgent]])
    assert handled == [("testing.one", 10), ("testing.other", 10)]
    assert ran == [urgent], "it came first, and so alone"
    assert statuses(app, [*job_ids, urgent]) == {"completed": 21}


def test_jobs_that_are_handled_together_are_claimed_in_growing_numbers_though_they_take_their_time(app: App) -> None:
    handled: list[int] = []

    def many(batch: Batch) -> None:
        global spent  # noqa: PLW0603
        handled.append(len(batch.jobs))
        spent += QUICK_TOGETHER / 2

    together = job("testing.together", system=True, many=many)(nothing.handler)
    process = Process(app, {together.name: together})
    with app.db.transaction(SYSTEM) as tx:
        job_ids = together.enqueue_many(tx, [{}] * 57)
    waiting = job_ids
    while waiting:
        size = process.runner.batch_size("default")
        message, waiting = waiting[:size], waiting[size:]
        process.runner.run("default", [str(job_id) for job_id in message])
    assert (len(ran), handled) == (1, [8, 16, 32])
    assert statuses(app, job_ids) == {"completed": 57}


@given(st.integers(1, 300), st.floats(0, 2), st.booleans(), st.integers(1, 300))
def test_a_batch_is_never_empty_nor_larger_than_its_queue_allows_and_one_that_was_slow_is_smaller(
    size: int, seconds: float, together: bool, most: int
) -> None:
    following = next_size(min(size, most), seconds, together=together, most=most)
    assert 1 <= following <= most
    assert following <= size * GROWTH
    if seconds > SLOW_TOGETHER:
        assert following <= max(1, size // 2)
    assert next_size(size, seconds, together=True, most=300) >= next_size(size, seconds, together=False, most=300)
