"""The events that can be sent by hand (`viral dev send-event`), by source and type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from domain.quota.quota import add_months
from simulators.clerk.events import (
    clerk_deleted_organization,
    clerk_deleted_user,
    clerk_event,
    clerk_membership,
    clerk_organization,
    clerk_session,
    clerk_user,
)
from simulators.personas import Body, Persona
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription

Build = Callable[[Persona, datetime], Body]


@dataclass(frozen=True)
class Kind:
    """An event that can be sent by hand: it happens now, to this persona."""

    description: str
    build: Build


def _subscribed(status: str) -> Build:
    def about(who: Persona, at: datetime) -> Body:
        over = at if status == "canceled" else None
        return subscription(who, at, (at, add_months(at, 1)), status=status, asked_to_end_at=over, ended_at=over)

    return about


def _billed(status: str) -> Build:
    def about(who: Persona, at: datetime) -> Body:
        return invoice(who, (at, add_months(at, 1)), at=at, billing_reason="subscription_create", status=status)

    return about


STRIPE: dict[str, tuple[str, Build]] = {
    "checkout.session.completed": (
        "a customer of this tenant finished a checkout",
        lambda who, at: checkout_session(who, at=at),
    ),
    "customer.subscription.created": ("a subscription began and is not yet paid", _subscribed("incomplete")),
    "customer.subscription.updated": ("a subscription is active at this price", _subscribed("active")),
    "customer.subscription.deleted": ("a subscription ended now", _subscribed("canceled")),
    "customer.deleted": ("a customer was deleted", lambda who, at: customer(who, created_at=at)),
    "invoice.paid": ("the month from now on was paid", _billed("paid")),
    "invoice.payment_succeeded": ("the twin of invoice.paid, which is ignored", _billed("paid")),
    "invoice.payment_failed": ("a charge was declined", _billed("open")),
}
CLERK: dict[str, tuple[str, Build]] = {
    "user.created": ("a person signed up", lambda who, at: clerk_user(who, created_at=at)),
    "user.updated": ("a person changed", lambda who, at: clerk_user(who, created_at=at)),
    "user.banned": (
        "a person was banned: a user.updated",
        lambda who, at: clerk_user(who, created_at=at, banned=True),
    ),
    "user.unbanned": ("a ban was lifted: a user.updated", lambda who, at: clerk_user(who, created_at=at)),
    "user.deleted": ("a person's account was deleted", lambda who, at: clerk_deleted_user(who)),
    "session.created": ("a person signed in", lambda who, at: clerk_session(who, created_at=at)),
    "organization.created": ("an organization was made", lambda who, at: clerk_organization(who, created_at=at)),
    "organization.deleted": ("the organization was deleted", lambda who, at: clerk_deleted_organization(who)),
    "organizationMembership.created": (
        "the person joined the organization",
        lambda who, at: clerk_membership(who, created_at=at),
    ),
    "organizationMembership.deleted": (
        "the person left the organization",
        lambda who, at: clerk_membership(who, created_at=at),
    ),
}
SENT_AS = {"user.banned": "user.updated", "user.unbanned": "user.updated"}
"""Clerk has no event of its own for these."""


def _stripe_event(kind: str, about: Build, who: Persona, at: datetime) -> Body:
    previous: Body | None = {} if kind.endswith(".updated") else None
    return stripe_event(kind, about(who, at), at=at, shape=who.shape, previous=previous)


def _clerk_event(kind: str, about: Build, who: Persona, at: datetime) -> Body:
    return clerk_event(SENT_AS.get(kind, kind), about(who, at), at=at)


KINDS: Mapping[str, Mapping[str, Kind]] = {
    "stripe": {kind: Kind(text, partial(_stripe_event, kind, about)) for kind, (text, about) in STRIPE.items()},
    "clerk": {kind: Kind(text, partial(_clerk_event, kind, about)) for kind, (text, about) in CLERK.items()},
}
