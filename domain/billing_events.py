"""Readers: the body of a Stripe event, a plain dict, becomes the one fact that billing needs of it.

They go by the presence of fields, never by `api_version`. Stripe moved many fields in 2025-03-31.basil (the billing
period to the subscription's items, an invoice's subscription to `parent`, a line's proration to its `parent`), an
event has the shape of its *endpoint's* version, and bodies that carry both shapes at once are real.

Whatever a body holds, `read` answers with a fact or raises MalformedEvent naming the field; never the field's value,
which may be a person's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.billing import ENTITLED, TERMINAL, PaidPeriod, Subscription
from domain.body import Field
from domain.errors import MalformedEvent


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    subscription: Subscription
    tenant_hint: UUID | None

    @property
    def customer_id(self) -> str:
        return self.subscription.customer_id


@dataclass(frozen=True, slots=True)
class CustomerNamed:
    """`customer.created` and `.updated`, where their metadata say whose the customer is."""

    customer_id: str
    tenant_hint: UUID


@dataclass(frozen=True, slots=True)
class CheckoutCompleted:
    """Says whose a customer is; whether anything was paid, the invoice says."""

    customer_id: str
    subscription_id: str | None
    tenant_hint: UUID | None


@dataclass(frozen=True, slots=True)
class InvoicePaid:
    """At least one period; several when items of one subscription are billed for different stretches."""

    customer_id: str
    periods: tuple[PaidPeriod, ...]
    tenant_hint: UUID | None


@dataclass(frozen=True, slots=True)
class CustomerDeleted:
    customer_id: str
    at: datetime
    tenant_hint: UUID | None


@dataclass(frozen=True, slots=True)
class Flagged:
    """Changes no plan, but a person should know."""

    reason: str


@dataclass(frozen=True, slots=True)
class PriceRetired:
    """Nobody can buy at this price any more: bad news if it is one of ours."""

    price_id: str


@dataclass(frozen=True, slots=True)
class Thin:
    """It says that something changed, and not to what: that has to be fetched."""

    type: str


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: str


OfCustomer = SubscriptionChanged | CheckoutCompleted | CustomerNamed | InvoicePaid | CustomerDeleted
Fact = OfCustomer | Flagged | PriceRetired | Thin | Ignored


def read(body: Mapping[str, Any], *, livemode: bool | None = None) -> Fact:
    """The fact in a Stripe event. Metadata's tenant is a hint: a stored mapping of the customer is stronger.

    `livemode` is the mode that this installation serves; None serves both.
    """
    event = Field(body)
    kind = event["type"].required(Field.word)
    sent_live = event["livemode"].value
    if livemode is not None and isinstance(sent_live, bool) and sent_live != livemode:
        return Ignored("test event on a live endpoint" if livemode else "live event on a test endpoint")
    if event["account"].value is not None:
        return Ignored("event of a connected account")
    if event["object"].value == "v2.core.event" or kind.startswith(("v1.", "v2.")):
        return _thin(kind)
    if kind in _RANKS:
        return _subscription_changed(event, kind)
    if kind.startswith(_FLAGGED):
        return Flagged(kind)
    reader = _READERS.get(kind)
    return reader(event) if reader else Ignored(_WHY_NOT.get(kind, f"unhandled type {kind}"))


def _thin(kind: str) -> Fact:
    """Worth a fetch if it is about something that is acted on. Of a subscription there are about fifty types."""
    snapshot = kind.removeprefix("v1.") if kind.startswith("v1.") else ""
    acted_on = snapshot.startswith(("customer.subscription.", *_FLAGGED)) or snapshot in _READERS
    return Thin(kind) if acted_on else Ignored(_WHY_NOT.get(snapshot, f"unhandled type {kind}"))


def _subscription_changed(event: Field, kind: str) -> Fact:
    row = event["data"]["object"]
    created = event["created"].required(Field.seconds)
    status = row["status"].required(Field.word)
    if kind == "customer.subscription.deleted" and status not in TERMINAL:
        status = "canceled"
    items = list(row["items"]["data"])
    prices = [price for item in items if (price := item["price"].id() or item["plan"].id())]
    prices = prices or [price for price in [row["plan"].id()] if price]
    if status in ENTITLED and not prices:
        raise MalformedEvent(f"{row.path}.items.data: no item has a price")
    start, end = _running_period(row, items)
    started_at = row["start_date"].seconds() or row["created"].seconds() or start or created
    cancel_at = row["cancel_at"].seconds() or (end if row["cancel_at_period_end"].flag() else None)
    subscription = Subscription(
        id=row["id"].required(Field.word),
        customer_id=_customer(row),
        status=status,
        price_ids=tuple(dict.fromkeys(prices)),
        started_at=started_at,
        billing_cycle_anchor=row["billing_cycle_anchor"].seconds() or started_at,
        period_start=start,
        period_end=end,
        trial_end=row["trial_end"].seconds(),
        cancel_at=cancel_at,
        ended_at=_ended_at(event, kind, status, created),
        event_created=created,
        event_rank=_RANKS[kind],
    )
    return SubscriptionChanged(subscription, _hint(row["metadata"]))


def _running_period(row: Field, items: list[Field]) -> tuple[datetime | None, datetime | None]:
    """On the subscription before basil, on its items since; of items that differ, the one that ends first, because
    nothing promises more than that."""
    periods = []
    for place in (row, *items):
        start, end = place["current_period_start"].seconds(), place["current_period_end"].seconds()
        if start and end:
            periods.append((start, end))
    return min(periods, key=lambda period: (period[1], period[0]), default=(None, None))


def _ended_at(event: Field, kind: str, status: str, created: datetime) -> datetime | None:
    """When the entitlement ended, on the event that tells of it.

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
        return Ignored(f"checkout of mode {mode}")
    hint = _hint(session["metadata"]) or _uuid(session["client_reference_id"])
    return CheckoutCompleted(_customer(session), session["subscription"].id(), hint)


