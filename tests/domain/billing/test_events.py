import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing.events import (
    CustomerDeleted,
    CustomerNamed,
    Flagged,
    Incomplete,
    InvoiceChanged,
    PriceRetired,
    SubscriptionChanged,
    Thin,
    read,
    triage,
)
from domain.billing.invoices import Invoice, Line, Trial, stretches
from domain.billing.subscriptions import Item
from domain.billing.tiers import Tier
from domain.errors import MalformedEvent
from domain.events.outcomes import IGNORED, MOST_DETAIL, Flag, Ignored, Priority, Status, explained
from simulators.kinds import KINDS
from simulators.personas import Persona, Shape
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription
from simulators.stripe.scenarios import lifecycle

AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
END = datetime(2026, 4, 1, 8, 0, tzinfo=UTC)
PERIOD = (AT, END)
TENANT = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
WHO = Persona(TENANT, "cus_1", "sub_1", "user_1", "ada@example.com", price_id="price_pro")

SHAPES: list[Shape] = ["acacia", "basil", "hybrid"]
in_every_shape = pytest.mark.parametrize("who", [replace(WHO, shape=shape) for shape in SHAPES], ids=SHAPES)


def changed(row: dict[str, Any], kind: str = "updated", **other: Any) -> SubscriptionChanged:
    fact = read(stripe_event(f"customer.subscription.{kind}", row, at=AT, **other))
    assert isinstance(fact, SubscriptionChanged)
    return fact


def bill(who: Persona = WHO, **other: Any) -> dict[str, Any]:
    return stripe_event("invoice.paid", invoice(who, PERIOD, at=AT, **other), at=AT, shape=who.shape)


def billed(body: dict[str, Any]) -> Invoice:
    fact = read(body)
    assert isinstance(fact, InvoiceChanged)
    return fact.invoice


def begun(body: dict[str, Any], trial: Trial | None = None) -> list[tuple[datetime, datetime]]:
    """The periods that begin once the invoice is paid."""
    return [(line.start, line.end) for line in stretches(billed(body), trial)]


# --- subscriptions


@in_every_shape
def test_a_subscription_reads_the_same_in_every_shape(who: Persona) -> None:
    fact = changed(subscription(who, AT, PERIOD))
    row = fact.subscription
    assert fact.tenant_hint == TENANT
    assert (row.id, row.customer_id, row.status, row.price_ids) == ("sub_1", "cus_1", "active", ("price_pro",))
    assert (row.started_at, row.billing_cycle_anchor, row.period_start, row.period_end) == (AT, AT, AT, END)
    assert (row.trial_end, row.cancel_at, row.ended_at) == (None, None, None)


@pytest.mark.parametrize(
    ("kind", "rank"),
    [("created", 0), ("updated", 1), ("paused", 1), ("resumed", 1), ("trial_will_end", 1), ("deleted", 2)],
)
def test_the_rank_follows_the_type(kind: str, rank: int) -> None:
    row = changed(subscription(WHO, AT, PERIOD), kind).subscription
    assert (row.event_created, row.event_rank) == (AT, rank)


def test_of_items_with_different_periods_the_first_end_counts() -> None:
    row = subscription(WHO, AT, PERIOD)
    yearly = copy.deepcopy(row["items"]["data"][0])
    yearly["current_period_end"] += 300 * 86_400
    yearly["price"] = {"id": "price_addon"}
    row["items"]["data"].insert(0, yearly)
    assert changed(row).subscription.period_end == END
    assert changed(row).subscription.price_ids == ("price_addon", "price_pro")
    assert changed(row).subscription.items[1] == Item("price_pro", AT, END)
    assert changed(row).subscription.items[0].end == END + timedelta(days=300)


def test_a_quantity_of_nothing_sells_nothing() -> None:
    row = subscription(replace(WHO, shape="hybrid"), AT, PERIOD, beside=("price_addon",))
    row["items"]["data"][0]["quantity"] = 0
    assert changed(row).subscription.price_ids == ("price_addon",)
    row["items"]["data"][1]["quantity"] = 0
    assert changed({**row, "plan": None}).subscription.price_ids == ()


@pytest.mark.parametrize("items", [None, {"has_more": True, "data": []}, {"data": None}])
def test_items_that_the_body_does_not_carry_are_missed_while_they_matter(items: Any) -> None:
    row = {**subscription(WHO, AT, PERIOD), "items": items}
    assert read(stripe_event("customer.subscription.updated", row, at=AT)) == Incomplete("data.object.items")
    assert changed({**row, "status": "canceled"}).subscription.price_ids == ()


