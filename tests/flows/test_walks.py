"""Walks through the whole house, each of them a scenario: in by an endpoint or the clock, out as rows."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from db.queue.notifications import Notifications
from db.transaction import SYSTEM
from domain.billing.tiers import Tier
from domain.quota.quota import add_months
from integrations.clerk import webhooks as clerk
from integrations.stripe import webhooks as stripe
from scheduler.schedule import SCHEDULES, Calendar
from simulators.clerk.events import clerk_event, clerk_user
from simulators.personas import Body, Persona
from simulators.stripe.events import checkout_session, invoice, stripe_event, subscription
from simulators.stripe.scenarios import lifecycle
from tests.builders import NOV_22, a_tenant, tenant
from tests.drain import drain
from tests.wait import until
from web.api.app import create_api
from web.main import WebDeps, create_app
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime.ids import Ids

ADA = Persona(UUID(int=7), "cus_1", "sub_1", "user_ada", "ada@example.com")
HOUR = timedelta(hours=1)


class House:
    """The system at a time of its own: endpoints, clock and workers, without a network and without waiting."""

    def __init__(self, app: App) -> None:
        self.now = NOV_22
        self.notified: list[Notifications] = []
        self.app = replace(app, clock=lambda: self.now)
        self._calendar = Calendar(app.db, SCHEDULES, clock=self.app.clock)
        self._calendar.fire()
        stripe_secrets = app.settings.reveal(app.settings.stripe_webhook_secret)
        clerk_secrets = app.settings.reveal(app.settings.clerk_webhook_signing_secret)
        self._secrets = {"stripe": stripe_secrets[0], "clerk": clerk_secrets[0]}
        deps = WebDeps(
            stripe_secrets=stripe_secrets,
            clerk_secrets=clerk_secrets,
            connect=app.db.connect,
            notify=self.notified.append,
            redis_ping=app.notifier.probe,
            clock=lambda: self.now.timestamp(),
            make_id=Ids(),
            stripe_job=apply_stripe_event,
            clerk_job=apply_clerk_event,
            api=create_api(app, sessions=None, clock=lambda: self.now.timestamp()),
        )
        self._web = create_app(deps)
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self._web), base_url="http://house")
        self._loop = asyncio.Runner()

    def __enter__(self) -> "House":
        self._open = AsyncExitStack()
        self._loop.run(self._open.enter_async_context(self._web.rest.router.lifespan_context(self._web.rest)))
        return self

    def __exit__(self, *reason: object) -> None:
        self._loop.run(self._open.aclose())
        self._loop.close()

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self._loop.run(self._client.post(path, content=body, headers=headers))

    def at(self, now: datetime) -> "House":
        """It is later now; the scheduler has noticed, and what it started is done."""
        self.now = now
        self._calendar.fire()
        drain(self.app)
        return self

    def stripe_says(self, *bodies: Body) -> None:
        """Sent when they say that they happened; each is applied before the next comes."""
        for event in bodies:
            self.now = max(self.now, datetime.fromtimestamp(event["created"], NOV_22.tzinfo))
            body = json.dumps(event).encode()
            signature = stripe.sign(body, self._secrets["stripe"], int(self.now.timestamp()))
            self._deliver("/webhooks/stripe", body, {"Stripe-Signature": signature})

    def clerk_says(self, event: Body, message_id: str) -> None:
        body, time = json.dumps(event).encode(), int(self.now.timestamp())
        signature = clerk.sign(body, self._secrets["clerk"], message_id, time)
        headers = {"svix-id": message_id, "svix-timestamp": str(time), "svix-signature": signature}
        self._deliver("/webhooks/clerk", body, headers)

    def _deliver(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        answer = self.post(path, body, headers)
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        drain(self.app)

    def consumes(self, tenant_id: UUID, count: int) -> None:
        with self.app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, uuid4(), count, self.now)

    def jobs(self) -> dict[str, int]:
        """How many jobs there are of each type and state."""
        with self.app.db.transaction(SYSTEM) as tx:
            return dict(
                tx.driver.execute("SELECT job_type || ' ' || status, count(*) FROM job_queue GROUP BY 1").fetchall()
            )

    def runs_of(self, schedule: str) -> list[datetime]:
        """The fires that this schedule has made."""
        with self.app.db.transaction(SYSTEM) as tx:
            query = "SELECT fire_at FROM schedule_fires WHERE schedule = %s AND job_id IS NOT NULL ORDER BY 1"
            return [row[0] for row in tx.driver.execute(query, (schedule,))]

    def plan(self, tenant_id: UUID) -> tuple[str, str, int, int]:
        """Tier, Stripe's status, used, limit."""
        row = tenant(self.app, tenant_id)
        return row["subscription_tier"], row["subscription_status"], row["used_quota"], row["monthly_quota"]

    def period(self, tenant_id: UUID) -> tuple[datetime, datetime]:
        row = tenant(self.app, tenant_id)
        return row["quota_period_start"], row["quota_reset_at"]


@pytest.fixture
def house(app: App) -> Iterator[House]:
    with House(app) as house:
        yield house


def test_an_event_of_stripe_is_stored_notified_for_and_becomes_the_tenants_plan(house: House) -> None:
    """One hop after the other; in the other walks `drain` stands for notification and worker."""
    ada = a_tenant(house.app, id=ADA.tenant_id, used_quota=7)
    body = json.dumps(stripe_event("customer.subscription.updated", _running(NOV_22), at=NOV_22)).encode()
    signature = stripe.sign(body, "whsec_stripe", int(NOV_22.timestamp()))
    for _ in range(2):
        answer = house.post("/webhooks/stripe", body, {"Stripe-Signature": signature})
        assert answer.json() == {"received": True}
    assert house.plan(ada) == ("FREE", "none", 7, 10)
    until(lambda: house.notified, "the notification")
    [(queue, job_ids)] = house.notified[0].items()
    house.app.runner().run(queue, [str(job_id) for job_id in job_ids])
    assert house.plan(ada) == ("PRO", "active", 7, 50)
    assert house.jobs() == {"billing.apply_stripe_event completed": 1}


