"""One attempt, in every way it can end. The effects are rows of `system_metrics`, which has no unique constraint:
an effect that happened twice would show."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import psycopg
import pytest

from db.transaction import SYSTEM, Tx
from domain.errors import Rejected, Unavailable
from domain.queue.retries import Backoff
from tests.builders import job_row
from workers.app import App
from workers.engine.job import Context, FailedJob, JobType, job
from workers.engine.runner import Runner

NO_WAIT = Backoff(base=timedelta(0))


def leave_mark(tx: Tx, name: str) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))


def marks(app: App) -> list[str]:
    with app.db.transaction(SYSTEM) as tx:
        return [row[0] for row in tx.driver.execute("SELECT name FROM system_metrics ORDER BY id")]


def attempts(app: App, job_id: UUID) -> list[SimpleNamespace]:
    with app.db.transaction(SYSTEM) as tx:
        return [SimpleNamespace(**row) for row in tx.jobs.attempts(job_id)]


@job("testing.child", system=True)
def child(ctx: Context, name: str) -> None:
    with ctx.finish() as tx:
        leave_mark(tx, name)


Script = Callable[[Context], None]


class Bench:
    """An app whose only job types are a scripted one and its child."""

    def __init__(self, app: App) -> None:
        self.script: Script = finish
        self.failed: list[FailedJob] = []
        self.type: JobType[[]] = job(
            "testing.scripted", system=True, max_attempts=3, backoff=NO_WAIT, on_failure=self._on_failure
        )(lambda ctx: self.script(ctx))
        self.app = replace(app, job_types={"testing.scripted": self.type, "testing.child": child})
        self.runner = self.new_runner()

    def new_runner(self) -> Runner:
        runner = self.app.runner()
        with self.app.db.transaction(SYSTEM) as tx:
            lease = timedelta(seconds=30)
            tx.workers.beat(runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=lease)
        return runner

    def enqueue(self, **options: object) -> UUID:
        with self.app.db.transaction(SYSTEM) as tx:
            return self.type.with_options(**options).enqueue(tx)  # type: ignore[arg-type]

    def run(self, script: Script, **options: object) -> UUID:
        self.script = script
        job_id = self.enqueue(**options)
        self.runner.run_one(job_id)
        return job_id

    def _on_failure(self, tx: Tx, failed: FailedJob) -> None:
        self.failed.append(failed)
        leave_mark(tx, "on_failure")


def finish(ctx: Context) -> None:
    ctx.report(marks=1)
    with ctx.finish() as tx:
        leave_mark(tx, "effect")


@pytest.fixture
def bench(app: App) -> Bench:
    return Bench(app)


def test_effects_and_completion_are_one_commit(bench: Bench) -> None:
    job_id = bench.run(finish)
    row = job_row(bench.app, job_id)
    assert (row["status"], row["attempts"], row["result"]) == ("completed", 1, {"marks": 1})
    assert marks(bench.app) == ["effect"]


def test_a_finished_job_is_not_run_again(bench: Bench) -> None:
    job_id = bench.run(finish)
    assert not bench.runner.run_one(job_id)
    assert marks(bench.app) == ["effect"]


def test_an_error_after_the_effects_undoes_them(bench: Bench) -> None:
    def breaks(ctx: Context) -> None:
        with ctx.finish() as tx:
            leave_mark(tx, "effect")
            raise RuntimeError("broken")

    job_id = bench.run(breaks)
    row = job_row(bench.app, job_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("pending", 1, "broken")
    assert marks(bench.app) == []
    [attempt] = attempts(bench.app, job_id)
    assert (attempt.attempt, attempt.outcome, attempt.error_class) == (1, "failed", "RuntimeError")
    assert "in breaks" in attempt.traceback
    assert attempt.started_at <= attempt.ended_at


def test_an_error_in_sql_is_an_ordinary_failure(bench: Bench) -> None:
    def breaks(ctx: Context) -> None:
        with ctx.finish() as tx:
            tx.driver.execute("SELECT 1 / 0")

    assert job_row(bench.app, bench.run(breaks))["error_message"] == "division by zero"
    assert job_row(bench.app, bench.run(finish))["status"] == "completed"


def test_after_the_last_attempt_a_job_is_a_dead_letter_and_its_hook_has_run(bench: Bench) -> None:
    def breaks(ctx: Context) -> None:
        raise Unavailable("no answer")

    job_id = bench.run(breaks)
    for _ in range(5):
        bench.runner.run("default", [str(job_id)])
    row = job_row(bench.app, job_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("failed", 3, "no answer")
    assert [attempt.attempt for attempt in attempts(bench.app, job_id)] == [1, 2, 3]
    assert [(failed.id, failed.reason) for failed in bench.failed] == [(job_id, "no answer")]
    assert marks(bench.app) == ["on_failure"]


def test_what_is_rejected_is_never_tried_again(bench: Bench) -> None:
    def refuses(ctx: Context) -> None:
        raise Rejected("never")

    job_id = bench.run(refuses)
    assert (job_row(bench.app, job_id)["status"], job_row(bench.app, job_id)["attempts"]) == ("failed", 1)
    assert attempts(bench.app, job_id)[0].outcome == "rejected"


def test_retry_after_is_respected(bench: Bench) -> None:
    def asks_for_patience(ctx: Context) -> None:
        raise Unavailable("later", retry_after=timedelta(minutes=5))

    row = job_row(bench.app, bench.run(asks_for_patience))
    assert row["scheduled_for"] - row["started_at"] >= timedelta(minutes=5)
    assert row["wake_at"] == row["scheduled_for"]


def test_a_handler_that_does_not_finish_is_told_so(bench: Bench) -> None:
    row = job_row(bench.app, bench.run(lambda ctx: None))
    assert row["error_message"] == "the handler of testing.scripted returned without `ctx.finish()`"


def test_a_job_that_is_not_due_is_not_claimed(bench: Bench) -> None:
    job_id = bench.run(finish, delay=timedelta(hours=1))
    assert job_row(bench.app, job_id)["status"] == "pending"


def test_an_unknown_job_type_waits_for_a_worker_that_knows_it(bench: Bench) -> None:
    job_id = bench.enqueue()
    older = replace(bench.app, job_types={"testing.child": child}).runner()
    assert not older.run_one(job_id)
    assert job_row(bench.app, job_id)["status"] == "pending"


def test_a_row_that_fits_no_declaration_is_rejected_with_what_is_wrong(bench: Bench) -> None:
    with bench.app.db.transaction(SYSTEM) as tx:
        job_id = child.enqueue(tx, name="x")
        tx.driver.execute("UPDATE job_queue SET payload = '{\"nmae\": 1}' WHERE id = %s", (job_id,))
    bench.runner.run_one(job_id)
    row = job_row(bench.app, job_id)
    assert row["status"] == "failed"
    assert "name: field required; nmae: extra inputs are not permitted" in row["error_message"]


def test_jobs_enqueued_in_a_finish_exist_only_if_it_commits(bench: Bench) -> None:
    def has_child(ctx: Context) -> None:
        with ctx.finish() as tx:
            child.enqueue(tx, name="child")
            if ctx.job.attempt == 1:
                raise RuntimeError("broken")

    job_id = bench.run(has_child)
    bench.runner.run_one(job_id)
    with bench.app.db.transaction(SYSTEM) as tx:
        due = tx.jobs.due_now()
    assert len(due) == 1
    bench.runner.run_one(due[0])
    assert marks(bench.app) == ["child"]


def test_a_zombie_changes_nothing(bench: Bench) -> None:
    """Its lease is lost while it works; another worker finishes the job; then it tries to commit."""

    def is_overtaken(ctx: Context) -> None:
        with bench.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE workers SET lease_until = now() - interval '1 s'")
            lost = tx.workers.lock_lost(ctx.job.id)
            assert lost is not None
            tx.transitions.reschedule(lost, _lost(), timedelta(0))
        bench.script = finish
        bench.new_runner().run_one(ctx.job.id)
        with ctx.finish() as tx:
            leave_mark(tx, "zombie")
            child.enqueue(tx, name="zombie's child")

    job_id = bench.run(is_overtaken)
    row = job_row(bench.app, job_id)
    assert (row["status"], row["attempts"], row["result"]) == ("completed", 2, {"marks": 1})
    assert marks(bench.app) == ["effect"]
    with bench.app.db.transaction(SYSTEM) as tx:
        assert tx.jobs.due_now() == []


def test_a_zombie_cannot_begin_either(bench: Bench) -> None:
    def is_overtaken(ctx: Context) -> None:
        with bench.app.db.transaction(SYSTEM) as tx:
            tx.transitions.give_back_all(bench.runner.worker_id)
        with ctx.begin() as tx:
            leave_mark(tx, "zombie")

    assert job_row(bench.app, bench.run(is_overtaken))["status"] == "pending"
    assert marks(bench.app) == []


def test_a_zombies_failure_is_not_recorded(bench: Bench) -> None:
    def is_overtaken(ctx: Context) -> None:
        with bench.app.db.transaction(SYSTEM) as tx:
            tx.transitions.give_back_all(bench.runner.worker_id)
        raise RuntimeError("late")

    job_id = bench.run(is_overtaken)
    assert job_row(bench.app, job_id)["error_message"] is None
    assert [attempt.outcome for attempt in attempts(bench.app, job_id)] == ["returned"]


def _lost() -> object:
    from db.queue.transitions import FailedAttempt

    return FailedAttempt("lost", "WorkerLost", "test")


def test_a_connection_lost_before_the_commit_is_no_failure_and_leaves_no_effects(bench: Bench) -> None:
    def is_cut_off(ctx: Context) -> None:
        with ctx.finish() as tx:
            leave_mark(tx, "effect")
            with psycopg.connect(bench.app.settings.owner_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (tx.driver.info.backend_pid,))

    job_id = bench.run(is_cut_off)
    row = job_row(bench.app, job_id)
    assert (row["status"], row["attempts"], row["snoozes"]) == ("pending", 0, 0)
    assert [attempt.outcome for attempt in attempts(bench.app, job_id)] == ["returned"]
    assert marks(bench.app) == []
    bench.script = finish
    make_due(bench.app, job_id)
    bench.runner.run_one(job_id)
    assert marks(bench.app) == ["effect"]


def make_due(app: App, job_id: UUID) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s", (job_id,))


def test_run_drops_what_cannot_be_claimed_and_stops_when_told(bench: Bench) -> None:
    first, second = bench.enqueue(), bench.enqueue()
    bench.runner.run("default", [str(uuid4()), "no id", "", str(first)])
    bench.runner.stop()
    bench.runner.run("default", [str(second)])
    assert job_row(bench.app, first)["status"] == "completed"
    assert job_row(bench.app, second)["status"] == "pending"
