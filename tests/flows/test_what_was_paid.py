"""Bodies of Stripe that were got wrong once, through storage, jobs and locks: in any order, with and without a key to
ask Stripe with, doubled, and with some lost until the nightly reconcile."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from math import factorial
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.transaction import SYSTEM
from domain.billing.tiers import Tier
from domain.errors import QuotaExceeded
from domain.quota.explain import backing, explain
from domain.quota.quota import add_months
from simulators.personas import Body, Persona
from simulators.stripe.api import Fault, StripeSimulator, embedded
from simulators.stripe.events import invoice, stripe_event, subscription
from tests.builders import a_stripe_event, a_tenant, event_row, tenant
from tests.cases.load import stripe_case
from tests.converge.runs import State, begin, state
from tests.drain import drain
from workers.app import App
from workers.jobs.billing import any_parked, release_parked
from workers.jobs.quota import reset_due
from workers.jobs.reconcile import reconcile_billing
from workers.ops.doctor import ABOUT
from workers.ops.rebuild import rebuild

DAY = timedelta(days=1)


def when(body: Body) -> datetime:
    return datetime.fromtimestamp(body["created"], UTC)


def ours(app: App, bodies: Sequence[Body]) -> UUID:
    """A tenant of the day before, linked to the customer that all of it is about."""
    begin(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET stripe_customer_id = NULL")
    customer = next(body["data"]["object"]["customer"] for body in bodies)
    created = min(map(when, bodies)) - DAY
    return a_tenant(app, created_at=created, used_quota=3, stripe_customer_id=customer)


def deliver(app: App, bodies: Sequence[Body]) -> list[UUID]:
    """One after the other, each applied before the next comes. The metadata name no tenant of ours."""
    jobs = []
    for body in bodies:
        about = {**body["data"]["object"], "metadata": {}}
        if about.get("parent"):
            details = {**about["parent"]["subscription_details"], "metadata": {}}
            about["parent"] = {**about["parent"], "subscription_details": details}
        jobs.append(a_stripe_event(app, {**body, "data": {**body["data"], "object": about}}))
        drain(app)
    return jobs


def run(app: App, job: Any) -> dict[str, Any]:
    with app.db.transaction(SYSTEM) as tx:
        job_id = job.enqueue(tx)
    drain(app)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id)
    assert row is not None
    result: dict[str, Any] = row["result"]
    return result


def plan(app: App, tenant_id: UUID) -> tuple[Any, ...]:
    row = tenant(app, tenant_id)
    return row["subscription_tier"], row["subscription_status"], row["monthly_quota"], row["used_quota"]


def events(app: App) -> dict[str, tuple[str, str | None]]:
    with app.db.transaction(SYSTEM) as tx:
        return {row["external_id"]: (row["status"], row["flag"]) for row in tx.events.recent()}


def without_ids(found: State) -> Any:
    return {
        table: [{k: v for k, v in row.items() if k not in ("id", "tenant_id", "metadata")} for row in rows]
        for table, rows in found.items()
    }


CASES: dict[str, tuple[str, slice, tuple[Any, ...]]] = {
    "a declined upgrade": ("02", slice(1, 5), ("STARTER", "past_due", 10, 0)),
    "a declined upgrade without its invoices": ("02", slice(3, 4), ("STARTER", "past_due", 10, 3)),
    "a plan that costs nothing": ("04", slice(0, 6), ("AGENCY", "active", 500, 0)),
    "an upgrade in the second of a reminder": ("07", slice(0, 2), ("PRO", "trialing", 50, 3)),
    "a payment in the second of giving up": ("07", slice(2, 4), ("PRO", "active", 50, 3)),
    "a year with a monthly add-on": ("22", slice(0, 3), ("PRO", "active", 50, 0)),
}
"""The folder, which of its bodies, and the plan that they give."""


STORIES = {
    "a declined upgrade": [
        "On STARTER: 10 concepts a month.",
        "AGENCY was ordered and is not paid: STARTER was last paid for, and counts until it is.",
        "This month began on 2026-11-27 06:14 UTC, by a paid invoice (known with event …);"
        " the next begins when the invoice due on 2026-12-27 06:14 UTC is paid.",
        "So 0 of 10 are used, and 10 are left.",
    ],
    "a declined upgrade without its invoices": [
        "On STARTER: 10 concepts a month.",
        "AGENCY was ordered and is not paid: STARTER was last paid for, and counts until it is.",
        "This month began on 2026-11-26 06:15 UTC;"
        " the next begins when the invoice due on 2026-12-27 06:14 UTC is paid.",
        "+3 were entered by another program: see `viral quota show`.",
        "So 3 of 10 are used, and 7 are left.",
    ],
    "a plan that costs nothing": [
        "On AGENCY: 500 concepts a month.",
        "This month began on 2026-11-22 06:46 UTC, by a paid invoice (known with event …);"
        " the next begins when the invoice due on 2026-12-22 06:46 UTC is paid.",
        "So 0 of 500 are used, and 500 are left.",
    ],
    "an upgrade in the second of a reminder": [
        "On PRO: 50 concepts a month.",
        "This month began on 2026-11-26 06:15 UTC;"
        " the next begins when the invoice due on 2026-12-27 06:15 UTC is paid.",
        "+3 were entered by another program: see `viral quota show`.",
        "So 3 of 50 are used, and 47 are left.",
    ],
    "a payment in the second of giving up": [
        "On PRO: 50 concepts a month.",
        "This month began on 2026-11-26 06:25 UTC;"
        " the next begins when the invoice due on 2026-12-27 06:15 UTC is paid.",
        "+3 were entered by another program: see `viral quota show`.",
        "So 3 of 50 are used, and 47 are left.",
    ],
    "a year with a monthly add-on": [
        "On PRO: 50 concepts a month.",
        "This month began on 2026-10-01 12:00 UTC, by a paid invoice (known with event …);"
        " the next begins on 2026-11-01 12:00 UTC (paid until 2027-10-01 12:00 UTC).",
        "So 0 of 50 are used, and 50 are left.",
    ],
}
"""As `viral quota explain` tells each case."""


def explanation(app: App, tenant_id: UUID, now: datetime) -> list[str]:
    """As `viral quota explain` tells it; which event it was depends on the order of delivery."""
    row = tenant(app, tenant_id)
    with app.db.transaction(SYSTEM) as tx:
        behind = backing(*tx.billing.of_tenant(tenant_id, row["stripe_customer_id"]), app.ports.prices)
    with app.db.transaction(tenant_id) as tx:
        quota = tx.quota.lock(tenant_id)
        entries = tx.quota.ledger(tenant_id, limit=100, since=quota.period_start)
        sentences = explain(row["subscription_tier"], quota, entries, [], now, behind=behind)
    return [re.sub(r"event \S+\)", "event …)", sentence) for sentence in sentences]


@pytest.mark.proof(
    but=[
        "a declined upgrade-True",
        "a payment in the second of giving up-False",
        "an upgrade in the second of a reminder-True",
    ]
)
@pytest.mark.parametrize("key", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_case_ends_the_same_in_any_order_and_doubled(
    app: App, selling: App, stripe: StripeSimulator, case: str, key: bool
) -> None:
    """With a key there is nothing to ask for: the account's books, which are empty here, change nothing."""
    folder, which, expected = CASES[case]
    bodies = stripe_case(folder)[which]
    at = stripe.now = max(map(when, bodies)) + timedelta(minutes=1)
    app = selling if key else app
    app = replace(
        app, clock=lambda: at, ports=replace(app.ports, prices={**app.ports.prices, "price_comp": Tier.AGENCY})
    )
    every = list(permutations(bodies)) if len(bodies) <= 3 else [bodies, bodies[::-1]]
    while len(every) < min(4, factorial(len(bodies))):
        every.append(Random(f"{case} {len(every)}").sample(bodies, len(bodies)))
    ends, stories = set(), set()
    for order in every:
        tenant_id = ours(app, bodies)
        deliver(app, [*order, *Random(case).choices(order, k=2), {**order[0], "id": "evt_twin"}])
        assert plan(app, tenant_id) == expected
        assert {status for status, _ in events(app).values()} <= {"applied", "stale", "duplicate"}
        assert rebuild(app.db, app.ports, cause="test") == []
        ends.add(str(without_ids(state(app))))
        stories.add(tuple(explanation(app, tenant_id, at)))
    assert len(ends) == 1
    assert stories == {tuple(STORIES[case])}


