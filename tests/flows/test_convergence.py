"""However events are delivered, the database ends the same: permuted, told twice, and applied by two at once.

The rules alone are held to this by tests/domain/billing/test_plan.py, whole lives one event after the other by
test_lives.py; here it is two workers at once, and people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.transaction import SYSTEM
from domain.billing.tiers import Tier
from domain.quota.quota import add_months
from simulators.personas import Body, Persona, Shape
from simulators.stripe.scenarios import lifecycle
from tests.builders import NOV_22, a_stripe_event, a_tenant, job_row
from tests.converge.clerk_runs import run_at_once
from tests.drain import drain
from tests.seeds import seeded
from workers.app import App

WHO = Persona(UUID(int=7), "cus_1", "sub_1", "user_1", "ada@example.com")
START = add_months(NOV_22, 1)
SOLD = {Tier.STARTER: "price_starter", Tier.PRO: "price_pro"}
SHAPES: list[Shape] = ["acacia", "basil", "hybrid"]

State = Mapping[str, Sequence[Mapping[str, Any]]]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    return seeded(request.node.name)


def scenario(shape: Shape) -> list[Body]:
    return lifecycle(replace(WHO, shape=shape), START, SOLD)


def delivered_badly(events: Sequence[Body], rng: Random) -> list[Body]:
    """In any order; some delivered twice, some told by two event objects."""
    again = rng.choices(events, k=2)
    twins = [{**body, "id": f"evt_twin{n}"} for n, body in enumerate(rng.choices(events, k=2))]
    deliveries = [*events, *again, *twins]
    rng.shuffle(deliveries)
    return deliveries


def unnamed(body: Body) -> Body:
    """As the original dashboard has it: the tenant stands on the checkout session alone."""
    about = dict(body["data"]["object"])
    if about["object"] == "checkout.session":
        return body
    about["metadata"] = {}
    about.pop("subscription_details", None)
    if "parent" in about:
        details = about["parent"]["subscription_details"] | {"metadata": {}}
        about["parent"] = about["parent"] | {"subscription_details": details}
    return {**body, "data": {**body["data"], "object": about}}


def begin(app: App) -> None:
    """One tenant on the free plan, 7 of 10 used, and nothing else."""
    tables = (
        "webhook_events",
        "stripe_subscriptions",
        "stripe_invoices",
        "stripe_paid_periods",
        "stripe_customers",
        "job_queue",
    )
    with psycopg.connect(app.settings.direct_url) as owner:
        for table in (*tables, "quota_ledger", "users", "tenants"):
            owner.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]
    a_tenant(app, id=WHO.tenant_id, used_quota=7)


def state(app: App) -> State:
    """Everything that the events decide, without the times of writing."""
    written = {
        "tenants": {"updated_at"},
        "stripe_subscriptions": {"updated_at"},
        "stripe_invoices": {"updated_at"},
        "stripe_paid_periods": {"created_at"},
    }
    found = {}
    with app.db.transaction(SYSTEM) as tx:
        for table, columns in written.items():
            rows = tx.driver.execute(f"SELECT to_jsonb(t) FROM {table} t").fetchall()  # type: ignore[call-overload]
            found[table] = sorted(({k: v for k, v in row.items() if k not in columns} for (row,) in rows), key=str)
    return found


def deliver(app: App, events: Sequence[Body]) -> State:
    """One after the other, each applied before the next comes."""
    begin(app)
    jobs = []
    for body in events:
        jobs.append(a_stripe_event(app, body))
        drain(app)
    assert_applied_at_the_first_attempt(app, jobs)
    return state(app)


def assert_applied_at_the_first_attempt(app: App, jobs: Sequence[UUID]) -> None:
    rows = [job_row(app, job_id) for job_id in jobs]
    assert {(row["status"], row["attempts"], row["error_message"]) for row in rows} == {("completed", 1, None)}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_ends_the_same_when_two_workers_apply_it_at_once(app: App, shape: Shape, rng: Random) -> None:
    events = scenario(shape)
    expected = deliver(app, events)
    for _ in range(4):
        begin(app)
        deliveries = delivered_badly(events, rng)
        jobs = list(dict.fromkeys(a_stripe_event(app, unnamed(body)) for body in deliveries))
        run_at_once(app, jobs)
        assert_applied_at_the_first_attempt(app, jobs)
        assert state(app) == expected, [body["type"] for body in deliveries]
