"""The mirror of Stripe and the plans, derived once more from the stored events alone.

An operator who doubts them runs this; a healthy system shows no difference. It uses the readers and rules of the jobs,
so it finds what was written by hand, was lost, or was applied by code that was wrong then and is right now.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM, Database, Tx
from domain.billing.books import Books
from domain.billing.events import CustomerDeleted, InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, further, periods_paid
from domain.billing.plan import Customer, pay_as
from domain.billing.subscriptions import STATUSES, Subscription, newer
from domain.errors import MalformedEvent
from domain.ports import Ports


@dataclass(frozen=True)
class Difference:
    """`stored` is what a row says, `derived` what the events say; where there is no row, `stored` is None."""

    tenant_id: UUID | None
    what: str
    column: str
    stored: Any
    derived: Any


class _OnlyTried(Exception):
    """Rolls the transaction back."""


def rebuild(
    db: Database,
    ports: Ports,
    *,
    tenant_id: UUID | None = None,
    apply: bool = False,
    cause: str,
    watch: Callable[[float, float], object] = lambda done, total: None,
) -> list[Difference]:
    """Return the differences of all tenants, or of one. With `apply` they are written, in a transaction per tenant.
    `watch` is called before each, with how many are done, and of how many.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with db.transaction(SYSTEM) as tx:
        if tenant_id is not None:
            tx.tenants.seen(tenant_id)
        customer_ids = tx.events.subjects("stripe")
        tenants = tx.billing.tenants_of_customers()
    groups: dict[UUID | str, list[str]] = {}
    for customer_id in customer_ids:
        groups.setdefault(tenants.get(customer_id, customer_id), []).append(customer_id)
    found: list[Difference] = []
    for number, (owner, customers) in enumerate(groups.items()):
        watch(number, len(groups))
        if tenant_id in (None, owner):
            found += _rebuild(db, ports, customers, apply=apply, cause=cause)
    return found


def _rebuild(db: Database, ports: Ports, customer_ids: Sequence[str], *, apply: bool, cause: str) -> list[Difference]:
    """Rebuild one tenant, or a customer that is nobody's."""
    found: list[Difference] = []
    try:
        with db.transaction(SYSTEM) as tx:
            tx.billing.lock_customers(customer_ids)
            customers = [_rebuild_mirror(tx, ports, customer_id, found) for customer_id in customer_ids]
            _rebuild_plan(tx, ports, customers, cause, found)
            if not apply:
                raise _OnlyTried
    except _OnlyTried:
        pass
    return found


def _rebuild_mirror(tx: Tx, ports: Ports, customer_id: str, found: list[Difference]) -> Customer:
    """Bring the mirror of one customer to what its events say.

    A row that is newer than all events, or of which no event tells, was written by somebody who asked Stripe: it stays.
    Where the bodies of old events are dropped, only the mirror remembers them: the other events are added to it.
    """
    stored = tx.billing.customer(customer_id)
    derived, subscriptions, invoices = _derive_mirror(tx, ports, customer_id)
    has_gaps = tx.events.dropped("stripe", customer_id)
    deleted_at = max(filter(None, (derived.deleted_at, stored.deleted_at if has_gaps else None)), default=None)
    customer = replace(stored, tenant_id=stored.tenant_id or derived.tenant_id, deleted_at=deleted_at)
    found += _differences(customer.tenant_id, f"customer {customer_id}", stored, customer)
    if customer != stored:
        tx.billing.save(customers=[customer])
    for each in subscriptions:
        row = tx.billing.subscription(each.id)
        merged = newer(row, each) if has_gaps else each
        if row is None or (row.event_created, row.event_rank) <= (merged.event_created, merged.event_rank):
            found += _differences(customer.tenant_id, f"subscription {each.id}", row, merged)
            tx.billing.save(subscriptions=[merged])
    for invoice in invoices:
        bill = tx.billing.invoice(invoice.id)
        if bill is None or further(bill, invoice) != bill:
            found += _differences(customer.tenant_id, f"invoice {invoice.id}", bill, invoice)
            tx.billing.save(invoices=[invoice], periods=periods_paid(invoice))
    return customer


def _derive_mirror(tx: Tx, ports: Ports, customer_id: str) -> tuple[Customer, list[Subscription], list[Invoice]]:
    """Return the rows that the stored events of one customer make."""
    customer = Customer(customer_id)
    subscriptions: dict[str, Subscription] = {}
    invoices: dict[str, Invoice] = {}
    for payload in tx.events.about("stripe", customer_id):
        try:
            fact = read(payload, livemode=ports.livemode)
        except MalformedEvent:
            continue
        if isinstance(fact, SubscriptionChanged) and fact.subscription.status not in STATUSES:
            continue  # such an event changed nothing: it was flagged for a person
        hint = getattr(fact, "tenant_hint", None)
        if customer.tenant_id is None and hint is not None and tx.tenants.exists(hint):
            customer = replace(customer, tenant_id=hint)
        match fact:
            case SubscriptionChanged(subscription=row):
                subscriptions[row.id] = newer(subscriptions.get(row.id), row)
            case InvoiceChanged(invoice=bill):
                invoices[bill.id] = further(invoices.get(bill.id), bill)
            case CustomerDeleted(at=at):
                customer = replace(customer, deleted_at=max(at, customer.deleted_at or at))
    return customer, list(subscriptions.values()), list(invoices.values())


def _rebuild_plan(tx: Tx, ports: Ports, customers: Sequence[Customer], cause: str, found: list[Difference]) -> None:
    """Bring the tenant of these customers to what the mirror says."""
    tenant_id = next((customer.tenant_id for customer in customers if customer.tenant_id), None)
    if tenant_id is None or not tx.tenants.exists(tenant_id):
        return
    stored = tx.plans.lock_one(tenant_id)
    linked = stored
    for customer in sorted(customers, key=lambda customer: customer.deleted_at is None):
        linked = pay_as(linked, customer) or linked
    now = tx.now()
    mirror = tx.billing.mirror(filter(None, [linked.customer_id]), [tenant_id])
    books = Books(mirror, {tenant_id: stored}, prices=ports.prices, now=now, can_ask=False)
    books.derive(tenant_id, linked, cause)
    plans, entries = books.close(tx.plans.used_since(books.counted_from))
    after = plans.get(tenant_id, stored)
    found += _differences(tenant_id, "plan", stored, replace(after, quota=stored.quota))
    # A month that is due, and that nobody has asked for yet, is no difference.
    found += _differences(tenant_id, "quota", tx.quota.reset_if_due(tenant_id, stored.quota, now), after.quota)
    tx.plans.save(plans)
    tx.plans.record(entries)


def _differences(tenant_id: UUID | None, what: str, stored: Any, derived: Any) -> Iterator[Difference]:
    for name in (field.name for field in fields(derived) if field.compare):
        ours, theirs = getattr(stored, name, None), getattr(derived, name)
        if ours != theirs:
            yield Difference(tenant_id, what, name, ours, theirs)
