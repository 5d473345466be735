"""Once a night, Stripe's own books are held against the mirror; `viral billing reconcile` does it at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from domain.billing.reconcile import (
    Difference,
    compare_invoice,
    compare_subscription,
    gone,
    missed_event,
    read_invoice,
    read_subscription,
    unreadable,
)
from domain.errors import MalformedEvent
from domain.ports import BillingRecords, Page
from workers.engine.job import Context, Tx, job
from workers.jobs.billing import store_event

INVOICES_OF = timedelta(days=40)
"""A month and the days that a late payment may take."""

EVENTS_KEPT = timedelta(days=30)

Begin = Callable[[], AbstractContextManager[Tx]]


@dataclass(frozen=True, slots=True)
class ComparedPage:
    """One page: how many of `kind` were compared, and those that differ."""

    kind: str
    count: int
    differences: tuple[Difference, ...]


@job("billing.reconcile", system=True, timeout=timedelta(hours=3))
def reconcile(ctx: Context) -> None:
    """Compare all subscriptions, recent invoices and undelivered events, and repair what differs."""
    records = ctx.ports.records
    if records is None:
        with ctx.finish():
            ctx.report(skipped="STRIPE_SECRET_KEY is not set, so Stripe cannot be asked")
        return
    ctx.count(compared=0, different=0, repaired=0)
    for page in compare(ctx.begin, records, ctx.now(), since=ctx.now() - INVOICES_OF):
        ctx.count(compared=page.count, different=len(page.differences))
        with ctx.begin() as tx:
            ctx.count(repaired=repair(tx, page.differences))
        for found in page.differences:
            ctx.log.warning("billing.differs", kind=found.kind, id=found.id, customer_id=found.customer_id)
    with ctx.finish():
        pass


def compare(
    begin: Begin,
    records: BillingRecords,
    now: datetime,
    *,
    customer_id: str | None = None,
    since: datetime | None = None,
) -> Iterator[ComparedPage]:
    """Page by page: events that were not delivered and that we do not have; subscriptions; invoices that were paid.

    Subscriptions are compared whatever their age, because Stripe does not tell when one changed; invoices and events
    from `since` on (events are kept for 30 days). No transaction is open while Stripe is asked.
    """
    for page in records.undelivered_events(max(since or now - EVENTS_KEPT, now - EVENTS_KEPT)):
        with begin() as tx:
            compared = _events(tx, page, customer_id)
        yield compared
    seen: set[str] = set()
    for page in records.subscriptions(customer_id):
        seen.update(each["id"] for each in page.items)
        with begin() as tx:
            compared = _subscriptions(tx, page)
        yield compared
    with begin() as tx:
        running = tx.billing.running(before=now, customer_id=customer_id)
    yield ComparedPage("subscription", 0, tuple(gone(*each) for each in running if each[0] not in seen))
    for page in records.paid_invoices(customer_id, since):
        with begin() as tx:
            compared = _invoices(tx, page)
        yield compared


def repair(tx: Tx, differences: tuple[Difference, ...]) -> int:
    """Tell the mirror, as an event that is stored and applied like any other. Returns how many could be told."""
    events = (found.event for found in differences if found.event is not None)
    # In the order in which deliveries are stored.
    return sum(store_event(tx, event) for event in sorted(events, key=itemgetter("id")))


def _events(tx: Tx, page: Page, customer_id: str | None) -> ComparedPage:
    missed = [missed_event(event) for event in page.items if tx.events.find(event["id"]) is None]
    mine = tuple(each for each in missed if customer_id in (None, each.customer_id))
    return ComparedPage("event", len(page.items), mine)


def _subscriptions(tx: Tx, page: Page) -> ComparedPage:
    found: list[Difference | None] = []
    for about in page.items:
        try:
            theirs, event = read_subscription(about, page.as_of)
        except MalformedEvent as error:
            found.append(unreadable("subscription", about, error))
        else:
            found.append(compare_subscription(tx.billing.subscription(theirs.id), theirs, event))
    return ComparedPage("subscription", len(page.items), tuple(each for each in found if each))


def _invoices(tx: Tx, page: Page) -> ComparedPage:
    found: list[Difference | None] = []
    for about in page.items:
        try:
            theirs, event = read_invoice(about, page.as_of)
        except MalformedEvent as error:
            found.append(unreadable("invoice", about, error))
        else:
            if theirs is not None:
                found.append(compare_invoice(tx.billing.invoice(theirs.id), theirs, event))
    return ComparedPage("invoice", len(page.items), tuple(each for each in found if each))
