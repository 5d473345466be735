"""Readers: the body of a Stripe event, a plain dict, becomes the one fact that billing needs of it.

They go by the presence of fields, never by `api_version`. Stripe moved many fields in 2025-03-31.basil (the billing
period to the subscription's items, an invoice's subscription to `parent`, a line's proration to its `parent`), an
event has the shape of its *endpoint's* version, and bodies that carry both shapes at once are real.

Whatever a body holds, `read` answers with a fact or raises MalformedEvent naming the field; never the field's value,
which may be a person's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.billing.invoices import OPEN, PAID, STATUSES, UNCOLLECTIBLE, VOID, Invoice, Line
from domain.billing.subscriptions import ENTITLED, TERMINAL, Item, Subscription
from domain.errors import MalformedEvent
from domain.events.body import Field
from domain.events.outcomes import Flag, Ignored, Priority, Status


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    subscription: Subscription
    tenant_hint: UUID | None

    @property
    def customer_id(self) -> str:
        return self.subscription.customer_id


@dataclass(frozen=True, slots=True)
class CustomerNamed:
    """A customer or a checkout that names the tenant. Whether anything was paid, the invoice says."""

    customer_id: str
    tenant_hint: UUID | None


@dataclass(frozen=True, slots=True)
class InvoiceChanged:
    """An invoice of a subscription: issued, paid, given up."""

    invoice: Invoice
    tenant_hint: UUID | None

    @property
    def customer_id(self) -> str:
        return self.invoice.customer_id


@dataclass(frozen=True, slots=True)
class CustomerDeleted:
    customer_id: str
    at: datetime
    tenant_hint: UUID | None


@dataclass(frozen=True, slots=True)
class Flagged:
    """An event that changes no plan, but that a person should know of."""

    flag: Flag
    type: str


@dataclass(frozen=True, slots=True)
class PriceRetired:
    """Nobody can buy at this price any more, which matters if the price is one of ours."""

    price_id: str


@dataclass(frozen=True, slots=True)
class Thin:
    """An event that says that something changed, and not to what: that has to be fetched."""

    type: str


@dataclass(frozen=True, slots=True)
class Incomplete:
    """More lines or items belong to the object than its body carries: the whole has to be fetched. `path` is where."""

    path: str


OfCustomer = SubscriptionChanged | CustomerNamed | InvoiceChanged | CustomerDeleted
Fact = OfCustomer | Flagged | PriceRetired | Thin | Incomplete | Ignored


def read(body: Mapping[str, Any], *, livemode: bool | None = None) -> Fact:
    """Return the fact in a Stripe event. Metadata's tenant is a hint: a stored mapping of the customer is stronger.

    `livemode` is the mode that this installation serves; None serves both.
    """
    event = Field(body)
    kind = event["type"].required(Field.word)
    sent_live = event["livemode"].value
    if livemode is not None and isinstance(sent_live, bool) and sent_live != livemode:
        which = "test event on a live endpoint" if livemode else "live event on a test endpoint"
        return Ignored(Status.IGNORED_MODE, which)
    if event["account"].value is not None:
        return Ignored(Status.IGNORED_ACCOUNT)
    if isinstance(unhandled := triage(kind), Ignored):
        return unhandled
    if _is_thin(kind):
        return Thin(kind)
    if event["object"].value == "v2.core.event":
        return Ignored(Status.IGNORED_TYPE)
    if kind in _RANKS:
        return _subscription_changed(event, kind)
    if kind in _INVOICES:
        return _invoice_changed(event, kind)
    if flag := _flag(kind):
        return Flagged(flag, kind)
    return _READERS[kind](event)


def triage(kind: str) -> Priority | Ignored:
    """Say how urgent an event of this type is, or that nothing follows from any of them.

    A thin event is worth a fetch if it is about something that is acted on. Of a subscription there are about fifty
    types.
    """
    snapshot = kind.removeprefix("v1.")
    acted_on = snapshot in _RANKS or snapshot in _INVOICES or snapshot in _READERS or _flag(snapshot) is not None
    if acted_on or (_is_thin(kind) and snapshot.startswith("customer.subscription.")):
        return Priority.BILLING
    return Ignored(Status.IGNORED_TYPE, _WHY_NOT.get(snapshot))


def _is_thin(kind: str) -> bool:
    return kind.startswith(("v1.", "v2."))


def _flag(kind: str) -> Flag | None:
    return next((flag for beginning, flag in _FLAGS.items() if kind.startswith(beginning)), None)


def _subscription_changed(event: Field, kind: str) -> Fact:
    about, previous = event["data"]["object"], event["data"]["previous_attributes"]
    created = event["created"].required(Field.seconds)
    row = _subscription(about, kind, created)
    if row.entitled and _is_partial(about["items"], named=bool(about["plan"].id())):
        return Incomplete(about["items"].path)
    named = [*filter(None, map(_price, about["items"]["data"])), about["plan"].id()]
    if row.entitled and not any(named):
        raise MalformedEvent(f"{about.path}.items.data: no item has a price")
    before = _before(about, previous, kind, created)
    paused_now = row.collection_paused and before is not None and not before.collection_paused
    ended_at = _ended_at(event, kind, row.status, created)
    row = replace(
        row,
        ended_at=ended_at,
        left_at=None if row.status in TERMINAL else ended_at,
        paused_at=created if paused_now else None,
        before=before,
        active=_last_active(row, before),
    )
    return SubscriptionChanged(row, _hint(about["metadata"]))


def _last_active(row: Subscription, before: Subscription | None) -> Subscription | None:
    """Return the newest row with the status `active` that the event tells of.

    For a customer who pays by themselves, what the subscription was before says nothing: it is `active` from the start,
    and `past_due` because it was not paid.
    """
    if row.status == "active":
        return row
    return before if before and before.status == "active" and not row.sends_invoices else None


def _subscription(about: Field, kind: str, created: datetime) -> Subscription:
    status = about["status"].required(Field.word)
    if kind == "customer.subscription.deleted" and status not in TERMINAL:
        status = "canceled"
    listed = list(about["items"]["data"])
    sold = [item for item in listed if item["quantity"].whole() != 0]
    items = tuple(Item(price, *_period(item)) for item in sold if (price := _price(item)))
    alone = about["plan"].id() if len(sold) == len(listed) and about["quantity"].whole() != 0 else None
    prices = [item.price_id for item in items] or ([alone] if alone else [])
    start, end = _running_period(about)
    started_at = about["start_date"].seconds() or about["created"].seconds() or start or created
    cancel_at = about["cancel_at"].seconds() or (end if about["cancel_at_period_end"].flag() else None)
    return Subscription(
        id=about["id"].required(Field.word),
        customer_id=_customer(about),
        status=status,
        price_ids=tuple(dict.fromkeys(prices)),
        started_at=started_at,
        billing_cycle_anchor=about["billing_cycle_anchor"].seconds() or started_at,
        period_start=start,
        period_end=end,
        trial_end=about["trial_end"].seconds(),
        cancel_at=cancel_at,
        ended_at=None,
        event_created=created,
        event_rank=_RANKS[kind],
        items=items if any(item.end for item in items) else (),
        trial_start=about["trial_start"].seconds(),
        sends_invoices=about["collection_method"].word() == "send_invoice",
        days_until_due=_days(about["days_until_due"]),
        collection_paused=about["pause_collection"].value is not None,
    )


def _before(about: Field, previous: Field, kind: str, created: datetime) -> Subscription | None:
    """Return the row with the values that the event changed, as `previous_attributes` name them; None if these cannot
    be read. Of an item they may name the changed parts only."""
    if not isinstance(previous.value, Mapping) or not isinstance(about.value, Mapping):
        return None
    values = dict(about.value) | dict(previous.value)
    try:
        now, was = list(about["items"]["data"]), list(previous["items"]["data"])
        items = [_overlaid(now, item, n) for n, item in enumerate(was)] or [item.value for item in now]
        values["items"] = {"data": items}
        return _subscription(Field(values, about.path), kind, created)
    except MalformedEvent:
        return None


def _overlaid(now: list[Field], was: Field, n: int) -> Any:
    """Return the item as it was: over the item of the same id as it is, or of the same place where it names none."""
    name = was["id"].value
    same = [item for item in now if item["id"].value == name] if name is not None else now[n : n + 1]
    if not isinstance(was.value, Mapping):
        raise was.malformed("an object")
    return {**((same[0].value if same else None) or {}), **was.value}


def _price(item: Field) -> str | None:
    return item["price"].id() or item["plan"].id()


def _is_partial(listed: Field, *, named: bool = False) -> bool:
    """Return whether the list that a body carries is not the whole one: there are more pages, or it is not there at all
    (unless its only member is `named` elsewhere)."""
    return listed["has_more"].flag() or (listed["data"].value is None and not named)


def _days(field: Field) -> int | None:
    days = field.whole()
    if days is not None and not 0 <= days <= 3650:
        raise field.malformed("a number of days")
    return days


def _period(place: Field) -> tuple[datetime | None, datetime | None]:
    start, end = place["current_period_start"].seconds(), place["current_period_end"].seconds()
    return (start, end) if start and end else (None, None)


def _running_period(row: Field) -> tuple[datetime | None, datetime | None]:
    """Return the period of the subscription: its own before basil, that of its items since. Of items that differ, the
    one that ends first counts, because nothing promises more than that. (Which item sells the plan, the settings say:
    `domain.billing.standing.plan_period`.)"""
    found = [_period(place) for place in (row, *row["items"]["data"])]
    periods = [(start, end) for start, end in found if start and end]
    return min(periods, key=lambda period: (period[1], period[0])) if periods else (None, None)


def _ended_at(event: Field, kind: str, status: str, created: datetime) -> datetime | None:
    """Return when the entitlement ended, on the event that tells of it.

    Stripe says `ended_at` for terminal statuses only (`canceled_at` is when someone asked for the end). `unpaid` and
    `paused` begin with the event whose `previous_attributes` name an entitled status; later events do not say since
    when, so they carry nothing.
    """
    if status in TERMINAL:
        return event["data"]["object"]["ended_at"].seconds() or created
    was = event["data"]["previous_attributes"]["status"].word()
    left = status not in ENTITLED and (was in ENTITLED or kind == "customer.subscription.paused")
    return created if left else None


def _checkout_completed(event: Field) -> Fact:
    session = event["data"]["object"]
    mode = session["mode"].word() or "subscription"
    if mode != "subscription":
        return Ignored(Status.IGNORED_CHECKOUT, f"checkout of mode {mode}")
    hint = _hint(session["metadata"]) or _uuid(session["client_reference_id"])
    return CustomerNamed(_customer(session), hint)


def _invoice_changed(event: Field, kind: str) -> Fact:
    """Read the whole invoice, with all lines of this subscription. Its own `period_start`/`period_end` are the
    *previous* period; what is billed is on the line."""
    invoice = event["data"]["object"]
    details = invoice["parent"]["subscription_details"]
    subscription_id = invoice["subscription"].id() or details["subscription"].id()
    if subscription_id is None:
        return Ignored(Status.IGNORED_INVOICE)
    if _is_partial(invoice["lines"]):
        return Incomplete(invoice["lines"].path)
    created = event["created"].required(Field.seconds)
    status = invoice["status"].word()
    lines = [line for line in map(_line, _sold(invoice["lines"]["data"], subscription_id)) if line]
    changed = Invoice(
        id=invoice["id"].required(Field.word),
        subscription_id=subscription_id,
        customer_id=_customer(invoice),
        status=_INVOICES[kind] or (status if status in STATUSES else OPEN),
        reason=invoice["billing_reason"].word(),
        issued_at=invoice["created"].seconds() or created,
        due_at=invoice["due_date"].seconds(),
        lines=tuple(sorted(set(lines), key=repr)),
        event_created=created,
    )
    hint = _hint(details["metadata"]) or _hint(invoice["subscription_details"]["metadata"])
    return InvoiceChanged(changed, hint)


def _sold(lines: Field, subscription_id: str) -> Iterator[Field]:
    """Return the lines of this subscription's items, without what a person wrote on the invoice by hand."""
    for line in lines:
        parent = line["parent"]
        item = parent["subscription_item_details"]
        of = line["subscription"].id() or item["subscription"].id() or subscription_id
        kind = line["type"].word() or parent["type"].word() or "subscription"
        ours = kind in _OF_A_SUBSCRIPTION or _is_proration(line)
        if ours and of == subscription_id and line["quantity"].whole() != 0:
            yield line


