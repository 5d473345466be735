"""Stripe's own books compared with our mirror of them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice
from domain.billing.subscriptions import CONTENT, STATUSES, TERMINAL, Subscription
from domain.errors import MalformedEvent
from domain.events.body import Field
from domain.events.difference import Changes, Difference, Json, changed


def as_event(kind: str, about: Json, *, at: datetime, event_id: str | None = None) -> dict[str, Any]:
    """Make a snapshot event of this type, as if Stripe had sent it: the object as it was `at` (not earlier)."""
    stamp = int(at.timestamp())
    return {
        "id": event_id or f"reconcile_{about.get('id')}_{stamp}",
        "object": "event",
        "api_version": None,
        "created": stamp,
        "data": {"object": about},
        "livemode": about.get("livemode"),
        "type": kind,
    }


def read_subscription(about: Json, as_of: datetime) -> tuple[Subscription, Json]:
    """Return a listed subscription as the mirror would have it, and the event that would bring it there.

    Raises:
        MalformedEvent: Stripe's answer lacks something.
    """
    event = as_event("customer.subscription.updated", about, at=as_of)
    fact = read(event)
    if not isinstance(fact, SubscriptionChanged):
        raise MalformedEvent("Stripe lists something among the subscriptions that is none")
    return fact.subscription, event


def read_invoice(about: Json, as_of: datetime) -> tuple[Invoice | None, Json]:
    """Return a listed, paid invoice as the mirror would have it (None if it is of no subscription), and the event that
    would bring it there.

    Raises:
        MalformedEvent: Stripe's answer lacks something.
    """
    event = as_event("invoice.paid", about, at=as_of)
    fact = read(event)
    return (fact.invoice if isinstance(fact, InvoiceChanged) else None), event


def compare_subscription(ours: Subscription | None, theirs: Subscription, event: Json) -> Difference | None:
    """Return None if both agree, or if ours is not older. A subscription that is over does not begin again, so no
    event repairs that."""
    if ours is None:
        return _difference("subscription", theirs, event, {"status": (None, theirs.status)})
    if ours.event_created >= theirs.event_created:
        return None
    # The release before kept no items; they come with the next event.
    names = [name for name in CONTENT if name != "items" or ours.items]
    changes = changed(_comparable(ours, names), _comparable(theirs, names))
    if not changes:
        return None
    hopeless = (ours.status in TERMINAL and theirs.status not in TERMINAL) or theirs.status not in STATUSES
    return _difference("subscription", theirs, None if hopeless else event, changes)


def compare_invoice(ours: Invoice | None, theirs: Invoice, event: Json) -> Difference | None:
    """Return None if we know that the invoice was paid, and for what."""
    if ours is None:
        return _difference("invoice", theirs, event, {"status": (None, theirs.status)})
    changes = changed(_comparable(ours, ("status", "lines")), _comparable(theirs, ("status", "lines")))
    return _difference("invoice", theirs, event, changes) if changes else None


def gone(subscription_id: str, customer_id: str) -> Difference:
    """Return the difference of a subscription that we have running and Stripe does not have at all: the key of another
    account, or of another mode, was used."""
    return Difference("stripe", "subscription", subscription_id, customer_id, None, {"at Stripe": ("running", None)})


def missed_event(event: Json) -> Difference:
    """Return the difference of an event that Stripe could not deliver and that we do not have."""
    changes = {str(event["type"]): (None, event["id"])}
    return Difference("stripe", "event", str(event["id"]), subject(event), event, changes)


def subject(event: Json) -> str | None:
    """Return the customer that an event is about."""
    about = Field(event)["data"]["object"]
    return about["id"].id() if about["object"].value == "customer" else about["customer"].id()


def _difference(kind: str, theirs: Subscription | Invoice, event: Json | None, changes: Changes) -> Difference:
    return Difference("stripe", kind, theirs.id, theirs.customer_id, event, changes)


def _comparable(row: Subscription | Invoice, names: Iterable[str]) -> dict[str, Any]:
    """Return these fields as they are compared and shown. The order of Stripe's lists says nothing."""
    values = {name: getattr(row, name) for name in names}
    return {name: sorted(map(str, each)) if isinstance(each, tuple) else each for name, each in values.items()}