def test_a_declined_upgrade_is_for_a_person_to_see(app: App) -> None:
    bodies = stripe_case("02")[1:4]
    ours(app, bodies)
    deliver(app, bodies)
    assert events(app)[bodies[-1]["id"]] == ("applied", "unpaid_change")
    says = "a change to AGENCY is not paid: the tenant has STARTER, which was last paid for"
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("no event of the last 30 days is flagged") == 1
        flagged = [(row["external_id"], row["detail"]) for row in tx.events.recent(flagged=True)]
    assert flagged == [(bodies[-1]["id"], says)]
    assert "--flagged" in ABOUT["no event of the last 30 days is flagged"]


# --- more lines and items than a body carries -----------------------------------------------------------------


def many_lines() -> tuple[Body, Body]:
    """The invoice of the case, and as it stands in Stripe's books: its own line is the eleventh."""
    body = stripe_case("03")[1]
    about = body["data"]["object"]
    lines = about["lines"]["data"]
    own = {**lines[0], "id": "il_own", "amount": 14900}
    own["parent"] = {
        **own["parent"],
        "subscription_item_details": {**own["parent"]["subscription_item_details"], "proration": False},
    }
    details = {**about["parent"]["subscription_details"], "metadata": {}}
    whole = {**about, "lines": {"object": "list", "data": [*lines, own], "has_more": False}}
    return body, {**whole, "parent": {**about["parent"], "subscription_details": details}}


