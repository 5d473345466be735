"""Every job names what enqueued it: set by whoever has it at hand, kept by retries, rescues and the archive."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.queue.enqueue import NewJob, Origin
from db.transaction import SYSTEM
from domain.errors import Rejected, Unavailable
from domain.queue.retries import Backoff
from scheduler.schedule import SCHEDULES, Calendar
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_stripe_event, a_tenant, event_row, job_row
from tests.drain import drain
from tests.web.api.test_api import Api, a_key
from workers.app import App
from workers.engine.job import Batch, Context, FailedJob, JobType, Tx, job
from workers.engine.outcomes import rescue
from workers.ops.events import replay
from workers.runtime import work
from workers.runtime.work import Work, working

AT_ONCE = Backoff(timedelta(0))


@job("testing.child", system=True)
def child(ctx: Context, name: str) -> None:
    with ctx.finish():
        pass


def children(app: App) -> dict[str, str | None]:
    """The cause of each child, by its name."""
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT payload->>'name', cause FROM job_queue WHERE job_type = 'testing.child'"
        return dict(tx.driver.execute(query).fetchall())


def with_types(app: App, *types: JobType[Any]) -> App:
    return replace(app, job_types={each.name: each for each in (child, *types)})


def enqueue(app: App, job_type: JobType[[]]) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return job_type.enqueue(tx)


def test_what_an_attempt_enqueues_names_the_job_however_it_is_enqueued(app: App) -> None:
    @job("testing.parent", system=True)
    def parent(ctx: Context) -> None:
        with ctx.begin() as tx:
            child.enqueue(tx, name="alone")
        with ctx.finish() as tx:
            child.enqueue_many(tx, [{"name": f"many {n}"} for n in range(600)])
            child.with_options(delay=timedelta(hours=1)).enqueue(tx, name="later")
            child.with_options(unique_key="k").enqueue(tx, name="with a key")
            child.with_options(unique_key="k").enqueue(tx, name="its twin")

    app = with_types(app, parent)
    job_id = enqueue(app, parent)
    drain(app)
    found = children(app)
    assert len(found) == 603
    assert set(found.values()) == {f"job:{job_id}"}
    assert job_row(app, job_id)["cause"] is None, "nobody is said to have enqueued it"


def test_a_pipelined_transaction_says_so_too(app: App) -> None:
    ids = [uuid4() for _ in range(3)]
    with working(Work("person:ada", None)), app.db.transaction(SYSTEM, pipelined=True) as tx:
        tx.enqueue(NewJob(ids[0], "t", "default"))
        tx.enqueue(NewJob(ids[1], "t", "default", delay=timedelta(hours=1)))
        tx.enqueue(NewJob(ids[2], "t", "default", origin=Origin("person:bob", "x")))
    rows = [job_row(app, job_id) for job_id in ids]
    assert [row["cause"] for row in rows] == ["person:ada", "person:ada", "person:bob"]
    assert [row["traceparent"] for row in rows] == [None, None, "x"]


def test_jobs_enqueued_at_once_can_each_have_their_own_origin(app: App) -> None:
    origins = [Origin(f"person:p{n % 3}", f"t{n}") if n % 2 else None for n in range(700)]
    jobs = [NewJob(uuid4(), "t", "default", origin=origin) for origin in origins]
    with working(Work("person:ada", "t")), app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many(jobs)
        found = {row[0]: row[1:] for row in tx.driver.execute("SELECT id, cause, traceparent FROM job_queue")}
    assert found == {each.id: tuple(each.origin or ("person:ada", "t")) for each in jobs}


def test_an_on_failure_enqueues_in_the_name_of_its_job_whoever_runs_it(app: App) -> None:
    def again(tx: Tx, failed: FailedJob) -> None:
        child.enqueue(tx, name=failed.reason[:10])

    @job("testing.failing", system=True, max_attempts=1, on_failure=again)
    def failing(ctx: Context) -> None:
        raise Rejected("by itself")

    app = with_types(app, failing)
    by_itself, lost = enqueue(app, failing), enqueue(app, failing)
    assert app.runner().claim([lost], quarantined=False)[0]
    drain(app)
    with working(Work("person:somebody")):
        assert rescue(app.db, app.job_types) == 1
    assert children(app) == {"by itself": f"job:{by_itself}", "its worker": f"job:{lost}"}


def test_a_job_keeps_its_cause_and_trace_through_retry_snooze_rescue_and_archive(app: App) -> None:
    seen: list[tuple[str | None, str | None]] = []

    @job("testing.lasting", system=True, backoff=AT_ONCE)
    def lasting(ctx: Context) -> None:
        seen.append((ctx.job.cause, ctx.job.traceparent))
        if len(seen) == 1:
            raise Unavailable("away", retry_after=timedelta(0))
        if len(seen) == 2:
            ctx.snooze(timedelta(0), "a moment")
        with ctx.finish() as tx:
            tx.now()

    app = with_types(app, lasting)
    origin = Origin(f"job:{uuid4()}", f"00-{'1' * 32}-{'2' * 16}-01")
    job_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(NewJob(job_id, lasting.name, "default", origin=origin))
    assert app.runner().claim([job_id], quarantined=False)[0], "a process that dies"
    assert rescue(app.db, app.job_types) == 1
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL, crashes = 0")
    drain(app)
    assert job_row(app, job_id)["status"] == "completed"
    assert seen == [tuple(origin)] * 3
    with app.db.transaction(SYSTEM) as tx:
        tx.archive.move("completed", NOV_22 - timedelta(days=9000), tx.now() + timedelta(hours=1), 10)
        archived = tx.archive.get(job_id)
    assert archived is not None
    assert archived["cause"] == origin.cause


def test_a_batch_enqueues_in_the_name_of_the_right_one_of_its_jobs(app: App) -> None:
    def together(batch: Batch) -> None:
        for each in batch.jobs:
            each.report(seen=True)
        child.enqueue_many(batch.tx, [{"name": each.arguments["name"]} for each in batch.jobs], by=batch.jobs)
        child.enqueue(batch.tx, name="of nobody")

    @job("testing.together", system=True, many=together, queue="events")
    def one(ctx: Context, name: str) -> None:
        with ctx.finish():
            pass

    app = with_types(app, one)
    names = [f"n{n}" for n in range(50)]
    with app.db.transaction(SYSTEM) as tx:
        ids = one.enqueue_many(tx, [{"name": name} for name in names])
    drain(app, together=50)
    expected = {name: f"job:{job_id}" for name, job_id in zip(names, ids, strict=True)}
    assert children(app) == expected | {"of nobody": None}


def test_the_job_of_a_webhook_names_its_event_and_a_replay_too(app: App) -> None:
    job_id = a_stripe_event(app, stripe_event("product.updated", {"id": "prod_1", "object": "product"}, at=NOV_22))
    event = event_row(app, job_id)
    assert job_row(app, job_id)["cause"] == f"event:{event['id']}"
    drain(app)
    [again] = replay(app, [str(event["id"])], limit=1)
    assert again.job_id != job_id
    assert job_row(app, again.job_id)["cause"] == f"event:{event['id']}"
    assert event_row(app, again.job_id)["id"] == event["id"], "the event names the job that applies it now"


def test_an_api_caller_is_named_by_key_in_whichever_thread(app: App) -> None:
    tenants = [a_tenant(app) for _ in range(8)]
    keys = [a_key(app, tenant, "generations:write", "generations:read") for tenant in tenants]
    api = Api(app)
    bodies = [{"count": 1, "generator": "local-grammar/v1"} for _ in tenants]

    def ask(n: int) -> UUID:
        answer = api("POST", "/generate", keys[n], json=bodies[n])
        assert answer.status_code == 202, answer.text
        return UUID(answer.json()["id"])

    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(ask, range(8)))
    with app.db.transaction(SYSTEM) as tx:
        ids = dict(tx.driver.execute("SELECT tenant_id, id FROM api_keys").fetchall())
    assert [job_row(app, each)["cause"] for each in jobs] == [f"api:{ids[tenant]}" for tenant in tenants]


def test_a_run_of_a_schedule_is_named_with_its_time(app: App) -> None:
    schedule = next(each for each in SCHEDULES if each.name == "quota.reset_due")
    for hour in (0, 1):
        Calendar(app.db, (schedule,), clock=lambda hour=hour: NOV_22 + timedelta(hours=hour)).fire()
    with app.db.transaction(SYSTEM) as tx:
        [(cause, fire_at)] = tx.driver.execute(
            "SELECT j.cause, f.fire_at FROM schedule_fires f JOIN job_queue j ON j.id = f.job_id"
        ).fetchall()
    assert cause == f"schedule:quota.reset_due@{fire_at.isoformat()}"


def test_what_another_program_inserts_has_none(app: App) -> None:
    with psycopg.connect(app.settings.owner_url) as other:
        [(cause,)] = other.execute("INSERT INTO job_queue (job_type) VALUES ('x') RETURNING cause").fetchall()
    assert cause is None


def test_a_block_of_work_ends_with_its_block(app: App) -> None:
    def broken() -> None:
        with working(Work("person:ada")):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        broken()
    assert work.current.get() is work.NO_WORK
