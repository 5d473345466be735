"""One run over a scenario of Clerk: its events in one order, one after the other or by two workers at once."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from simulators.clerk.scenarios import scenarios
from simulators.personas import Body, Persona
from tests.builders import NOV_22, a_clerk_event, job_row
from tests.converge.runs import Order, compare, expect
from tests.drain import drain
from workers.app import App

WHO = Persona(UUID(int=7), "cus_1", "sub_1", "user_ada", "ada@example.com", organization_id="org_acme")
SCENARIOS = scenarios(WHO, NOV_22)

AT_ONCE = 4
"""Jobs that a worker takes at once."""

State = Mapping[str, Sequence[Mapping[str, Any]]]

USERS = """
SELECT to_jsonb(u) - '{id,tenant_id,created_at,updated_at}'::text[]
       || jsonb_build_object('works for', CASE WHEN u.deleted_at IS NULL THEN a.clerk_id END)
FROM users u LEFT JOIN account_tenants a ON a.home_id = u.tenant_id
"""
TENANTS = """
SELECT to_jsonb(t) - '{id,updated_at}'::text[] || jsonb_build_object('of', a.clerk_id)
FROM account_tenants a JOIN tenants t ON t.id = a.home_id
WHERE NOT EXISTS (SELECT FROM users WHERE clerk_id = a.clerk_id AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM organizations WHERE clerk_id = a.clerk_id AND deleted_at IS NOT NULL)
"""
WRITTEN = {
    "users": USERS,
    "tenants": TENANTS,
    "organizations": "SELECT to_jsonb(o) - 'updated_at' FROM organizations o",
    "memberships": "SELECT to_jsonb(m) - 'updated_at' FROM organization_memberships m",
    "waiting": "SELECT DISTINCT to_jsonb(e.type || ' ' || e.status) FROM webhook_events e WHERE status LIKE 'parked%'",
}
"""Everything that the events decide. An account whose end came first never had a tenant: those of ended ones are
left out."""


def begin(app: App) -> None:
    tables = "webhook_events, job_queue, organizations, organization_memberships, account_tenants, users, tenants"
    with app.db.transaction(SYSTEM) as tx:
        for table in tables.split(", "):
            tx.driver.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]


def state(app: App) -> State:
    with app.db.transaction(SYSTEM) as tx:
        found = {name: [row for (row,) in tx.driver.execute(query).fetchall()] for name, query in WRITTEN.items()}  # type: ignore[call-overload]
    return {name: sorted(rows, key=str) for name, rows in found.items()}


def deliver(app: App, events: Sequence[Body], order: Sequence[int], *, at_once: bool = False) -> State:
    """In this order; every third time the message has an id of its own, as when Clerk sends an event anew."""
    app = replace(app, clock=lambda: NOV_22)
    begin(app)
    jobs = []
    with app.db.connect(autocommit=True) as connection:
        for n, index in enumerate(order):
            message_id = f"msg_{index}" if n % 3 else f"msg_{index}_again_{n}"
            jobs.append(a_clerk_event(app, events[index], message_id, connection))
            if not at_once:
                drain(app)
    if at_once:
        run_at_once(app, list(dict.fromkeys(jobs)))
    rows = [job_row(app, job_id) for job_id in jobs]
    attempts = {(row["status"], row["attempts"], row["error_message"]) for row in rows}
    expect(attempts == {("completed", 1, None)}, f"jobs ended as {attempts}")
    return state(app)


def run_at_once(app: App, jobs: Sequence[UUID]) -> None:
    """Two workers, each of which knows of all the jobs, and takes a few of them together."""
    start = threading.Barrier(2)

    def work(order: Sequence[UUID]) -> None:
        # However busy the machine is, no job takes its time: what is put back is read by nobody here.
        runner = app.runner(batch_size=AT_ONCE, stopwatch=lambda: 0.0)
        start.wait()
        for first in range(0, len(order), AT_ONCE):
            runner.run("events", [str(job_id) for job_id in order[first : first + AT_ONCE]])

    threads = [threading.Thread(target=work, args=(order,)) for order in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def arranged(count: int, order: Order, rng: Random) -> list[int]:
    """Indexes of events in this order; `doubled` is shuffled too."""
    indexes = list(range(count)) * (2 if order == "doubled" else 1)
    if order == "reversed":
        indexes.reverse()
    if order in ("shuffled", "doubled"):
        rng.shuffle(indexes)
    return indexes


def run(app: App, name: str, order: Order, rng: Random, expected: dict[Any, State]) -> None:
    """One scenario, or some of its events, in one order, by one worker and by two.

    Raises:
        Diverged: says what differs, or what does not hold.
    """
    chosen = tuple(index for index in range(len(SCENARIOS[name])) if rng.random() < 0.8)
    if not chosen or rng.random() < 0.5:
        chosen = tuple(range(len(SCENARIOS[name])))
    events = [SCENARIOS[name][index] for index in chosen]
    if (name, chosen) not in expected:
        expected[name, chosen] = deliver(app, events, range(len(events)))
        whole = len(events) == len(SCENARIOS[name])
        expect(not whole or not expected[name, chosen]["waiting"], "somebody is waited for who does not come")
    arrangement = arranged(len(events), order, rng)
    for at_once in (False, True):
        compare(
            expected[name, chosen],
            deliver(app, events, arrangement, at_once=at_once),
            [events[index] for index in arrangement],
        )
