"""What a handler may do besides finishing: steps, snoozes, rates, cancellation, deadlines, batches, older payloads."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.transaction import SYSTEM, Tx
from domain.errors import Unavailable
from domain.queue.rate import Draw, Rate, draw_all
from domain.queue.retries import Backoff
from tests.builders import a_tenant, job_row
from workers.app import App
from workers.engine.context import Context
from workers.engine.effects import StepUnknown
from workers.engine.job import FailedJob, JobType, job
from workers.engine.outcomes import cancel, rescue
from workers.engine.runner import Runner

NO_WAIT = Backoff(base=timedelta(0))
Script = Callable[[Context], None]


def finish(ctx: Context) -> None:
    with ctx.finish():
        pass


class Stage:
    """A process whose only job type does what the test says."""

    def __init__(self, app: App) -> None:
        self.script: Script = finish
        self.failed: list[str] = []
        self.type = self.declare()
        self.app = app
        self.runner = self.new_runner()

    def declare(self, **options: Any) -> JobType[[]]:
        def on_failure(tx: Tx, failed: FailedJob) -> None:
            self.failed.append(failed.reason)

        options = {"system": True, "backoff": NO_WAIT, "on_failure": on_failure} | options
        self.type = job("testing.scripted", **options)(lambda ctx: self.script(ctx))
        return self.type

    def new_runner(self) -> Runner:
        self.app = replace(self.app, job_types={"testing.scripted": self.type})
        runner = self.app.runner()
        with self.app.db.transaction(SYSTEM) as tx:
            lease = timedelta(seconds=30)
            tx.workers.beat(runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=lease)
        return runner

    def enqueue(self, **options: Any) -> UUID:
        with self.app.db.transaction(SYSTEM) as tx:
            return self.type.with_options(**options).enqueue(tx)

    def run(self, script: Script, job_id: UUID | None = None) -> dict[str, Any]:
        """One attempt; returns the row afterwards."""
        self.script = script
        job_id = job_id or self.enqueue()
        self.runner.run_one(job_id)
        return job_row(self.app, job_id)

    def outcomes(self, job_id: UUID) -> list[str]:
        with self.app.db.transaction(SYSTEM) as tx:
            return [row["outcome"] for row in tx.jobs.attempts(job_id)]


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    return Stage(app)  # type: ignore[return-value]


# --- steps --------------------------------------------------------------------------------------------------


class Platform:
    """The outside: remembers what was posted under which key."""

    def __init__(self) -> None:
        self.posts: list[str] = []

    def post(self, key: str) -> dict[str, str]:
        self.posts.append(key)
        return {"url": f"https://example.com/{len(self.posts)}"}

    def find(self, key: str) -> dict[str, str] | None:
        return {"url": f"https://example.com/{self.posts.index(key) + 1}"} if key in self.posts else None


def test_a_confirmed_step_is_not_taken_again(stage: Stage) -> None:
    platform, seen = Platform(), []

    def publish(ctx: Context) -> None:
        seen.append(ctx.step("post", platform.post))
        if len(seen) < 2:
            raise Unavailable("after the post")
        with ctx.finish():
            pass

    row = stage.run(publish)
    assert stage.run(publish, row["id"])["status"] == "completed"
    assert seen == [{"url": "https://example.com/1"}] * 2
    assert platform.posts == [f"{row['id']}:post"]


class Died(BaseException):
    """Stands for a process that is gone: nothing after it is written."""


@pytest.mark.parametrize("posted", [True, False])
def test_after_a_crash_in_a_step_the_other_side_is_looked_at_first(stage: Stage, posted: bool) -> None:
    platform = Platform()

    def crash(key: str) -> None:
        if posted:
            platform.post(key)
        raise Died

    def die(ctx: Context) -> None:
        ctx.step("post", crash)

    def publish(ctx: Context) -> None:
        ctx.report(**ctx.step("post", platform.post, look=platform.find))
        with ctx.finish():
            pass

    job_id = stage.enqueue()
    with pytest.raises(Died):
        stage.run(die, job_id)
    with stage.app.db.transaction(SYSTEM) as tx:
        tx.transitions.give_back_all(stage.runner.worker_id)
    row = stage.run(publish, job_id)
    assert (row["status"], row["result"]) == ("completed", {"url": "https://example.com/1"})
    assert len(platform.posts) == 1


def test_what_nobody_can_tell_waits_for_a_person(stage: Stage) -> None:
    platform = Platform()

    def cannot_tell(key: str) -> None:
        raise StepUnknown("the platform lists no drafts")

    def fail(key: str) -> None:
        raise Unavailable("the connection was lost")

    row = stage.run(lambda ctx: ctx.step("post", fail))
    assert row["status"] == "pending"
    row = stage.run(lambda ctx: ctx.step("post", platform.post, look=cannot_tell), row["id"])
    assert (row["status"], platform.posts) == ("failed", [])
    with stage.app.db.transaction(SYSTEM) as tx:
        assert tx.steps.intend(row["id"], "post").status == "unknown"


# --- snooze and rate ----------------------------------------------------------------------------------------


def test_a_snooze_costs_no_attempt(stage: Stage) -> None:
    row = stage.run(lambda ctx: ctx.snooze(timedelta(minutes=5), "still rendering"))
    assert (row["status"], row["attempts"], row["snoozes"]) == ("pending", 0, 1)
    assert row["scheduled_for"] == row["wake_at"] > row["created_at"] + timedelta(minutes=4)
    assert stage.outcomes(row["id"]) == ["snoozed"]
    assert row["error_message"] == "still rendering"


def test_all_jobs_of_an_account_draw_from_one_bucket_and_come_back_one_by_one(stage: Stage) -> None:
    hourly = Rate(timedelta(hours=1))

    def post(ctx: Context) -> None:
        ctx.draw("tiktok:ada", hourly)
        with ctx.finish():
            pass

    rows = [stage.run(post) for _ in range(3)]
    assert [row["status"] for row in rows] == ["completed", "pending", "pending"]
    gap = rows[2]["scheduled_for"] - rows[1]["scheduled_for"]
    assert abs(gap - timedelta(hours=1)) < timedelta(minutes=2)
    assert stage.run(lambda ctx: (ctx.draw("tiktok:bob", hourly), finish(ctx))[0])["status"] == "completed"


def test_what_draws_from_several_buckets_takes_all_or_none(stage: Stage) -> None:
    plenty, one = Rate(timedelta(hours=1), burst=2), Rate(timedelta(hours=1))
    draws = [Draw("tiktok:ada", plenty), Draw("tiktok", one)]

    def post(ctx: Context) -> None:
        ctx.draw_all(draws)
        with ctx.finish():
            pass

    rows = [stage.run(post) for _ in range(2)]
    assert [(row["status"], row["error_message"]) for row in rows] == [
        ("completed", None),
        ("pending", "tiktok is used up"),
    ]
    # Nothing of the account's own was used up by the one that waits for the other bucket.
    assert stage.run(lambda ctx: (ctx.draw("tiktok:ada", plenty), finish(ctx))[0])["status"] == "completed"


def test_many_threads_draw_from_the_same_buckets_in_any_order(app: App) -> None:
    names, rate = ["a", "b", "c", "d"], Rate(timedelta(hours=1), burst=1000)

    def drawn(number: int) -> None:
        wanted = [Draw(name, rate) for name in random.Random(number).sample(names, 3)]
        with app.db.transaction(SYSTEM) as tx:
            tx.rates.change([each.bucket for each in wanted], lambda found, now: draw_all(found, wanted, now))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(drawn, range(80)))
    with app.db.transaction(SYSTEM) as tx:
        uses = tx.driver.execute("SELECT sum(used_until - now()) FROM rate_buckets").fetchall()[0][0]
    assert abs(uses - timedelta(hours=3 * 80)) < timedelta(minutes=5)


def test_when_the_other_side_says_not_before_every_job_of_the_account_waits(stage: Stage) -> None:
    often = Rate(timedelta(seconds=1), burst=100)
    first = stage.run(lambda ctx: ctx.hold_off("tiktok:ada", timedelta(hours=2)))
    second = stage.run(lambda ctx: ctx.draw("tiktok:ada", often))
    for row in (first, second):
        assert (row["status"], row["attempts"]) == ("pending", 0)
        assert row["scheduled_for"] > row["created_at"] + timedelta(minutes=119)


# --- cancellation -------------------------------------------------------------------------------------------


def ask_to_stop(stage: Stage, job_id: UUID) -> str | None:
    with stage.app.db.transaction(SYSTEM) as tx:
        return cancel(tx, stage.app.job_types, job_id)


def write(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('effect', 1)")


@pytest.mark.parametrize(
    "look_up", [Context.check, write, lambda ctx: ctx.step("s", str)], ids=["check", "begin", "step"]
)
def test_a_running_job_stops_where_it_next_looks_up(stage: Stage, look_up: Script) -> None:
    def work(ctx: Context) -> None:
        assert ask_to_stop(stage, ctx.job.id) == "running"
        look_up(ctx)
        raise AssertionError("unreachable")

    row = stage.run(work)
    assert row["status"] == "cancelled"
    assert stage.outcomes(row["id"]) == ["cancelled"]
    assert stage.failed == ["cancelled"], "no hold is left behind"
    with stage.app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT FROM system_metrics").fetchall() == []


def test_a_job_that_was_asked_to_stop_and_returned_to_the_queue_is_not_run_again(stage: Stage) -> None:
    def fail(ctx: Context) -> None:
        ask_to_stop(stage, ctx.job.id)
        raise Unavailable("away")

    def never(ctx: Context) -> None:
        raise AssertionError("it was cancelled")

    row = stage.run(fail)
    assert row["status"] == "pending"
    assert stage.run(never, row["id"])["status"] == "cancelled"


def test_a_pending_job_is_cancelled_with_its_hook(stage: Stage) -> None:
    job_id = stage.enqueue()
    assert ask_to_stop(stage, job_id) == "cancelled"
    assert (job_row(stage.app, job_id)["status"], stage.failed) == ("cancelled", ["cancelled"])
    assert ask_to_stop(stage, job_id) is None


# --- deadlines ----------------------------------------------------------------------------------------------


def within(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.now()
        with ctx.begin() as other:
            other.now()


def takes_within(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.now()
        ctx.draw("an account", Rate(timedelta(seconds=1)))


def steps_within(ctx: Context) -> None:
    with ctx.begin() as tx:
        tx.now()
        ctx.step("upload", lambda key: key)


def collects_within(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.now()
        ctx.ports.trends.collect("US", ctx.now())


@pytest.mark.parametrize("script", [within, takes_within, steps_within, collects_within])
def test_a_handler_that_wants_a_second_connection_fails_before_it_gets_one(stage: Stage, script: Script) -> None:
    """Whoever does it under load waits for a connection that is held by somebody who waits for one."""
    row = stage.run(script, stage.enqueue(max_attempts=1))
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert row["error_message"].startswith("this thread is in a transaction already")


def test_near_its_deadline_a_job_gives_statements_no_more_time_than_is_left(stage: Stage) -> None:
    stage.declare(timeout=timedelta(seconds=2))
    stage.runner = stage.new_runner()

    def dawdle(ctx: Context) -> None:
        assert ctx.remaining <= timedelta(seconds=2)
        with ctx.finish() as tx:
            tx.driver.execute("SELECT pg_sleep(30)")

    row = stage.run(dawdle)
    assert row["status"] == "pending"
    assert "statement timeout" in row["error_message"]


def test_a_job_that_overran_by_far_is_taken_from_its_live_process(stage: Stage) -> None:
    def overrun(ctx: Context) -> None:
        with stage.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET deadline_at = now() - interval '10 seconds'")
        assert rescue(stage.app.db, stage.app.job_types) == 0
        with stage.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET deadline_at = now() - interval '31 seconds'")
        assert rescue(stage.app.db, stage.app.job_types) == 1
        with ctx.finish() as tx:
            tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('effect', 1)")

    row = stage.run(overrun)
    assert (row["status"], row["attempts"], row["crashes"]) == ("pending", 1, 0)
    assert row["error_message"] == "it ran past its deadline"
    with stage.app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT FROM system_metrics").fetchall() == [], "the late finish is refused"


# --- order, payloads ----------------------------------------------------------------------------------------


def test_a_payload_of_an_older_release_is_brought_up_to_date(app: App) -> None:
    seen: list[tuple[list[str], str]] = []

    @job(
        "testing.versions",
        upgrades=(
            lambda old: {"platforms": [old["platform"]]},
            lambda old: {**old, "tone": "calm"},
        ),
    )
    def current(ctx: Context, tenant_id: UUID, platforms: list[str], tone: str) -> None:
        seen.append((platforms, tone))
        with ctx.finish():
            pass

    tenant_id = a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        new = current.enqueue(tx, tenant_id=tenant_id, platforms=["tiktok"], tone="loud")
        insert = """
            INSERT INTO job_queue (job_type, tenant_id, payload, payload_version)
            VALUES ('testing.versions', %s, %s, %s) RETURNING id
        """
        old = tx.driver.execute(insert, (tenant_id, '{"platform": "youtube-shorts"}', 1)).fetchall()[0][0]
        middle = tx.driver.execute(insert, (tenant_id, '{"platforms": ["a", "b"]}', 2)).fetchall()[0][0]
    runner = replace(app, job_types={current.name: current}).runner()
    assert job_row(app, new)["payload_version"] == 3
    assert all(runner.run_one(job_id) for job_id in (new, old, middle))
    assert seen == [(["tiktok"], "loud"), (["youtube-shorts"], "calm"), (["a", "b"], "calm")]


def test_the_order_of_a_type_is_by_its_argument(app: App) -> None:
    @job("testing.ordered", ordering="customer", cost=3)
    def ordered(ctx: Context, tenant_id: UUID, customer: str) -> None:
        raise AssertionError

    tenant_id = a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        job_id = ordered.enqueue(tx, tenant_id=tenant_id, customer="cus_1")
    row = job_row(app, job_id)
    assert (row["ordering_key"], row["cost"], row["tenant_id"]) == ("cus_1", 3, tenant_id)


def test_an_interrupted_statement_of_a_zombie_is_no_reason_to_stop(stage: Stage) -> None:
    """The runner outlives whatever a handler's transaction raises."""

    def cut(ctx: Context) -> None:
        with ctx.finish():
            raise psycopg.errors.QueryCanceled("canceling statement due to user request")

    assert stage.run(cut)["status"] == "pending"
    assert stage.run(finish)["status"] == "completed"