def many_items() -> tuple[Body, Body]:
    body = stripe_case("03")[2]
    about = body["data"]["object"]
    items = about["items"]["data"]
    price = {**items[0]["price"], "id": "price_agency"}
    sold = {**items[0], "id": "si_sold", "price": price, "plan": None}
    whole = {**about, "metadata": {}, "items": {"object": "list", "data": [*items, sold], "has_more": False}}
    return body, whole


@pytest.mark.parametrize("first", [True, False])
def test_lines_of_the_second_page_are_looked_up(selling: App, stripe: StripeSimulator, first: bool) -> None:
    bought, (body, whole) = stripe_case("03")[0], many_lines()
    tenant_id = ours(selling, [bought, body])
    stripe.now, stripe.page = when(body) + DAY, 4
    stripe.books["invoices"] = [whole]
    deliver(selling, [bought, body] if first else [body, bought])
    assert plan(selling, tenant_id) == ("PRO", "active", 50, 0)
    assert tenant(selling, tenant_id)["quota_paid_until"] == datetime.fromtimestamp(1798352074, UTC)
    assert events(selling)[body["id"]] == ("applied", None)
    assert rebuild(selling.db, selling.ports, cause="test") == []


def test_items_of_the_second_page_are_looked_up(selling: App, stripe: StripeSimulator) -> None:
    body, whole = many_items()
    tenant_id = ours(selling, [body])
    stripe.now, stripe.page = when(body) + DAY, 4
    stripe.books["subscriptions"] = [whole]
    deliver(selling, [body])
    assert plan(selling, tenant_id)[:3] == ("AGENCY", "active", 500)
    assert rebuild(selling.db, selling.ports, cause="test") == []


def test_without_a_key_it_waits_to_be_seen_and_is_released_by_one(
    app: App, selling: App, stripe: StripeSimulator
) -> None:
    bought, (body, whole) = stripe_case("03")[0], many_lines()
    tenant_id = ours(app, [bought, body])
    [_, job_id] = deliver(app, [bought, body])
    assert event_row(app, job_id)["status"] == "parked:incomplete"
    assert event_row(app, job_id)["flag"]
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("no event is parked for over 15 minutes") == 0
        tx.driver.execute(b"UPDATE webhook_events SET received_at = received_at - interval '16 minutes'")
        assert tx.health.violations("no event is parked for over 15 minutes") == 1
        assert any_parked(tx, tx.now())
    run(app, release_parked)
    assert event_row(app, job_id)["status"] == "parked:incomplete"
    stripe.now = when(body) + DAY
    stripe.books["invoices"] = [whole]
    assert run(selling, release_parked) == {"released": 1}
    assert event_row(app, job_id)["status"] == "applied"
    assert plan(app, tenant_id) == ("PRO", "active", 50, 0)


