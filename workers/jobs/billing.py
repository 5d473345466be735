"""Stripe's events become a tenant's plan: an event changes the mirror, and the plan follows from the whole mirror."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.billing.events import (
    CustomerDeleted,
    Flagged,
    Incomplete,
    InvoiceChanged,
    OfCustomer,
    PriceRetired,
    SubscriptionChanged,
    Thin,
    read,
)
from domain.billing.invoices import Invoice, further
from domain.billing.plan import Customer, TenantBilling, change_plan, concerns, pay_as, unknown_prices
from domain.billing.reconcile import subject
from domain.billing.subscriptions import STATUSES, Subscription, certain, ended, includes, newer
from domain.billing.tiers import PriceBook
from domain.errors import ProviderUnavailable
from domain.events.event import Event
from domain.events.outcomes import SETTLED, Concern, Flag, Ignored, Outcome, Priority, Status
from domain.quota.quota import carry_over
from workers.engine.job import Context, FailedJob, Tx, job

EVENTS_PER_TRANSACTION = 1000
A_MOMENT = timedelta(seconds=5)

NOT_OURS = Outcome(Status.IGNORED_PRICE, "price of another product")
PARTIAL = Concern(Flag.INCOMPLETE, "the body carries only a part of the object")
TIED = Concern(Flag.CONTRADICTION, "two events of one second contradict each other")


@job(
    "billing.apply_stripe_event",
    queue="events",
    system=True,
    unique=("event_id",),
    priority=Priority.BILLING,
    max_attempts=10,
)
def apply_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Apply a stored event, and have Stripe asked if the event does not say everything itself."""
    with ctx.finish() as tx:
        event = tx.events.get(event_id)
        outcome = apply_event(ctx, tx, event, event.payload)
        lacks_something = outcome.status in (Status.PARKED_THIN, Status.PARKED_INCOMPLETE) or is_tied(tx, event.payload)
        if lacks_something and ctx.ports.fetch_event is not None:
            fetch_stripe_event.enqueue(tx, event_id=event_id)
        record_outcome(ctx, tx, event, outcome)


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
        lacks_all = isinstance(read(event.payload), Thin | Incomplete)
        asks = lacks_all or is_tied(tx, event.payload)
    fetch = ctx.ports.fetch_event
    body: Mapping[str, Any] | None = event.payload
    if fetch is not None and asks:
        body = fetch(event.payload)
        if not lacks_all and body is not None and body["created"] <= event.payload["created"]:
            raise ProviderUnavailable("Stripe's clock is still at the second that is in doubt", retry_after=A_MOMENT)
    with ctx.finish() as tx:
        if body is None:
            record_outcome(ctx, tx, event, Outcome(Status.IGNORED_GONE, "Stripe has no more of it"))
        elif lacks_all:
            if body is not event.payload:
                tx.events.replace_payload(event_id, body, getattr(read(body), "customer_id", None))
            record_outcome(ctx, tx, event, apply_event(ctx, tx, event, body))
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


def is_tied(tx: Tx, body: Mapping[str, Any]) -> bool:
    """Return whether the event has the newest second of its subscription together with others, and nothing says which
    of them is the last."""
    fact = read(body)
    row = tx.billing.subscription(fact.subscription.id) if isinstance(fact, SubscriptionChanged) else None
    return row is not None and not certain(row)


def record_outcome(ctx: Context, tx: Tx, event: Event, outcome: Outcome) -> None:
    """Write what became of the event. One that was applied once, or waited parked, is not stale when it comes again."""
    if outcome.status in SETTLED and event.status.kind in ("applied", "parked"):
        outcome = replace(outcome, status=Status.APPLIED)
    tx.events.mark(event.id, outcome)
    ctx.report(outcome=outcome.status)
    if outcome.concerns:
        ctx.log.warning("billing.flagged", event_id=str(event.id), flag=outcome.flag, detail=outcome.explained)


def apply_event(ctx: Context, tx: Tx, event: Event, body: Mapping[str, Any]) -> Outcome:
    """Change the mirror as the body of the event says, and derive the tenant anew."""
    match read(body, livemode=ctx.ports.livemode):
        case Ignored(status, detail):
            return Outcome(status, detail)
        case Thin():
            return Outcome(Status.PARKED_THIN)
        case Incomplete(path):
            return Outcome(Status.PARKED_INCOMPLETE, path, () if ctx.ports.fetch_event else (PARTIAL,))
        case Flagged(flag, kind):
            return flagged(flag, kind)
        case SubscriptionChanged(subscription=row) if row.status not in STATUSES:
            return flagged(Flag.UNKNOWN_STATUS, f"unknown status {row.status}: the plan stays as it was")
        case PriceRetired(price_id):
            ours = price_id in ctx.ports.prices
            return flagged(Flag.PRICE_RETIRED, f"{price_id} is retired, and settings name it") if ours else NOT_OURS
        case fact:
            tx.billing.lock_customer(fact.customer_id)
            change = update_mirror(tx, fact)
            return sync_tenant(ctx, tx, fact, f"event:{event.external_id}", change=change)


def flagged(flag: Flag, detail: str) -> Outcome:
    return Outcome(Status.APPLIED, concerns=(Concern(flag, detail),))


