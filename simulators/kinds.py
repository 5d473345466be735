"""What can be sent by hand (`viral dev send`), by source and type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

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


@dataclass(frozen=True)
class Kind:
    """An event that can be sent by hand: happening now, to these people."""

    description: str
    build: Callable[[Persona, datetime], Body]


def _stripe(kind: str, description: str, about: Callable[[Persona, datetime], Body]) -> tuple[str, Kind]:
    previous: Body | None = {} if kind.endswith(".updated") else None
    return kind, Kind(
        description, lambda who, at: stripe_event(kind, about(who, at), at=at, shape=who.shape, previous=previous)
    )


def _clerk(kind: str, description: str, about: Callable[[Persona, datetime], Body]) -> tuple[str, Kind]:
    return kind, Kind(description, lambda who, at: clerk_event(kind, about(who, at), at=at))


def _banned(name: str, description: str, *, banned: bool) -> tuple[str, Kind]:
    """Clerk has no event of its own for it."""
    return name, Kind(
        description, lambda who, at: clerk_event("user.updated", clerk_user(who, created_at=at, banned=banned), at=at)
    )


def _subscribed(status: str) -> Callable[[Persona, datetime], Body]:
    def about(who: Persona, at: datetime) -> Body:
        over = at if status == "canceled" else None
        return subscription(who, at, (at, add_months(at, 1)), status=status, asked_to_end_at=over, ended_at=over)

    return about


def _billed(status: str) -> Callable[[Persona, datetime], Body]:
    def about(who: Persona, at: datetime) -> Body:
        return invoice(who, (at, add_months(at, 1)), at=at, billing_reason="subscription_create", status=status)

    return about


KINDS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "stripe": MappingProxyType(
            dict(
                [
                    _stripe(
                        "checkout.session.completed",
                        "a customer of this tenant finished a checkout",
                        lambda who, at: checkout_session(who, at=at),
                    ),
                    _stripe(
                        "customer.subscription.created",
                        "a subscription began and is not yet paid",
                        _subscribed("incomplete"),
                    ),
                    _stripe(
                        "customer.subscription.updated",
                        "a subscription is active at this price",
                        _subscribed("active"),
                    ),
                    _stripe("customer.subscription.deleted", "a subscription ended now", _subscribed("canceled")),
                    _stripe("customer.deleted", "a customer was deleted", lambda who, at: customer(who, created_at=at)),
                    _stripe("invoice.paid", "the month from now on was paid", _billed("paid")),
                    _stripe("invoice.payment_succeeded", "the twin of invoice.paid, which is ignored", _billed("paid")),
                    _stripe("invoice.payment_failed", "a charge was declined", _billed("open")),
                ]
            )
        ),
        "clerk": MappingProxyType(
            dict(
                [
                    _clerk("user.created", "a person signed up", lambda who, at: clerk_user(who, created_at=at)),
                    _clerk("user.updated", "a person changed", lambda who, at: clerk_user(who, created_at=at)),
                    _banned("user.banned", "a person was banned: a user.updated", banned=True),
                    _banned("user.unbanned", "a ban was lifted: a user.updated", banned=False),
                    _clerk("user.deleted", "a person's account was deleted", lambda who, _: clerk_deleted_user(who)),
                    _clerk("session.created", "a person signed in", lambda who, at: clerk_session(who, created_at=at)),
                    _clerk(
                        "organization.created",
                        "an organization was made",
                        lambda who, at: clerk_organization(who, created_at=at),
                    ),
                    _clerk(
                        "organization.deleted",
                        "the organization was deleted",
                        lambda who, _: clerk_deleted_organization(who),
                    ),
                    _clerk(
                        "organizationMembership.created",
                        "the person joined the organization",
                        lambda who, at: clerk_membership(who, created_at=at),
                    ),
                    _clerk(
                        "organizationMembership.deleted",
                        "the person left the organization",
                        lambda who, at: clerk_membership(who, created_at=at),
                    ),
                ]
            )
        ),
    }
)
"""What can be sent, by source and type, each with a line of description."""
