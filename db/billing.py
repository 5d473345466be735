"""The mirror of Stripe: its customers, subscriptions and invoices. The tenant's plan is derived from these rows."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from db.schema.billing import stripe_customers, stripe_invoices, stripe_paid_periods, stripe_subscriptions
from domain.billing.invoices import Invoice, Line, PaidPeriod, from_paid_periods, periods_paid
from domain.billing.plan import Customer
from domain.billing.subscriptions import TERMINAL, Item, Subscription, newer

SUBSCRIPTION = tuple(name for name in Subscription.__slots__ if name in stripe_subscriptions.c)
COLUMNS = (*(stripe_subscriptions.c[name] for name in SUBSCRIPTION), stripe_subscriptions.c["told"].label("whole"))
INVOICE_COLUMNS = tuple(stripe_invoices.c[name] for name in Invoice.__slots__)
CUSTOMER_COLUMNS = tuple(stripe_customers.c[name] for name in Customer.__slots__)
PERIOD_COLUMNS = tuple(stripe_paid_periods.c[name] for name in PaidPeriod.__slots__)


class Billing:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def lock_customer(self, customer_id: str) -> None:
        """Until the transaction ends, be the only one that applies events of this Stripe customer."""
        self._sql.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"stripe:{customer_id}", 0))))

    def customer(self, customer_id: str) -> Customer:
        """Return the customer as far as events told; perhaps only its id."""
        query = select(*CUSTOMER_COLUMNS).where(stripe_customers.c.id == customer_id)
        row = self._sql.execute(query).one_or_none()
        return Customer(customer_id) if row is None else Customer(*row)

    def save_customer(self, customer: Customer) -> None:
        self._upsert(stripe_customers, {name: getattr(customer, name) for name in Customer.__slots__})

    def customers_that_count(self, tenant_id: UUID, linked: str | None) -> list[Customer]:
        """Return the customers whose subscriptions make the tenant's plan: the linked one, and its deleted ones."""
        of_tenant = stripe_customers.c.tenant_id == tenant_id
        counts = or_(stripe_customers.c.id == linked, of_tenant & stripe_customers.c.deleted_at.is_not(None))
        return [Customer(*row) for row in self._sql.execute(select(*CUSTOMER_COLUMNS).where(counts))]

    def customers_of(self, tenant_id: UUID) -> list[str]:
        """Return the customers that pay for this tenant, as events say, and were not deleted, linked or not."""
        of_tenant = (stripe_customers.c.tenant_id == tenant_id) & stripe_customers.c.deleted_at.is_(None)
        return list(self._sql.execute(select(stripe_customers.c.id).where(of_tenant)).scalars())

    def tenants_of_customers(self) -> dict[str, UUID]:
        """Return the tenant that each customer pays for, or paid for before it was deleted."""
        query = select(stripe_customers.c.id, stripe_customers.c.tenant_id)
        return {
            row.id: row.tenant_id for row in self._sql.execute(query.where(stripe_customers.c.tenant_id.is_not(None)))
        }

    def subscription(self, subscription_id: str) -> Subscription | None:
        row = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.id == subscription_id)).one_or_none()
        return None if row is None else _subscription(row)

    def subscriptions(self, *customer_ids: str) -> list[Subscription]:
        """Return all subscriptions that were ever mirrored for these customers."""
        rows = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.customer_id.in_(customer_ids)))
        return [_subscription(row) for row in rows]

    def of_tenant(self, tenant_id: UUID, linked: str | None) -> tuple[list[Subscription], list[Invoice]]:
        """Return the subscriptions and invoices that make the tenant's plan."""
        customers = [customer.id for customer in self.customers_that_count(tenant_id, linked)]
        return self.subscriptions(*customers), self.invoices(*customers)

    def running(self, *, before: datetime, customer_id: str | None = None) -> list[tuple[str, str]]:
        """Return (subscription, customer) of those that had not ended as of their last event, if that came earlier."""
        deleted = select(stripe_customers.c.id).where(stripe_customers.c.deleted_at.is_not(None))
        query = select(stripe_subscriptions.c.id, stripe_subscriptions.c.customer_id).where(
            stripe_subscriptions.c.status.not_in(sorted(TERMINAL)),
            stripe_subscriptions.c.event_created < before,
            stripe_subscriptions.c.customer_id.not_in(deleted),
        )
        if customer_id is not None:
            query = query.where(stripe_subscriptions.c.customer_id == customer_id)
        return [(row.id, row.customer_id) for row in self._sql.execute(query)]

    def save_subscription(self, subscription: Subscription) -> None:
        whole = _as_json(subscription)
        whole["told"] = whole.pop("recent", [])
        values = {name: getattr(subscription, name) for name in SUBSCRIPTION}
        self._upsert(stripe_subscriptions, values | {"price_ids": list(subscription.price_ids), "told": whole})

    def invoice(self, invoice_id: str) -> Invoice | None:
        row = self._sql.execute(select(*INVOICE_COLUMNS).where(stripe_invoices.c.id == invoice_id)).one_or_none()
        return None if row is None else _invoice(row)

    def invoices(self, *customer_ids: str) -> list[Invoice]:
        """Return all invoices that were ever mirrored for these customers, and one for each paid period that only the
        release before knew."""
        found = self._sql.execute(select(*INVOICE_COLUMNS).where(stripe_invoices.c.customer_id.in_(customer_ids)))
        mirrored = [_invoice(row) for row in found]
        mine = stripe_paid_periods.c.customer_id.in_(customer_ids)
        has_invoice = select(stripe_invoices.c.id).where(stripe_invoices.c.id == stripe_paid_periods.c.invoice_id)
        older = self._sql.execute(select(*PERIOD_COLUMNS).where(mine, ~has_invoice.exists()))
        return mirrored + from_paid_periods(PaidPeriod(*row) for row in older)

    def save_invoice(self, invoice: Invoice) -> None:
        """Save the invoice; and the periods that it pays for, as the release before knows them."""
        values = {name: getattr(invoice, name) for name in Invoice.__slots__}
        self._upsert(stripe_invoices, values | {"lines": [_as_json(line) for line in invoice.lines]})
        for period in periods_paid(invoice):
            self._add_paid_period(period)

    def _add_paid_period(self, period: PaidPeriod) -> None:
        """A period is paid once, by its start; should two invoices disagree on its end, the later one counts."""
        statement = insert(stripe_paid_periods).values({name: getattr(period, name) for name in PaidPeriod.__slots__})
        stored, new = stripe_paid_periods.c, statement.excluded
        agreed = {name: func.greatest(stored[name], new[name]) for name in ("period_end", "invoice_id")}
        self._sql.execute(
            statement.on_conflict_do_update(
                index_elements=["subscription_id", "period_start"],
                set_=agreed,
                where=or_(*(new[name] > stored[name] for name in agreed)),
            )
        )

    def _upsert(self, table: Table, values: dict[str, Any]) -> None:
        statement = insert(table).values(values | {"updated_at": func.now()})
        changed = {name: statement.excluded[name] for name in [*values, "updated_at"]}
        self._sql.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))


