import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, Line, further
from domain.billing.plan import TenantBilling, change_plan, unknown_prices
from domain.billing.subscriptions import Subscription, ended, newer
from domain.billing.tiers import PLANS, PriceBook, Tier
from domain.quota.quota import add_months, carry_over, first_period, reset
from simulators.personas import Persona, Shape
from simulators.stripe.events import invoice, stripe_event, subscription
from simulators.stripe.scenarios import lifecycle

PRICES = {"price_starter": Tier.STARTER, "price_pro": Tier.PRO, "price_agency": Tier.AGENCY, "price_pro_year": Tier.PRO}
SOLD = {tier: price_id for price_id, tier in reversed(PRICES.items())}
CREATED = datetime(2026, 1, 10, tzinfo=UTC)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WHO = Persona(UUID(int=1), "cus_1", "sub_1", "user_1", "ada@example.com")


def month(n: int) -> datetime:
    return add_months(START, n)


def a_tenant(used: int = 7) -> TenantBilling:
    return TenantBilling(Tier.FREE, "none", "cus_1", None, replace(first_period(10, CREATED), used=used), CREATED)


def a_subscription(**other: Any) -> Subscription:
    row = Subscription(
        id="sub_1",
        customer_id="cus_1",
        status="active",
        price_ids=("price_pro",),
        started_at=START,
        billing_cycle_anchor=START,
        period_start=START,
        period_end=month(1),
        trial_end=None,
        cancel_at=None,
        ended_at=None,
        event_created=START,
        event_rank=1,
    )
    return replace(row, **other)


def paid(start: int, end: int, subscription_id: str = "sub_1", *, price_id: str | None = None, **other: Any) -> Invoice:
    """The invoice that bills these months, paid. By default its line names no price."""
    row = Invoice(
        id=f"in_{subscription_id}_{start}",
        subscription_id=subscription_id,
        customer_id="cus_1",
        status="paid",
        reason="subscription_cycle",
        issued_at=month(start),
        due_at=None,
        lines=(Line(price_id, month(start), month(end), 100),),
        event_created=month(start),
    )
    return replace(row, **other)


def plan(
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice] = (),
    tenant: TenantBilling | None = None,
    *,
    prices: PriceBook = PRICES,
    now: datetime = START,
) -> TenantBilling:
    """Of a tenant who used 7 when it was created, and nothing later."""
    before = tenant or a_tenant()
    after = change_plan(before, subscriptions, invoices, prices, now)
    if after.quota.counts_from != before.quota.counts_from:
        return replace(after, quota=carry_over(after.quota, 7 if after.quota.counts_from <= CREATED else 0))
    return after


class Books:
    """What the database keeps: mirror rows, invoices, the tenant after every event."""

    def __init__(self, tenant: TenantBilling) -> None:
        self.tenant = tenant
        self.mirror: dict[str, Subscription] = {}
        self.bills: dict[str, Invoice] = {}

    def take(self, body: dict[str, Any]) -> None:
        match read(body):
            case SubscriptionChanged(row):
                self.mirror[row.id] = newer(self.mirror.get(row.id), row)
            case InvoiceChanged(bill):
                self.bills[bill.id] = further(self.bills.get(bill.id), bill)
        self.tenant = plan(self.mirror.values(), self.bills.values(), self.tenant)


def after(events: Iterable[dict[str, Any]], tenant: TenantBilling | None = None) -> TenantBilling:
    books = Books(tenant or a_tenant())
    for body in events:
        books.take(body)
    return books.tenant


# --- tiers


def test_tiers_are_ordered_by_what_they_give() -> None:
    assert sorted([Tier.PRO, Tier.STARTER, Tier.AGENCY, Tier.FREE]) == [Tier.FREE, Tier.STARTER, Tier.PRO, Tier.AGENCY]
    assert Tier.STARTER < Tier.PRO <= Tier.PRO
    assert Tier.AGENCY > Tier.PRO >= Tier.STARTER


