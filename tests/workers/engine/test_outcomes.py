"""Each job's end is its own: what stands in its way, a lock or a hook that raises, costs no other job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.queue.transitions import NOBODY
from db.transaction import SYSTEM, Contended
from domain.errors import Rejected
from domain.queue.retries import Backoff
from tests.builders import a_tenant, job_row
from workers.app import App
from workers.engine.context import JobCancelled
from workers.engine.heartbeat import LEASE, Heartbeat
from workers.engine.job import Context, FailedJob, Tx, job
from workers.engine.outcomes import cancel, rescue
from workers.engine.runner import Runner

Hook = Callable[[Tx, FailedJob], None]


def note(tx: Tx, failed: FailedJob) -> None:
    values = (failed.tenant_id, failed.id)
    tx.driver.execute("INSERT INTO api_usage (tenant_id, kind, name, job_id) VALUES (%s, 'note', '', %s)", values)


def note_and_raise(tx: Tx, failed: FailedJob) -> None:
    note(tx, failed)
    raise RuntimeError("the hook itself is broken")


def note_and_break(tx: Tx, failed: FailedJob) -> None:
    note(tx, failed)
    tx.driver.execute("SELECT 1 / 0")


def lock_and_note(tx: Tx, failed: FailedJob) -> None:
    """What the real ones do: a change of the tenant's row."""
    tx.driver.execute("SET LOCAL lock_timeout = '100ms'")
    tx.driver.execute("SELECT FROM tenants WHERE id = %s FOR UPDATE", (failed.tenant_id,))
    note(tx, failed)


class Bench:
    """Job types whose handlers do as they are told, each with a hook of its own."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.act: Callable[[Context], None] = self._refuse
        self.types = {
            name: job(name, max_attempts=1, backoff=Backoff(timedelta(0)), on_failure=hook)(self._handle)
            for name, hook in {
                "plain": None,
                "noted": note,
                "raising": note_and_raise,
                "breaking": note_and_break,
                "locking": lock_and_note,
            }.items()
        }
        self.app = replace(app, job_types=self.types)
        self.tenant_id = a_tenant(app)

    def _refuse(self, ctx: Context) -> None:
        raise Rejected("never")

    def _handle(self, ctx: Context, tenant_id: UUID) -> None:
        self.act(ctx)

    def enqueue(self, name: str, tenant_id: UUID | None = None) -> UUID:
        with self.app.db.transaction(SYSTEM) as tx:
            return self.types[name].enqueue(tx, tenant_id=tenant_id or self.tenant_id)

    def lost(self, name: str, tenant_id: UUID | None = None) -> UUID:
        """A job whose process died in its only attempt."""
        job_id = self.enqueue(name, tenant_id)
        runner = self.app.runner()
        assert [each.id for each in runner.claim([job_id], quarantined=True)[0]] == [job_id]
        return job_id

    def process(self) -> Runner:
        runner = self.app.runner()
        with self.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=LEASE)
        return runner

    def reap(self) -> int:
        return rescue(self.app.db, self.types)

    def row(self, job_id: UUID) -> SimpleNamespace:
        return SimpleNamespace(**job_row(self.app, job_id))

    def status(self, job_id: UUID) -> str:
        return str(self.row(job_id).status)

    def attempts(self, job_id: UUID) -> list[dict[str, Any]]:
        with self.app.db.transaction(SYSTEM) as tx:
            return tx.jobs.attempts(job_id)

    def noted(self, job_id: UUID) -> bool:
        """Whether the effect of the job's hook was committed."""
        with self.app.db.transaction(SYSTEM) as tx:
            return tx.driver.execute("SELECT FROM api_usage WHERE job_id = %s", (job_id,)).fetchone() is not None

    @contextmanager
    def held(self, tenant_id: UUID) -> Iterator[None]:
        """A dashboard that has changed the tenant and not committed."""
        with psycopg.connect(self.app.settings.direct_url) as dashboard:
            dashboard.execute("SET app.tenant_id = '*'")
            dashboard.execute("SELECT FROM tenants WHERE id = %s FOR NO KEY UPDATE", (tenant_id,))
            yield
            dashboard.rollback()


@pytest.fixture
def bench(app: App) -> Bench:
    return Bench(app)


def test_a_lock_that_a_dashboard_holds_stops_the_rescue_of_nobody_else(bench: Bench) -> None:
    other = a_tenant(bench.app)
    locked = [bench.lost("locking") for _ in range(3)]
    free = [bench.lost("locking", other), bench.lost("plain", other), bench.lost("noted", other)]
    with bench.held(bench.tenant_id):
        assert bench.reap() == 3
        assert [bench.status(each) for each in free] == ["failed"] * 3
        assert [bench.status(each) for each in locked] == ["running"] * 3
        assert bench.reap() == 0
    assert bench.reap() == 3
    assert [(bench.status(each), bench.noted(each)) for each in locked] == [("failed", True)] * 3


def test_a_job_row_that_is_locked_stops_the_rescue_of_nobody_else(bench: Bench) -> None:
    first, second = bench.lost("plain"), bench.lost("plain")
    with psycopg.connect(bench.app.settings.direct_url) as dashboard:
        dashboard.execute("SET app.tenant_id = '*'")
        dashboard.execute("SELECT FROM job_queue WHERE id = %s FOR UPDATE", (first,))
        assert bench.reap() == 1
    assert bench.reap() == 1
    assert {bench.status(first), bench.status(second)} == {"failed"}


