"""The mirror and the plans once more, from the stored events alone.

For when somebody doubts them: a healthy system shows no difference. It uses the readers and rules that the jobs use,
so what it finds is what was written by hand, lost, or applied by code that was wrong then and is right now.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM, Database, Tx
from domain.billing.events import CustomerDeleted, InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, further, periods_paid
from domain.billing.plan import Customer, pay_as
from domain.billing.subscriptions import STATUSES, Subscription, newer
from domain.errors import MalformedEvent
from domain.ports import Ports
from workers.jobs.billing import derive_plan, save_plan


@dataclass(frozen=True)
class Difference:
    """`stored` is what a row says, `derived` what the events say; a row that is not there says None everywhere."""

    tenant_id: UUID | None
    what: str
    column: str
    stored: Any
    derived: Any


class _NotWanted(Exception):
    """Rolls back what was only tried."""


def rebuild(
    db: Database, ports: Ports, *, tenant_id: UUID | None = None, apply: bool = False, cause: str
) -> list[Difference]:
    """The differences of all tenants, or of one. With `apply` they are written, a transaction for each tenant.

    Raises:
        UnknownTenant: there is no such tenant.
    """
    with db.transaction(SYSTEM) as tx:
        if tenant_id is not None:
            tx.tenants.get(tenant_id)
        told = tx.events.subjects("stripe")
        claims = tx.billing.tenants_of_customers()
    groups: dict[UUID | str, list[str]] = {}
    for customer_id in told:
        groups.setdefault(claims.get(customer_id, customer_id), []).append(customer_id)
    found: list[Difference] = []
    for owner, customers in groups.items():
        if tenant_id in (None, owner):
            found += _rebuild(db, ports, customers, apply=apply, cause=cause)
    return found


def _rebuild(db: Database, ports: Ports, customers: Sequence[str], *, apply: bool, cause: str) -> list[Difference]:
    found: list[Difference] = []
    try:
        with db.transaction(SYSTEM) as tx:
            for customer_id in customers:
                tx.billing.lock_customer(customer_id)
            told = [_update_mirror(tx, ports, customer_id, found) for customer_id in customers]
            _sync_tenant(tx, ports, told, cause, found)
            if not apply:
                raise _NotWanted
    except _NotWanted:
        pass
    return found


def _update_mirror(tx: Tx, ports: Ports, customer_id: str, found: list[Difference]) -> Customer:
    """Bring the mirror of one customer to what its events say. A row that says something newer than all of them, or
    of which none tells, was written by somebody who asked Stripe: it stays. Where what old events said is kept no more,
    the mirror alone remembers it: the others are added to that."""
    known = tx.billing.customer(customer_id)
    customer, subscriptions, invoices = _derive_from_events(tx, ports, customer_id)
    forgotten = tx.events.dropped("stripe", customer_id)
    deleted_at = max(filter(None, (customer.deleted_at, known.deleted_at if forgotten else None)), default=None)
    told = replace(known, tenant_id=known.tenant_id or customer.tenant_id, deleted_at=deleted_at)
    found += _differences(told.tenant_id, f"customer {customer_id}", known, told)
    if told != known:
        tx.billing.save_customer(told)
    for each in subscriptions:
        stored = tx.billing.subscription(each.id)
        row = newer(stored, each) if forgotten else each
        if stored is None or _age(stored) <= _age(row):
            found += _differences(told.tenant_id, f"subscription {row.id}", stored, row)
            tx.billing.save_subscription(row)
    for invoice in invoices:
        known_bill = tx.billing.invoice(invoice.id)
        if known_bill is None or further(known_bill, invoice) != known_bill:
            found += _differences(told.tenant_id, f"invoice {invoice.id}", known_bill, invoice)
            tx.billing.save_invoice(invoice)
            for period in periods_paid(invoice):
                tx.billing.add_paid_period(period)
    return told


def _derive_from_events(tx: Tx, ports: Ports, customer_id: str) -> tuple[Customer, list[Subscription], list[Invoice]]:
    customer = Customer(customer_id)
    subscriptions: dict[str, Subscription] = {}
    invoices: dict[str, Invoice] = {}
    for payload in tx.events.about("stripe", customer_id):
        try:
            fact = read(payload, livemode=ports.livemode)
        except MalformedEvent:
            continue
        if isinstance(fact, SubscriptionChanged) and fact.subscription.status not in STATUSES:
            continue  # nothing followed from it, but that a person was told
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


def _sync_tenant(tx: Tx, ports: Ports, customers: Sequence[Customer], cause: str, found: list[Difference]) -> None:
    tenant_id = next((customer.tenant_id for customer in customers if customer.tenant_id), None)
    if tenant_id is None or not tx.tenants.exists(tenant_id):
        return
    stored = tx.tenants.lock_plan(tenant_id)
    before = stored
    for customer in sorted(customers, key=lambda customer: customer.deleted_at is None):
        before = pay_as(before, customer) or before
    now = tx.now()
    # A month that is due, and that nobody has asked for yet, is no difference.
    due = tx.quota.reset_if_due(tenant_id, stored.quota, now)
    after, *_ = derive_plan(tx, tenant_id, before, ports.prices, now)
    found += _differences(tenant_id, "plan", stored, replace(after, quota=stored.quota))
    found += _differences(tenant_id, "quota", due, after.quota)
    save_plan(tx, tenant_id, stored, after, cause)


def _differences(tenant_id: UUID | None, what: str, stored: Any, derived: Any) -> Iterator[Difference]:
    for name in (field.name for field in fields(derived) if field.compare):
        ours, theirs = getattr(stored, name, None), getattr(derived, name)
        if ours != theirs:
            yield Difference(tenant_id, what, name, ours, theirs)


def _age(row: Subscription) -> tuple[Any, ...]:
    return row.event_created, row.event_rank
