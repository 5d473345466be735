"""Stripe's events become a tenant's plan: an event changes the mirror, and the plan follows from the whole mirror."""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.billing.books import TIED, Books
from domain.billing.events import (
    Fact,
    Flagged,
    Incomplete,
    InvoiceChanged,
    OfCustomer,
    PriceRetired,
    SubscriptionChanged,
    Thin,
    read,
)
from domain.billing.reconcile import subject
from domain.billing.subscriptions import STATUSES, certain
from domain.errors import MalformedEvent, ProviderUnavailable
from domain.events.event import Event
from domain.events.outcomes import LINKLESS, SETTLED, Concern, Flag, Ignored, Outcome, Priority, Status
from domain.ports import Ports
from workers.engine.job import Batch, BatchJob, Context, FailedJob, JobType, Tx, job

EVENTS_PER_TRANSACTION = 1000
A_MOMENT = timedelta(seconds=5)

NOT_OURS = Outcome(Status.IGNORED_PRICE, "price of another product")
GONE = Outcome(Status.IGNORED_GONE, "Stripe has no more of it")
PARTIAL = Concern(Flag.INCOMPLETE, "the body carries only a part of the object")


def apply_stripe_events(batch: Batch) -> None:
    """Apply stored events as if they came one after the other. One that cannot be read fails alone."""
    jobs = {each.arguments["event_id"]: each for each in batch.jobs}
    events = batch.tx.events.get_many(list(jobs))
    readings = [reading(events[event_id], batch.ports) for event_id in jobs if event_id in events]
    readable = [each for each in readings if each is not None]
    outcomes = apply_all(batch.tx, readable, batch.ports, batch.now, can_wait=True, jobs=jobs)
    for event_id, each in jobs.items():
        if event_id in outcomes:
            each.report(outcome=outcomes[event_id].status)
        else:
            each.leave("the event cannot be read")
    log_concerns(batch.log, outcomes)


@job(
    "billing.apply_stripe_event",
    queue="events",
    system=True,
    unique=("event_id",),
    priority=Priority.BILLING,
    max_attempts=10,
    many=apply_stripe_events,
)
def apply_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Apply a stored event, and have Stripe asked if the event does not say everything itself."""
    with ctx.finish() as tx:
        event = tx.events.get(event_id)
        apply_one(ctx, tx, event, event.payload, can_wait=True)


def mark_unfetchable(tx: Tx, failed: FailedJob) -> None:
    """Leave the event to a person, who sees why (the key may lack a permission) and replays it. What was applied
    already stays so; the nightly reconcile asks once more."""
    event_id = UUID(str(failed.arguments["event_id"]))
    status = tx.events.get(event_id).status
    if status.kind == "parked":
        found = (PARTIAL,) if status == Status.PARKED_INCOMPLETE else ()
        tx.events.mark(event_id, Outcome(Status.PARKED_UNFETCHABLE, concerns=found))
    else:
        tx.events.mark(event_id, Outcome(status, concerns=(TIED,)))


@job("billing.fetch_stripe_event", system=True, unique=("event_id",), max_attempts=10, on_failure=mark_unfetchable)
def fetch_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Ask Stripe for what an event does not say itself, and apply the answer.

    Where the event carries nothing (thin), or not all of its object, the answer replaces its payload. Where another
    event has the same second, the event stays as it is, and the answer is an event of its own.
    """
    with ctx.begin() as tx:
        event = tx.events.get(event_id)
        fact = read(event.payload)
        lacks_all = isinstance(fact, Thin | Incomplete)
        row = tx.billing.subscription(fact.subscription.id) if isinstance(fact, SubscriptionChanged) else None
        asks = lacks_all or (row is not None and not certain(row))
    fetch = ctx.ports.fetch_event
    body: Mapping[str, Any] | None = event.payload
    if fetch is not None and asks:
        body = fetch(event.payload)
        if not lacks_all and body is not None and body["created"] <= event.payload["created"]:
            raise ProviderUnavailable("Stripe's clock is still at the second that is in doubt", retry_after=A_MOMENT)
    with ctx.finish() as tx:
        if body is None:
            tx.events.mark(event_id, GONE)
            ctx.report(outcome=GONE.status)
        elif lacks_all:
            if body is not event.payload:
                tx.events.replace_payload(event_id, body, getattr(read(body), "customer_id", None))
            apply_one(ctx, tx, event, body, can_wait=False)
        elif body is not event.payload:
            ctx.report(stored=store_event(tx, body))