def _invoice_paid(event: Field) -> Fact:
    """Only an invoice that begins a period of a subscription counts: not a proration, not a trial's $0, not one
    written by hand. Its own `period_start`/`period_end` are the *previous* period; what was paid for is on the line."""
    invoice = event["data"]["object"]
    details = invoice["parent"]["subscription_details"]
    subscription_id = invoice["subscription"].id() or details["subscription"].id()
    if subscription_id is None:
        return Ignored("invoice without a subscription")
    reason = invoice["billing_reason"].word()
    if reason not in _BEGINS_A_PERIOD:
        return Ignored(f"invoice of billing_reason {reason}")
    ends: dict[datetime, datetime] = {}
    for line in invoice["lines"]["data"]:
        if _counts(line, subscription_id):
            start = line["period"]["start"].required(Field.seconds)
            end = line["period"]["end"].required(Field.seconds)
            # Of lines that begin together (a yearly add-on, say) the first end is what all of them cover.
            if end > start:
                ends[start] = min(end, ends.get(start, end))
    if not ends:
        return Ignored("invoice without a paid line that begins a period")
    customer_id, invoice_id = _customer(invoice), invoice["id"].required(Field.word)
    periods = [PaidPeriod(subscription_id, start, ends[start], customer_id, invoice_id) for start in sorted(ends)]
    hint = _hint(details["metadata"]) or _hint(invoice["subscription_details"]["metadata"])
    return InvoicePaid(customer_id, tuple(periods), hint)


def _counts(line: Field, subscription_id: str) -> bool:
    """A line of this subscription's item, not a proration, with a price to pay: a trial's line says amount 0, one
    that a coupon paid for says its full amount."""
    parent = line["parent"]
    item = parent["subscription_item_details"]
    if line["proration"].flag() or item["proration"].flag() or parent["invoice_item_details"]["proration"].flag():
        return False
    if (line["type"].word() or parent["type"].word() or "subscription") not in _OF_A_SUBSCRIPTION:
        return False
    if (line["subscription"].id() or item["subscription"].id() or subscription_id) != subscription_id:
        return False
    amount = line["amount"].whole()
    return amount is None or amount > 0


def _customer_deleted(event: Field) -> Fact:
    customer = event["data"]["object"]
    at = event["created"].required(Field.seconds)
    return CustomerDeleted(customer["id"].required(Field.word), at, _hint(customer["metadata"]))


def _customer_named(event: Field) -> Fact:
    customer = event["data"]["object"]
    hint = _hint(customer["metadata"])
    if hint is None:
        return Ignored("customer names no tenant")
    return CustomerNamed(customer["id"].required(Field.word), hint)


def _price_updated(event: Field) -> Fact:
    price = event["data"]["object"]
    price_id = price.id() if price["active"].value is False else None
    return PriceRetired(price_id) if price_id else Ignored("price is for sale")


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
_BEGINS_A_PERIOD = ("subscription_create", "subscription_cycle")
_OF_A_SUBSCRIPTION = ("subscription", "subscription_item_details")
_READERS: Mapping[str, Callable[[Field], Fact]] = {
    "checkout.session.completed": _checkout_completed,
    "checkout.session.async_payment_succeeded": _checkout_completed,
    "checkout.session.async_payment_failed": _checkout_completed,
    "customer.created": _customer_named,
    "customer.updated": _customer_named,
    "customer.deleted": _customer_deleted,
    "invoice.paid": _invoice_paid,
    "price.updated": _price_updated,
    "price.deleted": _price_deleted,
}
_FLAGGED = ("charge.refunded", "charge.dispute.", "charge.refund.", "refund.", "radar.early_fraud_warning.")
_STATUS_FOLLOWS = "its subscription tells the status"
_WHY_NOT = {
    "invoice.payment_succeeded": "use invoice.paid: it also covers invoices paid out of band",
    "invoice.payment_failed": _STATUS_FOLLOWS,
    "invoice.payment_action_required": _STATUS_FOLLOWS,
    "invoice.marked_uncollectible": _STATUS_FOLLOWS,
    "invoice.voided": _STATUS_FOLLOWS,
    "invoice.upcoming": "nothing has happened yet",
}