def test_the_plans_as_they_are_sold() -> None:
    assert {tier: (plan.monthly_quota, plan.usd_per_month) for tier, plan in PLANS.items()} == {
        Tier.FREE: (10, 0),
        Tier.STARTER: (10, 49),
        Tier.PRO: (50, 149),
        Tier.AGENCY: (500, 499),
    }


# --- the mirror

rows = st.builds(
    a_subscription,
    status=st.sampled_from(
        ["incomplete", "active", "past_due", "unpaid", "canceled", "incomplete_expired", "new_word"]
    ),
    price_ids=st.sampled_from([(), ("price_pro",), ("price_pro", "price_agency")]),
    period_start=st.sampled_from([None, START, month(1)]),
    cancel_at=st.sampled_from([None, month(2)]),
    before=st.sampled_from([None, a_subscription(), a_subscription(status="past_due")]),
    active=st.sampled_from([None, a_subscription(), a_subscription(price_ids=("price_agency",))]),
    ended_at=st.sampled_from([None, month(1), month(2)]),
    event_created=st.sampled_from([START, month(1)]),
    event_rank=st.sampled_from([0, 1, 2]),
)


def fold(events: Sequence[Subscription]) -> Subscription:
    row = None
    for event in events:
        row = newer(row, event)
    assert row is not None
    return row