def test_the_nightly_reconcile_reads_all_pages_and_repairs_what_was_parked(
    app: App, selling: App, stripe: StripeSimulator
) -> None:
    (paid, bill), (_, row) = many_lines(), many_items()
    bill = {**bill, "subscription": None, "customer": row["customer"]}
    details = {**bill["parent"]["subscription_details"], "subscription": row["id"]}
    bill["parent"] = {**bill["parent"], "subscription_details": details}
    for line in bill["lines"]["data"]:
        its = {**line["parent"]["subscription_item_details"], "subscription": row["id"]}
        line["parent"] = {**line["parent"], "subscription_item_details": its}
        line["pricing"] = {"price_details": {"price": "price_agency"}}
    about = [stripe_event("customer.subscription.created", embedded(row), at=when(paid))]
    about.append(stripe_event("invoice.paid", embedded(bill), at=when(paid)))
    tenant_id = ours(app, about)
    deliver(app, about)
    assert {status for status, _ in events(app).values()} == {"parked:incomplete"}
    assert plan(app, tenant_id)[0] == "FREE"
    stripe.now, stripe.page = when(paid) + DAY, 3
    stripe.books["subscriptions"], stripe.books["invoices"] = [row], [bill]
    assert run(selling, reconcile_billing)["repaired"] == 2
    assert plan(app, tenant_id) == ("AGENCY", "active", 500, 0)
    stripe.now += DAY
    assert run(selling, reconcile_billing)["different"] == 0


# --- two events of one second ---------------------------------------------------------------------------------


def tied(*prices: str) -> list[Body]:
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    who = Persona(UUID(int=7), "cus_1", "sub_1", "user_1", "ada@example.com")
    period = (at - DAY, add_months(at - DAY, 1))
    rows = [subscription(replace(who, price_id=price), at - DAY, period) for price in prices]
    return [stripe_event("customer.subscription.updated", row, at=at) for row in rows]


@pytest.mark.parametrize("turn", [1, -1])
def test_what_no_event_decides_is_looked_up(selling: App, stripe: StripeSimulator, turn: int) -> None:
    bodies = tied("price_agency", "price_starter", "price_pro")
    tenant_id = ours(selling, bodies)
    stripe.now = when(bodies[0]) + DAY
    stripe.books["subscriptions"] = [{**bodies[-1]["data"]["object"], "metadata": {}}]
    deliver(selling, bodies[::turn])
    assert plan(selling, tenant_id)[0] == "PRO"
    assert not any(flag for _, flag in events(selling).values())
    assert rebuild(selling.db, selling.ports, cause="test") == []


@pytest.mark.parametrize("turn", [1, -1])
def test_without_a_key_a_person_is_told_and_the_nightly_reconcile_mends_it(
    app: App, selling: App, stripe: StripeSimulator, turn: int
) -> None:
    bodies = tied("price_agency", "price_starter")
    tenant_id = ours(app, bodies)
    deliver(app, bodies[::turn])
    assert plan(app, tenant_id)[0] == "STARTER"
    assert "contradiction" in {flag for _, flag in events(app).values()}
    stripe.now = when(bodies[0]) + DAY
    stripe.books["subscriptions"] = [{**bodies[0]["data"]["object"], "metadata": {}}]
    assert run(selling, reconcile_billing)["repaired"] == 1
    assert plan(app, tenant_id)[0] == "AGENCY"


@pytest.mark.parametrize("pair", [(0, 1), (2, 3)])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_later_of_one_second_wins_by_itself(app: App, pair: tuple[int, int], turn: int) -> None:
    bodies = [stripe_case("07")[n] for n in pair]
    tenant_id = ours(app, bodies)
    deliver(app, bodies[::turn])
    assert plan(app, tenant_id)[:2] == ("PRO", bodies[1]["data"]["object"]["status"])
    assert not any(flag for _, flag in events(app).values())


def test_what_cannot_be_looked_up_is_for_a_person(selling: App, stripe: StripeSimulator) -> None:
    bodies = tied("price_agency", "price_starter")
    ours(selling, bodies)
    stripe.now = when(bodies[0]) + DAY
    refused = {"type": "invalid_request_error", "message": "this key may not"}
    stripe.faults.extend([Fault(403, error=refused)] * 4)
    deliver(selling, bodies)
    assert "contradiction" in {flag for _, flag in events(selling).values()}
    assert {status for status, _ in events(selling).values()} == {"applied"}