def test_a_forged_event_changes_nothing(house: House) -> None:
    ada = a_tenant(house.app, id=ADA.tenant_id)
    body = json.dumps(stripe_event("customer.subscription.updated", _running(NOV_22), at=NOV_22)).encode()
    signature = stripe.sign(body, "whsec_of_somebody_else", int(NOV_22.timestamp()))
    answer = house.post("/webhooks/stripe", body, {"Stripe-Signature": signature})
    assert (answer.status_code, answer.json()["code"]) == (400, "SIGNATURE_INVALID")
    drain(house.app)
    assert (house.plan(ada)[0], house.jobs()) == ("FREE", {})


def test_the_hourly_fire_begins_a_new_month_once(house: House) -> None:
    ada = a_tenant(house.app, used_quota=9)
    reset_at = add_months(NOV_22, 1)
    house.at(reset_at - HOUR)
    assert house.plan(ada)[2] == 9
    for minutes in (0, 1, 59):
        house.at(reset_at + timedelta(minutes=minutes))
    assert (house.plan(ada)[2], house.period(ada)) == (0, (reset_at, add_months(NOV_22, 2)))
    assert house.runs_of("quota.reset_due") == [reset_at - HOUR, reset_at]


def test_a_scheduler_that_slept_for_three_months_lands_everybody_on_the_right_date_once(house: House) -> None:
    ada, bob = a_tenant(house.app, used_quota=9), a_tenant(house.app, created_at=NOV_22 + 9 * HOUR, used_quota=3)
    late = add_months(NOV_22, 3) + timedelta(days=2)
    house.at(late)
    assert house.runs_of("quota.reset_due") == [late]
    for tenant_id, anchor in ((ada, NOV_22), (bob, NOV_22 + 9 * HOUR)):
        assert house.plan(tenant_id)[2] == 0
        assert house.period(tenant_id) == (add_months(anchor, 3), add_months(anchor, 4))
        with house.app.db.transaction(SYSTEM) as tx:
            assert [entry["kind"] for entry in tx.quota.ledger(tenant_id)] == ["reset", "adjust"]


def test_the_life_of_a_customer_from_signing_up_to_leaving(house: House) -> None:
    house.clerk_says(clerk_event("user.created", clerk_user(ADA, created_at=NOV_22), at=NOV_22), "msg_1")
    with house.app.db.transaction(SYSTEM) as tx:
        [row] = tx.tenants.recent()
    ada: UUID = row["id"]
    assert (row["name"], house.plan(ada)) == ("ada@example.com", ("FREE", "none", 0, 10))
    house.consumes(ada, 10)

    start = NOV_22 + timedelta(days=3)
    who = replace(ADA, tenant_id=ada)
    scenario = lifecycle(who, start, {Tier.STARTER: "price_starter", Tier.PRO: "price_pro"})
    bought, renewed, billed, upgraded = scenario[:4], scenario[4:5], scenario[5:6], scenario[6:8]
    house.stripe_says(*bought)
    assert house.plan(ada) == ("STARTER", "active", 0, 10)
    house.consumes(ada, 10)

    # At the renewal neither the hour nor the new period gives anything: only its invoice does, an hour later.
    renewal = add_months(start, 1)
    house.stripe_says(*renewed)
    house.at(renewal + HOUR / 2)
    assert house.plan(ada) == ("STARTER", "active", 10, 10)
    house.stripe_says(*billed)
    assert (house.plan(ada), house.period(ada)) == (("STARTER", "active", 0, 10), (renewal, add_months(start, 2)))
    house.consumes(ada, 8)

    house.stripe_says(*upgraded)
    assert house.plan(ada) == ("PRO", "active", 8, 50)

    house.stripe_says(*scenario[8:])
    assert house.plan(ada) == ("FREE", "canceled", 8, 10)
    house.at(add_months(start, 3) - HOUR)
    assert house.plan(ada) == ("FREE", "canceled", 8, 10)
    house.at(add_months(start, 3))
    assert (house.plan(ada), house.period(ada)[0]) == (("FREE", "canceled", 0, 10), add_months(start, 3))
    assert [state for state in house.jobs() if not state.endswith("completed")] == []


def test_a_yearly_plan_is_paid_once_and_renewed_every_month(house: House) -> None:
    ada = a_tenant(house.app, id=ADA.tenant_id, used_quota=7)
    who = replace(ADA, price_id="price_pro_yearly", unit_amount=149_000)
    year = (NOV_22, add_months(NOV_22, 12))
    bill = invoice(who, year, at=NOV_22, billing_reason="subscription_create")
    house.stripe_says(
        stripe_event("checkout.session.completed", checkout_session(who, at=NOV_22), at=NOV_22),
        stripe_event("customer.subscription.created", subscription(who, NOV_22, year, interval="year"), at=NOV_22),
        stripe_event("invoice.paid", bill, at=NOV_22),
    )
    fresh = []
    for n in range(1, 14):
        house.consumes(ada, 1)
        house.at(add_months(NOV_22, n) + HOUR)
        fresh.append(house.plan(ada)[2] == 0)
    assert fresh == [True] * 11 + [False] * 2


def _running(start: datetime, **more: Any) -> Body:
    return subscription(ADA, start, (start, add_months(start, 1)), **more)