@given(st.lists(rows, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_the_same_row(events: list[Subscription], rng: random.Random) -> None:
    again = events + rng.choices(events, k=len(events))
    rng.shuffle(again)
    assert fold(again) == fold(events)
    assert fold(again).recent == fold(events).recent


@given(rows, rows, rows)
def test_merging_is_associative(a: Subscription, b: Subscription, c: Subscription) -> None:
    left, right = newer(newer(a, b), c), newer(a, newer(b, c))
    assert (left, left.recent) == (right, right.recent)


def test_an_older_event_changes_nothing() -> None:
    stored = a_subscription(event_created=month(1))
    assert newer(stored, a_subscription(status="incomplete", event_created=START)) == stored


def test_created_and_updated_of_one_second_are_ordered_by_rank_not_by_arrival() -> None:
    created, updated = a_subscription(status="incomplete", event_rank=0), a_subscription(status="active")
    assert newer(updated, created) == newer(created, updated) == updated


def test_rank_orders_only_events_of_one_second() -> None:
    early, late = a_subscription(status="past_due"), a_subscription(event_created=month(1), event_rank=0)
    assert newer(late, early) == newer(early, late) == late


def test_two_updates_of_one_second_end_in_the_status_further_along() -> None:
    first, second = a_subscription(status="incomplete"), a_subscription(status="active")
    assert newer(second, first) == newer(first, second) == second


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_a_terminal_status_is_never_left(status: str) -> None:
    over = a_subscription(status=status, event_created=START)
    assert newer(over, a_subscription(status="active", event_created=month(3))).status == status


def test_the_end_of_an_entitlement_survives_later_events_that_do_not_tell_it() -> None:
    left = a_subscription(status="unpaid", ended_at=month(1), event_created=month(1))
    rolled = a_subscription(status="unpaid", event_created=month(2))
    assert newer(rolled, left).ended_at == newer(left, rolled).ended_at == month(1)


# --- the plan: who is entitled


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
def test_entitled_statuses_give_the_tier(status: str) -> None:
    tenant = plan([a_subscription(status=status)])
    assert (tenant.tier, tenant.status, tenant.subscription_id) == (Tier.PRO, status, "sub_1")
    assert tenant.quota.limit == 50


@pytest.mark.parametrize("status", ["unpaid", "paused", "canceled", "a_status_of_next_year"])
def test_any_other_status_is_free_at_once_and_keeps_what_was_used(status: str) -> None:
    pro = plan([a_subscription()], [paid(0, 1)])
    pro = replace(pro, quota=replace(pro.quota, used=30))
    moment = START + timedelta(days=12)
    tenant = plan([a_subscription(status=status, ended_at=moment)], [paid(0, 1)], pro)
    assert (tenant.tier, tenant.status, tenant.subscription_id) == (Tier.FREE, status, None)
    assert (tenant.quota.limit, tenant.quota.used, tenant.quota.remaining) == (10, 30, 0)
    assert (tenant.quota.anchor, tenant.quota.resets_at) == (moment, add_months(moment, 1))
    assert tenant.quota.paid_until is None


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_a_subscription_that_never_began_leaves_the_quota_alone(status: str) -> None:
    tenant = plan([a_subscription(status=status, ended_at=month(1))])
    assert (tenant.tier, tenant.status, tenant.subscription_id) == (Tier.FREE, status, None)
    assert tenant.quota == a_tenant().quota


def test_without_any_subscription_nothing_changes() -> None:
    given_by_hand = replace(a_tenant(), tier=Tier.AGENCY, status="active")
    assert plan([], [paid(0, 1)], given_by_hand) == given_by_hand


def test_the_best_of_two_counts_and_ending_the_other_changes_nothing() -> None:
    agency = a_subscription(id="sub_2", price_ids=("price_agency",), started_at=START - timedelta(days=9))
    both = plan([a_subscription(), agency])
    assert (both.tier, both.subscription_id) == (Tier.AGENCY, "sub_2")
    assert plan([a_subscription(status="canceled", ended_at=month(1)), agency], (), both) == both


def test_of_equal_tiers_the_newest_counts_then_the_greater_id() -> None:
    newest = a_subscription(id="sub_0", started_at=month(1))
    assert plan([newest, a_subscription()]).subscription_id == "sub_0"
    assert plan([a_subscription(id="sub_9"), a_subscription()]).subscription_id == "sub_9"


def test_a_late_end_of_an_old_subscription_does_not_touch_the_new_one() -> None:
    new, its = a_subscription(id="sub_2", started_at=month(3), billing_cycle_anchor=month(3)), paid(3, 4, "sub_2")
    tenant = plan([new], [its])
    assert plan([new, a_subscription(status="canceled", ended_at=month(2))], [its], tenant) == tenant


def test_the_tier_is_that_of_the_best_mapped_price_among_the_items() -> None:
    assert plan([a_subscription(price_ids=("price_addon", "price_starter", "price_agency"))]).tier == Tier.AGENCY


def test_a_deleted_customers_subscriptions_end_with_it() -> None:
    over = ended(a_subscription(), month(1))
    assert (plan([over]).tier, plan([over]).quota.anchor) == (Tier.FREE, month(1))
    assert ended(a_subscription(), None) == a_subscription()
    assert ended(over, month(2)) == over, "what had ended before ended then"


# --- unknown prices


def test_an_unknown_price_leaves_tier_and_quota_and_links_the_subscription() -> None:
    pro = plan([a_subscription()], [paid(0, 1)])
    odd = a_subscription(price_ids=("price_new", "price_addon"))
    tenant = plan([odd], [paid(0, 1), paid(1, 2)], pro)
    assert (tenant.tier, tenant.quota, tenant.subscription_id) == (Tier.PRO, pro.quota, "sub_1")
    assert unknown_prices([odd], PRICES) == ("price_addon", "price_new")


def test_once_the_price_is_mapped_a_replay_gives_what_should_have_been() -> None:
    odd = a_subscription(price_ids=("price_new",))
    parked = plan([odd], [paid(0, 1)])
    mapped = plan([odd], [paid(0, 1)], parked, prices={**PRICES, "price_new": Tier.AGENCY})
    assert (mapped.tier, mapped.quota.limit, mapped.quota.used) == (Tier.AGENCY, 500, 0)


def test_another_purchase_of_the_customer_neither_gives_nor_resets_nor_keeps_anything() -> None:
    merch = a_subscription(id="sub_merch", price_ids=("price_merch",))
    bought = plan([merch], [paid(0, 1, "sub_merch")])
    assert (bought.tier, bought.quota) == (Tier.FREE, a_tenant().quota)
    pro = plan([merch, a_subscription()])
    over = plan([merch, a_subscription(status="canceled", ended_at=month(1))], (), pro)
    assert (pro.tier, over.tier, over.subscription_id) == (Tier.PRO, Tier.FREE, "sub_merch")


def test_an_invoice_of_another_purchase_does_not_reset_the_plans_quota() -> None:
    pro = plan([a_subscription()], [paid(0, 1)])
    pro = replace(pro, quota=replace(pro.quota, used=40))
    merch = a_subscription(id="sub_merch", price_ids=("price_merch",))
    assert plan([a_subscription(), merch], [paid(0, 1), paid(1, 2, "sub_merch")], pro) == pro


def test_a_mapped_price_beside_an_unknown_one_needs_no_parking() -> None:
    ended_and_odd = a_subscription(id="sub_2", status="canceled", price_ids=("price_new",))
    assert unknown_prices([a_subscription(price_ids=("price_pro", "price_addon")), ended_and_odd], PRICES) == ()


# --- the plan: the quota's period


def test_a_first_payment_begins_a_period_with_nothing_used() -> None:
    quota = plan([a_subscription()], [paid(0, 1)]).quota
    assert (quota.used, quota.limit) == (0, 50)
    assert (quota.anchor, quota.period_start, quota.resets_at, quota.paid_until) == (START, START, month(1), month(1))


def test_what_is_paid_for_one_subscription_covers_no_other() -> None:
    old = a_subscription(id="sub_0", status="canceled", ended_at=month(1))
    quota = plan([a_subscription(), old], [paid(0, 12, "sub_0"), paid(0, 1)]).quota
    assert quota.paid_until == month(1)


def test_of_two_ended_subscriptions_the_later_end_counts() -> None:
    ends = [a_subscription(id=f"sub_{n}", status="canceled", ended_at=month(n)) for n in (3, 2)]
    assert plan(ends).quota.anchor == month(3)


def test_an_active_subscription_without_a_paid_invoice_begins_no_period_at_once() -> None:
    quota = plan([a_subscription(period_end=month(12))]).quota
    assert (quota.limit, quota.used, quota.period_start) == (50, 7, CREATED)


def test_the_active_update_that_comes_before_the_charge_gives_nothing_yet() -> None:
    before = replace(plan([a_subscription()], [paid(0, 1)]))
    before = replace(before, quota=replace(before.quota, used=50))
    renewing = a_subscription(period_start=month(1), period_end=month(2), event_created=month(1))
    waiting = plan([renewing], [paid(0, 1)], before)
    assert reset(waiting.quota, month(1) + timedelta(hours=1)).used == 50
    renewed = plan([renewing], [paid(0, 1), paid(1, 2)], waiting).quota
    assert (renewed.used, renewed.period_start, renewed.resets_at) == (0, month(1), month(2))


def test_an_upgrade_keeps_what_was_used_and_the_date() -> None:
    starter = plan([a_subscription(price_ids=("price_starter",))], [paid(0, 1)])
    starter = replace(starter, quota=replace(starter.quota, used=9))
    quota = plan([a_subscription()], [paid(0, 1)], starter).quota
    assert (quota.limit, quota.used, quota.resets_at) == (50, 9, month(1))


def test_a_downgrade_below_what_was_used_leaves_nothing() -> None:
    agency = plan([a_subscription(price_ids=("price_agency",))], [paid(0, 1)])
    agency = replace(agency, quota=replace(agency.quota, used=200))
    assert plan([a_subscription()], [paid(0, 1)], agency).quota.remaining == 0


def test_an_annual_plan_gets_its_months_by_the_anchor_until_the_year_is_over() -> None:
    annual = a_subscription(price_ids=("price_pro_year",), period_end=month(12))
    tenant = plan([annual], [paid(0, 12)])
    in_june = replace(tenant, quota=reset(tenant.quota, month(5)))
    assert (in_june.quota.period_start, in_june.quota.resets_at) == (month(5), month(6))
    assert plan([annual], [paid(0, 12)], in_june, now=month(5)) == in_june
    assert reset(in_june.quota, month(20)).resets_at == month(12)


def test_a_trial_is_entitled_resets_nothing_and_ends_unpaid() -> None:
    trial_end = START + timedelta(days=14)
    trial = a_subscription(status="trialing", billing_cycle_anchor=trial_end, trial_end=trial_end, period_end=trial_end)
    quota = plan([trial]).quota
    assert (quota.limit, quota.used, quota.resets_at, quota.paid_until) == (50, 7, trial_end, trial_end)
    assert reset(quota, month(3)) == quota


def test_a_long_trial_has_monthly_periods() -> None:
    trial = a_subscription(status="trialing", billing_cycle_anchor=month(3), trial_end=month(3), period_end=month(3))
    assert reset(plan([trial]).quota, month(1)).used == 0


def test_moving_the_anchor_makes_no_reset_due_and_does_not_starve_an_annual_plan() -> None:
    """Monthly to yearly in mid-period: Stripe bills the year with billing_reason subscription_update."""
    monthly = plan([a_subscription()], [paid(0, 1)])
    monthly = replace(monthly, quota=replace(monthly.quota, used=40))
    moved = START + timedelta(days=12)
    year = {"billing_cycle_anchor": moved, "period_start": moved, "period_end": add_months(moved, 12)}
    yearly = plan([a_subscription(price_ids=("price_pro_year",), **year)], [paid(0, 1)], monthly).quota
    assert (yearly.used, yearly.resets_at) == (40, add_months(moved, 1))
    assert reset(yearly, moved + timedelta(days=20)) == yearly
    assert reset(yearly, add_months(moved, 3)).period_start == add_months(moved, 3)
    unpaid = plan([a_subscription(status="past_due", **year)], [paid(0, 1)], monthly).quota
    assert reset(unpaid, add_months(moved, 3)) == unpaid


def test_after_a_moved_anchor_the_next_month_waits_for_its_invoice_as_ever() -> None:
    moved = START + timedelta(days=12)
    rolled = a_subscription(
        billing_cycle_anchor=moved, period_start=add_months(moved, 1), period_end=add_months(moved, 2)
    )
    quota = plan([rolled], [paid(0, 1)]).quota
    assert reset(quota, add_months(moved, 1)) == quota


def test_monthly_rolls_of_an_unpaid_subscription_do_not_postpone_the_free_reset() -> None:
    left = a_subscription(status="unpaid", ended_at=month(1), event_created=month(1))
    row = newer(left, a_subscription(status="unpaid", period_start=month(2), event_created=month(2)))
    tenant = plan([row])
    assert (tenant.quota.anchor, tenant.quota.resets_at) == (month(1), add_months(month(1), 1))


def test_a_plan_applied_twice_changes_nothing() -> None:
    once = plan([a_subscription()], [paid(0, 1)])
    assert plan([a_subscription()], [paid(0, 1)], once) == once


# --- stories, in any order

shapes: list[Shape] = ["acacia", "basil", "hybrid"]


@pytest.mark.parametrize("shape", shapes)
def test_a_life_as_it_happens(shape: Shape) -> None:
    books = Books(a_tenant(used=7))
    seen: list[tuple[Tier, int, datetime]] = []
    for body in lifecycle(replace(WHO, shape=shape), START, SOLD):
        books.take(body)
        quota = books.tenant.quota
        if not seen or seen[-1] != (books.tenant.tier, quota.used, quota.period_start):
            seen.append((books.tenant.tier, quota.used, quota.period_start))
        books.tenant = replace(books.tenant, quota=replace(quota, used=5))
    assert [(tier, start) for tier, used, start in seen if used == 0] == [
        (Tier.STARTER, START),
        (Tier.STARTER, month(1)),
    ]
    assert (books.tenant.tier, books.tenant.status, books.tenant.subscription_id) == (Tier.FREE, "canceled", None)
    assert (quota.anchor, quota.period_start, quota.resets_at) == (month(2), month(1), month(3))


@given(st.sampled_from(shapes), st.integers(0, 10), st.data())
def test_a_life_ends_the_same_in_any_order(shape: Shape, length: int, data: st.DataObject) -> None:
    """Any prefix of the story, permuted and with repeats, tells the same as the prefix in order."""
    events = lifecycle(replace(WHO, shape=shape), START, SOLD)[: length or None]
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=6))
    assert after(data.draw(st.permutations(events + repeats))) == after(events)


