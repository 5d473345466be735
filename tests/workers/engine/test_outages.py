"""A database that goes away in the middle: no attempt is burned, nothing happens twice, nobody is called dead."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from db.transaction import SYSTEM, DatabaseUnavailable
from domain.queue.retries import OUTAGES_FORGIVEN
from scheduler.main import Rescuer
from tests.builders import job_row
from tests.conftest import Servers
from tests.outages import read_only, refusing
from tests.wait import until
from workers.app import App
from workers.engine.heartbeat import Heartbeat
from workers.engine.job import Batch, BatchJob, Context, Tx, job
from workers.engine.runner import Runner
from workers.runtime import logs

Act = Callable[[Any], None]

act: Act


def effect(ctx: Context) -> None:
    with ctx.finish() as tx:
        note(tx, ctx)


def note(tx: Tx, ctx: Context) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (str(ctx.job.id),))


def nothing(ctx: Context) -> None:
    with ctx.finish():
        pass


def meets_a_read_only_server(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.driver.execute("SET LOCAL transaction_read_only = on")
        note(tx, ctx)


@job("testing.alone", system=True)
def alone(ctx: Context) -> None:
    act(ctx)


class Among:
    """One job of a batch, as `act` sees a job."""

    def __init__(self, batch: Batch, each: BatchJob) -> None:
        self.job = each.job
        self._tx = batch.tx

    @contextmanager
    def finish(self) -> Iterator[Tx]:
        yield self._tx


def act_many(batch: Batch) -> None:
    for each in batch.jobs:
        act(Among(batch, each))


@job("testing.together", system=True, many=act_many)
def together(ctx: Context) -> None:
    act(ctx)


@pytest.fixture
def bench(app: App) -> App:
    return replace(app, job_types={"testing.alone": alone, "testing.together": together})


def let(do: Act) -> None:
    global act  # noqa: PLW0603
    act = do


def enqueue(app: App, number: int, job_type: str = "testing.alone") -> list[UUID]:
    with app.db.transaction(SYSTEM) as tx:
        return [app.job_types[job_type].enqueue(tx) for _ in range(number)]


def make_due(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")


def effects(app: App) -> list[str]:
    with app.db.transaction(SYSTEM) as tx:
        return [name for (name,) in tx.driver.execute("SELECT name FROM system_metrics ORDER BY name")]


@contextmanager
def running(runner: Runner, job_ids: list[UUID]) -> Iterator[threading.Thread]:
    """As one of Dramatiq's threads does it, with the merging of a worker process; ended when the block is."""
    runner.start()
    thread = threading.Thread(target=runner.run, args=("default", [str(job_id) for job_id in job_ids]))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
        runner.stop()
        runner.close()
        assert not thread.is_alive()


# --- attempts ----------------------------------------------------------------------------------------------


def test_an_outage_costs_a_job_no_attempt_and_comes_back_sooner_than_a_failure(bench: App) -> None:
    [job_id] = enqueue(bench, 1)
    let(meets_a_read_only_server)
    bench.runner().run_one(job_id)
    row = job_row(bench, job_id)
    assert (row["status"], row["attempts"], row["snoozes"], row["crashes"]) == ("pending", 0, 0, 0)
    assert row["error_message"].startswith("Postgres cannot serve us now (read-only)")
    let(effect)
    make_due(bench)
    bench.runner().run_one(job_id)
    assert (job_row(bench, job_id)["status"], effects(bench)) == ("completed", [str(job_id)])


def test_a_job_that_breaks_its_connections_itself_is_not_forgiven_for_ever(bench: App) -> None:
    [job_id] = enqueue(bench, 1)
    let(meets_a_read_only_server)
    runner = bench.runner()
    for _ in range(OUTAGES_FORGIVEN + 3):
        make_due(bench)
        runner.run_one(job_id)
    row = job_row(bench, job_id)
    assert (row["status"], row["attempts"]) == ("failed", 3)


def test_jobs_that_share_a_transaction_are_none_the_worse_for_it(bench: App) -> None:
    job_ids = enqueue(bench, 20, "testing.together")
    let(meets_a_read_only_server)
    # However busy the machine is, no job takes its time: what is put back is read by nobody here.
    with running(bench.runner(stopwatch=lambda: 0.0), job_ids):
        pass
    with bench.db.transaction(SYSTEM) as tx:
        assert {tx.jobs.outages(job_id) for job_id in job_ids} == {1}
    let(effect)
    make_due(bench)
    with running(bench.runner(stopwatch=lambda: 0.0), job_ids):
        until(lambda: len(effects(bench)) == 20, "the jobs to be done")
    rows = [job_row(bench, job_id) for job_id in job_ids]
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", 1)}
    assert effects(bench) == sorted(map(str, job_ids))