def test_what_an_update_changed_is_read_as_the_row_before() -> None:
    row = subscription(WHO, AT, PERIOD, status="past_due", cancel_at=END)
    previous = {"status": "active", "cancel_at_period_end": False, "items": {"data": [{"price": {"id": "price_old"}}]}}
    fact = changed({**row, "cancel_at": None}, previous=previous).subscription
    assert fact.before is not None
    assert (fact.before.status, fact.before.price_ids, fact.before.cancel_at) == ("active", ("price_old",), None)
    assert (fact.before.period_end, fact.before.items) == (END, (Item("price_old", AT, END),))
    assert fact.active == fact.before
    assert changed(row, previous={"cancel_at": "x"}).subscription.before is None
    assert changed(row, previous={"items": {}}).subscription.before == replace(changed(row).subscription, before=None)


def test_collection_is_paused_since_the_event_that_tells_of_it() -> None:
    row = subscription(WHO, AT, PERIOD, pause_collection={"behavior": "void", "resumes_at": None})
    paused = changed(row, previous={"pause_collection": None}).subscription
    assert (paused.collection_paused, paused.paused_at, paused.paused_since) == (True, AT, AT)
    assert changed(row, previous={"metadata": {}}).subscription.paused_at is None
    assert not changed(subscription(WHO, AT, PERIOD)).subscription.collection_paused


def test_a_price_may_stand_under_its_old_name_or_be_an_id() -> None:
    row = subscription(replace(WHO, shape="acacia"), AT, PERIOD)
    row["items"]["data"][0]["price"] = None
    assert changed(row).subscription.price_ids == ("price_pro",)
    row["items"]["data"][0]["price"] = "price_pro"
    assert changed(row).subscription.price_ids == ("price_pro",)
    row["items"] = None
    assert changed(row).subscription.price_ids == ("price_pro",)


def test_an_expanded_customer_is_its_id() -> None:
    assert changed({**subscription(WHO, AT, PERIOD), "customer": {"id": "cus_9"}}).subscription.customer_id == "cus_9"


def test_a_scheduled_end_is_read_from_either_way_of_scheduling_it() -> None:
    row = subscription(WHO, AT, PERIOD)
    assert changed({**row, "cancel_at_period_end": True}).subscription.cancel_at == END
    assert changed({**row, "cancel_at": int(END.timestamp())}).subscription.cancel_at == END


def test_the_end_is_ended_at_and_not_when_someone_asked_for_it() -> None:
    asked = AT - timedelta(days=9)
    ended = subscription(WHO, AT, PERIOD, status="canceled", asked_to_end_at=asked, ended_at=END)
    assert changed(ended, "deleted").subscription.ended_at == END
    assert changed({**ended, "ended_at": None}, "deleted").subscription.ended_at == AT


def test_a_deleted_subscription_is_canceled_whatever_its_status_says() -> None:
    assert changed(subscription(WHO, AT, PERIOD), "deleted").subscription.status == "canceled"


def test_an_entitlement_without_ended_at_ends_with_the_event_that_tells_of_it() -> None:
    row = subscription(WHO, AT, PERIOD, status="unpaid")
    assert changed(row, previous={"status": "past_due"}).subscription.ended_at == AT
    assert changed(row, previous={"metadata": {}}).subscription.ended_at is None
    assert changed(row, previous={"status": "incomplete"}).subscription.ended_at is None
    paused = subscription(WHO, AT, PERIOD, status="paused")
    assert changed(paused, "paused").subscription.ended_at == AT


def test_an_entitled_subscription_needs_a_price_and_an_ended_one_does_not() -> None:
    row = {**subscription(WHO, AT, PERIOD), "items": {"data": []}}
    with pytest.raises(MalformedEvent, match=r"data.object.items.data: no item has a price"):
        changed(row)
    assert changed(row, "deleted").subscription.price_ids == ()


# --- hints


@pytest.mark.parametrize("key", ["tenantId", "tenant_id"])
def test_metadata_names_the_tenant_in_either_spelling(key: str) -> None:
    assert changed({**subscription(WHO, AT, PERIOD), "metadata": {key: str(TENANT)}}).tenant_hint == TENANT


@pytest.mark.parametrize("value", ["", "acme", 7, None, {"id": "x"}, "7c9e6679-7425-40de-944b"])
def test_a_hint_that_is_no_uuid_is_no_hint(value: Any) -> None:
    assert changed({**subscription(WHO, AT, PERIOD), "metadata": {"tenantId": value}}).tenant_hint is None


