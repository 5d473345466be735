"""Who a person is: a pure function of what Clerk told us, whatever the order it was told in.

Clerk's webhooks are "eventually consistent" and may come late, twice or in any order; a body has no event id and no
sequence, but says when the person's data last changed. A deleted person leaves a tombstone, so that a late
`user.created` does not bring them back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from domain.billing_events import Ignored
from domain.body import Field
from domain.errors import MalformedEvent


class Role(StrEnum):
    """What somebody may do in a tenant."""

    ADMIN = "ADMIN"
    MEMBER = "MEMBER"


@dataclass(frozen=True, slots=True)
class PersonChanged:
    clerk_id: str
    email: str | None
    name: str | None
    image_url: str | None
    updated_at: datetime
    last_login_at: datetime | None


@dataclass(frozen=True, slots=True)
class PersonDeleted:
    clerk_id: str
    at: datetime


Fact = PersonChanged | PersonDeleted | Ignored


@dataclass(frozen=True, slots=True)
class Person:
    """What Clerk decides of a user's row. Deleted, nothing is left of them but the id and the time.

    `source_updated_at` is the person's `updated_at` at Clerk; None in a row that another program made.
    """

    clerk_id: str
    email: str | None = None
    name: str | None = None
    image_url: str | None = None
    last_login_at: datetime | None = None
    source_updated_at: datetime | None = None
    deleted_at: datetime | None = None


def read(body: Mapping[str, Any], *, sent_at: datetime | None = None) -> Fact:
    """The fact in a Clerk event, or MalformedEvent naming the field.

    `sent_at` is when the delivery says the event happened (the header `svix-timestamp`), for bodies without their
    own `timestamp`, which Clerk added later.
    """
    event = Field(body)
    kind = event["type"].required(Field.word)
    user = event["data"]
    if kind in ("user.created", "user.updated"):
        return _person_changed(user, event["timestamp"].milliseconds() or sent_at)
    if kind == "user.deleted":
        at = event["timestamp"].milliseconds() or sent_at
        return PersonDeleted(user["id"].required(Field.word), event["timestamp"].required(lambda _: at))
    return Ignored(f"unhandled type {kind}")


def apply(stored: Person | None, fact: PersonChanged | PersonDeleted) -> Person | None:
    """The row after this fact, or None if the fact changes nothing: stale, a duplicate, or about a deleted person.

    Any permutation and repetition of a person's facts ends in the same row.
    """
    merged = _bury(stored, fact) if isinstance(fact, PersonDeleted) else _change(stored, fact)
    return None if merged == stored else merged


def tenant_name(person: Person) -> str:
    """What the tenant of a personal account is called."""
    return person.email or person.name or person.clerk_id


def _person_changed(user: Field, happened_at: datetime | None) -> PersonChanged:
    updated_at = user["updated_at"].milliseconds() or user["created_at"].milliseconds() or happened_at
    if updated_at is None:
        raise MalformedEvent(f"{user.path}.updated_at: missing")
    full_name = " ".join(filter(None, (user["first_name"].text(), user["last_name"].text())))
    return PersonChanged(
        clerk_id=user["id"].required(Field.word),
        email=_primary_email(user),
        name=full_name or user["username"].text(),
        image_url=user["image_url"].text() or user["profile_image_url"].text(),
        updated_at=updated_at,
        last_login_at=user["last_sign_in_at"].milliseconds(),
    )


def _primary_email(user: Field) -> str | None:
    """The address that `primary_email_address_id` names. The list's order means nothing, and it holds addresses that
    nobody has verified, so there is no second choice."""
    primary = user["primary_email_address_id"].word()
    addresses = [(address["id"].word(), address["email_address"].text()) for address in user["email_addresses"]]
    return next((email for address_id, email in addresses if primary and address_id == primary), None)


def _bury(stored: Person | None, fact: PersonDeleted) -> Person:
    """Told twice, the first deletion is the one that happened."""
    earlier = stored.deleted_at if stored and stored.deleted_at else fact.at
    return Person(fact.clerk_id, deleted_at=min(earlier, fact.at))


def _change(stored: Person | None, fact: PersonChanged) -> Person:
    """The later `updated_at` wins; of two equal ones, the greater values, which is arbitrary but the same everywhere.

    The last login is merged by itself: it only moves forward, and the dashboard writes it too.
    """
    told = Person(
        fact.clerk_id, fact.email, fact.name, fact.image_url, fact.last_login_at, source_updated_at=fact.updated_at
    )
    if stored is None:
        return told
    if stored.deleted_at:
        return stored
    logins = [row.last_login_at for row in (stored, told) if row.last_login_at]
    return replace(max(stored, told, key=_age), last_login_at=max(logins, default=None))


def _age(row: Person) -> tuple[float, str, str, str]:
    told_at = row.source_updated_at.timestamp() if row.source_updated_at else float("-inf")
    return told_at, row.email or "", row.name or "", row.image_url or ""