@given(st.data())
def test_two_subscriptions_at_once_and_a_bad_year_end_the_same_in_any_order(data: st.DataObject) -> None:
    """STARTER goes past_due, unpaid and away; AGENCY, bought meanwhile with a trial, is paid and stays."""
    second = replace(WHO, subscription_id="sub_2", price_id="price_agency", unit_amount=49_900)
    first = replace(WHO, price_id="price_starter")
    trial_end = month(1) + timedelta(days=14)
    month_of_trial = (month(1), trial_end)

    def changed(who: Persona, at: datetime, kind: str = "updated", previous: str = "", **row: Any) -> dict[str, Any]:
        started = START if who is first else month(1)
        body = subscription(who, started, row.pop("period", (START, month(1))), **row)
        changed = {"status": previous} if previous else None
        return stripe_event(f"customer.subscription.{kind}", body, at=at, previous=changed)

    def bill(who: Persona, period: tuple[datetime, datetime], reason: str, **row: Any) -> dict[str, Any]:
        body = invoice(who, period, at=period[0], billing_reason=reason, **row)
        return stripe_event("invoice.paid", body, at=period[0])

    events = [
        changed(first, START, "created", status="incomplete"),
        changed(first, START, previous="incomplete"),
        bill(first, (START, month(1)), "subscription_create"),
        changed(first, month(1), status="past_due", previous="active"),
        changed(second, month(1), "created", status="trialing", trial_end=trial_end, period=month_of_trial),
        bill(second, month_of_trial, "subscription_create", amount=0),
        changed(first, month(1) + timedelta(days=20), status="unpaid", previous="past_due"),
        changed(first, month(2), status="unpaid"),
        changed(second, trial_end, trial_end=trial_end, period=(trial_end, add_months(trial_end, 1))),
        bill(second, (trial_end, add_months(trial_end, 1)), "subscription_cycle"),
        changed(first, month(3), "deleted", status="canceled", ended_at=month(3)),
    ]
    order = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=4))))
    final = after(order)
    assert final == after(events)
    assert (final.tier, final.quota.period_start, final.quota.used) == (Tier.AGENCY, trial_end, 0)