# --- checkout


def test_a_checkout_links_customer_and_tenant() -> None:
    body = stripe_event("checkout.session.completed", checkout_session(WHO, at=AT), at=AT)
    assert read(body) == CustomerNamed("cus_1", TENANT)


def test_a_checkout_may_name_the_tenant_by_client_reference_only() -> None:
    session = {**checkout_session(WHO, at=AT), "metadata": {}}
    assert read(stripe_event("checkout.session.completed", session, at=AT)) == CustomerNamed("cus_1", TENANT)


def test_a_checkout_that_sells_no_subscription_is_ignored() -> None:
    session = {**checkout_session(WHO, at=AT), "mode": "payment", "customer": None}
    assert read(stripe_event("checkout.session.completed", session, at=AT)) == Ignored(
        Status.IGNORED_CHECKOUT, "checkout of mode payment"
    )


# --- invoices


@in_every_shape
@pytest.mark.parametrize("reason", ["subscription_create", "subscription_cycle"])
def test_what_is_billed_is_read_from_the_line_in_every_shape(who: Persona, reason: str) -> None:
    fact = read(bill(who, billing_reason=reason))
    assert isinstance(fact, InvoiceChanged)
    read_bill = fact.invoice
    assert (read_bill.subscription_id, read_bill.customer_id) == ("sub_1", "cus_1")
    assert (read_bill.status, read_bill.reason) == ("paid", reason)
    assert read_bill.lines == (Line("price_pro", AT, END, who.unit_amount, proration=False),)
    assert (fact.customer_id, fact.tenant_hint) == ("cus_1", TENANT)


@in_every_shape
@pytest.mark.parametrize("reason", ["subscription_update", "subscription_threshold", "manual", None])
def test_other_reasons_begin_no_period(who: Persona, reason: str | None) -> None:
    body = bill(who)
    body["data"]["object"]["billing_reason"] = reason
    assert begun(body) == []


@in_every_shape
def test_a_proration_line_and_a_trials_zero_line_begin_no_period(who: Persona) -> None:
    assert begun(bill(who, proration=True)) == []
    free = bill(who, amount=0, billing_reason="subscription_create")
    assert begun(free) == [PERIOD]
    assert begun(free, Trial(None, END)) == []
    assert begun(free, Trial(AT - timedelta(days=9), AT)) == [PERIOD]
    assert begun(free, Trial(AT + timedelta(days=1), END)) == [PERIOD]


@in_every_shape
def test_a_renewal_with_prorations_of_last_month_counts_for_its_own_line(who: Persona) -> None:
    body = bill(who)
    lines = body["data"]["object"]["lines"]["data"]
    earlier = invoice(who, (AT - timedelta(days=9), AT), at=AT, proration=True)["lines"]["data"]
    lines[:0] = earlier
    assert begun(body) == [PERIOD]


@pytest.mark.parametrize("change", [{"proration": True}, {"period": {"start": 1_772_352_000, "end": 1_772_352_000}}])
def test_an_old_proration_and_a_line_without_duration_begin_no_period(change: dict[str, Any]) -> None:
    body = bill(replace(WHO, shape="acacia"))
    body["data"]["object"]["lines"]["data"][0].update(change)
    assert begun(body) == []


def test_a_coupon_that_pays_everything_still_pays() -> None:
    body = bill()
    body["data"]["object"].update(total=0, amount_due=0, amount_paid=0)
    assert begun(body) == [PERIOD]


def test_lines_of_other_things_do_not_count() -> None:
    body = bill()
    [line] = body["data"]["object"]["lines"]["data"]
    item_details = {"type": "invoice_item_details", "invoice_item_details": {"proration": False}}
    line["parent"] = {**item_details, "subscription_item_details": None}
    assert billed(body).lines == ()
    line["parent"] = {"type": "subscription_item_details", "subscription_item_details": {"subscription": "sub_2"}}
    assert billed(body).lines == ()
    line["parent"] = None
    line["quantity"] = 0
    assert billed(body).lines == ()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invoice.finalized", "open"),
        ("invoice.payment_failed", "open"),
        ("invoice.voided", "void"),
        ("invoice.marked_uncollectible", "uncollectible"),
        ("invoice.paid", "paid"),
    ],
)
def test_an_invoice_is_read_from_its_issue_on(kind: str, status: str) -> None:
    about = invoice(WHO, PERIOD, at=AT, status="open") | {"due_date": int(END.timestamp())}
    changed = billed(stripe_event(kind, about, at=AT))
    assert (changed.status, changed.due_at, changed.issued_at) == (status, END, AT)


