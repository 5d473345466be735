"""What Stripe tells us becomes the tenant's plan."""

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
from domain.billing.invoices import Invoice, further, periods_paid
from domain.billing.plan import Customer, TenantBilling, change_plan, concerns, pay_as, unknown_prices
from domain.billing.reconcile import subject
from domain.billing.subscriptions import STATUSES, Subscription, certain, ended, includes, newer
from domain.billing.tiers import PriceBook
from domain.errors import ProviderUnavailable
from domain.events.outcomes import SETTLED, Concern, Flag, Ignored, Outcome, Priority, Status
from domain.quota.quota import carry_over
from workers.engine.job import Context, FailedJob, Tx, job

EVENTS_PER_TRANSACTION = 1000


@job(
    "billing.apply_stripe_event",
    queue="events",
    system=True,
    unique=("event_id",),
    priority=Priority.BILLING,
    max_attempts=10,
)
def apply_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Mirror what the event says, then derive the tenant anew from the whole mirror of its customers."""
    with ctx.finish() as tx:
        event = tx.events.get(event_id)
        outcome = apply_event(ctx, tx, event.payload, cause=f"event:{event.external_id}")
        if ctx.ports.fetch_event is not None and (outcome.status in TO_FETCH or is_tied(tx, event.payload)):
            fetch_stripe_event.enqueue(tx, event_id=event_id)
        record_outcome(ctx, tx, event_id, event.status, outcome)


A_MOMENT = timedelta(seconds=5)
TO_FETCH = (Status.PARKED_THIN, Status.PARKED_INCOMPLETE)


def is_tied(tx: Tx, body: Mapping[str, Any]) -> bool:
    """Whether the event is one of several of the newest second of its subscription, of which nothing says the last."""
    fact = read(body)
    row = tx.billing.subscription(fact.subscription.id) if isinstance(fact, SubscriptionChanged) else None
    return row is not None and not certain(row)


def mark_unfetchable(tx: Tx, failed: FailedJob) -> None:
    """Nobody asks again by itself: a person sees to it (the key may lack a permission) and replays. What was applied
    already stays so; the nightly reconcile asks once more."""
    event_id = UUID(str(failed.arguments["event_id"]))
    status = tx.events.get(event_id).status
    if status.kind == "parked":
        concerns = (PARTIAL,) if status == Status.PARKED_INCOMPLETE else ()
        tx.events.mark(event_id, Outcome(Status.PARKED_UNFETCHABLE, concerns=concerns))
    else:
        tx.events.mark(event_id, Outcome(status, concerns=(TIED,)))


@job(
    "billing.fetch_stripe_event",
    system=True,
    unique=("event_id",),
    max_attempts=10,
    on_failure=mark_unfetchable,
)
def fetch_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Ask Stripe what an event is about that does not say it itself, and apply the answer.

    Of one that carries nothing (thin), or not all of it, the answer is kept as the event's payload. One that is told in
    the same second as another stays what it was, and the answer is an event of its own.
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
            record_outcome(ctx, tx, event_id, event.status, Outcome(Status.IGNORED_GONE, "Stripe has no more of it"))
        elif lacks_all:
            if body is not event.payload:
                tx.events.replace_payload(event_id, body, getattr(read(body), "customer_id", None))
            outcome = apply_event(ctx, tx, body, cause=f"event:{event.external_id}")
            record_outcome(ctx, tx, event_id, event.status, outcome)
        elif body is not event.payload:
            ctx.report(told=store_event(tx, body))


def store_event(tx: Tx, body: Mapping[str, Any]) -> bool:
    """Store an event that Stripe was asked for, and have it applied like any other. False if it is there already."""
    new_id = tx.new_id()
    if not tx.events.add(new_id, "stripe", body["id"], body, subject(body)):
        return False
    tx.events.assign(new_id, apply_stripe_event.enqueue(tx, event_id=new_id))
    return True


@job("billing.release_parked", system=True)
def release_parked(ctx: Context) -> None:
    """Apply again what was parked for something that is there now: a price that the settings map since, a tenant or a
    link that another program wrote, a key to fetch with what events do not carry. What is parked again waits for the
    next round."""
    with ctx.finish() as tx:
        found = tx.events.reappliable(
            list(ctx.ports.prices), can_fetch=ctx.ports.fetch_event is not None, limit=EVENTS_PER_TRANSACTION
        )
        apply_stripe_event.enqueue_many(tx, [{"event_id": event_id} for event_id in found])
        ctx.report(released=len(found))


def record_outcome(ctx: Context, tx: Tx, event_id: UUID, before: Status, outcome: Outcome) -> None:
    """Say what became of the event. One that was applied once, or waited parked, is no old news when it comes again."""
    if outcome.status in SETTLED and before.kind in ("applied", "parked"):
        outcome = replace(outcome, status=Status.APPLIED)
    tx.events.mark(event_id, outcome)
    ctx.report(outcome=outcome.status)
    if outcome.concerns:
        ctx.log.warning("billing.flagged", event_id=str(event_id), flag=outcome.flag, detail=outcome.explained)


def apply_event(ctx: Context, tx: Tx, body: Mapping[str, Any], cause: str) -> Outcome:
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
            news = update_mirror(tx, fact)
            return sync_tenant(ctx, tx, fact, cause, news=news)


NOT_OURS = Outcome(Status.IGNORED_PRICE, "price of another product")
PARTIAL = Concern(Flag.INCOMPLETE, "the body carries only a part of the object")
TIED = Concern(Flag.CONTRADICTION, "two events of one second contradict each other")


def flagged(flag: Flag, detail: str) -> Outcome:
    return Outcome(Status.APPLIED, concerns=(Concern(flag, detail),))


def update_mirror(tx: Tx, fact: OfCustomer) -> Status:
    """Store the fact itself. `STALE` if the mirror knew something newer; `DUPLICATE` if it knew just this: Stripe may
    tell one change by two events."""
    match fact:
        case SubscriptionChanged(subscription=incoming):
            stored = tx.billing.subscription(incoming.id)
            merged = newer(stored, incoming)
            if stored is None or merged != stored or merged.recent != stored.recent:
                tx.billing.save_subscription(merged)
            if stored is not None and merged == stored:
                return Status.DUPLICATE if includes(stored, incoming) else Status.STALE
        case InvoiceChanged(invoice=told):
            known = tx.billing.invoice(told.id)
            invoice = further(known, told)
            if invoice == known:
                return Status.DUPLICATE if replace(told, event_created=known.event_created) == known else Status.STALE
            tx.billing.save_invoice(invoice)
            for period in periods_paid(invoice):
                tx.billing.add_paid_period(period)
        case CustomerDeleted(customer_id, at):
            customer = tx.billing.customer(customer_id)
            if customer.deleted_at is not None and customer.deleted_at >= at:
                return Status.DUPLICATE if customer.deleted_at == at else Status.STALE
            tx.billing.save_customer(replace(customer, deleted_at=at))
    return Status.APPLIED


def sync_tenant(ctx: Context, tx: Tx, fact: OfCustomer, cause: str, *, news: Status) -> Outcome:
    """Let the customer's tenant follow the mirror; `news` is what `mirror` said.

    An event of a customer that is nobody's yet is parked: the mirror keeps what it said, and the event that links
    the customer to a tenant derives the tenant from all of it.
    """
    customer, newly_identified = identify_customer(tx, fact)
    if customer.tenant_id is None:
        return Outcome(news if isinstance(fact, CustomerDeleted) else Status.PARKED_CUSTOMER)
    if not tx.tenants.exists(customer.tenant_id):
        return Outcome(Status.PARKED_TENANT)
    stored = tx.tenants.lock_plan(customer.tenant_id)
    before = pay_as(stored, customer)
    if before is None:
        return Outcome(Status.PARKED_OTHER_CUSTOMER)
    after, rows, invoices = derive_plan(tx, customer.tenant_id, before, ctx.ports.prices, ctx.now())
    save_plan(tx, customer.tenant_id, stored, after, cause)
    if newly_identified or after.customer_id != stored.customer_id or isinstance(fact, CustomerDeleted):
        reapply_waiting(tx, customer)
    found = concerns(rows, invoices, ctx.ports.prices, customer.tenant_id, fact.tenant_hint)
    if ctx.ports.fetch_event is None and not all(map(certain, rows)):
        found += (TIED,)
    if isinstance(fact, SubscriptionChanged):
        its = [row for row in rows if row.id == fact.subscription.id]
        if unknown_prices(its, ctx.ports.prices):
            return Outcome(Status.PARKED_PRICE, concerns=found)
    old = customer.deleted_at is not None and not isinstance(fact, CustomerDeleted)
    return Outcome(Status.STALE if old and news == Status.APPLIED else news, concerns=found)


def identify_customer(tx: Tx, fact: OfCustomer) -> tuple[Customer, bool]:
    """The customer with the tenant it pays for, and whether that is known only now. What tells, strongest first: the
    tenant's own row, what was claimed before, this event. A claim on a tenant that does not exist gives way."""
    known = tx.billing.customer(fact.customer_id)
    tenant_id = tx.tenants.of_customer(known.id) or known.tenant_id or fact.tenant_hint
    if tenant_id is not None and fact.tenant_hint not in (None, tenant_id) and not tx.tenants.exists(tenant_id):
        tenant_id = fact.tenant_hint
    customer = replace(known, tenant_id=tenant_id)
    if customer != known:
        tx.billing.save_customer(customer)
    return customer, customer != known


