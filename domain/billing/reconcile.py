"""What Stripe's own books say, held against our mirror of them.

A difference is repaired by telling it to the mirror as an event, so that there is one way in which it changes, and so
that whoever derives everything from the stored events again gets the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice
from domain.billing.plan import CONTENT, LIFE, TERMINAL, Subscription
from domain.errors import MalformedEvent
from domain.events.body import Field

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """`changes`: field → (ours, Stripe's). `event` is what to tell the mirror; None if that would not help."""

    kind: str
    id: str
    customer_id: str | None
    event: Json | None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def as_event(kind: str, about: Json, *, at: datetime, event_id: str | None = None) -> dict[str, Any]:
    """A snapshot event of this type, as if Stripe had sent it: the object as it was `at` (not earlier)."""
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
    """A listed subscription as the mirror would have it, and the event that would tell it.

    Raises:
        MalformedEvent: Stripe's answer lacks something.
    """
    event = as_event("customer.subscription.updated", about, at=as_of)
    fact = read(event)
    if not isinstance(fact, SubscriptionChanged):
        raise MalformedEvent("Stripe lists something among the subscriptions that is none")
    return fact.subscription, event


def read_invoice(about: Json, as_of: datetime) -> tuple[Invoice | None, Json]:
    """A listed, paid invoice as the mirror would have it (None if it is of no subscription), and the event that would
    tell it.

    Raises:
        MalformedEvent: Stripe's answer lacks something.
    """
    event = as_event("invoice.paid", about, at=as_of)
    fact = read(event)
    return (fact.invoice if isinstance(fact, InvoiceChanged) else None), event


def compare_subscription(ours: Subscription | None, theirs: Subscription, event: Json) -> Difference | None:
    """None if they agree, or if ours is not older. What is over does not begin again, whatever it is told."""
    if ours is None:
        return Difference("subscription", theirs.id, theirs.customer_id, event, {"status": (None, theirs.status)})
    if ours.event_created >= theirs.event_created:
        return None
    # The release before kept no items; they come with the next event.
    names = [name for name in CONTENT if name != "items" or ours.items]
    pairs = {name: (_comparable(ours, name), _comparable(theirs, name)) for name in names}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if not changes:
        return None
    hopeless = (ours.status in TERMINAL and theirs.status not in TERMINAL) or theirs.status not in LIFE
    return Difference("subscription", theirs.id, theirs.customer_id, None if hopeless else event, changes)


def compare_invoice(ours: Invoice | None, theirs: Invoice, event: Json) -> Difference | None:
    """None if we know that it was paid, and for what."""
    if ours is None:
        return Difference("invoice", theirs.id, theirs.customer_id, event, {"status": (None, theirs.status)})
    pairs = {"status": (ours.status, theirs.status), "lines": (_said(ours.lines), _said(theirs.lines))}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return Difference("invoice", theirs.id, theirs.customer_id, event, changes) if changes else None


def gone(subscription_id: str, customer_id: str) -> Difference:
    """We have it running, and Stripe does not have it at all: another account's, or another mode's, key was asked."""
    return Difference("subscription", subscription_id, customer_id, None, {"at Stripe": ("running", None)})


def unreadable(kind: str, about: Json, error: MalformedEvent) -> Difference:
    """One odd object is a difference, and no reason not to compare the others."""
    return Difference(kind, str(about.get("id")), None, None, {"unreadable": (None, str(error))})


def missed_event(event: Json) -> Difference:
    """Stripe could not deliver it, and we do not have it."""
    return Difference("event", str(event["id"]), subject(event), event, {str(event["type"]): (None, event["id"])})


def subject(event: Json) -> str | None:
    """The customer that an event of `as_event` is about."""
    about = Field(event)["data"]["object"]
    return about["id"].id() if about["object"].value == "customer" else about["customer"].id()


def _comparable(row: Subscription, name: str) -> Any:
    """Stripe's order of the items says nothing."""
    value = getattr(row, name)
    return sorted(_said(value)) if isinstance(value, tuple) else value


def _said(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]