@pytest.mark.parametrize(
    ("named_status", "status"), [("draft", "draft"), ("open", "open"), ("of_2031", "open"), (None, "open")]
)
def test_a_status_that_stripe_invents_for_an_invoice_is_open(named_status: str | None, status: str) -> None:
    about = invoice(WHO, PERIOD, at=AT, status="open") | {"status": named_status}
    assert billed(stripe_event("invoice.finalized", about, at=AT)).status == status


@pytest.mark.parametrize("lines", [None, "absent", {"data": [], "has_more": True}, {"data": None, "has_more": False}])
def test_lines_that_the_body_does_not_carry_are_missed(lines: Any) -> None:
    body = bill()
    about = body["data"]["object"]
    about["lines"] = lines
    if lines == "absent":
        del about["lines"]
    assert read(body) == Incomplete("data.object.lines")


def test_an_invoice_without_a_subscription_is_ignored() -> None:
    body = bill()
    body["data"]["object"]["parent"] = None
    assert read(body) == Ignored(Status.IGNORED_INVOICE)


def test_the_twin_of_invoice_paid_is_ignored() -> None:
    fact = read({**bill(), "type": "invoice.payment_succeeded"})
    assert isinstance(fact, Ignored)
    assert (fact.detail or "").startswith("use invoice.paid")


# --- the rest


def test_a_deleted_customer() -> None:
    changed = stripe_event("customer.deleted", customer(WHO, created_at=AT), at=AT)
    assert read(changed) == CustomerDeleted("cus_1", AT, WHO.tenant_id)
    bare = stripe_event("customer.deleted", {"id": "cus_1"}, at=AT)
    assert read(bare) == CustomerDeleted("cus_1", AT, None)


@pytest.mark.parametrize("kind", ["customer.created", "customer.updated"])
def test_a_customer_that_names_its_tenant_is_linked_to_it(kind: str) -> None:
    assert read(stripe_event(kind, customer(WHO, created_at=AT), at=AT)) == CustomerNamed("cus_1", WHO.tenant_id)
    assert isinstance(read(stripe_event(kind, {"id": "cus_1"}, at=AT)), Ignored)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("invoice.upcoming", "nothing has happened yet"),
        ("entitlements.active_entitlement_summary.updated", None),
        ("a.type.of.next.year", None),
    ],
)
def test_types_that_change_no_plan_are_ignored_by_name(kind: str, why: str | None) -> None:
    assert read(stripe_event(kind, {}, at=AT)) == Ignored(Status.IGNORED_TYPE, why)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("charge.refunded", Flag.REFUND),
        ("refund.updated", Flag.REFUND),
        ("charge.dispute.created", Flag.DISPUTE),
        ("radar.early_fraud_warning.created", Flag.FRAUD_WARNING),
    ],
)
def test_refunds_and_disputes_are_for_a_person(kind: str, flag: Flag) -> None:
    assert read(stripe_event(kind, {}, at=AT)) == Flagged(flag, kind)


def test_a_price_that_is_no_longer_sold_is_told() -> None:
    assert read(stripe_event("price.updated", {"id": "price_pro", "active": False}, at=AT)) == PriceRetired("price_pro")
    assert isinstance(read(stripe_event("price.updated", {"id": "price_pro", "active": True}, at=AT)), Ignored)


@pytest.mark.parametrize(
    ("kind", "worth_a_fetch"),
    [
        ("v1.customer.subscription.updated", True),
        ("v1.customer.subscription.past_due", True),
        ("v1.invoice.paid", True),
        ("v1.charge.dispute.created", True),
        ("v1.product.created", False),
        ("v2.core.account.updated", False),
    ],
)
def test_a_thin_event_is_worth_a_fetch_if_its_type_is_acted_on(kind: str, worth_a_fetch: bool) -> None:
    thin = {
        "id": "evt_1",
        "object": "v2.core.event",
        "type": kind,
        "created": "2026-10-01T00:00:00.000Z",
        "related_object": {"id": "sub_1", "type": "subscription", "url": "/v1/subscriptions/sub_1"},
    }
    assert isinstance(read(thin), Thin if worth_a_fetch else Ignored)


