"""What Stripe's own books say reaches the plan, although a webhook never came; thin events are looked up."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.quota.quota import add_months
from simulators.personas import Body, Persona
from simulators.stripe.api import Fault, StripeSimulator
from simulators.stripe.events import invoice, stripe_event, subscription
from tests.builders import NOV_22, a_stripe_event, a_tenant, event_row, job_row, tenant
from tests.drain import drain
from workers.app import App
from workers.jobs.billing import release_parked
from workers.jobs.reconcile import reconcile_billing
from workers.ops.rebuild import rebuild

NOW = NOV_22 + timedelta(hours=1)
PERIOD = (NOV_22, add_months(NOV_22, 1))


@pytest.fixture
def who(selling: App, stripe: StripeSimulator) -> Persona:
    """A tenant linked to its customer, which Stripe knows too. It is an hour later."""
    stripe.now = NOW
    tenant_id = a_tenant(selling, created_at=NOV_22 - timedelta(days=3), used_quota=7, stripe_customer_id="cus_ada")
    return Persona(tenant_id, "cus_ada", "sub_ada", "user_ada", "ada@example.com")


def bought(who: Persona, status: str = "active") -> list[Body]:
    """The subscription and its paid invoice, as they stand in Stripe's books."""
    return [
        subscription(who, NOV_22, PERIOD, status=status),
        invoice(who, PERIOD, at=NOV_22, billing_reason="subscription_create"),
    ]


def deliver(app: App, row: Body, bill: Body) -> None:
    a_stripe_event(app, stripe_event("customer.subscription.created", row, at=NOV_22))
    a_stripe_event(app, stripe_event("invoice.paid", bill, at=NOV_22))
    drain(app)


def run(app: App) -> dict[str, Any]:
    """Reconcile, and apply what that led to. Returns the job's result."""
    with app.db.transaction(SYSTEM) as tx:
        job_id = reconcile_billing.enqueue(tx)
    drain(app)
    row = job_row(app, job_id)
    assert row["status"] == "completed", row
    result: dict[str, Any] = row["result"]
    return result


def plan(app: App, tenant_id: UUID) -> tuple[Any, ...]:
    row = tenant(app, tenant_id)
    return row["subscription_tier"], row["subscription_status"], row["monthly_quota"], row["used_quota"]


def events(app: App) -> list[dict[str, Any]]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.events.recent()


def agrees(app: App, stripe: StripeSimulator) -> bool:
    """A minute later, neither Stripe's books nor the stored events say anything else."""
    stripe.now += timedelta(minutes=1)
    return run(app)["different"] == 0 and rebuild(app.db, app.ports, cause="test") == []


