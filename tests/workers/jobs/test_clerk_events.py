"""Events of Clerk in batches: the rows are those of the same events one by one."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, ClassVar, Self
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from db.queue.claim import Terms, known_types
from db.transaction import SYSTEM
from simulators.clerk.events import (
    clerk_deleted_user,
    clerk_event,
    clerk_membership,
    clerk_organization,
    clerk_session,
    clerk_user,
)
from simulators.personas import Body, Persona
from tests.builders import NOV_22, a_clerk_event, a_tenant, beside, event_row, job_row
from tests.converge.clerk_runs import begin, state
from workers.app import App
from workers.engine.batch import Batch, BatchJob
from workers.engine.heartbeat import LEASE
from workers.engine.runner import Runner
from workers.jobs.clerk_events import apply_clerk_events
from workers.jobs.identity import apply_clerk_event

ADA, BOB, CAT = (
    Persona(UUID(int=n), f"cus_{n}", f"sub_{n}", f"user_{name}", f"{name}@example.com", organization_id="org_acme")
    for n, name in enumerate(("ada", "bob", "cat"))
)
PEOPLE = (ADA, BOB, CAT)


def at(hour: int) -> datetime:
    return NOV_22 + timedelta(hours=hour)


def user(what: str, who: Persona, hour: int, **person: Any) -> Body:
    body = clerk_user(who, created_at=NOV_22, updated_at=at(hour), **person)
    return clerk_event(f"user.{what}", body, at=at(hour))


def signed_in(who: Persona, hour: int) -> Body:
    return clerk_event("session.created", clerk_session(who, created_at=at(hour)), at=at(hour))


def session_ended(who: Persona, hour: int) -> Body:
    return clerk_event("session.ended", clerk_session(who, created_at=at(hour)), at=at(hour))


def deleted(who: Persona, hour: int) -> Body:
    return clerk_event("user.deleted", clerk_deleted_user(who), at=at(hour))


def member(who: Persona, hour: int) -> Body:
    body = clerk_membership(who, created_at=NOV_22, updated_at=at(hour))
    return clerk_event("organizationMembership.created", body, at=at(hour))


def organization(hour: int) -> Body:
    return clerk_event("organization.created", clerk_organization(ADA, created_at=at(hour)), at=at(hour))


def runner_of(app: App) -> Runner:
    runner = app.runner(batch_size=100)
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, hostname="tests", pid=0, queues=(), version="", lease=LEASE)
    return runner


def store(app: App, bodies: Sequence[Body]) -> list[UUID]:
    """Store the events. Returns the jobs that apply them."""
    with app.db.connect(autocommit=True) as connection:
        return [a_clerk_event(app, body, f"msg_{uuid4()}", connection) for body in bodies]


def together(app: App, batch: Sequence[UUID]) -> None:
    """In one transaction, but for those that are left."""
    with capture_logs() as lines:
        runner_of(app).run("events", [str(job_id) for job_id in batch])
    assert not [line for line in lines if line["event"] in ("batch.halved", "batch.undone", "job.failed")]


def one_by_one(app: App, batch: Sequence[UUID]) -> None:
    """In the order in which a batch is claimed."""
    runner = runner_of(app)
    for job_id in sorted(batch, key=lambda job_id: (job_row(app, job_id)["priority"], batch.index(job_id))):
        runner.run_one(job_id)


COMMON = st.one_of(
    st.builds(user, st.just("updated"), st.sampled_from(PEOPLE), st.integers(0, 9), first_name=st.sampled_from("AB")),
    st.builds(
        lambda who, hour, n: user("updated", replace(who, email=f"{n}.{who.email}"), hour),
        st.sampled_from(PEOPLE), st.integers(0, 9), st.integers(0, 2),
    ),
    st.builds(signed_in, st.sampled_from(PEOPLE), st.integers(0, 9)),
    st.builds(session_ended, st.sampled_from(PEOPLE), st.integers(0, 9)),
)  # fmt: skip
RARE = st.one_of(
    st.builds(deleted, st.sampled_from(PEOPLE), st.integers(5, 9)),
    st.builds(member, st.sampled_from(PEOPLE), st.integers(0, 9)),
    st.builds(organization, st.integers(0, 9)),
)


@pytest.mark.proof
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(
    events=st.tuples(st.lists(COMMON, min_size=2, max_size=10), st.lists(RARE, max_size=2)).flatmap(
        lambda drawn: st.permutations([*drawn[0], *drawn[1]])
    ),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
def test_in_any_order_and_any_batches_the_rows_are_those_of_the_events_one_by_one(
    events: list[Body], sizes: list[int], app: App
) -> None:
    app = replace(app, clock=lambda: NOV_22)
    common = all(body["type"].startswith(("user.updated", "session.")) for body in events)
    found = []
    for handle in (one_by_one, together):
        begin(app)
        jobs = store(app, events)
        left = list(jobs)
        for size in [*sizes, len(jobs)]:
            batch, left = left[:size], left[size:]
            if batch:
                handle(app, batch)
        rows = [job_row(app, job_id) for job_id in jobs]
        assert {(row["status"], row["attempts"], row["error_message"]) for row in rows} == {("completed", 1, None)}
        outcomes = [(event_row(app, row["id"])["status"], row["result"]) for row in rows]
        found.append((state(app), outcomes if common else None))
    assert found[1] == found[0]


class Counted(psycopg.Cursor[Any]):
    statements: ClassVar[list[str]] = []

    def execute(self, query: Any, *args: Any, **options: Any) -> Self:
        self.statements.append(str(query))
        return super().execute(query, *args, **options)


def people_of(count: int) -> list[Persona]:
    return [replace(ADA, user_id=f"user_{n}", email=f"{n}@example.com") for n in range(count)]


@pytest.mark.parametrize("count", [2, 20])
def test_however_many_the_events_are_they_take_as_many_statements(app: App, count: int) -> None:
    people = people_of(count)
    together(app, store(app, [user("created", who, 0) for who in people]))
    jobs = store(app, [signed_in(who, hour) for hour in (1, 2) for who in people])
    own = beside(app)
    with own.db.transaction(SYSTEM) as tx:
        arguments = [{"event_id": UUID(job_row(app, job_id)["payload"]["event_id"])} for job_id in jobs]
        claimed = tx.claims.claim(jobs, uuid4(), known_types({apply_clerk_event.name: Terms()}))
        batch = [BatchJob(job, values, app.tracing) for job, values in zip(claimed, arguments, strict=True)]
        Counted.statements.clear()
        tx.driver.cursor_factory = Counted
        apply_clerk_events(Batch(tx, batch, ports=app.ports, clock=None))
        assert len(Counted.statements) == 6, Counted.statements
    own.db.close()
    assert {event_row(app, job_id)["status"] for job_id in jobs} == {"applied"}


def test_people_who_need_more_than_their_row_are_handled_alone(app: App) -> None:
    """One who is deleted, one of whom another program knows, one whom a membership waits for."""
    together(app, store(app, [user("created", ADA, 0), organization(0)]))
    together(app, store(app, [deleted(ADA, 1), member(CAT, 1)]))
    theirs = a_tenant(app, name="A team")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO users (clerk_id, tenant_id) VALUES ('user_bob', %s)", (theirs,))
    bodies = [signed_in(ADA, 2), session_ended(ADA, 2), user("created", BOB, 2), user("created", CAT, 2)]
    jobs = store(app, bodies)
    together(app, jobs)
    assert [event_row(app, job_id)["status"] for job_id in jobs] == ["stale", "ignored:type", "applied", "applied"]
    with app.db.transaction(SYSTEM) as tx:
        kept = tx.driver.execute("SELECT count(body) FROM webhook_events WHERE subject = 'user_ada'").fetchone()
        assert kept == (0,)
        assert tx.identity.active_membership("user_bob").tenant_id == theirs
        assert tx.identity.active_membership("user_cat").tenant_id == tx.identity.own_tenant("org_acme")


def test_a_login_moves_whoever_does_not_use_their_own_tenant_any_more(app: App) -> None:
    """As it does when it comes alone."""

    def works_in(who: Persona) -> UUID | None:
        with app.db.transaction(SYSTEM) as tx:
            return tx.identity.active_membership(who.user_id).tenant_id

    together(app, store(app, [user("created", ADA, 0), user("created", BOB, 0), organization(0)]))
    own, others = works_in(ADA), works_in(BOB)
    with app.db.transaction(SYSTEM) as tx:
        acme = tx.identity.own_tenant("org_acme")
        tx.driver.execute("UPDATE tenants SET subscription_tier = 'PRO' WHERE id = %s", (own,))
    together(app, store(app, [member(ADA, 1)]))
    together(app, store(app, [signed_in(ADA, 2), signed_in(BOB, 2)]))
    assert (works_in(ADA), works_in(BOB)) == (own, others)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET subscription_tier = 'FREE' WHERE id = %s", (own,))
    together(app, store(app, [signed_in(ADA, 3), signed_in(BOB, 3)]))
    assert (works_in(ADA), works_in(BOB)) == (acme, others)


def at_once(*acts: Callable[[App], object], app: App) -> None:
    """Each in a thread, with connections that are closed afterwards: then Postgres has counted the deadlocks."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[App], object]) -> None:
        own = beside(app)
        try:
            start.wait()
            act(own)
        finally:
            own.db.close()

    with ThreadPoolExecutor(len(acts)) as threads:
        list(threads.map(run, acts))
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert tx.driver.execute(query).fetchone() == (0,)


