"""A plan gives what was paid for: bodies that were got wrong once, and their siblings, in every order of delivery."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, further
from domain.billing.plan import TenantBilling, change_plan
from domain.billing.standing import standing
from domain.billing.subscriptions import CONTENT, Subscription, certain, newer
from domain.billing.tiers import Tier
from domain.errors import QuotaExceeded
from domain.quota.quota import add_months, carry_over, first_period, is_due, reserve, reset
from simulators.personas import Persona
from simulators.stripe.events import invoice, stripe_event, subscription
from tests.cases.load import stripe_case

PRICES = {
    "price_starter": Tier.STARTER,
    "price_pro": Tier.PRO,
    "price_agency": Tier.AGENCY,
    "price_agency_year": Tier.AGENCY,
    "price_comp": Tier.AGENCY,
}
START = datetime(2026, 10, 1, 12, tzinfo=UTC)
CREATED = datetime(2026, 9, 20, tzinfo=UTC)
WHO = Persona(UUID(int=1), "cus_1", "sub_1", "user_1", "ada@example.com", price_id="price_pro")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Body = dict[str, Any]
PAUSED: Body = {"behavior": "void", "resumes_at": None}
NET: Body = {"collection_method": "send_invoice", "days_until_due": 30}


def month(n: int) -> datetime:
    return add_months(START, n)


def span(n: int, months: int = 1) -> tuple[datetime, datetime]:
    return month(n), month(n + months)


class Mirrored:
    """What the database would keep of one customer, after these bodies."""

    def __init__(self, bodies: Iterable[Body], created_at: datetime = CREATED) -> None:
        self.rows: dict[str, Subscription] = {}
        self.bills: dict[str, Invoice] = {}
        quota = replace(first_period(10, created_at), used=3)
        self.tenant = TenantBilling(Tier.FREE, "none", "cus_1", None, quota, created_at)
        for body in bodies:
            match read(body):
                case SubscriptionChanged(row):
                    self.rows[row.id] = newer(self.rows.get(row.id), row)
                case InvoiceChanged(bill):
                    self.bills[bill.id] = further(self.bills.get(bill.id), bill)
            self.tenant = self.at(datetime.fromtimestamp(body["created"], UTC))

    def at(self, now: datetime) -> TenantBilling:
        """Derived at this moment. What was used was used when the tenant was made."""
        before = self.tenant
        after = change_plan(before, self.rows.values(), self.bills.values(), PRICES, now)
        if after.quota.counts_from == before.quota.counts_from:
            return after
        return replace(after, quota=carry_over(after.quota, 3 if after.quota.counts_from <= before.created_at else 0))


def orders(bodies: Sequence[Body], most: int = 12) -> Iterator[list[Body]]:
    """All orders, or so many of them; each with some bodies told twice."""
    rng = Random(len(bodies))
    few = len(bodies) <= 3
    every = (
        permutations(bodies) if few else [bodies, bodies[::-1], *(rng.sample(bodies, len(bodies)) for _ in range(most))]
    )
    for order in every:
        yield [*order, *rng.choices(bodies, k=2)]


def in_every_order(
    bodies: Sequence[Body], now: datetime | None = None, created_at: datetime = CREATED
) -> TenantBilling:
    """The tenant, which is the same in every order."""
    last = now or max(datetime.fromtimestamp(body["created"], UTC) for body in bodies)
    ends = {Mirrored(order, created_at).at(last) for order in orders(bodies)}
    assert len(ends) == 1, ends
    return ends.pop()


def changed(
    at: datetime, period: tuple[datetime, datetime] = span(0), previous: Body | None = None, **row: Any
) -> Body:
    who, kind = replace(WHO, price_id=row.pop("price", "price_pro")), row.pop("kind", "updated")
    more = {name: row.pop(name) for name in ("collection_method", "days_until_due") if name in row}
    body = subscription(who, row.pop("started_at", START), period, **row) | more
    return stripe_event(f"customer.subscription.{kind}", body, at=at, previous=previous)


def bill(
    period: tuple[datetime, datetime] = span(0), *, kind: str = "paid", at: datetime | None = None, **row: Any
) -> Body:
    who, at = replace(WHO, price_id=row.pop("price", "price_pro")), at or period[0] + HOUR
    due = row.pop("due", None)
    status = "paid" if kind == "paid" else "open"
    about = invoice(who, period, at=at, status=status, billing_reason=row.pop("reason", "subscription_cycle"), **row)
    about["due_date"] = due and int(due.timestamp())
    return stripe_event(f"invoice.{kind}", about, at=at)


def drawable(tenant: TenantBilling, now: datetime) -> int:
    return reset(tenant.quota, now).available(now)


# --- 2: no invoice is known


@pytest.mark.parametrize("months", [1, 12])
def test_without_a_known_invoice_stripes_word_covers_month_by_month(months: int) -> None:
    """Moved in from another system: the subscription is older than the tenant."""
    began = add_months(START, -8)
    period = (add_months(START, -2), add_months(START, -2 + months)) if months == 12 else span(0)
    active = changed(START + DAY, period, started_at=began)
    tenant = in_every_order([active])
    assert (tenant.tier, tenant.quota.period_start, tenant.quota.used) == (Tier.PRO, START, 0)
    assert tenant.quota.paid_until == period[1]
    assert is_due(tenant.quota, month(1)) == (months == 12)


def test_a_year_has_its_twelve_months_whatever_comes_in_between_and_moves_no_date_back() -> None:
    year = span(0, 12)
    active, update = changed(START, year, kind="created"), changed(month(4) + DAY, year, previous={"metadata": {}})
    for bodies in ([active, update], [active, update, bill(year, reason="subscription_create")]):
        tenant = in_every_order(bodies)
        assert (tenant.quota.period_start, tenant.quota.paid_until) == (month(4), month(12))
        assert reset(tenant.quota, month(20)).period_start == month(11)


def test_from_the_first_known_invoice_on_invoices_decide() -> None:
    bodies = [changed(START), changed(month(1), span(1)), changed(month(2), span(2)), bill(span(1))]
    tenant = in_every_order(bodies)
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (month(1), month(2))
    declined = [changed(START), changed(month(1), span(1)), bill(span(1), kind="payment_failed")]
    tenant = in_every_order(declined)
    assert tenant.quota.paid_until == month(1)


def test_the_hour_between_a_trial_and_its_first_charge_begins_no_month() -> None:
    end = START + 14 * DAY
    terms = {"trial_end": end}
    bodies = [
        changed(START, (START, end), kind="created", status="trialing", **terms),
        bill((START, end), reason="subscription_create", amount=0),
        changed(end, (end, add_months(end, 1)), {"status": "trialing"}, **terms),
    ]
    assert in_every_order(bodies).quota.paid_until == end


# --- 3: the line that sells the plan


def test_a_monthly_addon_does_not_cut_the_paid_year() -> None:
    bodies = stripe_case("22")
    created = datetime.fromtimestamp(bodies[0]["created"], UTC)
    tenant = in_every_order(bodies, created_at=created - DAY)
    assert tenant.quota.paid_until == add_months(created, 12)
    assert reset(tenant.quota, add_months(created, 3)).period_start == add_months(created, 3)


def test_without_its_invoice_the_year_is_read_from_the_item_that_sells_the_plan() -> None:
    bodies = stripe_case("22")[:1]
    created = datetime.fromtimestamp(bodies[0]["created"], UTC)
    assert in_every_order(bodies, created_at=created - DAY).quota.paid_until == add_months(created, 12)


def test_an_addons_own_invoice_begins_no_month_of_the_plan() -> None:
    bodies = [changed(START), bill(), changed(month(1), span(1)), bill(span(1), price="price_addon")]
    tenant = in_every_order(bodies)
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (START, month(1))


def test_a_quantity_of_nothing_gives_nothing_and_begins_nothing() -> None:
    active, paid = changed(START), bill()
    active["data"]["object"]["items"]["data"][0]["quantity"] = 0
    paid["data"]["object"]["lines"]["data"][0].update(quantity=0, amount=0)
    tenant = in_every_order([active, paid])
    assert (tenant.tier, tenant.quota.limit, tenant.quota.used) == (Tier.FREE, 10, 3)


# --- 4: what was last paid for


def declined(who_pays: Callable[[], list[Body]], **change: Any) -> TenantBilling:
    return in_every_order(
        [changed(START, price="price_starter"), *who_pays(), changed(START + DAY, status="past_due", **change)]
    )


def starter_paid() -> list[Body]:
    return [bill(price="price_starter", reason="subscription_create")]


def test_a_declined_upgrade_gives_what_was_last_paid_for() -> None:
    bodies = stripe_case("02")
    created = datetime.fromtimestamp(bodies[0]["created"], UTC) - DAY
    tenant = in_every_order(bodies, created_at=created)
    assert (tenant.tier, tenant.status, tenant.quota.limit) == (Tier.STARTER, "past_due", 10)
    alone = in_every_order(bodies[3:4], created_at=created)
    assert alone.tier == Tier.STARTER, "the update itself says what it was before"
    row = Mirrored(bodies).rows["sub_6OMRguWLljMx24mSisWH4mib"]
    assert standing(row, Mirrored(bodies).bills.values(), PRICES).held_back == Tier.AGENCY


@pytest.mark.parametrize("status", ["active", "past_due"])
def test_the_dearer_plan_comes_with_its_paid_invoice_or_with_active(status: str) -> None:
    moment = START + DAY
    upgrade = [changed(moment, price="price_agency", status="past_due", previous={"status": "active"})]
    if status == "active":
        upgrade.append(changed(moment + DAY, price="price_agency"))
    else:
        paid = {"price": "price_agency", "reason": "subscription_update", "proration": True}
        upgrade.append(bill((moment, month(1)), at=moment + DAY, **paid))
    tenant = in_every_order([changed(START, price="price_starter"), *starter_paid(), *upgrade])
    assert (tenant.tier, tenant.quota.limit, tenant.quota.period_start) == (Tier.AGENCY, 500, START)


def test_a_declined_switch_to_a_dear_year_moves_no_date() -> None:
    moved = START + DAY
    year = {"period": (moved, add_months(moved, 12)), "anchor": moved, "price": "price_agency_year"}
    tenant = declined(starter_paid, **year)
    paid = in_every_order([changed(START, price="price_starter"), *starter_paid()])
    assert replace(tenant, status="active") == paid


def test_a_declined_second_item_gives_nothing_more() -> None:
    tenant = declined(starter_paid, price="price_starter", beside=("price_agency",))
    assert (tenant.tier, tenant.quota.limit) == (Tier.STARTER, 10)


def test_a_trial_whose_first_charge_is_declined_gave_what_it_gave() -> None:
    end = START + 14 * DAY
    period, terms = (end, add_months(end, 1)), {"trial_end": end}
    bodies = [
        changed(START, (START, end), kind="created", status="trialing", **terms),
        bill((START, end), reason="subscription_create", amount=0),
        changed(end, period, {"status": "trialing"}, **terms),
        bill(period, kind="payment_failed"),
        changed(end + HOUR, period, {"status": "active"}, status="past_due", **terms),
    ]
    for lived in (bodies, [bodies[0], bodies[-1]]):
        tenant = in_every_order(lived)
        assert (tenant.tier, tenant.status, tenant.quota.limit) == (Tier.FREE, "past_due", 10)
        assert tenant.quota.anchor == end
    assert in_every_order([*bodies, bill(period, at=end + DAY)]).tier == Tier.PRO


def test_a_cheaper_plan_in_past_due_is_the_cheaper_plan() -> None:
    bodies = [
        changed(START, price="price_agency"),
        bill(price="price_agency"),
        changed(month(1), span(1), status="past_due"),
    ]
    assert in_every_order(bodies).tier == Tier.PRO


def test_in_the_grace_of_past_due_what_is_left_of_the_last_month_may_be_drawn() -> None:
    tenant = in_every_order(
        [changed(START), bill(), changed(month(1) + HOUR, span(1), {"status": "active"}, status="past_due")]
    )
    later = month(1) + 20 * DAY
    assert (tenant.tier, drawable(tenant, later)) == (Tier.PRO, 50)
    assert not is_due(tenant.quota, later)


# --- 6: a price of nothing


def test_a_plan_that_costs_nothing_has_its_months() -> None:
    bodies = stripe_case("04")
    created = datetime.fromtimestamp(bodies[0]["created"], UTC)
    tenant = in_every_order(bodies, created_at=created - DAY)
    assert (tenant.tier, tenant.quota.used) == (Tier.AGENCY, 0)
    assert tenant.quota.period_start == add_months(created, 2)
    assert tenant.quota.paid_until == add_months(created, 3)


def test_a_base_price_of_nothing_beside_usage_has_its_months() -> None:
    paid = bill(amount=0)
    lines = paid["data"]["object"]["lines"]["data"]
    usage = copy.deepcopy(lines[0]) | {"id": "il_usage", "amount": 1234, "quantity": None}
    usage["pricing"] = {"price_details": {"price": "price_usage"}}
    lines.append(usage)
    assert in_every_order([changed(START), paid]).quota.period_start == START


def test_a_free_stretch_before_a_later_anchor_is_a_period() -> None:
    anchor = START + 12 * DAY
    first = (START, anchor)
    bodies = [changed(START, first, anchor=anchor), bill(first, amount=0, reason="subscription_create")]
    tenant = in_every_order(bodies)
    assert (tenant.quota.period_start, tenant.quota.paid_until, tenant.quota.used) == (START, anchor, 0)


def test_a_trial_of_a_plan_that_costs_nothing_begins_with_its_end() -> None:
    end = START + 14 * DAY
    period, terms = (end, add_months(end, 1)), {"trial_end": end}
    bodies = [
        changed(START, (START, end), kind="created", status="trialing", price="price_comp", **terms),
        bill((START, end), reason="subscription_create", amount=0, price="price_comp"),
    ]
    assert in_every_order(bodies).quota.period_start == CREATED
    bodies += [changed(end, period, price="price_comp", **terms), bill(period, amount=0, price="price_comp")]
    assert in_every_order(bodies).quota.period_start == end


# --- a cycle that begins with a change


def switched(at: datetime, months: int, price: str, *, kind: str = "paid", **more: Any) -> list[Body]:
    """Another interval from this moment on: the credit of the rest, and the new stretch, on one invoice."""
    period = (at, add_months(at, months))
    row = changed(at, period, anchor=at, price=price, previous={"billing_cycle_anchor": 0}, **more)
    return [row, bill(period, at=at + HOUR, kind=kind, price=price, reason="subscription_update")]


def test_a_year_that_was_switched_to_outlives_its_renewal_that_is_declined() -> None:
    """Seen: until the renewal was paid, the eleven months that had begun were taken back."""
    moved = START + 10 * DAY
    bodies = [changed(START), bill(reason="subscription_create"), *switched(moved, 12, "price_agency_year")]
    tenant = in_every_order(bodies, add_months(moved, 5))
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (add_months(moved, 5), add_months(moved, 12))
    again = (add_months(moved, 12), add_months(moved, 24))
    bodies.append(changed(again[0], again, anchor=moved, price="price_agency_year"))
    assert in_every_order(bodies).quota.period_start == add_months(moved, 11)
    overdue = changed(
        again[0] + HOUR, again, {"status": "active"}, anchor=moved, price="price_agency_year", status="past_due"
    )
    assert in_every_order([*bodies, overdue]).quota.period_start == add_months(moved, 11)


def test_a_declined_upgrade_leaves_the_year_that_was_switched_to() -> None:
    moved = START + 10 * DAY
    year = (moved, add_months(moved, 12))
    upgrade = changed(month(3), year, {"status": "active"}, anchor=moved, price="price_agency_year", status="past_due")
    bodies = [changed(START), bill(reason="subscription_create"), *switched(moved, 12, "price_agency_year"), upgrade]
    tenant = in_every_order(bodies, add_months(moved, 4))
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (add_months(moved, 4), year[1])


def test_the_months_of_a_year_that_a_change_ended_stay_begun() -> None:
    """Seen: a switch from yearly to monthly moved the period back to where the year began."""
    year = span(0, 12)
    bodies = [changed(START, year, kind="created", price="price_agency_year")]
    bodies.append(bill(year, price="price_agency_year", reason="subscription_create"))
    assert in_every_order(bodies, month(4) + DAY).quota.period_start == month(4)
    bodies += switched(month(4) + 2 * DAY, 1, "price_pro")
    tenant = in_every_order(bodies)
    assert (tenant.tier, tenant.quota.period_start) == (Tier.PRO, month(4))
    assert reset(tenant.quota, month(5) + 3 * DAY).period_start == month(5) + 2 * DAY


def test_the_months_of_a_long_trial_stay_begun_when_its_first_charge_is_declined() -> None:
    end = START + 75 * DAY
    period, terms = (end, add_months(end, 1)), {"trial_end": end}
    bodies = [changed(START, (START, end), kind="created", status="trialing", **terms)]
    began = in_every_order(bodies, end - HOUR).quota.period_start
    assert began == add_months(end, -1)
    bodies += [changed(end, period, {"status": "trialing"}, **terms), bill(period, kind="payment_failed")]
    assert in_every_order(bodies).quota.period_start == began
    bodies.append(changed(end + HOUR, period, {"status": "active"}, status="past_due", **terms))
    assert in_every_order(bodies).quota.period_start == began


@pytest.mark.parametrize("months", [1, 2, 5])
def test_a_trial_that_nobody_ever_paid_for_gives_nothing_however_often_it_renews(months: int) -> None:
    """Seen: with its second month, a trial whose first charge was declined gave AGENCY."""
    end, price = START + 14 * DAY, "price_agency"
    terms = {"trial_end": end, "price": price}
    bodies = [changed(START, (START, end), kind="created", status="trialing", **terms)]
    bodies.append(changed(end, (end, add_months(end, 1)), {"status": "trialing"}, **terms))
    for n in range(months):
        period = (add_months(end, n), add_months(end, n + 1))
        bodies.append(bill(period, kind="payment_failed", price=price))
        was = {"status": "active"} if n == 0 else {"latest_invoice": "in_before"}
        bodies.append(changed(period[0] + HOUR, period, was, status="past_due", **terms))
    tenant = in_every_order(bodies)
    assert (tenant.tier, tenant.quota.limit, tenant.quota.anchor) == (Tier.FREE, 10, end)


def test_a_paid_change_begins_a_period_where_nothing_paid_came_before() -> None:
    """A trial that is cut short; or a year that nobody paid, changed to a month that was paid."""
    cut = START + 3 * DAY
    trial = changed(START, (START, START + 14 * DAY), kind="created", status="trialing", trial_end=START + 14 * DAY)
    tenant = in_every_order([trial, *switched(cut, 1, "price_pro", trial_end=cut)])
    assert (tenant.quota.period_start, tenant.quota.used) == (cut, 0)
    ordered = changed(START, span(0, 12), kind="created", price="price_agency_year", **NET)
    tenant = in_every_order([ordered, *switched(cut, 1, "price_pro", **NET)])
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (cut, add_months(cut, 1))


def test_changing_to_and_fro_gives_no_quota_away() -> None:
    bodies = [changed(START), bill(reason="subscription_create")]
    bodies += switched(START + 3 * DAY, 12, "price_agency_year")
    bodies += switched(START + 6 * DAY, 1, "price_agency")
    bodies += switched(START + 9 * DAY, 12, "price_agency_year")
    tenant = in_every_order(bodies)
    assert (tenant.quota.period_start, tenant.quota.paid_until) == (START, add_months(START + 9 * DAY, 12))


@pytest.mark.parametrize("price", ["price_pro", "price_agency_year"])
def test_a_paid_up_stretch_before_the_anchor_says_nothing_of_what_follows_unpaid(price: str) -> None:
    """Seen: after a free stretch, a year that was not even billed because collection was paused was covered."""
    anchor = START + 12 * DAY
    months = 12 if price == "price_agency_year" else 1
    first, then = (START, anchor), (anchor, add_months(anchor, months))
    bodies = [
        changed(START, first, kind="created", anchor=anchor, price=price),
        bill(first, amount=0, price=price, reason="subscription_create"),
        changed(START + DAY, first, {"pause_collection": None}, anchor=anchor, price=price, pause_collection=PAUSED),
        changed(anchor, then, {"latest_invoice": "in_1"}, anchor=anchor, price=price, pause_collection=PAUSED),
    ]
    tenant = in_every_order(bodies)
    assert (tenant.quota.paid_until, drawable(tenant, anchor + DAY)) == (anchor, 0)


def test_a_change_while_collection_is_paused_covers_nothing() -> None:
    moved = START + 10 * DAY
    bodies = [
        changed(START),
        bill(reason="subscription_create"),
        changed(START + DAY, previous={"pause_collection": None}, pause_collection=PAUSED),
        *switched(moved, 12, "price_agency_year", kind="voided", pause_collection=PAUSED),
    ]
    tenant = in_every_order(bodies)
    assert (tenant.quota.paid_until, drawable(tenant, month(1))) == (month(1), 0)


def test_a_change_on_an_invoice_with_a_net_term_may_be_drawn_until_that_is_over() -> None:
    moved = START + 20 * DAY
    bodies = [changed(START, **NET), bill(reason="subscription_create")]
    row, order = switched(moved, 12, "price_agency_year", kind="finalized", **NET)
    order["data"]["object"]["due_date"] = int((moved + 30 * DAY).timestamp())
    tenant = in_every_order([*bodies, row, order])
    assert tenant.quota.paid_until == month(1)
    assert (drawable(tenant, moved + 29 * DAY), drawable(tenant, moved + 31 * DAY)) == (500, 0)


def test_months_without_a_plan_count_from_when_stripe_gave_up_and_not_from_the_cancellation_after_it() -> None:
    """Seen: the month that had begun since `unpaid` was taken back when the subscription was canceled."""
    gave_up = month(1) + 14 * DAY
    bodies = [
        changed(START),
        bill(reason="subscription_create"),
        changed(month(1) + HOUR, span(1), {"status": "active"}, status="past_due"),
        changed(gave_up, span(1), {"status": "past_due"}, status="unpaid"),
    ]
    begun = in_every_order(bodies, add_months(gave_up, 1)).quota
    canceled = changed(add_months(gave_up, 1) + DAY, span(1), kind="deleted", status="canceled")
    canceled["data"]["object"]["ended_at"] = canceled["created"]
    after = in_every_order([*bodies, canceled]).quota
    assert (after.anchor, after.period_start) == (gave_up, begun.period_start) == (gave_up, add_months(gave_up, 1))
    back = changed(gave_up + DAY, span(1), {"status": "unpaid"})
    assert in_every_order([*bodies, back, canceled]).quota.anchor == add_months(gave_up, 1) + DAY


# --- 8: two events of one second

EARLIER = changed(START - DAY, kind="created")
SECOND = START


def latest(bodies: Sequence[Body]) -> Subscription:
    rows = set()
    for order in orders(bodies):
        mirror = Mirrored(order).rows
        rows |= {(row, row.recent) for row in mirror.values()}
    assert len(rows) == 1
    return rows.pop()[0]


@pytest.mark.parametrize(
    ("which", "price", "status"), [((0, 1), "price_pro", "trialing"), ((2, 3), "price_pro", "active")]
)
def test_the_update_that_holds_the_others_values_is_the_later_one(
    which: tuple[int, int], price: str, status: str
) -> None:
    row = latest([stripe_case("07")[n] for n in which])
    assert (row.price_ids, row.status, certain(row)) == ((price,), status, True)


def items(price: str) -> Body:
    return {"items": {"data": [{"price": {"id": price}}]}}


CHAINS: dict[str, tuple[list[Body], Body]] = {
    "past_due -> active": (
        [
            changed(SECOND, status="past_due", previous={"status": "active"}),
            changed(SECOND, previous={"status": "past_due"}),
        ],
        {"status": "active"},
    ),
    "PRO -> STARTER -> PRO": (
        [
            changed(SECOND, price="price_starter", previous=items("price_pro")),
            changed(SECOND, previous=items("price_starter")),
        ],
        {"price_ids": ("price_pro",)},
    ),
    "PRO -> STARTER -> AGENCY": (
        [
            changed(SECOND, price="price_starter", previous=items("price_pro")),
            changed(SECOND, price="price_agency", previous=items("price_starter")),
        ],
        {"price_ids": ("price_agency",)},
    ),
    "cancel_at set -> removed": (
        [
            changed(SECOND, cancel_at=month(1), previous={"cancel_at": None, "cancel_at_period_end": False}),
            changed(
                SECOND,
                previous={"cancel_at": int(month(1).timestamp()), "cancel_at_period_end": True, "canceled_at": 1},
            ),
        ],
        {"cancel_at": None},
    ),
    "two changes of different fields": (
        [
            changed(SECOND, status="past_due", previous={"status": "active"}),
            changed(SECOND, status="past_due", price="price_agency", previous=items("price_pro")),
        ],
        {"status": "past_due", "price_ids": ("price_agency",)},
    ),
    "a third that changes nothing of ours": (
        [
            changed(SECOND, status="past_due", previous={"status": "active"}),
            changed(SECOND, status="past_due", previous={"latest_invoice": "in_before"}),
            changed(SECOND, previous={"status": "past_due"}),
        ],
        {"status": "active"},
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_led_to_what_within_a_second_is_found(name: str) -> None:
    bodies, end = CHAINS[name]
    row = latest([EARLIER, *bodies])
    assert {field: getattr(row, field) for field in end} == end
    assert certain(row)


def test_where_nothing_says_it_the_row_is_the_same_everywhere_and_known_to_be_uncertain() -> None:
    assert not certain(latest([changed(SECOND, price="price_agency"), changed(SECOND, price="price_starter")]))
    circle = CHAINS["PRO -> STARTER -> PRO"][0]
    assert not certain(latest(circle)), "nothing says where the circle was entered"
    later = changed(SECOND + DAY, price="price_agency")
    assert certain(latest([*circle, later]))


STATES = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["active", "past_due", "unpaid", "trialing"]),
            "price": st.sampled_from(["price_starter", "price_pro", "price_agency"]),
            "cancel_at": st.sampled_from([None, month(1)]),
        }
    ),
    min_size=2,
    max_size=5,
    unique_by=lambda state: (state["status"],),
)


@given(STATES, st.randoms(use_true_random=False))
def test_whatever_happens_within_a_second_its_last_state_is_found(states: list[Body], rng: Random) -> None:
    """Each state leads to the next; no status comes twice, whatever else goes to and fro."""
    bodies = [changed(SECOND - DAY, kind="created", **states[0])]
    for was, state in pairwise(states):
        before: Body = {"status": was["status"]}
        if was["price"] != state["price"]:
            before |= items(was["price"])
        if was["cancel_at"] != state["cancel_at"]:
            at = was["cancel_at"]
            before |= {"cancel_at": at and int(at.timestamp()), "cancel_at_period_end": at is not None}
        bodies.append(changed(SECOND, previous=before, **state))
    in_order = Mirrored(bodies).rows["sub_1"]
    shuffled = rng.sample(bodies, len(bodies)) + rng.choices(bodies, k=2)
    row = Mirrored(shuffled).rows["sub_1"]
    assert (row, row.recent) == (in_order, in_order.recent)
    if certain(row):
        last = read(bodies[-1])
        assert isinstance(last, SubscriptionChanged)
        assert [getattr(row, name) for name in CONTENT] == [getattr(last.subscription, name) for name in CONTENT]


# --- 9: nothing follows


def test_what_was_paid_runs_to_its_end_when_collection_is_paused_and_no_further() -> None:
    bodies = [
        changed(START),
        bill(),
        changed(START + 4 * DAY, previous={"pause_collection": None}, pause_collection=PAUSED),
        changed(month(1), span(1), previous={"latest_invoice": "in_1"}, pause_collection=PAUSED),
    ]
    tenant = in_every_order(bodies)
    assert (tenant.tier, drawable(tenant, month(1) - HOUR), drawable(tenant, month(1))) == (Tier.PRO, 50, 0)
    with pytest.raises(QuotaExceeded, match="more when the next invoice is paid"):
        reserve(tenant.quota, 1, month(1) + 5 * DAY)
    row = Mirrored(bodies).rows["sub_1"]
    assert row.paused_since == START + 4 * DAY
    on_again = [*bodies, changed(month(2), span(2), {"pause_collection": PAUSED}), bill(span(2))]
    tenant = in_every_order(on_again)
    assert (drawable(tenant, month(2) + DAY), Mirrored(on_again).rows["sub_1"].paused_since) == (50, None)


def test_without_a_known_invoice_a_pause_lets_no_month_begin() -> None:
    bodies = [
        changed(START - HOUR, (add_months(START, -1), START)),
        changed(START + DAY, previous={"pause_collection": None}, pause_collection=PAUSED),
        changed(month(1), span(1), previous={}, pause_collection=PAUSED),
    ]
    tenant = in_every_order(bodies)
    assert (tenant.quota.paid_until, drawable(tenant, month(1) + DAY)) == (month(1), 0)


def test_an_invoice_that_was_given_up_is_followed_by_nothing() -> None:
    bodies = [changed(START), bill(), changed(month(1), span(1)), bill(span(1), kind="voided", at=month(1) + DAY)]
    tenant = in_every_order(bodies)
    assert (drawable(tenant, month(1) - HOUR), drawable(tenant, month(1) + 2 * DAY)) == (50, 0)


DUE = START + HOUR + 30 * DAY


@pytest.mark.parametrize("is_known", [True, False])
def test_who_pays_by_invoice_may_draw_until_its_net_term_is_over(is_known: bool) -> None:
    bodies = [changed(START, kind="created", price="price_agency", **NET)]
    if is_known:
        bodies.append(bill(kind="finalized", price="price_agency", reason="subscription_create", due=DUE))
    tenant = in_every_order(bodies)
    assert (tenant.tier, tenant.quota.limit, tenant.quota.used) == (Tier.AGENCY, 500, 3)
    end = DUE if is_known else START + 30 * DAY
    assert (drawable(tenant, end - HOUR), drawable(tenant, end)) == (497, 0)
    paid = bill(at=DUE + DAY, price="price_agency", reason="subscription_create")
    tenant = in_every_order([*bodies, paid])
    assert (tenant.quota.period_start, tenant.quota.paid_until, tenant.quota.used) == (START, month(1), 0)


def test_an_unpaid_invoice_that_is_overdue_gives_nothing_and_no_grace() -> None:
    late = changed(DUE + HOUR, price="price_agency", status="past_due", previous={"status": "active"}, **NET)
    first = [
        changed(START, kind="created", price="price_agency", **NET),
        bill(kind="finalized", price="price_agency", reason="subscription_create", due=DUE),
    ]
    tenant = in_every_order([*first, late])
    assert (tenant.tier, tenant.quota.limit) == (Tier.FREE, 10)
    renewed = [
        *first,
        bill(at=START + 3 * DAY, price="price_agency", reason="subscription_create", due=DUE),
        changed(month(1), span(1), price="price_agency", **NET),
        bill(span(1), kind="finalized", price="price_agency", due=month(1) + 30 * DAY),
        changed(month(1) + 31 * DAY, span(1), {"status": "active"}, price="price_agency", status="past_due", **NET),
    ]
    tenant = in_every_order(renewed)
    assert tenant.tier == Tier.AGENCY
    assert drawable(tenant, month(1) + 29 * DAY) == 500
    assert drawable(tenant, month(1) + 30 * DAY) == 0


def test_active_after_the_net_term_says_that_it_was_paid() -> None:
    """Moved in, in the middle of a year that was paid for by invoice somewhere else."""
    year = (add_months(START, -5), add_months(START, 7))
    tenant = in_every_order([changed(START, year, started_at=year[0], **NET)])
    assert (tenant.quota.paid_until, drawable(tenant, month(2))) == (year[1], 50)