changes: st.SearchStrategy[Subscription | Invoice] = st.one_of(
    st.builds(
        a_subscription,
        id=st.sampled_from(["sub_1", "sub_2"]),
        status=st.sampled_from(["active", "trialing", "past_due", "unpaid", "paused", "canceled"]),
        price_ids=st.sampled_from([("price_starter",), ("price_pro",), ("price_agency", "price_addon")]),
        started_at=st.sampled_from([START, month(1)]),
        billing_cycle_anchor=st.sampled_from([START, month(1), START + timedelta(days=9)]),
        period_start=st.sampled_from([None, START, month(1)]),
        trial_end=st.sampled_from([None, month(1)]),
        ended_at=st.sampled_from([None, month(2), START + timedelta(days=3)]),
        event_created=st.sampled_from([month(n) for n in range(4)]),
    ),
    st.builds(
        lambda n, owner: paid(n, n + 1, owner),
        st.integers(0, 5),
        st.sampled_from(["sub_1", "sub_2"]),
    ),
)


@given(st.lists(changes, min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_any_changes_end_the_same_in_any_order(changed: list[Subscription | Invoice], rng: random.Random) -> None:
    """Not only lives that Stripe would tell: rows and paid periods as they come, the tenant derived after each."""

    def outcome(order: list[Subscription | Invoice]) -> TenantBilling:
        books = Books(a_tenant())
        for item in order:
            if isinstance(item, Subscription):
                books.mirror[item.id] = newer(books.mirror.get(item.id), item)
            else:
                books.bills[item.id] = further(books.bills.get(item.id), item)
            books.tenant = plan(books.mirror.values(), books.bills.values(), books.tenant)
        return books.tenant

    again = changed + rng.choices(changed, k=3)
    rng.shuffle(again)
    assert outcome(again) == outcome(changed)


def test_a_free_month_that_had_begun_before_the_plan_was_told_leaves_no_trace() -> None:
    tenant = a_tenant()
    tenant = replace(tenant, quota=replace(reset(tenant.quota, add_months(CREATED, 5)), used=4))
    events = lifecycle(WHO, START, SOLD)
    assert after(events, tenant) == after(events)
