"""Processes that die, fall silent, or forget: their jobs go on elsewhere."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest

from db.queue.claim import known_types
from db.transaction import SYSTEM
from tests.builders import job_row
from workers.app import App
from workers.engine.heartbeat import Heartbeat
from workers.engine.job import Context, FailedJob, Tx, job
from workers.engine.outcomes import rescue
from workers.engine.runner import Runner

hooks: list[str]


@pytest.fixture(autouse=True)
def forget_hooks() -> None:
    global hooks  # noqa: PLW0603
    hooks = []


def note_failure(tx: Tx, failed: FailedJob) -> None:
    hooks.append(failed.reason)


@job("testing.long", system=True, max_attempts=5, on_failure=note_failure)
def long_job(ctx: Context) -> None:
    with ctx.finish():
        pass


TYPES = {"testing.long": long_job}


def enqueue(app: App, **options: object) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return long_job.with_options(**options).enqueue(tx)  # type: ignore[arg-type]


def claim(app: App, runner: Runner, job_id: UUID) -> int:
    """What a process does right before it dies. Returns the lease token."""
    with app.db.transaction(SYSTEM) as tx:
        [claimed] = tx.claims.claim(
            [job_id], runner.worker_id, known_types({name: declared.terms for name, declared in TYPES.items()})
        )
    return claimed.lease_token


def a_process(app: App, lease: timedelta = timedelta(seconds=30)) -> tuple[Runner, Heartbeat]:
    runner = app.runner()
    heartbeat = Heartbeat(app.db, runner, queues=("default",), version="1", lease=lease)
    heartbeat.beat()
    return runner, heartbeat


def reap(app: App) -> int:
    return rescue(app.db, TYPES)


def test_the_jobs_of_a_live_process_are_left_alone(app: App) -> None:
    runner, _ = a_process(app)
    job_id = enqueue(app)
    claim(app, runner, job_id)
    assert reap(app) == 0
    assert job_row(app, job_id)["status"] == "running"


def test_the_jobs_of_a_dead_process_become_due_at_once(app: App) -> None:
    runner, _ = a_process(app, lease=timedelta(0))
    job_id = enqueue(app)
    claim(app, runner, job_id)
    assert reap(app) == 1
    row = job_row(app, job_id)
    assert (row["status"], row["attempts"], row["crashes"], row["lease_token"]) == ("pending", 1, 1, None)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.jobs.due_now() == [job_id]
        [attempt] = tx.jobs.attempts(job_id)
    assert (attempt["outcome"], attempt["worker_id"]) == ("lost", runner.worker_id)


def test_a_process_without_a_row_is_dead(app: App) -> None:
    job_id = enqueue(app)
    claim(app, app.runner(), job_id)
    assert reap(app) == 1


def test_a_job_that_killed_two_processes_is_quarantined(app: App) -> None:
    job_id = enqueue(app)
    for _ in range(2):
        claim(app, app.runner(), job_id)
        reap(app)
    row = job_row(app, job_id)
    assert (row["status"], row["attempts"], row["crashes"]) == ("failed", 2, 2)
    assert row["error_message"] == "quarantined: its worker process died 2 times while running it"
    assert hooks == [row["error_message"]]


def test_a_crash_in_the_last_attempt_fails_the_job(app: App) -> None:
    job_id = enqueue(app, max_attempts=1)
    claim(app, app.runner(), job_id)
    reap(app)
    assert job_row(app, job_id)["status"] == "failed"
    assert hooks == ["its worker process died during attempt 1 of 1"]


def test_an_unknown_type_is_rescued_too(app: App) -> None:
    job_id = enqueue(app, max_attempts=1)
    claim(app, app.runner(), job_id)
    assert rescue(app.db, {}) == 1
    assert job_row(app, job_id)["status"] == "failed"


def test_two_reapers_rescue_a_job_once(app: App) -> None:
    job_id = enqueue(app)
    claim(app, app.runner(), job_id)
    with app.db.separate().transaction(SYSTEM) as other:
        other.workers.lock_lost(job_id)
        assert reap(app) == 0
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: reap(app), range(8))) == 1
    assert job_row(app, job_id)["crashes"] == 1


def test_a_claim_whose_answer_was_lost_is_disowned_by_its_live_owner(app: App) -> None:
    runner, heartbeat = a_process(app)
    job_id = enqueue(app)
    claim(app, runner, job_id)
    heartbeat.beat()
    assert job_row(app, job_id)["status"] == "running", "its answer may still be on its way"
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET started_at = now() - interval '1 hour'")
    heartbeat.beat()
    assert job_row(app, job_id)["status"] == "pending"


def test_what_a_process_does_run_is_not_disowned(app: App) -> None:
    runner, _ = a_process(app)
    job_id = enqueue(app)
    token = claim(app, runner, job_id)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET started_at = now() - interval '1 hour'")
        assert tx.transitions.disown(runner.worker_id, {token}, timedelta(seconds=30)) == []


def test_a_stopping_process_gives_back_its_jobs_and_their_attempts(app: App) -> None:
    runner, heartbeat = a_process(app)
    job_id = enqueue(app)
    claim(app, runner, job_id)
    heartbeat._thread.start()
    assert heartbeat.sign_off() == [job_id]
    row = job_row(app, job_id)
    assert (row["status"], row["attempts"], row["crashes"]) == ("pending", 0, 0)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.workers.all() == []


def test_the_row_of_a_dead_process_stays_as_long_as_it_owns_a_job(app: App) -> None:
    runner, _ = a_process(app, lease=timedelta(hours=-2))
    job_id = enqueue(app)
    claim(app, runner, job_id)
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.delete_dead()
        assert [row["running"] for row in tx.workers.all()] == [1]
    reap(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.delete_dead()
        assert tx.workers.all() == []


# --- a process that runs nothing --------------------------------------------------------------------------------------


def lease_left(app: App, runner: Runner) -> float:
    """Seconds."""
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT extract(epoch FROM lease_until - now())::float FROM workers WHERE id = %s"
        row = tx.driver.execute(query, (runner.worker_id,)).fetchone()
    assert row is not None
    return float(row[0])


def a_resting_process(app: App) -> tuple[Runner, Heartbeat]:
    runner = replace(app, job_types=TYPES).runner()
    heartbeat = Heartbeat(app.db, runner, queues=("default",), version="1", rest=timedelta(hours=1))
    heartbeat.beat()
    return runner, heartbeat


def test_a_process_that_rests_has_a_long_lease_and_the_claim_that_ends_its_rest_shortens_it(app: App) -> None:
    """A death with the job is found out as soon as ever, though the beat was to come in an hour."""
    runner, heartbeat = a_resting_process(app)
    assert 3600 < lease_left(app, runner) < 3630
    [claimed], _ = runner.claim([enqueue(app)], quarantined=False)
    assert lease_left(app, runner) <= 30
    heartbeat.beat()
    assert lease_left(app, runner) <= 30, "while the job runs"
    runner._leases.discard(claimed.lease_token)
    heartbeat.beat()
    assert lease_left(app, runner) > 3600


def test_a_claim_that_takes_nothing_ends_no_rest(app: App) -> None:
    runner, _ = a_resting_process(app)
    assert runner.claim([UUID(int=1)], quarantined=False) == ([], [])
    assert lease_left(app, runner) > 3600


def test_a_claim_that_ends_a_rest_renews_a_lease_that_is_over(app: App) -> None:
    runner, _ = a_resting_process(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE workers SET lease_until = now() - interval '1 second'")
    runner.claim([enqueue(app)], quarantined=False)
    assert reap(app) == 0


def test_a_claim_that_comes_while_a_rest_begins_is_not_overlooked(app: App) -> None:
    """Its job is not among the leases yet when the beat looks at these."""

    class Claiming(Runner):
        @property
        def leases(self) -> frozenset[int]:
            if claims:
                self.claim([claims.pop()], quarantined=False)
                return frozenset()
            return super().leases

    claims: list[UUID] = []
    first, _ = a_process(app)
    runner = Claiming(app.db, TYPES, worker_id=first.worker_id, ports=app.ports, rng=Random(0))
    heartbeat = Heartbeat(app.db, runner, queues=("default",), version="1", rest=timedelta(hours=1))
    claims.append(enqueue(app))
    heartbeat.beat()
    assert lease_left(app, runner) <= 30
