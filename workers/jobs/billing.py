"""What Stripe tells us becomes the tenant's plan."""

from uuid import UUID

from domain.billing import PriceBook, change_plan, newer, unknown_prices
from domain.billing_events import (
    CheckoutCompleted,
    CustomerDeleted,
    Fact,
    Ignored,
    InvoicePaid,
    SubscriptionChanged,
    read,
)
from workers.job import Context, Tx, job


@job("billing.apply_stripe_event", queue="events", system=True, unique=("event_id",), max_attempts=10)
def apply_stripe_event(ctx: Context, event_id: UUID) -> None:
    """Mirror what the event says, then derive the tenant anew from the whole mirror of its customer."""
    with ctx.finish() as tx:
        event = tx.events.get(event_id)
        fact = read(event.payload)
        if isinstance(fact, Ignored | CustomerDeleted):
            outcome = ignored(fact)
        else:
            customer = customer_of(fact)
            tx.billing.lock_customer(customer)
            mirrored = mirror(tx, fact)
            outcome = follow(tx, fact, customer, ctx.ports.prices, cause=f"event:{event.external_id}")
            if outcome == "applied" and not mirrored:
                outcome = "stale"
        tx.events.mark(event_id, outcome)
        ctx.report(outcome=outcome)


def mirror(tx: Tx, fact: Fact) -> bool:
    """Store the fact itself. False if the mirror knew something newer."""
    match fact:
        case SubscriptionChanged(subscription=incoming):
            stored = tx.billing.subscription(incoming.id)
            merged = newer(stored, incoming)
            if merged == stored:
                return False
            tx.billing.save_subscription(merged)
        case InvoicePaid(periods=periods):
            for period in periods:
                tx.billing.add_paid_period(period)
    return True


def follow(tx: Tx, fact: Fact, customer: str, prices: PriceBook, cause: str) -> str:
    """Let the customer's tenant follow the mirror. Returns the event's outcome.

    An event of a customer that is nobody's yet is parked: the mirror keeps what it said, and the event that links
    the customer to a tenant derives the tenant from all of it.
    """
    tenant_id = tx.tenants.of_customer(customer)
    if tenant_id is None:
        hint = getattr(fact, "tenant_hint", None)
        if hint is None:
            return "parked:unknown_customer"
        if not tx.tenants.link_customer(hint, customer):
            return "parked:unknown_tenant"
        tenant_id = hint
        for parked in ("parked:unknown_customer", "parked:unknown_tenant"):
            tx.events.release("stripe", customer, parked)
    before = tx.tenants.lock_plan(tenant_id)
    subscriptions = tx.billing.subscriptions(customer)
    after = change_plan(before, subscriptions, tx.billing.paid_periods(customer), prices)
    if after != before:
        tx.tenants.save_plan(tenant_id, after)
    change = (tenant_id, before.quota, after.quota)
    if after.quota.limit != before.quota.limit:
        tx.tenants.record("grant", cause, [change])
    elif after.quota.period_start != before.quota.period_start:
        tx.tenants.record("reset", cause, [change])
    return "parked:unknown_price" if unknown_prices(subscriptions, prices) else "applied"


def customer_of(fact: SubscriptionChanged | CheckoutCompleted | InvoicePaid) -> str:
    return fact.subscription.customer_id if isinstance(fact, SubscriptionChanged) else fact.customer_id


def ignored(fact: Ignored | CustomerDeleted) -> str:
    reason = fact.reason if isinstance(fact, Ignored) else "its subscriptions end by events of their own"
    return f"ignored:{reason}"