def update_mirror(tx: Tx, fact: OfCustomer) -> Status:
    """Store the fact itself. The result is `STALE` if the mirror had something newer, and `DUPLICATE` if it had just
    this: Stripe may tell one change by two events."""
    match fact:
        case SubscriptionChanged(subscription=incoming):
            row = tx.billing.subscription(incoming.id)
            merged = newer(row, incoming)
            if row is None or (merged, merged.recent) != (row, row.recent):
                tx.billing.save_subscription(merged)
            if row is not None and merged == row:
                return Status.DUPLICATE if includes(row, incoming) else Status.STALE
        case InvoiceChanged(invoice=invoice):
            stored = tx.billing.invoice(invoice.id)
            if stored is not None and further(stored, invoice) == stored:
                same = replace(invoice, event_created=stored.event_created) == stored
                return Status.DUPLICATE if same else Status.STALE
            tx.billing.save_invoice(invoice)
        case CustomerDeleted(customer_id, at):
            customer = tx.billing.customer(customer_id)
            if customer.deleted_at is not None and customer.deleted_at >= at:
                return Status.DUPLICATE if customer.deleted_at == at else Status.STALE
            tx.billing.save_customer(replace(customer, deleted_at=at))
    return Status.APPLIED


def sync_tenant(ctx: Context, tx: Tx, fact: OfCustomer, cause: str, *, change: Status) -> Outcome:
    """Bring the customer's tenant to what the mirror says; `change` is the result of `update_mirror`.

    An event of a customer that is nobody's yet is parked: the mirror keeps what it said, and the event that links the
    customer to a tenant derives the tenant from all of it.
    """
    customer, is_new = identify_customer(tx, fact)
    if customer.tenant_id is None:
        return Outcome(change if isinstance(fact, CustomerDeleted) else Status.PARKED_CUSTOMER)
    if not tx.tenants.exists(customer.tenant_id):
        return Outcome(Status.PARKED_TENANT)
    stored = tx.tenants.lock_plan(customer.tenant_id)
    linked = pay_as(stored, customer)
    if linked is None:
        return Outcome(Status.PARKED_OTHER_CUSTOMER)
    after, rows, invoices = derive_plan(tx, customer.tenant_id, linked, ctx.ports.prices, ctx.now())
    save_plan(tx, customer.tenant_id, stored, after, cause)
    if is_new or after.customer_id != stored.customer_id or isinstance(fact, CustomerDeleted):
        reapply_waiting(tx, customer)
    found = concerns(rows, invoices, ctx.ports.prices, customer.tenant_id, fact.tenant_hint)
    if ctx.ports.fetch_event is None and not all(map(certain, rows)):
        found += (TIED,)
    if isinstance(fact, SubscriptionChanged):
        its_rows = [row for row in rows if row.id == fact.subscription.id]
        if unknown_prices(its_rows, ctx.ports.prices):
            return Outcome(Status.PARKED_PRICE, concerns=found)
    of_the_past = customer.deleted_at is not None and not isinstance(fact, CustomerDeleted)
    return Outcome(Status.STALE if of_the_past and change == Status.APPLIED else change, concerns=found)


def identify_customer(tx: Tx, fact: OfCustomer) -> tuple[Customer, bool]:
    """Return the customer with the tenant it pays for, and whether that was not known before.

    The tenant's own row is the strongest evidence, then what the mirror has, then this event. Evidence for a tenant
    that does not exist gives way.
    """
    mirrored = tx.billing.customer(fact.customer_id)
    tenant_id = tx.tenants.of_customer(mirrored.id) or mirrored.tenant_id or fact.tenant_hint
    if tenant_id is not None and fact.tenant_hint not in (None, tenant_id) and not tx.tenants.exists(tenant_id):
        tenant_id = fact.tenant_hint
    customer = replace(mirrored, tenant_id=tenant_id)
    if customer != mirrored:
        tx.billing.save_customer(customer)
    return customer, customer != mirrored


def derive_plan(
    tx: Tx, tenant_id: UUID, linked: TenantBilling, prices: PriceBook, now: datetime
) -> tuple[TenantBilling, list[Subscription], list[Invoice]]:
    """Return the tenant as the mirror makes it, and the subscriptions and invoices that it follows from."""
    deleted = {each.id: each.deleted_at for each in tx.billing.customers_that_count(tenant_id, linked.customer_id)}
    rows = [ended(row, deleted[row.customer_id]) for row in tx.billing.subscriptions(*deleted)]
    invoices = tx.billing.invoices(*deleted)
    after = change_plan(linked, rows, invoices, prices, now)
    begins = after.quota.counts_from
    if begins != linked.quota.counts_from:
        after = replace(after, quota=carry_over(after.quota, tx.quota.used_since(tenant_id, begins)))
    return after, rows, invoices


def save_plan(tx: Tx, tenant_id: UUID, before: TenantBilling, after: TenantBilling, cause: str) -> None:
    """Write the tenant if it changed, and an entry of the ledger if its limit or its period did."""
    if after != before:
        tx.tenants.save_plan(tenant_id, after)
    granted = after.quota.limit != before.quota.limit
    if granted or after.quota.period_start != before.quota.period_start:
        amount = after.quota.used - before.quota.used
        tx.quota.record(tenant_id, "grant" if granted else "reset", cause, after.quota, amount=amount)


def reapply_waiting(tx: Tx, customer: Customer) -> None:
    """Apply again what waited for this customer's link; once it is deleted, also what waited for its place."""
    waiting = [customer.id]
    if customer.deleted_at is not None and customer.tenant_id is not None:
        waiting += tx.billing.customers_of(customer.tenant_id)
    parked = tx.events.waiting_for_a_link(waiting)
    apply_stripe_event.enqueue_many(tx, [{"event_id": event_id} for event_id in parked])