def test_whoever_locks_many_people_locks_them_in_one_order(app: App) -> None:
    def lock(seed: int) -> Callable[[App], object]:
        def act(own: App) -> None:
            rng, names = Random(seed), [f"user_{n}" for n in range(1000)]
            for _ in range(40):
                with own.db.transaction(SYSTEM) as tx:
                    tx.clerk_accounts.lock(rng.sample(names, len(names)))

        return act

    at_once(lock(1), lock(2), app=app)


@pytest.mark.proof
def test_workers_with_the_same_people_never_deadlock(app: App) -> None:
    """Each has the people in an order of its own, and each event renames a tenant."""
    people, rng = people_of(40), Random(18)
    together(app, store(app, [user("created", who, 0) for who in people]))
    batches = []
    for number in range(6):
        renamed = [replace(who, email=f"{number}.{who.email}") for who in rng.sample(people, len(people))]
        batches.append(store(app, [user("updated", who, 1 + number) for who in renamed]))

    def work(mine: Sequence[Sequence[UUID]]) -> Callable[[App], object]:
        return lambda own: [runner_of(own).run("events", [str(job_id) for job_id in batch]) for batch in mine]

    at_once(work(batches[::2]), work(batches[1::2]), app=app)
    with app.db.transaction(SYSTEM) as tx:
        names = {name for (name,) in tx.driver.execute("SELECT name FROM tenants")}
    assert names == {f"5.{who.email}" for who in people}