@pytest.mark.parametrize(
    ("name", "error"),
    [("raising", "RuntimeError: the hook itself is broken"), ("breaking", "DivisionByZero: division by zero")],
)
def test_a_hook_that_raises_costs_its_own_effects_and_is_told_of(bench: Bench, name: str, error: str) -> None:
    """In the rescue, in an ordinary failure, and when a job is cancelled: the job has ended, and others go on."""
    message = f"its on_failure raised {error}"
    lost, other = bench.lost(name), bench.lost("noted")
    assert bench.reap() == 2
    failed = bench.enqueue(name)
    bench.process().run_one(failed)
    for job_id, reason in ((lost, "its worker process died during attempt 1 of 1"), (failed, "never")):
        row, [attempt] = bench.row(job_id), bench.attempts(job_id)
        assert (row.status, row.error_message) == ("failed", f"{reason}; {message}")
        assert attempt["error_message"] == row.error_message
        assert error in attempt["traceback"]
        assert not bench.noted(job_id)
    assert (bench.status(other), bench.noted(other)) == ("failed", True)

    cancelled = bench.enqueue(name)
    with bench.app.db.transaction(SYSTEM) as tx:
        assert cancel(tx, bench.types, cancelled) == "cancelled"
    row = bench.row(cancelled)
    assert (row.status, row.error_message, bench.noted(cancelled)) == ("cancelled", message, False)


@pytest.mark.parametrize(("end", "status"), [(Rejected("never"), "failed"), (JobCancelled(), "cancelled")])
def test_an_end_whose_hook_waits_for_a_lock_is_made_later_and_whole(bench: Bench, end: Exception, status: str) -> None:
    """The failure is kept at once, as one attempt; the job has ended when the hook's effect is there too."""

    def give_up(ctx: Context) -> None:
        raise end

    bench.act = give_up
    job_id = bench.enqueue("locking")
    with bench.app.db.transaction(SYSTEM) as tx:
        if status == "cancelled":
            tx.driver.execute("UPDATE job_queue SET cancel_requested_at = now() WHERE id = %s", (job_id,))
    with bench.held(bench.tenant_id):
        bench.process().run_one(job_id)
        row = bench.row(job_id)
        assert (row.status, row.worker_id, bench.noted(job_id)) == ("running", NOBODY, False)
        assert bench.reap() == 0
    assert bench.reap() == 1
    row = bench.row(job_id)
    assert (row.status, row.attempts, row.crashes, bench.noted(job_id)) == (status, 1, 0, True)
    [attempt] = bench.attempts(job_id)
    assert attempt["error_message"] == row.error_message


def test_a_pending_job_whose_hook_waits_for_a_lock_is_not_cancelled_yet(bench: Bench) -> None:
    job_id = bench.enqueue("locking")
    with bench.held(bench.tenant_id), pytest.raises(Contended, match="waits for a lock"):
        with bench.app.db.transaction(SYSTEM) as tx:
            cancel(tx, bench.types, job_id)
    assert bench.status(job_id) == "pending"


def test_what_no_process_knows_of_is_run_again_only_while_an_attempt_is_left(bench: Bench) -> None:
    """A failure that could not be recorded, or a claim whose answer was lost, used to run for ever."""
    process = bench.process()
    job_ids = [bench.enqueue("noted") for _ in range(3)]
    for most, job_id in enumerate(job_ids, 1):
        with bench.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET max_attempts = %s WHERE id = %s", (most, job_id))
    for attempt in (1, 2, 3, 4):
        process.claim(job_ids, quarantined=True)
        with bench.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET started_at = now() - interval '1 hour' WHERE status = 'running'")
            tx.transitions.disown(process.worker_id, (), timedelta(seconds=30))
        bench.reap()
        ended = [bench.status(job_id) == "failed" for job_id in job_ids]
        assert ended == [most <= attempt for most in (1, 2, 3)]
    assert [bench.row(job_id).attempts for job_id in job_ids] == [1, 2, 3]
    assert all(map(bench.noted, job_ids))
    assert bench.row(job_ids[2]).error_message == "how attempt 3 of 3 ended could not be recorded"


def test_what_has_used_up_its_attempts_long_ago_is_ended_when_its_process_stops(bench: Bench) -> None:
    process = bench.process()
    worn, fresh = bench.enqueue("noted"), bench.enqueue("noted")
    with bench.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET attempts = 7 WHERE id = %s", (worn,))
    process.claim([worn, fresh], quarantined=True)
    with bench.app.db.transaction(SYSTEM) as tx:
        assert set(tx.transitions.give_back_all(process.worker_id)) == {worn, fresh}
    bench.reap()
    assert (bench.status(worn), bench.status(fresh), bench.row(fresh).attempts) == ("failed", "pending", 0)


def test_a_row_that_cannot_be_given_up_does_not_stop_the_heartbeat(bench: Bench) -> None:
    process = bench.process()
    job_id = bench.enqueue("plain")
    process.claim([job_id], quarantined=True)
    with psycopg.connect(bench.app.settings.direct_url, autocommit=True) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute("UPDATE job_queue SET started_at = now() - interval '1 hour', max_attempts = 3")
        owner.execute("UPDATE workers SET lease_until = now()")
        owner.execute("ALTER TABLE job_queue ADD CONSTRAINT stuck CHECK (status = 'running') NOT VALID")
    process._leases.clear()
    heartbeat = Heartbeat(bench.app.db, process, queues=(), version="1")
    with pytest.raises(psycopg.errors.CheckViolation):
        heartbeat.beat()
    with bench.app.db.transaction(SYSTEM) as tx:
        assert [row["alive"] for row in tx.workers.all()] == [True]