def test_where_all_webhooks_came_nothing_is_told_again(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    row, bill = bought(who)
    deliver(selling, row, bill)
    stripe.books["subscriptions"], stripe.books["invoices"] = [row], [bill]
    assert run(selling) == {"compared": 2, "different": 0, "repaired": 0}
    assert len(events(selling)) == 2


def test_a_purchase_whose_webhooks_never_came_is_found(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    row, bill = bought(who)
    stripe.books["subscriptions"], stripe.books["invoices"] = [row], [bill]
    assert run(selling) == {"compared": 2, "different": 2, "repaired": 2}
    assert plan(selling, who.tenant_id) == ("PRO", "active", 50, 0)
    assert {row["status"] for row in events(selling)} == {"applied"}
    assert all(row["job_id"] for row in events(selling))
    assert agrees(selling, stripe)


def test_a_cancellation_whose_webhook_never_came_is_found(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    row, bill = bought(who)
    deliver(selling, row, bill)
    assert plan(selling, who.tenant_id) == ("PRO", "active", 50, 0)
    ended = subscription(who, NOV_22, PERIOD, status="canceled", ended_at=NOV_22 + timedelta(minutes=30))
    stripe.books["subscriptions"], stripe.books["invoices"] = [ended], [bill]
    assert run(selling)["repaired"] == 1
    assert plan(selling, who.tenant_id)[:3] == ("FREE", "canceled", 10)
    assert agrees(selling, stripe)


def test_an_undelivered_event_is_stored_as_itself_and_its_late_delivery_is_a_duplicate(
    selling: App, stripe: StripeSimulator, who: Persona
) -> None:
    row, bill = bought(who)
    missed = [
        stripe_event("customer.subscription.created", row, at=NOV_22),
        stripe_event("invoice.paid", bill, at=NOV_22),
    ]
    stripe.books["events"] = [*missed, {**missed[0], "id": "evt_delivered", "pending_webhooks": 0}]
    assert run(selling)["repaired"] == 2
    assert plan(selling, who.tenant_id) == ("PRO", "active", 50, 0)
    assert {row["external_id"] for row in events(selling)} == {event["id"] for event in missed}
    a_stripe_event(selling, missed[0])
    assert len(events(selling)) == 2


def test_an_event_that_came_after_the_listing_is_not_undone(
    selling: App, stripe: StripeSimulator, who: Persona
) -> None:
    row, bill = bought(who)
    deliver(selling, row, bill)
    past_due = subscription(who, NOV_22, PERIOD, status="past_due")
    a_stripe_event(selling, stripe_event("customer.subscription.updated", past_due, at=NOW + timedelta(seconds=5)))
    drain(selling)
    stripe.books["subscriptions"], stripe.books["invoices"] = [row], [bill]
    assert run(selling)["different"] == 0
    assert plan(selling, who.tenant_id)[:2] == ("PRO", "past_due")


def test_what_stripe_does_not_have_is_said_and_left(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    deliver(selling, *bought(who))
    assert run(selling) == {"compared": 0, "different": 1, "repaired": 0}
    assert plan(selling, who.tenant_id)[0] == "PRO"


def test_one_odd_object_does_not_keep_the_others_from_being_compared(
    selling: App, stripe: StripeSimulator, who: Persona
) -> None:
    row, bill = bought(who)
    no_items = {"object": "list", "data": []}
    stripe.books["subscriptions"] = [{**row, "id": "sub_odd", "items": no_items}, row]
    stripe.books["invoices"] = [{**bill, "id": "in_odd", "customer": None}, bill]
    assert run(selling) == {"compared": 4, "different": 4, "repaired": 2}
    assert plan(selling, who.tenant_id) == ("PRO", "active", 50, 0)


def test_a_stripe_that_is_away_is_asked_again_later(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    stripe.faults.extend([Fault(503)] * 3)
    with selling.db.transaction(SYSTEM) as tx:
        job_id = reconcile_billing.enqueue(tx)
    drain(selling)
    row = job_row(selling, job_id)
    assert (row["status"], row["attempts"]) == ("pending", 1)


def test_without_a_key_the_night_passes(app: App) -> None:
    result = run(app)
    assert "STRIPE_SECRET_KEY" in result["skipped"]


def thin(who: Persona, **more: Any) -> Body:
    url = f"/v1/subscriptions/{who.subscription_id}"
    return {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.past_due",
        "created": "2026-11-22T12:30:00.000Z",
        "livemode": False,
        "related_object": {"id": who.subscription_id, "type": "subscription", "url": url},
        **more,
    }


def test_a_thin_event_is_looked_up(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    row, bill = bought(who)
    deliver(selling, row, bill)
    stripe.books["subscriptions"] = [subscription(who, NOV_22, PERIOD, status="past_due")]
    job_id = a_stripe_event(selling, thin(who))
    drain(selling)
    stored = event_row(selling, job_id)
    assert (stored["status"], stored["subject"]) == ("applied", who.customer_id)
    assert plan(selling, who.tenant_id)[:2] == ("PRO", "past_due")


def test_a_thin_event_without_a_key_waits_for_one(
    app: App, selling: App, stripe: StripeSimulator, who: Persona
) -> None:
    deliver(app, *bought(who))
    stripe.books["subscriptions"] = [subscription(who, NOV_22, PERIOD, status="past_due")]
    job_id = a_stripe_event(app, thin(who))
    drain(app)
    assert event_row(app, job_id)["status"] == "parked:thin"
    with selling.db.transaction(SYSTEM) as tx:
        release_parked.enqueue(tx)
    drain(selling)
    assert event_row(selling, job_id)["status"] == "applied"
    assert plan(selling, who.tenant_id)[:2] == ("PRO", "past_due")


def test_a_thin_event_about_what_is_gone_waits_for_nothing(selling: App, stripe: StripeSimulator, who: Persona) -> None:
    job_id = a_stripe_event(selling, thin(who))
    drain(selling)
    assert event_row(selling, job_id)["status"] == "ignored:gone"
