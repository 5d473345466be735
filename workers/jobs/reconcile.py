"""Once a night, Stripe's and Clerk's own books are compared with the mirror of them, and the mirror is repaired.

Each of the books is a few lists (`Listing`). A list is read page by page; each of its objects is compared with its row
of the mirror, and in the end the outside is asked about the rows that it did not list. No transaction is open while
anybody is asked. A repair is an event (`domain/events/difference.py`). `viral billing reconcile` and `viral identity
reconcile` do the same at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from domain.billing import reconcile as billing
from domain.errors import MalformedEvent, Rejected
from domain.events.difference import Difference, Json, repairs, unreadable
from domain.identity import reconcile as identity
from domain.identity.people import Membership, Organization, Person, Row
from domain.ports import BillingRecords, IdentityRecords, Page
from workers.engine.job import Context, Tx, job
from workers.jobs.billing import store_event
from workers.jobs.identity import apply_clerk_event

INVOICES_OF = timedelta(days=40)
"""A month and the days that a late payment may take."""

EVENTS_KEPT = timedelta(days=30)

ASKED_FOR = 5
"""People of whom Clerk is asked, to see whether the key opens the instance that they are from."""

Begin = Callable[[], AbstractContextManager[Tx]]


class WrongInstance(Rejected):
    """The key opens another instance of Clerk than the one whose events made the mirror."""


@dataclass(frozen=True, slots=True)
class ComparedPage:
    """A page of the books: how many objects of `kind` it had, and those that differ."""

    kind: str
    count: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of the books of `source`.

    `compare` holds a listed object against the mirror. `mirrored` returns the rows, by id, that the list ought to have;
    of one that it does not have, and that the outside does not know when it `is_known` is asked, `gone` makes the
    difference.
    """

    source: str
    kind: str
    pages: Iterable[Page]
    compare: Callable[[Tx, Json, datetime], Difference | None]
    mirrored: Callable[[Tx], Mapping[str, Any]] = lambda tx: {}
    is_known: Callable[[Any], bool] = lambda row: False
    gone: Callable[[Any, datetime], Difference] | None = None


@job("billing.reconcile", system=True, timeout=timedelta(hours=3))
def reconcile_billing(ctx: Context) -> None:
    """Compare all subscriptions, recent invoices and undelivered events, and repair what differs."""
    records = ctx.ports.records
    if records is None:
        with ctx.finish():
            ctx.report(skipped="STRIPE_SECRET_KEY is not set, so Stripe cannot be asked")
        return
    pages = compare_billing(ctx.begin, records, ctx.now(), since=ctx.now() - INVOICES_OF)
    _reconcile(ctx, "billing.differs", pages)


@job("identity.reconcile", system=True, timeout=timedelta(hours=3))
def reconcile_identity(ctx: Context) -> None:
    """Compare all people, organizations and memberships, and repair what differs."""
    records = ctx.ports.people
    if records is None:
        with ctx.finish():
            ctx.report(skipped="CLERK_SECRET_KEY is not set, so Clerk cannot be asked")
        return
    _reconcile(ctx, "identity.differs", compare_identity(ctx.begin, records, ctx.ports.clerk_instance))


def _reconcile(ctx: Context, log_event: str, pages: Iterable[ComparedPage]) -> None:
    ctx.count(compared=0, different=0, repaired=0)
    for page in pages:
        ctx.count(compared=page.count, different=len(page.differences))
        with ctx.begin() as tx:
            ctx.count(repaired=repair(tx, page.differences))
        for found in page.differences:
            ctx.log.warning(
                log_event, kind=found.kind, id=found.id, subject=found.subject, fields=sorted(found.changes)
            )
    with ctx.finish():
        pass


def repair(tx: Tx, differences: Iterable[Difference]) -> int:
    """Store the events that repair the differences, and have them applied. Returns how many are new."""
    return sum(_store(tx, found) for found in repairs(differences))