def _line(line: Field) -> Line | None:
    start, end = line["period"]["start"].seconds(), line["period"]["end"].seconds()
    price = line["pricing"]["price_details"]["price"].id() or line["price"].id() or line["plan"].id()
    if start is None or end is None:
        return None
    return Line(price, start, end, line["amount"].whole(), _is_proration(line))


def _is_proration(line: Field) -> bool:
    parent = line["parent"]
    places = (line, parent["subscription_item_details"], parent["invoice_item_details"])
    return any(place["proration"].flag() for place in places)


def _customer_deleted(event: Field) -> Fact:
    customer = event["data"]["object"]
    at = event["created"].required(Field.seconds)
    return CustomerDeleted(customer["id"].required(Field.word), at, _hint(customer["metadata"]))


def _customer_named(event: Field) -> Fact:
    customer = event["data"]["object"]
    hint = _hint(customer["metadata"])
    if hint is None:
        return Ignored(Status.IGNORED_CUSTOMER)
    return CustomerNamed(customer["id"].required(Field.word), hint)


def _price_updated(event: Field) -> Fact:
    price = event["data"]["object"]
    price_id = price.id() if price["active"].value is False else None
    return PriceRetired(price_id) if price_id else Ignored(Status.IGNORED_FOR_SALE)


def _price_deleted(event: Field) -> Fact:
    return PriceRetired(event["data"]["object"]["id"].required(Field.word))


