"""People, organizations, memberships, and where a person works: a pure function of Clerk's events in any order.

Clerk's webhooks are "eventually consistent" and may come late, twice or in any order; a body has no event id and no
sequence, but says when its object last changed. Every event becomes a mirror row (`Person`, `Organization`,
`Membership`), and `merged` joins rows of one object so that any permutation and repetition of its events ends in the
same row. What is deleted leaves a tombstone, so that a late `created` does not bring it back. `active_membership`
derives from the rows which tenant a person works in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from domain.text.personal import masked, written
from domain.text.redaction import MASK

ADDRESS = re.compile(r"[^@\s]@[^@\s]")

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Role(StrEnum):
    """A role says what somebody may do in a tenant."""

    ADMIN = "ADMIN"
    MEMBER = "MEMBER"


@dataclass(frozen=True, slots=True)
class Person:
    """The part of a user's row that Clerk decides. Of a deleted person, nothing is left but the id and the time.

    `source_updated_at` is the person's `updated_at` at Clerk; None in a row that another program made. `banned`: nobody
    may act in their name until Clerk says otherwise (docs/decisions/0027); a person who is `locked` after wrong
    passwords is not.
    """

    clerk_id: str
    email: str | None = None
    name: str | None = None
    image_url: str | None = None
    last_login_at: datetime | None = None
    source_updated_at: datetime | None = None
    deleted_at: datetime | None = None
    banned: bool = False


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization. Of a deleted one, nothing is left but the id and the time."""

    clerk_id: str
    name: str | None = None
    source_updated_at: datetime | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A person's place in an organization. Somebody who leaves and joins again has a new one, with an id of its own."""

    clerk_id: str
    organization_id: str
    user_id: str
    role: Role
    joined_at: datetime
    source_updated_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActiveMembership:
    """The tenant that a person works in, and as what."""

    tenant_id: UUID | None
    role: Role


Row = TypeVar("Row", Person, Organization, Membership)


def merged(stored: Row | None, incoming: Row) -> Row:
    """Merge two rows of one object: commutative, associative and idempotent, so order and repeats do not matter.

    The later `updated_at` wins; of two equal ones, the one that says "banned", else the greater values, which is
    arbitrary but the same everywhere. A deletion is final, and of two, the first is the one that happened.
    """
    if stored is None:
        return incoming
    newest = max(stored, incoming, key=_age)
    if isinstance(newest, Person):
        # The last login only moves forward, and the dashboard writes it too.
        logins = [login for row in (stored, incoming) if (login := getattr(row, "last_login_at", None))]
        newest = replace(newest, last_login_at=max(logins, default=None))
    deletions = [row.deleted_at for row in (stored, incoming) if row.deleted_at]
    return _tombstone(newest, min(deletions)) if deletions else newest


def active_membership(
    person: Person,
    now: ActiveMembership,
    own_tenant: UUID | None,
    *,
    own_tenant_in_use: bool,
    offered: Iterable[ActiveMembership],
) -> ActiveMembership:
    """Return where the person works: in the tenant of the organization that they joined first, else in their own.

    `now` is where they work so far; `offered` is what their live memberships offer, oldest first. A person who pays for
    their own tenant or keeps content there stays in it: a membership then gives access to the organization and moves
    nobody. In their own tenant, the role is what it was.
    """
    if person.deleted_at:
        return ActiveMembership(own_tenant, Role.MEMBER)
    in_own_tenant = now.tenant_id == own_tenant
    first = None if in_own_tenant and own_tenant_in_use else next(iter(offered), None)
    if first is not None:
        return first
    return now if in_own_tenant else ActiveMembership(own_tenant, Role.ADMIN)


def renamed(name: str, before: Person | Organization, after: Person | Organization, *, alone: bool) -> str:
    """Return what the account's own tenant is called now that the account has changed.

    It is called after the account, as long as nobody gave it another name. In a name that somebody gave it, the
    account's address and name change with the account, if nobody else works there: or it would tell of the account when
    nobody knows any more that it does.
    """
    if name == tenant_name(before):
        return tenant_name(after)
    for was, now in zip(_texts(before), _texts(after), strict=True) if alone else ():
        if was and was != now:
            text = (now or tenant_name(after)).replace("\\", r"\\")
            name = re.sub(re.escape(was), text, name, flags=re.IGNORECASE)
    return name


def identifies(name: str, account: Person | Organization, *, deserted: bool) -> bool:
    """Return whether a name in the account's own tenant tells who the account was: by its address, or as the name that
    follows from it. If nobody is left there, also by its full name, or by any address, which may be an older one."""
    address, called = (text.casefold() if text else None for text in _texts(account))
    if name == tenant_name(account) or (address and address in name.casefold()):
        return True
    return deserted and bool(ADDRESS.search(name) or (called and called in name.casefold()))


def without_person(name: str, person: Person) -> str:
    """Return a name, in a tenant where others work, without the person's address, wherever it stands. Nothing is left
    of a name that follows from the account."""
    if name == tenant_name(person):
        return name if name == person.clerk_id else MASK
    return str(masked(name, written([person.email]))) if person.email else name


def tenant_name(account: Person | Organization) -> str:
    """Return what the own tenant of an account is called."""
    email, name = _texts(account)
    return email or name or account.clerk_id


def _texts(account: Person | Organization) -> tuple[str | None, str | None]:
    """Return the address and the name, either of which may be missing."""
    return (account.email if isinstance(account, Person) else None), account.name


def _age(row: Row) -> tuple[datetime, bool, list[str]]:
    values = [str(getattr(row, name) or "") for name in row.__slots__]
    return row.source_updated_at or LONG_AGO, getattr(row, "banned", False), values


def _tombstone(row: Row, at: datetime) -> Row:
    """Return what is left of a deleted row. A membership holds nothing but ids."""
    if isinstance(row, Membership):
        return replace(row, deleted_at=at)
    return type(row)(row.clerk_id, deleted_at=at)