@pytest.mark.parametrize(("served", "sent", "why"), [(True, False, "test event"), (False, True, "live event")])
def test_an_event_of_the_other_mode_is_ignored(served: bool, sent: bool, why: str) -> None:
    body = stripe_event("customer.deleted", {"id": "cus_1"}, at=AT) | {"livemode": sent}
    fact = read(body, livemode=served)
    assert isinstance(fact, Ignored)
    assert fact.status == Status.IGNORED_MODE
    assert (fact.detail or "").startswith(why)
    assert isinstance(read(body, livemode=sent), CustomerDeleted)
    assert isinstance(read(body), CustomerDeleted)


def test_an_event_of_a_connected_account_is_ignored() -> None:
    assert read({**bill(), "account": "acct_1"}) == Ignored(Status.IGNORED_ACCOUNT)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("status", None, "data.object.status: missing"),
        ("customer", None, "data.object.customer: missing"),
        ("customer", 7, "data.object.customer: expected a word of visible ASCII, found int"),
        ("id", "sub\0", "data.object.id: expected a word of visible ASCII, found str"),
        ("items", [], "data.object.items: expected an object, found list"),
        ("items", {"data": {}}, "data.object.items.data: expected a list, found dict"),
        ("items", {"data": [7]}, r"data.object.items.data\[0\]: expected an object, found int"),
        ("start_date", "2026-01-01", "data.object.start_date: expected a whole number, found str"),
        ("start_date", True, "data.object.start_date: expected a whole number, found bool"),
        ("start_date", 10**15, "data.object.start_date: expected a time between 1970 and 3000, found int"),
        ("cancel_at_period_end", 1, "data.object.cancel_at_period_end: expected true or false, found int"),
    ],
)
def test_what_is_malformed_is_named(field: str, value: Any, complaint: str) -> None:
    with pytest.raises(MalformedEvent, match=f"^{complaint}$"):
        changed({**subscription(WHO, AT, PERIOD), field: value})


@pytest.mark.parametrize("body", [{}, {"type": None}, {"type": 7}, {"type": "invoice.paid", "data": "x"}])
def test_a_body_that_is_no_event_is_malformed(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        read(body)


# --- whatever comes

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["active", 0, -1]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "data", "object", "price", "period", "start", "x"]), children, max_size=3
        )
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from places(child, (*path, key))


def with_value(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    shallow = copy.copy(body)
    shallow[path[0]] = with_value(body[path[0]], path[1:], value)
    return shallow


REAL = [
    body
    for shape in SHAPES
    for body in lifecycle(replace(WHO, shape=shape), AT, dict.fromkeys(Tier, "price_pro"))
    + [kind.build(replace(WHO, shape=shape), AT) for kind in KINDS["stripe"].values()]
]
READ = {"created", "type", "account", "object", "data", "id", "customer", "items", "period", "start", "end", "parent"}
PLACES = [(body, path) for body in REAL for path in places(body) if READ & set(map(str, path[-1:])) or len(path) > 4]


@given(st.sampled_from(PLACES), json_values)
def test_any_json_in_any_place_gives_a_fact_or_names_the_field(
    place: tuple[dict[str, Any], tuple[Any, ...]], value: Any
) -> None:
    body, path = place
    with suppress(MalformedEvent):
        read(with_value(body, path, value))


EACH_KIND: list[Any] = [None, True, -1, 1.5, 10**30, "", "x\0", "\ud800", [], [None], {}, {"id": {}}]


@pytest.mark.proof
def test_no_value_of_no_kind_in_any_place_at_all_is_an_accident() -> None:
    """Every place of every body, with one value of each JSON kind: exhaustive where the property test samples."""
    for body in REAL:
        for path in places(body):
            for value in EACH_KIND:
                with suppress(MalformedEvent):
                    read(with_value(body, path, value))


@given(st.text(max_size=300), st.booleans())
def test_whatever_a_type_is_called_what_is_said_of_it_is_a_word(kind: str, live: bool) -> None:
    found = triage(kind)
    assert found in Priority if not isinstance(found, Ignored) else found.status == Status.IGNORED_TYPE
    with suppress(MalformedEvent):
        fact = read({"type": kind, "object": "event", "livemode": live, "created": 1}, livemode=True)
        assert not isinstance(fact, Ignored) or fact.status in IGNORED


@given(st.lists(st.text(max_size=400) | st.none(), max_size=4))
def test_a_detail_is_bounded(details: list[str | None]) -> None:
    text = explained(*details)
    assert text is None or 0 < len(text) <= MOST_DETAIL
