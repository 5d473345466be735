"""Once a night, Clerk's own books are held against the mirror; `viral identity reconcile` does it at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from domain.errors import MalformedEvent, Rejected
from domain.identity.people import Membership, Organization, Person
from domain.identity.reconcile import KINDS, Difference, Row, compare, ended, gone, read_listed, unreadable
from domain.ports import IdentityRecords, Page
from workers.engine.job import Context, Tx, job
from workers.jobs.identity import apply_clerk_event

ASKED_FOR = 5
"""People of whom Clerk is asked, to see whether the key opens the instance that they are from."""

Begin = Callable[[], AbstractContextManager[Tx]]


class WrongInstance(Rejected):
    """The key opens another instance of Clerk than the one that told us of our people."""


@dataclass(frozen=True, slots=True)
class ComparedPage:
    """One page: how many of `kind` were compared, and those that differ."""

    kind: str
    count: int
    differences: tuple[Difference, ...]


@job("identity.reconcile", system=True, timeout=timedelta(hours=3))
def reconcile(ctx: Context) -> None:
    """Compare all people, organizations and memberships, and repair what differs."""
    records = ctx.ports.people
    if records is None:
        with ctx.finish():
            ctx.report(skipped="CLERK_SECRET_KEY is not set, so Clerk cannot be asked")
        return
    ctx.count(compared=0, different=0, repaired=0)
    for page in compare_all(ctx.begin, records, ctx.ports.clerk_instance):
        ctx.count(compared=page.count, different=len(page.differences))
        with ctx.begin() as tx:
            ctx.count(repaired=repair(tx, page.differences))
        for found in page.differences:
            ctx.log.warning("identity.differs", kind=found.kind, id=found.id, fields=sorted(found.changes))
    with ctx.finish():
        pass


def compare_all(begin: Begin, records: IdentityRecords, instance: str | None) -> Iterator[ComparedPage]:
    """Page by page: people, organizations, memberships; of each kind first those that Clerk lists, then those that
    only we have. No transaction is open while Clerk is asked.

    Raises:
        WrongInstance: nothing was compared.
    """
    _check_instance(begin, records, instance)
    seen: set[str] = set()
    yield from _listed(begin, Person, records.people(), lambda tx, name: tx.identity.person(name), seen)
    with begin() as tx:
        people, now = tx.identity.mirrored_people(), tx.now()
    for each in people:
        if each not in seen and not records.has_person(each):
            yield ComparedPage("person", 0, (gone(each, "person", now),))

    seen = set()
    found = records.organizations()
    yield from _listed(begin, Organization, found, lambda tx, name: tx.identity.organization(name), seen)
    with begin() as tx:
        organizations, now = tx.identity.mirrored_organizations(), tx.now()
    for each in organizations:
        if each not in seen and not records.has_organization(each):
            yield ComparedPage("organization", 0, (gone(each, "organization", now),))

    seen = set()
    yield from _listed(begin, Membership, records.memberships(), lambda tx, name: tx.identity.membership(name), seen)
    with begin() as tx:
        memberships, now = tx.identity.mirrored_memberships(), tx.now()
    for ours in memberships:
        if ours.clerk_id not in seen and not records.has_membership(ours.clerk_id, ours.user_id):
            yield ComparedPage("membership", 0, (ended(ours, now),))


def repair(tx: Tx, differences: tuple[Difference, ...]) -> int:
    """Tell the mirror, as an event that is stored and applied like any other. Returns how many could be told."""
    # In the order in which deliveries are stored.
    return sum(store_event(tx, each) for each in sorted(differences, key=Difference.event_id))


def _check_instance(begin: Begin, records: IdentityRecords, instance: str | None) -> None:
    """Refuse to go on with the key of another instance: its people would come in, and ours be forgotten. Where
    CLERK_INSTANCE_ID does not say which is ours, one of the newest people has to be there.

    Raises:
        WrongInstance: says what does not agree.
    """
    if instance is not None:
        if (theirs := records.instance()) != instance:
            raise WrongInstance(
                f"CLERK_SECRET_KEY opens the instance {theirs}, and CLERK_INSTANCE_ID says {instance}: "
                "set both of one instance"
            )
        return
    with begin() as tx:
        newest = tx.identity.mirrored_people(limit=ASKED_FOR)
    if newest and not any(map(records.has_person, newest)):
        raise WrongInstance(
            f"Clerk knows none of the {len(newest)} newest people here: is CLERK_SECRET_KEY of another instance? "
            "If it is not, say so with CLERK_INSTANCE_ID"
        )


def _listed(
    begin: Begin, kind: type[Row], pages: Iterator[Page], find: Callable[[Tx, str], Row | None], seen: set[str]
) -> Iterator[ComparedPage]:
    for page in pages:
        differences = []
        with begin() as tx:
            for about in page.items:
                seen.add(str(about.get("id")))
                try:
                    theirs = read_listed(kind, about, page.as_of)
                except MalformedEvent as error:
                    differences.append(unreadable(KINDS[kind], about, error))
                    continue
                if found := compare(find(tx, theirs.clerk_id), theirs, about, page.as_of):
                    differences.append(found)
        yield ComparedPage(KINDS[kind], len(page.items), tuple(differences))


def store_event(tx: Tx, found: Difference) -> bool:
    if found.event is None:
        return False
    new_id = tx.new_id()
    if not tx.events.add_of_clerk(new_id, found.event_id(), found.event, subject=found.about):
        return False
    tx.events.assign(new_id, apply_clerk_event.enqueue(tx, event_id=new_id))
    return True