def test_what_is_done_is_written_down_when_the_database_takes_it_again(bench: App, owner_url: str) -> None:
    """Completions without effects are merged, and nobody waits for them; they must not be forgotten either."""
    job_ids = enqueue(bench, 5)
    runner = bench.runner()
    done = threading.Barrier(2)

    def done_while_it_is_away(ctx: Context) -> None:
        if ctx.job.id == job_ids[0]:
            done.wait(10)  # claimed
            done.wait(10)  # and the database is away
        nothing(ctx)

    let(done_while_it_is_away)
    with running(runner, job_ids[:1]), capture_logs() as lines:
        done.wait(10)
        with refusing(owner_url, "job_queue", "53100"):
            done.wait(10)
            until(lambda: any(line["event"] == "worker.cannot_write" for line in lines), "the completion to be refused")
            assert runner.leases, "it is this process that runs it"
        until(lambda: job_row(bench, job_ids[0])["status"] == "completed", "the completion to be written")
    assert job_row(bench, job_ids[0])["attempts"] == 1


def test_a_failure_is_recorded_when_the_database_takes_it_again(bench: App, owner_url: str) -> None:
    [job_id] = enqueue(bench, 1)
    failing = threading.Event()

    def fail(ctx: Context) -> None:
        failing.set()
        assert refused.wait(10)
        raise RuntimeError("broken")

    refused = threading.Event()
    let(fail)
    with running(bench.runner(), [job_id]):
        assert failing.wait(10)
        with refusing(owner_url, "job_attempts", "25006"), capture_logs() as lines:
            refused.set()
            until(lambda: any(line["event"] == "worker.cannot_write" for line in lines), "the failure to be refused")
        until(lambda: job_row(bench, job_id)["status"] == "pending", "the failure to be recorded")
    row = job_row(bench, job_id)
    assert (row["attempts"], row["error_message"]) == (1, "broken")


def test_what_cannot_be_claimed_now_is_notified_again(bench: App, owner_url: str) -> None:
    job_ids = enqueue(bench, 3)
    put_back: list[UUID] = []
    runner = bench.runner(put_back=lambda queue, ids: put_back.extend(ids))
    with refusing(owner_url, "job_queue", "57P03"):
        runner.run("default", [str(job_id) for job_id in job_ids])
    assert put_back == job_ids
    assert [job_row(bench, job_id)["attempts"] for job_id in job_ids] == [0, 0, 0]


def test_a_step_that_was_done_is_remembered_through_an_outage(bench: App, owner_url: str) -> None:
    """Else the model would be asked, and paid, again."""
    [job_id] = enqueue(bench, 1)
    acts: list[str] = []
    with ExitStack() as outage:

        def pay(key: str) -> str:
            acts.append(key)
            outage.enter_context(refusing(owner_url, "job_steps", "25006"))
            threading.Timer(0.3, outage.close).start()
            return "answer"

        def step(ctx: Context) -> None:
            assert ctx.step("pay", pay) == "answer"
            effect(ctx)

        let(step)
        bench.runner().run_one(job_id)
    row = job_row(bench, job_id)
    assert (row["status"], row["attempts"], len(acts)) == ("completed", 1, 1)


# --- life and death -----------------------------------------------------------------------------------------


@pytest.mark.proof
def test_a_process_whose_heartbeats_were_refused_is_heard_again_at_once(bench: App, servers: Servers) -> None:
    logs.configure("console", "INFO")
    runner = bench.runner()
    beat = Heartbeat(bench.db, runner, queues=("default",), version="1", interval=timedelta(seconds=0.2))
    with capture_logs() as lines:
        beat.start()
        with read_only(servers.postgres):
            until(lambda: lines, "a heartbeat to be missed")
        until(lambda: len(lines) >= 2, "the next one to be written", seconds=5)
        beat.sign_off()
    assert [line["event"] for line in lines] == ["worker.heartbeat_missed", "worker.heartbeat_back"]


def test_nobody_is_taken_for_dead_before_the_living_could_say_that_they_live(bench: App, servers: Servers) -> None:
    """The job's process had no chance to beat: its lease is over as if it were dead."""
    runner = bench.runner()
    rescuer = Rescuer(bench.db, bench.job_types, after_outage=timedelta(seconds=1.5))
    assert rescuer.rescue() == 0
    [job_id] = enqueue(bench, 1)
    let(lambda ctx: look())
    looks: list[int] = []

    def look() -> None:
        with read_only(servers.postgres), pytest.raises(DatabaseUnavailable):
            rescuer.rescue()
        looks.append(rescuer.rescue())
        Heartbeat(bench.db, runner, queues=("default",), version="1").beat()
        until(lambda: looks.append(rescuer.rescue()) or len(looks) > 100, "the time to be over", every=0.02)
        raise RuntimeError("enough")

    runner.run_one(job_id)
    assert sum(looks) == 0
    assert job_row(bench, job_id)["crashes"] == 0


def test_the_dead_are_dead_after_an_outage_too(bench: App, servers: Servers) -> None:
    rescuer = Rescuer(bench.db, bench.job_types, after_outage=timedelta(seconds=0.1))
    [job_id] = enqueue(bench, 1)
    dead = bench.runner()
    assert dead.claim([job_id], quarantined=False)[0]
    with read_only(servers.postgres), pytest.raises(DatabaseUnavailable):
        rescuer.rescue()
    until(lambda: rescuer.rescue() == 1, "the rescue", seconds=5)
    assert job_row(bench, job_id)["crashes"] == 1
