"""A stored Stripe event, applied: the tenant's plan, the mirror behind it, and what is said of the event."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from domain.billing.tiers import Tier
from domain.errors import Rejected
from domain.quota.quota import add_months
from simulators.personas import Body, Persona
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription
from tests.builders import NOV_22, a_stripe_event, a_tenant, event_row, job_row, tenant
from tests.drain import drain
from workers.app import App
from workers.jobs.billing import apply_stripe_event, release_parked

START = add_months(NOV_22, 1)
"""The customer pays from here on; the tenant has been on the free plan for a month."""

SOON = timedelta(seconds=3)


def month(n: int) -> Any:
    return add_months(START, n)


def people(tenant_id: UUID, price: str = "price_pro", **fields: Any) -> Persona:
    return replace(Persona(tenant_id, "cus_1", "sub_1", "user_1", "ada@example.com", price_id=price), **fields)


def unnamed(body: Body) -> Body:
    """The event as the original dashboard caused it: only the checkout session names the tenant."""
    about = body["data"]["object"]
    about["metadata"] = {}
    for line in about.get("lines", {}).get("data", []):
        line["metadata"] = {}
    if "parent" in about:
        about["parent"]["subscription_details"]["metadata"] = {}
    return body


def active(who: Persona, *, at: Any = START, kind: str = "updated", status: str = "active", **row: Any) -> Body:
    body = subscription(who, START, row.pop("period", (START, month(1))), status=status, **row)
    return stripe_event(f"customer.subscription.{kind}", body, at=at, previous={} if kind == "updated" else None)


def paid(who: Persona, n: int = 0, reason: str = "subscription_create", **bill: Any) -> Body:
    body = invoice(who, (month(n), month(n + 1)), at=month(n) + SOON, billing_reason=reason, **bill)
    return stripe_event("invoice.paid", body, at=month(n) + SOON)


def checkout(who: Persona) -> Body:
    return stripe_event("checkout.session.completed", checkout_session(who, at=START), at=START + SOON)


def apply(app: App, *bodies: Body) -> list[str]:
    """Deliver the events one after the other. Returns what is said of each at the end."""
    jobs = []
    for body in bodies:
        jobs.append(a_stripe_event(app, body))
        drain(app)
    rows = [job_row(app, job_id) for job_id in jobs]
    assert [(row["status"], row["attempts"]) for row in rows] == [("completed", 1)] * len(jobs)
    return [event_row(app, job_id)["status"] for job_id in jobs]


def plan(app: App, tenant_id: UUID) -> tuple[Any, ...]:
    row = tenant(app, tenant_id)
    names = ("subscription_tier", "subscription_status", "stripe_customer_id", "stripe_subscription_id")
    return tuple(row[name] for name in (*names, "monthly_quota", "used_quota"))


def ledger(app: App, tenant_id: UUID) -> list[tuple[Any, ...]]:
    with app.db.transaction(SYSTEM) as tx:
        entries = tx.quota.ledger(tenant_id)
    rows = [(e["kind"], e["amount"], e["used_after"], e["quota_after"], e["cause"]) for e in reversed(entries)]
    return [entry for entry in rows if not entry[-1].startswith("sql:")]


@pytest.fixture
def ada(app: App) -> UUID:
    """On the free plan, 7 of 10 used."""
    return a_tenant(app, used_quota=7)


FREE = ("FREE", "none", None, None, 10, 7)

# --- what a subscription brings -----------------------------------------------------------------------------


def test_a_paid_subscription_brings_tier_quota_and_a_fresh_month(app: App, ada: UUID) -> None:
    who = people(ada)
    events = [checkout(who), active(who), paid(who)]
    assert apply(app, *events) == ["applied"] * 3
    assert plan(app, ada) == ("PRO", "active", "cus_1", "sub_1", 50, 0)
    row = tenant(app, ada)
    assert (row["quota_anchor"], row["quota_period_start"], row["quota_reset_at"]) == (START, START, month(1))
    assert row["quota_paid_until"] == month(1)
    assert ledger(app, ada) == [
        ("grant", 0, 7, 50, f"event:{events[1]['id']}"),
        ("reset", -7, 0, 50, f"event:{events[2]['id']}"),
    ]


def test_the_tier_comes_before_the_invoice_and_the_fresh_month_only_with_it(app: App, ada: UUID) -> None:
    apply(app, active(people(ada)))
    assert plan(app, ada) == ("PRO", "active", "cus_1", "sub_1", 50, 7)


def test_an_upgrade_counts_at_once_and_its_proration_resets_nothing(app: App, ada: UUID) -> None:
    starter, pro = people(ada, "price_starter"), people(ada, "price_pro")
    apply(app, active(starter), paid(starter))
    with app.db.transaction(ada) as tx:
        tx.quota.hold(ada, uuid4(), 8, NOV_22)
    later = START + timedelta(days=10)
    bill = invoice(pro, (later, month(1)), at=later, billing_reason="subscription_update", proration=True)
    proration = stripe_event("invoice.paid", bill, at=later)
    outcomes = apply(app, active(pro, at=later), proration)
    assert outcomes == ["applied"] * 2
    assert plan(app, ada) == ("PRO", "active", "cus_1", "sub_1", 50, 8)
    assert tenant(app, ada)["quota_reset_at"] == month(1)


def test_past_due_keeps_the_plan_and_unpaid_ends_it(app: App, ada: UUID) -> None:
    who = people(ada)
    apply(app, active(who), paid(who), active(who, at=month(1), status="past_due"))
    assert plan(app, ada)[:2] == ("PRO", "past_due")
    assert tenant(app, ada)["quota_paid_until"] == month(1)
    unpaid = active(who, at=month(1) + timedelta(days=20), status="unpaid")
    unpaid["data"]["previous_attributes"] = {"status": "past_due"}
    apply(app, unpaid)
    assert plan(app, ada) == ("FREE", "unpaid", "cus_1", None, 10, 0)
    row = tenant(app, ada)
    assert (row["quota_anchor"], row["quota_paid_until"]) == (month(1) + timedelta(days=20), None)


def test_when_it_has_ended_the_free_plan_holds_and_what_was_used_stays_used(app: App, ada: UUID) -> None:
    who = people(ada)
    apply(app, active(who), paid(who))
    with app.db.transaction(ada) as tx:
        tx.quota.hold(ada, uuid4(), 40, NOV_22)
    apply(app, active(who, at=month(1), kind="deleted", status="canceled", ended_at=month(1)))
    assert plan(app, ada) == ("FREE", "canceled", "cus_1", None, 10, 40)
    with app.db.transaction(SYSTEM) as tx:
        [mirrored] = tx.billing.mirror(["cus_1"], []).subscriptions.values()
    assert (mirrored.id, mirrored.status, mirrored.ended_at) == ("sub_1", "canceled", month(1))


def test_a_late_end_of_an_old_subscription_takes_nothing_from_a_new_one(app: App, ada: UUID) -> None:
    old, new = people(ada), people(ada, subscription_id="sub_2")
    apply(app, active(old), active(new, at=month(1)))
    apply(app, active(old, at=month(1) - SOON, kind="deleted", status="canceled", ended_at=month(1)))
    assert plan(app, ada)[:4] == ("PRO", "active", "cus_1", "sub_2")


# --- whose is it --------------------------------------------------------------------------------------------


def test_a_subscription_of_nobody_is_parked_and_applied_when_its_customer_is_linked(app: App, ada: UUID) -> None:
    who = people(ada)
    early = [a_stripe_event(app, unnamed(body)) for body in (active(who), paid(who))]
    drain(app)
    assert [event_row(app, job_id)["status"] for job_id in early] == ["parked:unknown_customer"] * 2
    assert plan(app, ada) == FREE
    assert apply(app, checkout(who)) == ["applied"]
    assert [event_row(app, job_id)["status"] for job_id in early] == ["applied"] * 2
    assert plan(app, ada) == ("PRO", "active", "cus_1", "sub_1", 50, 0)


def test_linking_one_customer_releases_only_its_own_events(app: App, ada: UUID) -> None:
    stranger = people(uuid4(), customer_id="cus_2", subscription_id="sub_2")
    theirs = a_stripe_event(app, unnamed(active(stranger)))
    apply(app, checkout(people(ada)))
    assert event_row(app, theirs)["status"] == "parked:unknown_customer"


def test_a_customers_mapping_is_stronger_than_what_metadata_says(app: App, ada: UUID) -> None:
    bob = a_tenant(app, used_quota=7)
    who = people(ada)
    assert apply(app, checkout(who), active(replace(who, tenant_id=bob))) == ["applied"] * 2
    assert plan(app, ada)[0] == "PRO"
    assert plan(app, bob) == FREE


def test_a_tenant_that_pays_as_one_customer_is_not_moved_to_another(app: App, ada: UUID) -> None:
    first, second = people(ada), people(ada, "price_agency", customer_id="cus_2", subscription_id="sub_2")
    outcomes = apply(app, checkout(first), active(first), active(second), checkout(second))
    assert outcomes == ["applied"] * 2 + ["parked:other_customer"] * 2
    assert plan(app, ada)[:4] == ("PRO", "active", "cus_1", "sub_1")


@pytest.mark.parametrize("named", ["00000000-0000-0000-0000-00000000dead", "no uuid"])
def test_a_tenant_that_nobody_knows_parks_the_event(app: App, ada: UUID, named: str) -> None:
    body = active(people(ada))
    body["data"]["object"]["metadata"] = {"tenantId": named}
    [outcome] = apply(app, body)
    assert outcome == ("parked:unknown_customer" if named == "no uuid" else "parked:unknown_tenant")
    assert plan(app, ada) == FREE


def test_what_was_parked_for_a_tenant_to_come_is_applied_with_the_event_that_links_them(app: App) -> None:
    who = people(uuid4())
    early = a_stripe_event(app, active(who))
    drain(app)
    assert event_row(app, early)["status"] == "parked:unknown_tenant"
    a_tenant(app, id=who.tenant_id, used_quota=7)
    apply(app, checkout(who))
    assert event_row(app, early)["status"] == "applied"
    assert plan(app, who.tenant_id)[:4] == ("PRO", "active", "cus_1", "sub_1")


# --- what is not applied ------------------------------------------------------------------------------------


def test_an_unknown_price_is_parked_and_leaves_tier_and_quota(app: App, ada: UUID) -> None:
    who = people(ada, "price_of_another_product")
    assert apply(app, active(who)) == ["parked:unknown_price"]
    assert plan(app, ada) == ("FREE", "active", "cus_1", "sub_1", 10, 7)
    assert ledger(app, ada) == []


def test_an_older_event_is_stale_and_a_second_object_for_one_change_is_a_duplicate(app: App, ada: UUID) -> None:
    newest = active(people(ada, "price_agency"), at=START + 2 * SOON)
    twin = newest | {"id": "evt_twin"}
    older = active(people(ada), at=START + SOON)
    assert apply(app, newest, twin, older) == ["applied", "duplicate", "stale"]
    assert plan(app, ada)[0] == "AGENCY"


def test_a_duplicate_delivery_is_not_applied_again(app: App, ada: UUID) -> None:
    first = a_stripe_event(app, active(people(ada)))
    drain(app)
    assert a_stripe_event(app, active(people(ada))) == first
    assert drain(app) == 0


def test_replaying_an_applied_event_changes_nothing(app: App, ada: UUID) -> None:
    who = people(ada)
    jobs = [a_stripe_event(app, body) for body in (checkout(who), active(who), paid(who))]
    drain(app)
    before, entries = tenant(app, ada), ledger(app, ada)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET status = 'failed'")
        assert [tx.transitions.retry(job_id) for job_id in jobs] == [True] * 3
    assert drain(app) == 3
    assert (tenant(app, ada), ledger(app, ada)) == (before, entries)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"type": "product.created"}, "type", None),
        (
            {"type": "invoice.payment_succeeded"},
            "type",
            "use invoice.paid: it also covers invoices paid out of band",
        ),
        ({"type": "customer.subscription.updated", "account": "acct_1"}, "connected_account", None),
        ({"type": "v1.product.created", "object": "v2.core.event"}, "type", None),
    ],
)
def test_what_is_not_for_us_is_kept_and_says_why(
    app: App, ada: UUID, body: Body, status: str, detail: str | None
) -> None:
    assert apply(app, {**active(people(ada)), **body}) == [f"ignored:{status}"]
    with app.db.transaction(SYSTEM) as tx:
        assert [row["detail"] for row in tx.events.recent()] == [detail]
    assert plan(app, ada) == FREE


def test_a_body_that_stripes_format_does_not_allow_is_a_dead_letter_that_names_the_field(app: App, ada: UUID) -> None:
    body = active(people(ada))
    body["data"]["object"]["billing_cycle_anchor"] = "ada@example.com"
    job_id = a_stripe_event(app, body)
    assert drain(app) == 1
    row = job_row(app, job_id)
    assert (row["status"], row["attempts"]) == ("failed", 1)
    assert row["error_message"] == "data.object.billing_cycle_anchor: expected a whole number, found str"
    with app.db.transaction(SYSTEM) as tx:
        [attempt] = tx.jobs.attempts(job_id)
    assert (attempt["outcome"], attempt["error_class"]) == ("rejected", "MalformedEvent")
    assert event_row(app, job_id)["status"] == "received"
    assert plan(app, ada) == FREE


def test_an_event_that_is_not_there_is_a_dead_letter(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        job_id = apply_stripe_event.enqueue(tx, event_id=uuid4())
    drain(app)
    assert job_row(app, job_id)["status"] == "failed"
    assert "no event has the id" in job_row(app, job_id)["error_message"]


# --- the customer goes --------------------------------------------------------------------------------------

GONE = START + timedelta(days=10)
NEXT = GONE + timedelta(days=1)


def deleted(who: Persona) -> Body:
    return stripe_event("customer.deleted", customer(who, created_at=START), at=GONE)


def later(who: Persona) -> list[Body]:
    """Buys again, as a new customer."""
    period = (NEXT, add_months(NEXT, 1))
    row = subscription(who, NEXT, period)
    bill = invoice(who, period, at=NEXT, billing_reason="subscription_create")
    return [
        stripe_event("customer.subscription.updated", row, at=NEXT, previous={}),
        stripe_event("invoice.paid", bill, at=NEXT + SOON),
    ]


def test_a_deleted_customer_ends_what_it_bought_and_is_forgotten(app: App, ada: UUID) -> None:
    who = people(ada)
    assert apply(app, active(who), paid(who), deleted(who)) == ["applied"] * 3
    assert plan(app, ada) == ("FREE", "canceled", None, None, 10, 0)
    assert tenant(app, ada)["quota_anchor"] == GONE


@pytest.mark.parametrize("named", [True, False])
def test_old_events_of_a_deleted_customer_are_stale_and_change_no_plan(app: App, ada: UUID, named: bool) -> None:
    who = people(ada)
    bodies = [active(who), paid(who)]
    apply(app, *bodies, deleted(who))
    expected = {k: v for k, v in tenant(app, ada).items() if k != "updated_at"}
    bob = a_tenant(app, used_quota=7)
    his = people(bob, customer_id="cus_2", subscription_id="sub_2")
    rows = [active(his), paid(his)] if named else [unnamed(active(his)), unnamed(paid(his)), checkout(his)]
    outcomes = apply(app, deleted(his), *rows)
    assert outcomes == ["applied", *["stale"] * len(rows)]
    row = tenant(app, bob)
    assert [(k, row[k]) for k in expected if k not in ("id", "updated_at") and row[k] != expected[k]] == []


def test_the_next_customer_takes_over_in_whatever_order_it_is_told(app: App, ada: UUID) -> None:
    old, new = people(ada), people(ada, "price_agency", customer_id="cus_2", subscription_id="sub_2")
    first, second = [active(old), paid(old), deleted(old)], later(new)
    assert apply(app, *first[:2], *second) == ["applied"] * 2 + ["parked:other_customer"] * 2
    assert plan(app, ada)[:4] == ("PRO", "active", "cus_1", "sub_1")
    apply(app, first[2])
    assert plan(app, ada) == ("AGENCY", "active", "cus_2", "sub_2", 500, 0)
    apply(app, *[{**body, "id": f"{body['id']}_again"} for body in first])
    assert plan(app, ada) == ("AGENCY", "active", "cus_2", "sub_2", 500, 0)
    with app.db.transaction(SYSTEM) as tx:
        assert {row["status"] for row in tx.events.recent()} == {"applied", "duplicate"}


# --- what waits is released ---------------------------------------------------------------------------------


def sweep(app: App) -> int:
    """Returns how many events the sweep found."""
    with app.db.transaction(SYSTEM) as tx:
        job_id = release_parked.enqueue(tx)
    drain(app)
    result: dict[str, int] = job_row(app, job_id)["result"]
    return result["released"]


def with_ports(app: App, **ports: Any) -> App:
    return replace(app, ports=replace(app.ports, **ports))


def test_a_price_that_is_mapped_since_releases_its_events(app: App, ada: UUID) -> None:
    who = people(ada, "price_new")
    assert apply(app, active(who), paid(who)) == ["parked:unknown_price", "applied"]
    assert sweep(app) == 0
    mapped = with_ports(app, prices={**app.ports.prices, "price_new": Tier.AGENCY})
    assert sweep(mapped) == 1
    assert plan(app, ada) == ("AGENCY", "active", "cus_1", "sub_1", 500, 0)
    assert sweep(mapped) == 0


def test_a_tenant_that_another_program_inserts_is_found(app: App) -> None:
    who = people(uuid4())
    assert apply(app, active(who), paid(who)) == ["parked:unknown_tenant"] * 2
    assert sweep(app) == 0
    a_tenant(app, id=who.tenant_id, used_quota=7)
    assert sweep(app) == 2
    assert plan(app, who.tenant_id) == ("PRO", "active", "cus_1", "sub_1", 50, 0)
    assert sweep(app) == 0


def test_a_link_that_another_program_writes_is_found(app: App, ada: UUID) -> None:
    who = people(ada)
    assert apply(app, unnamed(active(who)), unnamed(paid(who))) == ["parked:unknown_customer"] * 2
    assert sweep(app) == 0
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET stripe_customer_id = 'cus_1' WHERE id = %s", (ada,))
    assert sweep(app) == 2
    assert plan(app, ada) == ("PRO", "active", "cus_1", "sub_1", 50, 0)


def thin(who: Persona) -> Body:
    return {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.customer.subscription.updated",
        "created": "2026-12-22T12:00:03.000Z",
        "livemode": False,
        "related_object": {"id": who.subscription_id, "type": "subscription", "url": "/v1/subscriptions/sub_1"},
    }


def test_a_thin_event_waits_for_a_key_and_is_applied_by_what_is_fetched(app: App, ada: UUID) -> None:
    who = people(ada)
    assert apply(app, thin(who)) == ["parked:thin"]
    asked = []

    def fetch(body: Mapping[str, Any]) -> Body:
        asked.append(body["id"])
        return active(who)

    able = with_ports(app, fetch_event=fetch)
    assert sweep(able) == 1
    assert asked == ["evt_thin"]
    assert plan(app, ada)[:2] == ("PRO", "active")
    with app.db.transaction(SYSTEM) as tx:
        [stored] = tx.events.recent()
        again = tx.events.get(stored["id"])
    assert (stored["status"], again.payload["object"]) == ("applied", "event")
    assert sweep(able) == 0


def test_a_thin_event_that_cannot_be_fetched_is_asked_for_once(app: App, ada: UUID) -> None:
    def refuse(body: Mapping[str, Any]) -> Body:
        raise Rejected("the key lacks a permission")

    apply(app, thin(people(ada)))
    able = with_ports(app, fetch_event=refuse)
    assert [sweep(able), sweep(able)] == [1, 0]
    with app.db.transaction(SYSTEM) as tx:
        [stored] = tx.events.recent()
    assert stored["status"] == "parked:unfetchable"


def test_a_thin_event_of_which_nothing_is_left_is_ignored(app: App, ada: UUID) -> None:
    apply(app, thin(people(ada)))
    assert sweep(with_ports(app, fetch_event=lambda body: None)) == 1
    with app.db.transaction(SYSTEM) as tx:
        [stored] = tx.events.recent()
    assert stored["status"] == "ignored:gone"


# --- what a person should know ------------------------------------------------------------------------------


def flags(app: App) -> dict[str, tuple[str, str]]:
    with app.db.transaction(SYSTEM) as tx:
        return {row["type"]: (row["flag"], row["detail"]) for row in tx.events.recent(flagged=True)}


def test_what_a_person_should_know_is_flagged_and_changes_no_plan(app: App, ada: UUID) -> None:
    who = people(ada)
    bob = a_tenant(app)
    apply(app, active(who), stripe_event("charge.refunded", {"id": "ch_1", "customer": "cus_1"}, at=START))
    apply(app, stripe_event("price.updated", {"id": "price_pro", "active": False}, at=START))
    apply(app, stripe_event("price.updated", {"id": "price_of_another", "active": False}, at=START))
    apply(app, paid(replace(who, tenant_id=bob)))
    apply(app, active(replace(who, subscription_id="sub_2"), kind="created"))
    assert flags(app) == {
        "charge.refunded": ("refund", "charge.refunded"),
        "price.updated": ("price_retired", "price_pro is retired, and settings name it"),
        "invoice.paid": ("other_tenant_named", "metadata names another tenant"),
        "customer.subscription.created": ("several_subscriptions", "several subscriptions at once"),
    }
    assert plan(app, ada)[:2] == ("PRO", "active")


def test_a_test_event_on_a_live_endpoint_is_kept_and_ignored(app: App, ada: UUID) -> None:
    assert apply(with_ports(app, livemode=True), active(people(ada))) == ["ignored:other_mode"]
    assert plan(app, ada) == FREE