def _customer(place: Field) -> str:
    return place["customer"].id() or place["customer"].required(lambda _: place["customer_account"].id())


def _hint(metadata: Field) -> UUID | None:
    return _uuid(metadata["tenantId"]) or _uuid(metadata["tenant_id"])


def _uuid(field: Field) -> UUID | None:
    """A hint that is no UUID is no hint: metadata and client_reference_id are free text."""
    try:
        return UUID(field.value) if isinstance(field.value, str) else None
    except ValueError:
        return None


_RANKS = {
    "customer.subscription.created": 0,
    "customer.subscription.updated": 1,
    "customer.subscription.paused": 1,
    "customer.subscription.resumed": 1,
    "customer.subscription.trial_will_end": 1,
    "customer.subscription.pending_update_applied": 1,
    "customer.subscription.pending_update_expired": 1,
    "customer.subscription.deleted": 2,
}
_INVOICES: Mapping[str, str | None] = {
    "invoice.paid": PAID,
    "invoice.voided": VOID,
    "invoice.marked_uncollectible": UNCOLLECTIBLE,
    "invoice.finalized": None,
    "invoice.sent": None,
    "invoice.overdue": None,
    "invoice.payment_failed": None,
    "invoice.payment_action_required": None,
}
"""The status that each type gives an invoice; None: its own status counts. One that Stripe invents tomorrow is open."""
_OF_A_SUBSCRIPTION = ("subscription", "subscription_item_details")
_READERS: Mapping[str, Callable[[Field], Fact]] = {
    "checkout.session.completed": _checkout_completed,
    "checkout.session.async_payment_succeeded": _checkout_completed,
    "checkout.session.async_payment_failed": _checkout_completed,
    "customer.created": _customer_named,
    "customer.updated": _customer_named,
    "customer.deleted": _customer_deleted,
    "price.updated": _price_updated,
    "price.deleted": _price_deleted,
}
_FLAGS: Mapping[str, Flag] = {
    "charge.refunded": Flag.REFUND,
    "charge.refund.": Flag.REFUND,
    "refund.": Flag.REFUND,
    "charge.dispute.": Flag.DISPUTE,
    "radar.early_fraud_warning.": Flag.FRAUD_WARNING,
}
"""The flag for a person, by the beginning of the type."""
_WHY_NOT = {
    "invoice.payment_succeeded": "use invoice.paid: it also covers invoices paid out of band",
    "invoice.upcoming": "nothing has happened yet",
}