@job("billing.release_parked", system=True)
def release_parked(ctx: Context) -> None:
    """Apply parked events again for which the missing thing is there now: a price that the settings map since, a tenant
    or a link that another program wrote, a key to fetch with. Those that are parked again wait for the next round."""
    with ctx.finish() as tx:
        found = tx.events.reappliable(
            list(ctx.ports.prices), can_fetch=ctx.ports.fetch_event is not None, limit=EVENTS_PER_TRANSACTION
        )
        apply_stripe_event.enqueue_many(tx, [{"event_id": event_id} for event_id in found])
        ctx.report(released=len(found))


def any_parked(tx: Tx, now: datetime) -> bool:
    """Whether `release_parked` may find anything to do."""
    return tx.events.any_parked()


def store_event(tx: Tx, body: Mapping[str, Any]) -> bool:
    """Store an event that Stripe was asked for, and have it applied like any other. False if it is there already."""
    new_id = tx.new_id()
    if not tx.events.add(new_id, "stripe", body["id"], body, subject(body)):
        return False
    tx.events.assign(new_id, apply_stripe_event.enqueue(tx, event_id=new_id))
    return True


@dataclass(frozen=True, slots=True)
class Reading:
    """An event, and the fact in it, or in what Stripe answered about it."""

    event: Event
    fact: Fact


def reading(event: Event, ports: Ports) -> Reading | None:
    """Return the event with its fact; None if it is malformed: alone, its job says why."""
    try:
        return Reading(event, read(event.payload, livemode=ports.livemode))
    except MalformedEvent:
        return None


def apply_one(ctx: Context, tx: Tx, event: Event, body: Mapping[str, Any], *, can_wait: bool) -> None:
    """Apply an event by itself, with this body."""
    fact = read(body, livemode=ctx.ports.livemode)
    outcomes = apply_all(tx, [Reading(event, fact)], ctx.ports, ctx.now, can_wait=can_wait)
    ctx.report(outcome=outcomes[event.id].status)
    log_concerns(ctx.log, outcomes)


def apply_all(
    tx: Tx,
    readings: Sequence[Reading],
    ports: Ports,
    now: Callable[[], datetime],
    *,
    can_wait: bool,
    jobs: Mapping[UUID, BatchJob] | None = None,
) -> dict[UUID, Outcome]:
    """Change the mirror as the facts say, one after the other, bring their customers' tenants to what it says then, and
    record the outcomes. Returns these, by event. If it `can_wait`, Stripe is asked for what an event does not say.
    `jobs` are those of a batch, by event: each enqueues in its own name.

    Each table is read once and written once. An event that waits for a link, and is released by a later one, is applied
    again after the others, here: its job is the one that runs.
    """
    books = open_books(tx, readings, ports, now)
    outcomes: dict[UUID, Outcome] = {}
    unsaid: dict[UUID, None] = {}
    released: dict[str, UUID] = {}
    of_subject: defaultdict[str | None, list[Reading]] = defaultdict(list)
    for each in readings:
        of_subject[each.event.subject].append(each)
    to_apply = deque(readings)
    while to_apply:
        each = to_apply.popleft()
        outcome = outcomes[each.event.id] = settled(each.event, apply_fact(books, each, ports))
        if outcome.status in (Status.PARKED_THIN, Status.PARKED_INCOMPLETE) or books.is_tied(each.fact):
            unsaid[each.event.id] = None
        linked = books.take_released()
        released |= dict.fromkeys(linked, each.event.id)
        for other in (other for customer_id in linked for other in of_subject[customer_id]):
            if other.event.id in outcomes and outcomes[other.event.id].status in LINKLESS:
                parked = replace(other.event, status=outcomes.pop(other.event.id).status)
                to_apply.append(replace(other, event=parked))
    save(tx, books)
    tx.events.mark_many(outcomes)
    waiting = tx.events.waiting_for_a_link(list(released)) if released else {}
    follow = {event_id: released[subject] for event_id, subject in waiting.items() if event_id not in outcomes}
    enqueue_for(tx, apply_stripe_event, follow, jobs)
    if can_wait and ports.fetch_event is not None:
        enqueue_for(tx, fetch_stripe_event, {event_id: event_id for event_id in sorted(unsaid)}, jobs)
    return outcomes