# --- a status of tomorrow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [1, -1])
def test_a_status_that_we_do_not_know_leaves_the_plan_and_is_for_a_person(app: App, turn: int) -> None:
    bought = stripe_case("03")[0]
    later = {**bought, "id": "evt_tomorrow", "created": bought["created"] + 60}
    later["data"] = {"object": {**bought["data"]["object"], "status": "hibernating"}}
    tenant_id = ours(app, [bought])
    deliver(app, [bought, later][::turn])
    assert plan(app, tenant_id)[:3] == ("PRO", "active", 50)
    assert events(app)["evt_tomorrow"] == ("applied", "unknown_status")
    assert rebuild(app.db, app.ports, cause="test") == []


# --- nothing follows ------------------------------------------------------------------------------------------


def test_a_paused_tenant_draws_what_was_paid_and_no_more_by_many_at_once(app: App) -> None:
    bought, start = stripe_case("03")[0], when(stripe_case("03")[0])
    about = bought["data"]["object"]
    paid = {**stripe_case("02")[2], "data": {"object": invoice_of(about, start)}}
    paused = {**bought, "id": "evt_paused", "created": bought["created"] + 86_400}
    paused["data"] = {
        "object": {**about, "pause_collection": {"behavior": "void", "resumes_at": None}},
        "previous_attributes": {"pause_collection": None},
    }
    tenant_id = ours(app, [bought])
    deliver(app, [paused, paid, bought])
    end = datetime.fromtimestamp(1798352074, UTC)
    drawn = [drawing(app, tenant_id, end - DAY) for _ in range(4)]
    assert sum(drawn) == 4
    with ThreadPoolExecutor(8) as threads:
        late = list(threads.map(lambda n: drawing(app, tenant_id, end + n * DAY), [0, 1, 2, 3] * 2))
    assert late == [0] * 8
    run(replace(app, clock=lambda: end + 40 * DAY), reset_due)
    assert (plan(app, tenant_id), drawing(app, tenant_id, end + 41 * DAY)) == (("PRO", "active", 50, 4), 0)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET daily_enabled = true WHERE id = %s", (tenant_id,))
        [waiting] = [each for each in tx.generating.wanting_daily(UUID(int=0), end + DAY, 10) if each.id == tenant_id]
        assert waiting.count == 0


def invoice_of(about: Body, start: datetime) -> Body:
    who = Persona(UUID(int=7), about["customer"], about["id"], "user_1", "ada@example.com", price_id="price_pro")
    return invoice(
        who, (start, datetime.fromtimestamp(1798352074, UTC)), at=start, billing_reason="subscription_create"
    )


def drawing(app: App, tenant_id: UUID, now: datetime) -> int:
    try:
        with app.db.transaction(tenant_id) as tx:
            tx.quota.hold(tenant_id, tx.new_id(), 1, now)
    except QuotaExceeded:
        return 0
    return 1


# --- tenants that came by plain SQL ---------------------------------------------------------------------------


@pytest.mark.parametrize("overdue", [timedelta(hours=1), timedelta(days=100)])
def test_what_a_tenant_of_plain_sql_used_counts_in_the_period_that_has_ended(
    app: App, owner_url: str, overdue: timedelta
) -> None:
    with psycopg.connect(owner_url) as dashboard:
        row = dashboard.execute(
            "INSERT INTO tenants (name, used_quota, quota_reset_at) VALUES ('Ada', 7, now() - %s) RETURNING id, now()",
            (overdue,),
        ).fetchone()
    assert row is not None
    tenant_id, now = row
    run(replace(app, clock=lambda: now), reset_due)
    found = tenant(app, tenant_id)
    assert (found["used_quota"], found["quota_reset_at"] > now) == (0, True)
    with app.db.transaction(SYSTEM) as tx:
        for name in ("what a tenant has used is what the ledger says", "quota periods end after they begin"):
            assert tx.health.violations(name) == 0


def test_what_a_tenant_of_plain_sql_used_in_the_running_period_stays_used(app: App, owner_url: str) -> None:
    with psycopg.connect(owner_url) as dashboard:
        dashboard.execute(
            "INSERT INTO tenants (name, used_quota, quota_reset_at) VALUES ('Ada', 7, now() + interval '10 days')"
        )
    with app.db.transaction(SYSTEM) as tx:
        [row] = tx.tenants.recent()
    run(app, reset_due)
    assert tenant(app, row["id"])["used_quota"] == 7
