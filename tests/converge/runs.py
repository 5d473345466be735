"""One run over a scenario: its events are delivered in one order, each through storage, job and locks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal
from uuid import UUID

import psycopg

from db.transaction import SYSTEM
from domain.billing.tiers import Tier
from integrations.stripe import webhooks as stripe
from simulators.personas import Body, Persona, Shape
from simulators.stripe.scenarios import SCENARIOS
from tests.builders import a_stripe_event, a_tenant, job_row
from tests.drain import drain
from workers.app import App
from workers.ops.rebuild import rebuild

CREATED = datetime.fromisoformat("2027-01-26T12:00:00+00:00")
START = datetime.fromisoformat("2027-01-31T12:00:00+00:00")
WHO = Persona(UUID(int=7), "cus_1", "sub_1", "user_1", "ada@example.com")
SOLD = {Tier.STARTER: "price_starter", Tier.PRO: "price_pro", Tier.AGENCY: "price_agency"}
USED_BEFORE, TAKEN = 7, 2

Order = Literal["in order", "reversed", "shuffled", "doubled"]
ORDERS: tuple[Order, ...] = ("in order", "reversed", "shuffled", "doubled")
TABLES = {
    "tenants": {"updated_at"},
    "stripe_customers": {"created_at", "updated_at"},
    "stripe_subscriptions": {"updated_at"},
    "stripe_invoices": {"updated_at"},
    "stripe_paid_periods": {"created_at"},
}
"""What the events decide, and the columns that only say when somebody wrote."""

State = Mapping[str, Sequence[Mapping[str, Any]]]


class Diverged(AssertionError):
    """The same events, and another end."""


def events_of(name: str, shape: Shape) -> list[Body]:
    """The events of the scenario, in order."""
    return SCENARIOS[name](replace(WHO, shape=shape), START, SOLD)


def links(body: Body) -> bool:
    """Whether the event tells whose the customer is even if no metadata of a subscription does."""
    return body["data"]["object"]["object"] in ("checkout.session", "customer")


def unnamed(body: Body) -> Body:
    """As the original dashboard has it: only checkout sessions (and customers) name the tenant."""
    if links(body):
        return body
    about = dict(body["data"]["object"])
    about["metadata"] = {}
    about.pop("subscription_details", None)
    if about.get("parent"):
        details = about["parent"]["subscription_details"] | {"metadata": {}}
        about["parent"] = about["parent"] | {"subscription_details": details}
    return {**body, "data": {**body["data"], "object": about}}


def arranged(events: Sequence[Body], order: Order, rng: Random) -> list[Body]:
    """In this order; `doubled` is shuffled too, each event twice: delivered again, or sent as a second object."""
    arranged = list(events)
    if order == "reversed":
        arranged.reverse()
    elif order == "doubled":
        arranged += [body if rng.random() < 0.5 else {**body, "id": f"{body['id']}_twin"} for body in events]
    if order in ("shuffled", "doubled"):
        rng.shuffle(arranged)
    return arranged


def begin(app: App, used: int = USED_BEFORE, created_at: datetime = CREATED) -> None:
    """One tenant on the free plan, some of its month used, and nothing else."""
    tables = (
        "webhook_events",
        "stripe_subscriptions",
        "stripe_invoices",
        "stripe_paid_periods",
        "stripe_customers",
        "job_queue",
    )
    with psycopg.connect(app.settings.direct_url) as owner:
        for table in (*tables, "quota_ledger", "quota_holds", "users", "tenants"):
            owner.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]
    a_tenant(app, id=WHO.tenant_id, created_at=created_at, used_quota=used)


def deliver(app: App, events: Sequence[Body], consume: Callable[[], object] = lambda: None) -> State:
    """One after the other, each applied before the next comes; `consume` runs before each and at the end."""
    begin(app)
    jobs = []
    with app.db.connect(autocommit=True) as connection:
        for body in events:
            consume()
            jobs.append(a_stripe_event(app, body, connection))
            drain(app)
    consume()
    check(app, jobs)
    return state(app)


def check(app: App, jobs: Sequence[UUID]) -> None:
    """What has to hold whatever the order: no job needed a second attempt, nothing waits, the ledger's sum is what is
    used, and the stored events alone give the same mirror and plan."""
    with app.db.transaction(SYSTEM) as tx:
        waiting = tx.events.recent(status="parked") + tx.events.recent(status="received")
        unbalanced = tx.health.violations("what a tenant has used is what the ledger says")
    rows = [job_row(app, job_id) for job_id in jobs]
    attempts = {(row["status"], row["attempts"], row["error_message"]) for row in rows}
    expect(attempts <= {("completed", 1, None)}, f"jobs ended as {attempts}")
    expect(not waiting, f"left behind: {[(row['type'], row['status']) for row in waiting]}")
    expect(unbalanced == 0, "the ledger's sum is not what is used")
    differences = rebuild(app.db, app.ports, cause="test")
    expect(not differences, f"rebuilt from the events it would differ: {differences}")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Diverged(otherwise)


def state(app: App) -> State:
    found = {}
    with app.db.transaction(SYSTEM) as tx:
        for table, columns in TABLES.items():
            rows = tx.driver.execute(f"SELECT to_jsonb(t) FROM {table} t").fetchall()  # type: ignore[call-overload]
            found[table] = sorted(({k: v for k, v in row.items() if k not in columns} for (row,) in rows), key=str)
    return found


class Consumer:
    """A tenant that goes on working while its events come: an hour after the beginning it takes two concepts. Some of
    what had happened by then has been delivered, and the rest comes later: which month they count in must not depend on
    that. (Nothing is delivered before it happened.)"""

    AT = START + timedelta(hours=1)

    def __init__(self, app: App, rng: Random, events: Sequence[Body]) -> None:
        self._app, self._rng = app, rng
        later = [n for n, body in enumerate(events) if body["created"] > self.AT.timestamp()]
        self._moments = [rng.randint(0, min(later, default=len(events))) for _ in range(TAKEN)]
        self._deliveries = 0

    def __call__(self) -> None:
        for _ in range(self._moments.count(self._deliveries)):
            job_id = UUID(int=self._rng.getrandbits(128))
            with self._app.db.transaction(WHO.tenant_id) as tx:
                tx.quota.hold(WHO.tenant_id, job_id, 2, self.AT)
            with self._app.db.transaction(WHO.tenant_id) as tx:
                tx.quota.settle(WHO.tenant_id, job_id, 1)
        self._deliveries += 1


def compare(expected: State, found: State, order: Sequence[Body]) -> None:
    if found != expected:
        differing = {table: (expected[table], found[table]) for table in expected if expected[table] != found[table]}
        raise Diverged(f"{[(body.get('id', '')[-6:], body['type']) for body in order]}: {differing}")


def run(
    app: App,
    name: str,
    shape: Shape,
    order: Order,
    rng: Random,
    expected: dict[Any, State],
    ways: Sequence[bool] = (False, True),
) -> None:
    """One scenario, or its first part, in one order; `ways` are without and with consumption in between.

    Raises:
        Diverged: says what differs, or what does not hold.
    """
    scenario = events_of(name, shape)
    events = scenario[: rng.choice([len(scenario), rng.randint(1, len(scenario))])]

    def delivered(order: Sequence[Body], busy: bool) -> State:
        return deliver(app, order, Consumer(app, rng, order)) if busy else deliver(app, order)

    def case(busy: bool) -> tuple[Any, ...]:
        return (name, shape, len(events), "with consumption") if busy else (name, shape, len(events))

    for busy in ways:
        if case(busy) not in expected:
            expected[case(busy)] = delivered(events, busy)
    customers = {customer_of(body) for body in events}
    found = list(events)
    if customers == {customer_of(body) for body in events if links(body)} and rng.random() < 0.5:
        found = [unnamed(body) for body in events]
    found = arranged(found, order, rng)
    for busy in ways:
        compare(expected[case(busy)], delivered(found, busy), found)


def customer_of(body: Body) -> str:
    envelope = stripe.parse_event(json.dumps(body).encode())
    assert envelope.subject is not None
    return envelope.subject