def compare_billing(
    begin: Begin,
    records: BillingRecords,
    now: datetime,
    *,
    customer_id: str | None = None,
    since: datetime | None = None,
) -> Iterator[ComparedPage]:
    """Compare undelivered events that we do not have, subscriptions, and paid invoices, of one customer or of all.

    Subscriptions are compared whatever their age, because Stripe does not tell when one changed; invoices and events
    from `since` on (events are kept for 30 days).
    """
    earliest = now - EVENTS_KEPT

    def compare_event(tx: Tx, event: Json, as_of: datetime) -> Difference | None:
        if tx.events.find(event["id"]) is not None:
            return None
        missed = billing.missed_event(event)
        return missed if customer_id in (None, missed.subject) else None

    events = records.undelivered_events(max(since or earliest, earliest))
    yield from _compare(begin, Listing("stripe", "event", events, compare_event))
    subscriptions = Listing(
        "stripe",
        "subscription",
        records.subscriptions(customer_id),
        _compare_subscription,
        mirrored=lambda tx: {row[0]: row for row in tx.billing.running(before=now, customer_id=customer_id)},
        gone=lambda row, at: billing.gone(*row),
    )
    yield from _compare(begin, subscriptions)
    invoices = records.paid_invoices(customer_id, since)
    yield from _compare(begin, Listing("stripe", "invoice", invoices, _compare_invoice))


def _compare_subscription(tx: Tx, about: Json, as_of: datetime) -> Difference | None:
    theirs, event = billing.read_subscription(about, as_of)
    return billing.compare_subscription(tx.billing.subscription(theirs.id), theirs, event)


def _compare_invoice(tx: Tx, about: Json, as_of: datetime) -> Difference | None:
    theirs, event = billing.read_invoice(about, as_of)
    return None if theirs is None else billing.compare_invoice(tx.billing.invoice(theirs.id), theirs, event)


def compare_identity(begin: Begin, records: IdentityRecords, instance: str | None) -> Iterator[ComparedPage]:
    """Compare people, organizations and memberships.

    Raises:
        WrongInstance: the key opens another instance; nothing was compared.
    """
    _check_instance(begin, records, instance)
    yield from _compare(begin, _listing_of_clerk(records, Person))
    yield from _compare(begin, _listing_of_clerk(records, Organization))
    yield from _compare(begin, _listing_of_clerk(records, Membership))


def _listing_of_clerk(records: IdentityRecords, kind: type[Row]) -> Listing:
    return Listing(
        "clerk",
        identity.name_of(kind),
        records.listed(kind),
        lambda tx, item, as_of: identity.compare(kind, item, as_of, partial(tx.identity.row, kind)),
        mirrored=lambda tx: {row.clerk_id: row for row in tx.identity.mirrored(kind)},
        is_known=records.has,
        gone=identity.gone,
    )


def _check_instance(begin: Begin, records: IdentityRecords, instance: str | None) -> None:
    """Refuse to go on with the key of another instance: its people would come in, and ours be forgotten. Where
    CLERK_INSTANCE_ID does not say which is ours, one of the newest people has to be there."""
    if instance is not None:
        if (theirs := records.instance()) != instance:
            raise WrongInstance(
                f"CLERK_SECRET_KEY opens the instance {theirs}, and CLERK_INSTANCE_ID says {instance}: "
                "set both of one instance"
            )
        return
    with begin() as tx:
        newest = tx.identity.newest_people(ASKED_FOR)
    if newest and not any(map(records.has, newest)):
        raise WrongInstance(
            f"Clerk knows none of the {len(newest)} newest people here: is CLERK_SECRET_KEY of another instance? "
            "If it is not, say so with CLERK_INSTANCE_ID"
        )


def _compare(begin: Begin, listing: Listing) -> Iterator[ComparedPage]:
    listed: set[str] = set()
    for page in listing.pages:
        listed.update(str(item.get("id")) for item in page.items)
        with begin() as tx:
            found = [_compare_item(tx, listing, item, page.as_of) for item in page.items]
        yield ComparedPage(listing.kind, len(page.items), tuple(filter(None, found)))
    with begin() as tx:
        mirrored, now = listing.mirrored(tx), tx.now()
    for name, row in mirrored.items():
        if listing.gone is not None and name not in listed and not listing.is_known(row):
            yield ComparedPage(listing.kind, 0, (listing.gone(row, now),))


def _compare_item(tx: Tx, listing: Listing, item: Json, as_of: datetime) -> Difference | None:
    try:
        return listing.compare(tx, item, as_of)
    except MalformedEvent as error:
        return unreadable(listing.source, listing.kind, item, error)


def _store(tx: Tx, found: Difference) -> bool:
    event = found.event or {}
    if found.source == "stripe":
        return store_event(tx, event)
    new_id = tx.new_id()
    if not tx.events.add(new_id, "clerk", found.event_id, event, found.subject or found.id):
        return False
    tx.events.assign(new_id, apply_clerk_event.enqueue(tx, event_id=new_id))
    return True
