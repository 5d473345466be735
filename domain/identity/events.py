"""Readers: the body of a Clerk event, a plain dict, becomes the one fact that we need of it.

Whatever a body holds, `read` answers with a fact or raises MalformedEvent naming the field; never the field's value,
which may be a person's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from domain.errors import MalformedEvent
from domain.events.body import Field
from domain.events.outcomes import Ignored, Priority, Status
from domain.identity.people import Membership, Organization, Person, Role


@dataclass(frozen=True, slots=True)
class Login:
    clerk_id: str
    at: datetime


Fact = Person | Organization | Membership | Login | Ignored


def read(body: Mapping[str, Any], *, sent_at: datetime | None = None, instance: str | None = None) -> Fact:
    """Return the fact in a Clerk event.

    `sent_at` is when the delivery says the event happened (the header `svix-timestamp`), for bodies without their
    own `timestamp`, which Clerk added later. `instance` is the Clerk instance that is ours; None: not said.
    """
    event = Field(body)
    kind = event["type"].required(Field.word)
    theirs = event["instance_id"].word()
    if instance and theirs and theirs != instance:
        return Ignored(Status.IGNORED_INSTANCE)
    if isinstance(unhandled := triage(kind), Ignored):
        return unhandled
    return _READERS[kind](event["data"], event["timestamp"], sent_at)


def triage(kind: str) -> Priority | Ignored:
    """Say how urgent an event of this type is, or that nothing follows from any of them. Who may come in, and where,
    goes before who came in when: of logins there are thousands."""
    if kind not in _READERS:
        return Ignored(Status.IGNORED_TYPE, _WHY_NOT.get(kind.partition(".")[0]))
    return Priority.SESSION if kind.startswith("session.") else Priority.IDENTITY


def _person(user: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    full_name = " ".join(filter(None, (user["first_name"].text(), user["last_name"].text())))
    return Person(
        clerk_id=user["id"].required(Field.word),
        email=_primary_email(user),
        name=full_name or user["username"].text(),
        image_url=user["image_url"].text() or user["profile_image_url"].text(),
        last_login_at=user["last_sign_in_at"].milliseconds(),
        source_updated_at=_updated_at(user, timestamp, sent_at),
        banned=user["banned"].flag(),
    )


def _deleted_person(user: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    return Person(user["id"].required(Field.word), deleted_at=_happened_at(timestamp, sent_at))


def _organization(organization: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    return Organization(
        clerk_id=organization["id"].required(Field.word),
        name=organization["name"].text() or organization["slug"].text(),
        source_updated_at=_updated_at(organization, timestamp, sent_at),
    )


def _deleted_organization(organization: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    return Organization(organization["id"].required(Field.word), deleted_at=_happened_at(timestamp, sent_at))


def _membership(membership: Field, timestamp: Field, sent_at: datetime | None) -> Membership:
    updated_at = _updated_at(membership, timestamp, sent_at)
    return Membership(
        clerk_id=membership["id"].required(Field.word),
        organization_id=membership["organization"]["id"].required(Field.word),
        user_id=membership["public_user_data"]["user_id"].required(Field.word),
        role=Role.ADMIN if membership["role"].text() in _ADMINS else Role.MEMBER,
        joined_at=membership["created_at"].milliseconds() or updated_at,
        source_updated_at=updated_at,
    )


def _deleted_membership(membership: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    """Unlike the other deletions, this one says everything that it ends."""
    return replace(_membership(membership, timestamp, sent_at), deleted_at=_happened_at(timestamp, sent_at))


def _signed_in(session: Field, timestamp: Field, sent_at: datetime | None) -> Fact:
    if session["actor"].value is not None:
        return Ignored(Status.IGNORED_ACTOR, "session of somebody who acts as the person")
    at = session["created_at"].milliseconds() or _happened_at(timestamp, sent_at)
    return Login(session["user_id"].required(Field.word), at)


def _updated_at(about: Field, timestamp: Field, sent_at: datetime | None) -> datetime:
    own = about["updated_at"].milliseconds() or about["created_at"].milliseconds()
    found = own or timestamp.milliseconds() or sent_at
    if found is None:
        raise MalformedEvent(f"{about.path}.updated_at: missing")
    return found


def _happened_at(timestamp: Field, sent_at: datetime | None) -> datetime:
    return timestamp.milliseconds() or timestamp.required(lambda _: sent_at)


def _primary_email(user: Field) -> str | None:
    """Return the address that `primary_email_address_id` names. There is no second choice: the list's order means
    nothing, and it holds addresses that nobody has verified."""
    primary = user["primary_email_address_id"].word()
    addresses = [(address["id"].word(), address["email_address"].text()) for address in user["email_addresses"]]
    return next((email for address_id, email in addresses if primary and address_id == primary), None)


_ADMINS = ("org:admin", "admin")
_READERS: Mapping[str, Callable[[Field, Field, datetime | None], Fact]] = {
    "user.created": _person,
    "user.updated": _person,
    "user.deleted": _deleted_person,
    "organization.created": _organization,
    "organization.updated": _organization,
    "organization.deleted": _deleted_organization,
    "organizationMembership.created": _membership,
    "organizationMembership.updated": _membership,
    "organizationMembership.deleted": _deleted_membership,
    "session.created": _signed_in,
}
_CLERK_BILLING = "Clerk's own billing: plans are sold through Stripe"
_NOTHING_FOLLOWS = "nothing here follows from it"
_WHY_NOT = {
    "email": "carries one-time codes: its body is not kept",
    "organizationDomain": _NOTHING_FOLLOWS,
    "organizationInvitation": "whoever accepts it comes as a membership",
    "paymentAttempt": _CLERK_BILLING,
    "permission": _NOTHING_FOLLOWS,
    "role": _NOTHING_FOLLOWS,
    "session": "only session.created tells of a login",
    "sms": "carries one-time codes: its body is not kept",
    "subscription": _CLERK_BILLING,
    "subscriptionItem": _CLERK_BILLING,
    "waitlistEntry": "is about nobody who has an account: its body is not kept",
}
