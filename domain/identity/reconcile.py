"""What Clerk's own books say, held against our mirror of them.

As with Stripe (`domain/billing/reconcile.py`), a difference is repaired by telling it to the mirror as an event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from domain.errors import MalformedEvent
from domain.identity.events import read
from domain.identity.people import Membership, Organization, Person, merged

Json = Mapping[str, Any]
Row = TypeVar("Row", Person, Organization, Membership)

UPDATED = {Person: "user.updated", Organization: "organization.updated", Membership: "organizationMembership.updated"}
KINDS = {Person: "person", Organization: "organization", Membership: "membership"}
TIMES = frozenset({"source_updated_at", "last_login_at", "joined_at"})
"""Fields that no difference follows from: Clerk moves them for reasons of which it sends no event."""

USER = ("id", "first_name", "last_name", "username", "image_url", "banned", "created_at", "updated_at")
ORGANIZATION = ("id", "name", "slug", "created_at", "updated_at")
MEMBERSHIP = ("id", "role", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class Difference:
    """`changes`: field → (ours, Clerk's). `event` is what to tell the mirror; None if that would not help. `about` is
    the person or organization that its events are about."""

    kind: str
    id: str
    about: str
    event: Json | None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def event_id(self) -> str:
        """Return the id under which the event is stored: it is told once of one object at one moment."""
        return f"reconcile_{self.id}_{self.event and self.event.get('timestamp')}"


def compare(ours: Row | None, theirs: Row, about: Json, as_of: datetime) -> Difference | None:
    """Return what telling our row of theirs would change; None for nothing: they agree, or ours is newer.

    `about` is the object as Clerk lists it, `theirs` what we read of it. What is deleted here and listed there is a
    difference that cannot be repaired, because a deletion is final.
    """
    event = as_event(UPDATED[type(theirs)], kept(theirs, about), as_of)
    if ours is None:
        return Difference(KINDS[type(theirs)], theirs.clerk_id, subject(theirs), event, {"at Clerk": (None, "there")})
    if ours.deleted_at is not None:
        if ours.deleted_at >= as_of:
            return None
        changes: dict[str, Any] = {"deleted_at": (ours.deleted_at, None)}
        return Difference(KINDS[type(theirs)], theirs.clerk_id, subject(theirs), None, changes)
    then = merged(ours, theirs)
    pairs = {name: (getattr(ours, name), getattr(then, name)) for name in ours.__slots__ if name not in TIMES}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return Difference(KINDS[type(theirs)], theirs.clerk_id, subject(theirs), event, changes) if changes else None


def gone(clerk_id: str, kind: str, as_of: datetime) -> Difference:
    """Return the difference that we have a person or an organization, and Clerk does not any more."""
    of_kind = {"person": "user", "organization": "organization"}[kind]
    event = as_event(f"{of_kind}.deleted", {"id": clerk_id, "object": of_kind, "deleted": True}, as_of)
    return Difference(kind, clerk_id, clerk_id, event, {"at Clerk": ("there", None)})


def ended(ours: Membership, as_of: datetime) -> Difference:
    """Return the difference that we have a membership, and Clerk does not any more."""
    data = {
        "id": ours.clerk_id,
        "organization": {"id": ours.organization_id},
        "public_user_data": {"user_id": ours.user_id},
        "role": f"org:{ours.role.lower()}",
        "created_at": _milliseconds(ours.joined_at),
        "updated_at": _milliseconds(ours.source_updated_at),
    }
    event = as_event("organizationMembership.deleted", data, as_of)
    return Difference("membership", ours.clerk_id, ours.user_id, event, {"at Clerk": ("there", None)})


def unreadable(kind: str, about: Json, error: MalformedEvent) -> Difference:
    """One odd object is a difference, and no reason not to compare the others."""
    name = str(about.get("id"))
    return Difference(kind, name, name, None, {"unreadable": (None, str(error))})


def read_listed(kind: type[Row], about: Json, as_of: datetime) -> Row:
    """Read a listed object as the mirror would have it.

    Raises:
        MalformedEvent: Clerk's answer lacks something.
    """
    fact = read(as_event(UPDATED[kind], about, as_of))
    if not isinstance(fact, kind):
        raise MalformedEvent(f"Clerk lists something that is no {KINDS[kind]}")
    return fact


def as_event(kind: str, data: Json, at: datetime) -> dict[str, Any]:
    """Make an event of this type, as if Clerk had sent it."""
    return {"data": data, "object": "event", "timestamp": _milliseconds(at), "type": kind}


def subject(row: Person | Organization | Membership) -> str:
    return row.user_id if isinstance(row, Membership) else row.clerk_id


def kept(row: Person | Organization | Membership, about: Json) -> dict[str, Any]:
    """Return of a listed object what the readers need; nothing else of it is stored."""
    match row:
        case Person():
            primary = about.get("primary_email_address_id")
            addresses = [{"id": primary, "email_address": row.email}] if row.email else []
            return _some(about, USER) | {"primary_email_address_id": primary, "email_addresses": addresses}
        case Organization():
            return _some(about, ORGANIZATION)
        case Membership():
            of = {"organization": {"id": row.organization_id}, "public_user_data": {"user_id": row.user_id}}
            return _some(about, MEMBERSHIP) | of


def _some(about: Json, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: about[name] for name in names if name in about}


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
