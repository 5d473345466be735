"""Who a person is and where they belong: a pure function of what Clerk told us, whatever the order it was told in.

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
    """What somebody may do in a tenant."""

    ADMIN = "ADMIN"
    MEMBER = "MEMBER"


@dataclass(frozen=True, slots=True)
class Person:
    """What Clerk decides of a user's row. Deleted, nothing is left of them but the id and the time.

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
    """Deleted, nothing is left of it but the id and the time."""

    clerk_id: str
    name: str | None = None
    source_updated_at: datetime | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """That a person belongs to an organization. Who leaves and joins again has a new one, with an id of its own."""

    clerk_id: str
    organization_id: str
    user_id: str
    role: Role
    joined_at: datetime
    source_updated_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActiveMembership:
    """Where a person works, and as what."""

    tenant_id: UUID | None
    role: Role


Row = TypeVar("Row", Person, Organization, Membership)


def merged(stored: Row | None, told: Row) -> Row:
    """Merge two rows of one object: commutative, associative and idempotent, so order and repeats do not matter.

    The later `updated_at` wins; of two equal ones, the one that says "banned", else the greater values, which is
    arbitrary but the same everywhere.
    A deletion is final, and of two, the first is the one that happened.
    """
    if stored is None:
        return told
    newest = max(stored, told, key=_age)
    if isinstance(newest, Person):
        # The last login only moves forward, and the dashboard writes it too.
        logins = [login for row in (stored, told) if (login := getattr(row, "last_login_at", None))]
        newest = replace(newest, last_login_at=max(logins, default=None))
    deletions = [row.deleted_at for row in (stored, told) if row.deleted_at]
    return _tombstone(newest, min(deletions)) if deletions else newest


def active_membership(
    person: Person,
    now: ActiveMembership,
    own_tenant: UUID | None,
    *,
    own_tenant_in_use: bool,
    offered: Iterable[ActiveMembership],
) -> ActiveMembership:
    """Where the person belongs: in the tenant of the organization that they joined first, else in their own.

    `now` is where they are, `home` the tenant of their personal account, and `offered` are the seats that their live
    memberships give them, oldest first. Who pays for a home or keeps content there stays in it: a membership then
    gives access to the organization and moves nobody. At home, the role is what it was.
    """
    if person.deleted_at:
        return ActiveMembership(own_tenant, Role.MEMBER)
    at_home = now.tenant_id == own_tenant
    first = None if at_home and own_tenant_in_use else next(iter(offered), None)
    if first is not None:
        return first
    return now if at_home else ActiveMembership(own_tenant, Role.ADMIN)


def renamed(name: str, before: Person | Organization, after: Person | Organization, *, alone: bool) -> str:
    """What the account's own tenant is called now that the account has changed: after it, as long as nobody gave it
    another name. In a name that somebody gave it, the account's address and name follow it, if nobody else works there:
    or it would tell of the account when nobody knows any more that it does."""
    if name == tenant_name(before):
        return tenant_name(after)
    for was, now in zip(_texts(before), _texts(after), strict=True) if alone else ():
        if was and was != now:
            text = (now or tenant_name(after)).replace("\\", r"\\")
            name = re.sub(re.escape(was), text, name, flags=re.IGNORECASE)
    return name


def identifies(name: str, account: Person | Organization, *, deserted: bool) -> bool:
    """Whether a name in the account's own tenant tells who the account was: by its address, or as the name that follows
    from it. If nobody is left in the tenant, also by its full name, or by any address, which may be an older one."""
    address, called = (text.casefold() if text else None for text in _texts(account))
    if name == tenant_name(account) or (address and address in name.casefold()):
        return True
    return deserted and bool(ADDRESS.search(name) or (called and called in name.casefold()))


def without_person(name: str, person: Person) -> str:
    """A name in a place where others work without the person: without their address, wherever it stands; nothing is
    left of one that follows from the account."""
    if name == tenant_name(person):
        return name if name == person.clerk_id else MASK
    return str(masked(name, written([person.email]))) if person.email else name


def tenant_name(account: Person | Organization) -> str:
    """What the tenant of an account is called."""
    email, name = _texts(account)
    return email or name or account.clerk_id


def _texts(account: Person | Organization) -> tuple[str | None, str | None]:
    """The address and the name, either of which may be missing."""
    return (account.email if isinstance(account, Person) else None), account.name


def _age(row: Row) -> tuple[datetime, bool, list[str]]:
    values = [str(getattr(row, name) or "") for name in row.__slots__]
    return row.source_updated_at or LONG_AGO, getattr(row, "banned", False), values


def _tombstone(row: Row, at: datetime) -> Row:
    """What is left. A membership holds nothing but ids."""
    if isinstance(row, Membership):
        return replace(row, deleted_at=at)
    return type(row)(row.clerk_id, deleted_at=at)
