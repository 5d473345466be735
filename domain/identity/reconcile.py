"""Clerk's own books compared with our mirror of them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from domain.errors import MalformedEvent
from domain.events.difference import Difference, Json, changed
from domain.identity.events import read
from domain.identity.people import Membership, Organization, Person, Row, merged


class _Listed(NamedTuple):
    """The names of a kind of object, in reports and in the types of Clerk's events; and the fields that the readers
    need: nothing else of a listed object is stored."""

    kind: str
    noun: str
    fields: tuple[str, ...]


_LISTED: dict[type, _Listed] = {
    Person: _Listed(
        "person",
        "user",
        ("id", "first_name", "last_name", "username", "image_url", "banned", "created_at", "updated_at"),
    ),
    Organization: _Listed("organization", "organization", ("id", "name", "slug", "created_at", "updated_at")),
    Membership: _Listed("membership", "organizationMembership", ("id", "role", "created_at", "updated_at")),
}
TIMES = frozenset({"source_updated_at", "last_login_at", "joined_at"})
"""Fields that no difference follows from: Clerk moves them for reasons of which it sends no event."""


def compare(kind: type[Row], item: Json, as_of: datetime, find: Callable[[str], Row | None]) -> Difference | None:
    """Return what an event of the listed object would change in the row that `find` has of it; None for nothing: both
    agree, or ours is newer.

    An object that is deleted here and listed there is a difference that no event repairs, because a deletion is final.

    Raises:
        MalformedEvent: Clerk's answer lacks something.
    """
    noun = _LISTED[kind].noun
    theirs = read(_as_event(f"{noun}.updated", item, as_of))
    if not isinstance(theirs, kind):
        raise MalformedEvent(f"Clerk lists something that is no {_LISTED[kind].kind}")
    event = _as_event(f"{noun}.updated", _stored_part(theirs, item), as_of)
    ours = find(theirs.clerk_id)
    if ours is None:
        return _difference(theirs, event, {"at Clerk": (None, "there")})
    if ours.deleted_at is not None:
        return None if ours.deleted_at >= as_of else _difference(theirs, None, {"deleted_at": (ours.deleted_at, None)})
    changes = changed(_comparable(ours), _comparable(merged(ours, theirs)))
    return _difference(theirs, event, changes) if changes else None


def name_of(kind: type[Person | Organization | Membership]) -> str:
    """Return how reports call objects of the kind."""
    return _LISTED[kind].kind


def gone(ours: Person | Organization | Membership, as_of: datetime) -> Difference:
    """Return the difference that we have the object, and Clerk does not any more."""
    noun = _LISTED[type(ours)].noun
    data: dict[str, Any] = {"id": ours.clerk_id, "object": noun, "deleted": True}
    if isinstance(ours, Membership):
        data = {
            "id": ours.clerk_id,
            **_parties(ours),
            "role": f"org:{ours.role.lower()}",
            "created_at": _milliseconds(ours.joined_at),
            "updated_at": _milliseconds(ours.source_updated_at),
        }
    return _difference(ours, _as_event(f"{noun}.deleted", data, as_of), {"at Clerk": ("there", None)})


def _difference(row: Person | Organization | Membership, event: Json | None, changes: Any) -> Difference:
    subject = row.user_id if isinstance(row, Membership) else row.clerk_id
    return Difference("clerk", _LISTED[type(row)].kind, row.clerk_id, subject, event, changes)


def _comparable(row: Person | Organization | Membership) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__ if name not in TIMES}


def _as_event(kind: str, data: Json, at: datetime) -> dict[str, Any]:
    """Make an event of this type, as if Clerk had sent it."""
    return {"data": data, "object": "event", "timestamp": _milliseconds(at), "type": kind}


def _stored_part(row: Person | Organization | Membership, item: Json) -> dict[str, Any]:
    """Return of a listed object what the readers need."""
    data = {name: item[name] for name in _LISTED[type(row)].fields if name in item}
    if isinstance(row, Person):
        primary = item.get("primary_email_address_id")
        addresses = [{"id": primary, "email_address": row.email}] if row.email else []
        return data | {"primary_email_address_id": primary, "email_addresses": addresses}
    return data | _parties(row) if isinstance(row, Membership) else data


def _parties(row: Membership) -> dict[str, Any]:
    return {"organization": {"id": row.organization_id}, "public_user_data": {"user_id": row.user_id}}


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