def _as_json(value: Any) -> Any:
    """Return a row of the mirror as JSON, without what says nothing."""
    if is_dataclass(value):
        values = {each.name: getattr(value, each.name) for each in fields(value)}
        return {name: _as_json(each) for name, each in values.items() if not _is_empty(each)}
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value == ()


NULLABLE: dict[str, Any] = dict.fromkeys(("period_start", "period_end", "trial_end", "cancel_at", "ended_at"))
TIMES = {
    *NULLABLE,
    *("started_at", "billing_cycle_anchor", "event_created", "trial_start", "paused_at", "left_at", "start", "end"),
}


def _times(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: datetime.fromisoformat(value) if name in TIMES else value for name, value in values.items()}


def _subscription_from_json(row: Mapping[str, Any]) -> Subscription:
    """Read what `save_subscription` writes into the column `told`; its member `told` holds the recent rows.

    Members that only a later release knows are left out.
    """
    values = _times(row)
    values |= {name: _subscription_from_json(values[name]) for name in ("before", "active") if name in values}
    values["items"] = tuple(Item(**_times(each)) for each in values.get("items", ()))
    values["recent"] = tuple(_subscription_from_json(each) for each in values.get("told", ()))
    values["price_ids"] = tuple(values.get("price_ids", ()))
    return Subscription(**NULLABLE | {name: value for name, value in values.items() if name in Subscription.__slots__})


def _subscription(row: Any) -> Subscription:
    """Return the whole row, with what the columns say. What the release before has written into these is newer."""
    values = {name: getattr(row, name) for name in SUBSCRIPTION} | {"price_ids": tuple(row.price_ids)}
    columns = Subscription(**values)
    if row.whole is None:
        return columns
    whole = _subscription_from_json(row.whole)
    return replace(whole, **values) if whole.event_created >= columns.event_created else newer(whole, columns)


def _invoice(row: Any) -> Invoice:
    values = {name: getattr(row, name) for name in Invoice.__slots__}
    values["lines"] = tuple(Line(**{"price_id": None} | _times(each)) for each in row.lines)
    return Invoice(**values)