def enqueue_for(
    tx: Tx, job_type: JobType[[UUID]], events: Mapping[UUID, UUID], jobs: Mapping[UUID, BatchJob] | None
) -> None:
    """Enqueue a job for each event, by the job of the event that it follows from."""
    by = None if jobs is None else [jobs[because] for because in events.values()]
    job_type.enqueue_many(tx, [{"event_id": event_id} for event_id in events], by=by)


def open_books(tx: Tx, readings: Sequence[Reading], ports: Ports, now: Callable[[], datetime]) -> Books:
    """Lock the customers that the facts are about, and the tenants that they pay for or that are named, and load all
    that the plans of these follow from."""
    facts = [each.fact for each in readings if isinstance(each.fact, OfCustomer)]
    customers = {fact.customer_id for fact in facts}
    tx.billing.lock_customers(customers)
    tenants = tx.plans.lock(customers=customers, named={fact.tenant_hint for fact in facts if fact.tenant_hint})
    paying = {tenant.customer_id for tenant in tenants.values() if tenant.customer_id is not None}
    mirror = tx.billing.mirror(
        customers | paying,
        tenants,
        subscriptions={each.fact.subscription.id for each in readings if isinstance(each.fact, SubscriptionChanged)},
        invoices={fact.invoice.id for fact in facts if isinstance(fact, InvoiceChanged)},
    )
    return Books(mirror, tenants, prices=ports.prices, now=now(), can_ask=ports.fetch_event is not None)


def save(tx: Tx, books: Books) -> None:
    """Write what the facts changed."""
    tx.billing.save(
        customers=books.customers.values(),
        subscriptions=books.subscriptions.values(),
        invoices=books.invoices.values(),
        periods=books.periods.values(),
    )
    plans, entries = books.close(tx.plans.used_since(books.counted_from))
    tx.plans.save(plans)
    tx.plans.record(entries)


def apply_fact(books: Books, each: Reading, ports: Ports) -> Outcome:
    match each.fact:
        case Ignored(status, detail):
            return Outcome(status, detail)
        case Thin():
            return Outcome(Status.PARKED_THIN)
        case Incomplete(path):
            return Outcome(Status.PARKED_INCOMPLETE, path, () if ports.fetch_event else (PARTIAL,))
        case Flagged(flag, kind):
            return flagged(flag, kind)
        case SubscriptionChanged(subscription=row) if row.status not in STATUSES:
            return flagged(Flag.UNKNOWN_STATUS, f"unknown status {row.status}: the plan stays as it was")
        case PriceRetired(price_id):
            ours = price_id in ports.prices
            return flagged(Flag.PRICE_RETIRED, f"{price_id} is retired, and settings name it") if ours else NOT_OURS
        case fact:
            return books.apply(fact, f"event:{each.event.external_id}")


def flagged(flag: Flag, detail: str) -> Outcome:
    return Outcome(Status.APPLIED, concerns=(Concern(flag, detail),))


def settled(event: Event, outcome: Outcome) -> Outcome:
    """Return the outcome to be recorded. What was applied once, or waited parked, is not stale when it comes again."""
    if outcome.status in SETTLED and event.status.kind in ("applied", "parked"):
        return replace(outcome, status=Status.APPLIED)
    return outcome


def log_concerns(log: Any, outcomes: Mapping[UUID, Outcome]) -> None:
    for event_id, outcome in outcomes.items():
        if outcome.concerns:
            log.warning("billing.flagged", event_id=str(event_id), flag=outcome.flag, detail=outcome.explained)
