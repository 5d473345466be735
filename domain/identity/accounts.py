"""A person's account as it is stored, and what several events make of it, one after the other."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from domain.events.event import Event
from domain.events.outcomes import Status
from domain.identity.events import Login
from domain.identity.people import ActiveMembership, Person, Role, active_membership, merged, renamed, tenant_name

NOWHERE = ActiveMembership(None, Role.MEMBER)


@dataclass(frozen=True, slots=True)
class Account:
    """A person's row and their own tenant, each None where there is none, and where they work.

    `offer` is the place that the oldest of their live memberships gives them. `ended`: the person, or the organization
    of this id, is deleted.
    """

    clerk_id: str
    person: Person | None = None
    active: ActiveMembership = NOWHERE
    own_tenant: UUID | None = None
    offer: ActiveMembership | None = None
    ended: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing yet, or a row that came from Clerk together with its tenant. Other programs make and
        delete rows by themselves."""
        if self.person is None:
            return self.own_tenant is None
        return self.person.source_updated_at is not None and self.own_tenant is not None

    @property
    def may_move(self) -> bool:
        """Whether it matters that their own tenant is in use: they work in it, and somebody offers another place."""
        return self.offer is not None and self.active.tenant_id == self.own_tenant

    def opened(self, own_tenant: UUID) -> "Account":
        """Return the account with a tenant of its own, in which the person works until something else is derived."""
        return replace(self, own_tenant=own_tenant, active=ActiveMembership(own_tenant, Role.ADMIN))

    def place(self, person: Person, *, in_use: bool) -> ActiveMembership:
        """Return where the person works now that their row is this one; `in_use`: their own tenant is."""
        offered = [] if self.offer is None else [self.offer]
        return active_membership(person, self.active, self.own_tenant, own_tenant_in_use=in_use, offered=offered)


class History:
    """Events of one person, each applied to what the one before has left. None of them is a deletion.

    `person` is the row that they end in; `changes` are the rows before and after each event that changed one;
    `outcomes` is what became of the events, by id.
    """

    def __init__(self, person: Person | None, waiting: Iterable[tuple[Event, Login]] = ()) -> None:
        """`waiting`: logins that are parked until the person is there."""
        self.person = person
        self.changes: list[tuple[Person, Person]] = []
        self.outcomes: dict[UUID, Status] = {}
        self._waiting = list(waiting)

    def apply(self, event: Event, fact: Person | Login) -> Status:
        """Apply the next event, and those that have waited for it. Returns what became of it."""
        before = self.person
        if isinstance(fact, Login) and before is None:
            status = self.outcomes[event.id] = Status.PARKED_USER
            self._waiting.append((replace(event, status=status), fact))
            return status
        incoming = Person(fact.clerk_id, last_login_at=fact.at) if isinstance(fact, Login) else fact
        self.person = after = merged(before, incoming)
        status = settled(event, changed=after != before)
        self.outcomes[event.id] = status
        if before is None:
            for earlier, login in self._waiting:
                self.apply(earlier, login)
        elif after != before:
            self.changes.append((before, after))
        return status

    @property
    def renames(self) -> bool:
        """Whether a change may have renamed the person's own tenant."""
        return any(_texts(before) != _texts(after) for before, after in self.changes)

    def renamed(self, name: str, *, alone: bool) -> str:
        """Return what the person's own tenant, which has this name, is called after the changes."""
        for before, after in self.changes:
            if _texts(before) != _texts(after):
                name = renamed(name, before, after, alone=alone)
        return name


def settled(event: Event, *, changed: bool) -> Status:
    """Return the outcome of an event that is applied: the mirror has one that had waited, if not by this change."""
    return Status.APPLIED if changed or event.status.kind == "parked" else Status.STALE


def _texts(person: Person) -> tuple[str | None, str]:
    return person.name, tenant_name(person)
