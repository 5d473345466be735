"""No attempt ends without a trace: whatever an exception, a result or a wait is, what became of it is written down."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.transaction import SYSTEM
from domain.errors import Rejected, Unavailable
from domain.queue.retries import LONGEST_RETRY_AFTER, Backoff
from domain.text.redaction import LONGEST
from tests.builders import job_row
from tests.wait import until
from tests.workers.engine.test_context import Stage
from workers.app import App
from workers.engine.context import Context
from workers.engine.failures import LONGEST_TRACEBACK, described
from workers.engine.job import JobType, job


class SaysNothing(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error: Exception) -> Callable[[Context], None]:
    def act(ctx: Context) -> None:
        raise error

    return act


def caused(text: str) -> Exception:
    error = RuntimeError("at last")
    error.__cause__ = RuntimeError(text)
    return error


ODD = {
    "NUL": (RuntimeError("a\0b"), "RuntimeError", "a\ufffdb"),
    "half a pair": (RuntimeError("a\ud83db"), "RuntimeError", "a\ufffdb"),
    "foreseen": (Unavailable("No such thing: 'a\0b'"), "Unavailable", "No such thing: 'a\ufffdb'"),
    "in the cause": (caused("\0\ud83d"), "RuntimeError", "at last"),
    "empty": (RuntimeError(), "RuntimeError", "RuntimeError"),
    "no text": (SaysNothing(), "SaysNothing", "SaysNothing (its text cannot be read: RuntimeError)"),
    "a name of a file": (OSError(2, "No such file", "\udcff"), "FileNotFoundError", "No such file"),
    "centuries": (Unavailable("later", retry_after=timedelta.max), "Unavailable", "later"),
}


@pytest.fixture
def stage(app: App) -> Stage:
    return Stage(app)


def attempts(stage: Stage, job_id: UUID) -> list[SimpleNamespace]:
    with stage.app.db.transaction(SYSTEM) as tx:
        return [SimpleNamespace(**row) for row in tx.jobs.attempts(job_id)]


def test_every_attempt_is_recorded_and_the_last_one_is_the_last(stage: Stage) -> None:
    for case, (error, name, text) in ODD.items():
        row = stage.run(raising(error))
        assert (row["status"], row["attempts"]) == ("pending", 1), case
        with stage.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), max_attempts = 2")
        row = stage.run(raising(error), row["id"])
        assert (row["status"], row["attempts"]) == ("failed", 2), case
        assert text in row["error_message"], case
        recorded = [(each.error_class, text in each.error_message) for each in attempts(stage, row["id"])]
        assert recorded == [(name, True)] * 2, case
    assert len(stage.failed) == len(ODD)


def test_nobody_is_waited_for_longer_than_a_month(stage: Stage) -> None:
    row = stage.run(raising(Unavailable("later", retry_after=timedelta(days=365_000))))
    assert timedelta(0) <= row["scheduled_for"] - row["started_at"] - LONGEST_RETRY_AFTER < timedelta(hours=2)


def test_of_a_long_text_the_beginning_and_the_end_are_kept() -> None:
    try:
        raise RuntimeError("begin" + "\0" * 10_000_000 + "end")
    except RuntimeError as error:
        attempt = described(error)
    assert attempt.error_message.startswith("begin")
    assert attempt.error_message.endswith("end")
    assert "characters left out" in attempt.error_message
    assert len(attempt.error_message) < LONGEST + 100
    assert attempt.traceback is not None
    assert attempt.traceback.startswith("Traceback")
    assert len(attempt.traceback) < LONGEST_TRACEBACK + 100


def refuse(app: App, table: str, when: str) -> None:
    """Have Postgres refuse such rows, as it refuses what is too large for it."""
    with psycopg.connect(app.settings.owner_url, autocommit=True) as owner:
        owner.execute(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '54000'; END $$"
        )
        owner.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({when}) "
            "EXECUTE FUNCTION refuse()"
        )


def test_where_the_description_is_refused_the_class_is_recorded(stage: Stage) -> None:
    refuse(stage.app, "job_attempts", "NEW.traceback IS NOT NULL")
    row = stage.run(raising(RuntimeError("a text that is refused")))
    assert row["status"] == "pending"
    [attempt] = attempts(stage, row["id"])
    assert attempt.error_class == "RuntimeError"
    assert attempt.error_message == "RuntimeError (its text could not be recorded: ProgramLimitExceeded)"


def test_a_snooze_that_cannot_be_written_is_a_failure(stage: Stage) -> None:
    row = stage.run(lambda ctx: ctx.snooze(timedelta.max, "until\0 the end of time"))
    assert (row["status"], row["attempts"], row["snoozes"]) == ("pending", 1, 0)
    assert [each.outcome for each in attempts(stage, row["id"])] == ["failed"]


# --- results ------------------------------------------------------------------------------------------------


def test_a_result_is_kept_without_what_cannot_be(stage: Stage) -> None:
    def report(ctx: Context) -> None:
        ctx.report(text="a\0b\ud83d", score=float("nan"), huge=10**5000, nested=[{"\0": float("-inf")}])
        with ctx.finish():
            pass

    row = stage.run(report)
    wanted = {"text": "a\ufffdb\ufffd", "score": None, "huge": None, "nested": [{"\ufffd": None}]}
    assert (row["status"], row["result"]) == ("completed", wanted)


@pytest.mark.parametrize("effect", [True, False])
def test_a_result_that_is_no_json_fails_its_own_job_and_keeps_no_effect(stage: Stage, effect: bool) -> None:
    def report(ctx: Context) -> None:
        ctx.report(when=timedelta(1))
        with ctx.finish() as tx:
            if effect:
                tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('effect', 1)")

    row = stage.run(report)
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert "timedelta is not JSON serializable" in row["error_message"]
    with stage.app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT FROM system_metrics").fetchall() == []


class Crowd:
    """Many jobs without effects, whose completions are written together."""

    def __init__(self, app: App) -> None:
        self.ran: list[int] = []
        self.type: JobType[[int]] = job(
            "testing.told", system=True, max_attempts=2, backoff=Backoff(base=timedelta(0))
        )(self._handle)
        self.app = replace(app, job_types={self.type.name: self.type})
        # However busy the machine is, no job takes its time: what is put back is read by nobody here.
        self.runner = self.app.runner(stopwatch=lambda: 0.0)
        with self.app.db.transaction(SYSTEM) as tx:
            lease = timedelta(minutes=5)
            tx.workers.beat(self.runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=lease)

    def _handle(self, ctx: Context, n: int) -> None:
        self.ran.append(n)
        ctx.report(n=n)
        with ctx.finish():
            pass

    def enqueue(self, count: int) -> list[UUID]:
        with self.app.db.transaction(SYSTEM) as tx:
            return self.type.enqueue_many(tx, [{"n": n} for n in range(count)])


@pytest.mark.parametrize("bad", [{7}, {0, 1, 27}, set(range(28))], ids=["one", "some", "all"])
def test_completions_that_are_refused_cost_their_neighbours_nothing(app: App, bad: set[int]) -> None:
    crowd = Crowd(app)
    ids = crowd.enqueue(28)
    refuse(app, "job_queue", f"(NEW.result ->> 'n')::int = ANY(ARRAY{sorted(bad)})")
    crowd.runner.start()
    threads = [threading.Thread(target=crowd.runner.run, args=("default", [str(each)])) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    def rows() -> list[dict[str, Any]]:
        return [job_row(app, job_id) for job_id in ids]

    until(lambda: not any(row["status"] == "running" for row in rows()), "every attempt to be recorded")
    assert [row["status"] for row in rows()] == ["pending" if n in bad else "completed" for n in range(28)]
    assert {row["error_message"] for n, row in enumerate(rows()) if n in bad} == {_first_line(rows()[min(bad)])}
    until(lambda: not crowd.runner.leases, "every lease to be let go")
    crowd.runner.run("default", [str(each) for each in ids])
    until(lambda: not any(row["status"] in ("running", "pending") for row in rows()), "the last attempts")
    crowd.runner.close()
    assert [row["status"] for row in rows()] == ["failed" if n in bad else "completed" for n in range(28)]
    assert sorted(crowd.ran) == sorted([*range(28), *bad])


def _first_line(row: dict[str, Any]) -> str:
    text: str = row["error_message"]
    assert text.startswith("refused")
    return text


# --- steps --------------------------------------------------------------------------------------------------


def test_a_step_gives_every_attempt_the_same_result(stage: Stage) -> None:
    seen: list[Any] = []

    def work(ctx: Context) -> None:
        seen.append(ctx.step("ask", lambda key: {"text": "a\0b\ud83d", "score": float("nan"), "pair": (1, 2)}))
        if len(seen) < 2:
            raise Unavailable("after the step")
        with ctx.finish():
            pass

    row = stage.run(work)
    assert stage.run(work, row["id"])["status"] == "completed"
    assert seen == [{"text": "a\ufffdb\ufffd", "score": None, "pair": [1, 2]}] * 2


def paid(cost: int, result: Any, tx: Any) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('paid', %s)", (cost,))


def what_was_paid(stage: Stage) -> list[int]:
    with stage.app.db.transaction(SYSTEM) as tx:
        return [int(row[0]) for row in tx.driver.execute("SELECT value FROM system_metrics WHERE name = 'paid'")]


def bottomless() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize("answer", [object(), bottomless()], ids=["no JSON", "too deep"])
def test_a_result_that_cannot_be_kept_is_paid_for_once_and_told(stage: Stage, answer: Any) -> None:
    asked: list[str] = []

    def ask(key: str) -> Any:
        asked.append(key)
        return answer

    row = stage.run(lambda ctx: ctx.step("ask", ask, keep=lambda result, tx: paid(7, result, tx)))
    assert (row["status"], row["attempts"], len(asked)) == ("failed", 1, 1)
    assert "'ask' was done, and its result cannot be kept" in row["error_message"]
    assert what_was_paid(stage) == [7]
    with stage.app.db.transaction(SYSTEM) as tx:
        assert tx.steps.intend(row["id"], "ask").status == "unknown"


def test_what_postgres_refuses_of_a_step_is_paid_for_once_too(stage: Stage) -> None:
    refuse(stage.app, "job_steps", "NEW.status = 'confirmed'")
    row = stage.run(lambda ctx: ctx.step("ask", lambda key: 1, keep=lambda result, tx: paid(7, result, tx)))
    assert (row["status"], what_was_paid(stage)) == ("failed", [7])


def test_what_was_paid_is_kept_although_the_job_is_to_stop(stage: Stage) -> None:
    def ask(key: str) -> int:
        with stage.app.db.transaction(SYSTEM) as tx:
            assert tx.transitions.cancel(UUID(key.partition(":")[0])) == "running"
        return 1

    def work(ctx: Context) -> None:
        ctx.step("ask", ask, keep=lambda result, tx: paid(7, result, tx))
        ctx.check()

    row = stage.run(work)
    assert (row["status"], what_was_paid(stage)) == ("cancelled", [7])


def test_a_step_is_refused_for_good_only_if_it_happened(stage: Stage) -> None:
    row = stage.run(lambda ctx: ctx.step("ask", lambda key: raising(Unavailable("\0"))(ctx)))
    assert row["status"] == "pending"
    row = stage.run(raising(Rejected("\0")), row["id"])
    assert (row["status"], row["error_message"]) == ("failed", "\ufffd")
