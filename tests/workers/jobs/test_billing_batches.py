"""Events that are applied together leave what they leave one by one: mirror, plans, ledger and outcomes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from tempfile import TemporaryFile
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from simulators.kinds import KINDS
from simulators.personas import Body, random_persona
from tests.builders import NOV_22, a_stripe_event, a_tenant, job_row, tenant
from tests.converge.runs import WHO, arranged, begin, check, compare, events_of, links, state, unnamed
from tests.drain import drain
from tests.seeds import seeded
from workers.app import App

PURCHASE = ("checkout.session.completed", "customer.subscription.updated", "invoice.paid")

MOST_STATEMENTS = 21
"""One that loads and one that saves for each table; besides, the claim, the locks, the completion, BEGIN and COMMIT."""


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    return seeded(request.node.name)


def jobs_of(app: App, events: Sequence[Body]) -> list[UUID]:
    with app.db.connect(autocommit=True) as connection:
        return list(dict.fromkeys(a_stripe_event(app, body, connection) for body in events))


def run_together(app: App, jobs: Sequence[UUID]) -> None:
    app.runner(batch_size=len(jobs)).run("events", [str(job_id) for job_id in jobs])


def run_one_by_one(app: App, jobs: Sequence[UUID]) -> None:
    runner = app.runner()
    for job_id in jobs:
        runner.run_one(job_id)


def everything(app: App, jobs: Sequence[UUID]) -> dict[str, Any]:
    drain(app)
    with app.db.transaction(SYSTEM) as tx:
        entries = tx.driver.execute("SELECT to_jsonb(l) - '{id,at,taken_at}'::text[] FROM quota_ledger l ORDER BY id")
        ledger = [row for (row,) in entries.fetchall()]
        outcomes = [
            {name: row[name] for name in ("external_id", "status", "flag", "detail")} for row in tx.events.recent()
        ]
    ended = [{name: job_row(app, job_id)[name] for name in ("status", "attempts")} for job_id in jobs]
    return {**state(app), "ledger": ledger, "events": outcomes, "jobs": ended}


def test_any_batches_leave_what_single_events_leave(app: App, rng: Random) -> None:
    events = arranged(events_of("changes_mid_period", "basil"), "doubled", rng)
    begin(app)
    jobs = jobs_of(app, events)
    run_one_by_one(app, jobs)
    expected = everything(app, jobs)
    assert {(each["status"], each["attempts"]) for each in expected["jobs"]} == {("completed", 1)}
    for size in (len(events), rng.randint(2, 5)):
        begin(app)
        jobs = jobs_of(app, events)
        for start in range(0, len(jobs), size):
            run_together(app, jobs[start : start + size])
        compare(expected, everything(app, jobs), events)


def test_what_waits_in_a_batch_for_another_of_its_events_is_applied_in_it(app: App, rng: Random) -> None:
    """Only the checkout says whose the customer is, and the second waits until the first is deleted."""
    found = [each if links(each) else unnamed(each) for each in events_of("customer_deleted", "basil")]
    events = arranged(found, "shuffled", rng)
    begin(app)
    jobs = jobs_of(app, events)
    run_one_by_one(app, jobs)
    expected = everything(app, jobs)
    begin(app)
    jobs = jobs_of(app, events)
    run_together(app, jobs)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.events.recent(status="parked") == []
        assert tx.jobs.due_now(limit=10) == []
    compare(expected, everything(app, jobs), events)


def test_of_a_batch_only_what_cannot_be_read_fails(app: App) -> None:
    ada = a_tenant(app, id=WHO.tenant_id)
    events = events_of("a_checkout", "basil")
    broken = {**events[0], "id": "evt_broken", "data": {"object": {"object": "subscription", "id": 7}}}
    jobs = jobs_of(app, [events[0], broken | {"type": "customer.subscription.updated"}, *events[1:]])
    run_together(app, jobs)
    assert [job_row(app, job_id)["status"] for job_id in jobs] == [
        "completed",
        "failed",
        *["completed"] * (len(jobs) - 2),
    ]
    assert tenant(app, ada)["subscription_tier"] != "FREE"


def test_batches_of_one_customer_in_many_threads_end_as_single_events(app: App, rng: Random) -> None:
    events = [each if links(each) else unnamed(each) for each in events_of("dunning_and_recovery", "basil")]
    begin(app)
    run_one_by_one(app, jobs_of(app, events))
    drain(app)
    expected = state(app)
    begin(app)
    jobs = jobs_of(app, arranged(events, "doubled", rng))
    threads = [threading.Thread(target=run_together, args=(app, jobs[n::4])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drain(app)
    check(app, jobs)
    compare(expected, state(app), events)


@contextmanager
def counted_statements(app: App) -> Iterator[list[str]]:
    """What Postgres executes in the block, on the connection that the pool hands out first."""
    found: list[str] = []
    with app.db.transaction(SYSTEM) as tx:
        connection = tx.driver.pgconn
    with TemporaryFile("r+") as trace:
        connection.trace(trace.fileno())
        yield found
        connection.untrace()
        trace.seek(0)
        sent = [words[3].split()[0] for words in (line.split("\t") for line in trace) if words[1:2] == ["F"]]
        found += [word for word in sent if word in ("Execute", "Query")]


def test_a_batch_of_many_customers_takes_as_many_statements_as_one_of_few(app: App) -> None:
    def purchases(count: int) -> list[UUID]:
        people = [random_persona(Random(n)) for n in range(count, 2 * count)]
        for who in people:
            a_tenant(app, id=who.tenant_id)
        return jobs_of(app, [KINDS["stripe"][kind].build(who, NOV_22) for who in people for kind in PURCHASE])

    def statements(jobs: Sequence[UUID]) -> int:
        with counted_statements(app) as found:
            run_together(app, jobs)
        assert {job_row(app, job_id)["status"] for job_id in jobs} == {"completed"}
        return len(found)

    few, many = purchases(2), purchases(8)
    assert statements(few) == statements(many) <= MOST_STATEMENTS