def derive_plan(
    tx: Tx, tenant_id: UUID, before: TenantBilling, prices: PriceBook, now: datetime
) -> tuple[TenantBilling, list[Subscription], list[Invoice]]:
    """The tenant as the mirror says, and the subscriptions and invoices that say it."""
    gone = {each.id: each.deleted_at for each in tx.billing.customers_that_count(tenant_id, before.customer_id)}
    rows = [ended(row, gone[row.customer_id]) for row in tx.billing.subscriptions(*gone)]
    invoices = tx.billing.invoices(*gone)
    after = change_plan(before, rows, invoices, prices, now)
    begins = after.quota.counts_from
    if begins != before.quota.counts_from:
        after = replace(after, quota=carry_over(after.quota, tx.quota.used_since(tenant_id, begins)))
    return after, rows, invoices


def save_plan(tx: Tx, tenant_id: UUID, before: TenantBilling, after: TenantBilling, cause: str) -> None:
    if after != before:
        tx.tenants.save_plan(tenant_id, after)
    granted, begun = (
        after.quota.limit != before.quota.limit,
        after.quota.period_start != before.quota.period_start,
    )
    if granted or begun:
        change = after.quota.used - before.quota.used
        tx.quota.record(tenant_id, "grant" if granted else "reset", cause, after.quota, amount=change)


def reapply_waiting(tx: Tx, customer: Customer) -> None:
    """Apply again what waited for this customer's link; once it is deleted, also what waited for its place."""
    waiting = [customer.id]
    if customer.deleted_at is not None and customer.tenant_id is not None:
        waiting += tx.billing.customers_of(customer.tenant_id)
    parked = tx.events.waiting_for_a_link(waiting)
    apply_stripe_event.enqueue_many(tx, [{"event_id": event_id} for event_id in parked])
