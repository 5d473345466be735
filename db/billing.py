"""The mirror of Stripe: one row a customer, a subscription, a paid period. The tenant's plan is derived from these."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from db.tables import stripe_customers, stripe_paid_periods, stripe_subscriptions
from domain.billing import TERMINAL, PaidPeriod, Subscription
from domain.customers import Customer

COLUMNS = tuple(stripe_subscriptions.c[name] for name in Subscription.__slots__)
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
        """What is known of it; nothing yet, perhaps."""
        query = select(*CUSTOMER_COLUMNS).where(stripe_customers.c.id == customer_id)
        row = self._sql.execute(query).one_or_none()
        return Customer(customer_id) if row is None else Customer(*row)

    def save_customer(self, customer: Customer) -> None:
        values = {name: getattr(customer, name) for name in Customer.__slots__} | {"updated_at": func.now()}
        statement = insert(stripe_customers).values(values)
        self._sql.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))

    def customers_that_count(self, tenant_id: UUID, linked: str | None) -> list[Customer]:
        """Whose subscriptions make the tenant's plan: the linked customer's, and those of its deleted ones."""
        of_tenant = stripe_customers.c.tenant_id == tenant_id
        counts = or_(stripe_customers.c.id == linked, of_tenant & stripe_customers.c.deleted_at.is_not(None))
        return [Customer(*row) for row in self._sql.execute(select(*CUSTOMER_COLUMNS).where(counts))]

    def customers_of(self, tenant_id: UUID) -> list[str]:
        """Customers that events say pay for this tenant and that were not deleted, linked or not."""
        of_tenant = (stripe_customers.c.tenant_id == tenant_id) & stripe_customers.c.deleted_at.is_(None)
        return list(self._sql.execute(select(stripe_customers.c.id).where(of_tenant)).scalars())

    def claims(self) -> dict[str, UUID]:
        """Which tenant each customer pays for, or paid for before it was deleted."""
        query = select(stripe_customers.c.id, stripe_customers.c.tenant_id)
        return {
            row.id: row.tenant_id for row in self._sql.execute(query.where(stripe_customers.c.tenant_id.is_not(None)))
        }

    def subscription(self, subscription_id: str) -> Subscription | None:
        row = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.id == subscription_id)).one_or_none()
        return None if row is None else _subscription(row)

    def subscriptions(self, *customer_ids: str) -> list[Subscription]:
        """All that were ever mirrored for these customers."""
        rows = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.customer_id.in_(customer_ids)))
        return [_subscription(row) for row in rows]

    def running(self, *, before: datetime, customer_id: str | None = None) -> list[tuple[str, str]]:
        """(subscription, customer) of all, or of this customer's, that had not ended when we were told, before then."""
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
        values = {name: getattr(subscription, name) for name in Subscription.__slots__}
        values["price_ids"] = list(subscription.price_ids)
        statement = insert(stripe_subscriptions).values(values | {"updated_at": func.now()})
        self._sql.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={name: statement.excluded[name] for name in [*values, "updated_at"]}
            )
        )

    def paid_periods(self, *customer_ids: str) -> list[PaidPeriod]:
        rows = self._sql.execute(select(*PERIOD_COLUMNS).where(stripe_paid_periods.c.customer_id.in_(customer_ids)))
        return [PaidPeriod(*row) for row in rows]

    def add_paid_period(self, period: PaidPeriod) -> bool:
        """A period is paid once, by its start; should two invoices disagree on its end, the later one counts. False if
        this says nothing new."""
        statement = insert(stripe_paid_periods).values({name: getattr(period, name) for name in PaidPeriod.__slots__})
        known, told = stripe_paid_periods.c, statement.excluded
        agreed = {name: func.greatest(known[name], told[name]) for name in ("period_end", "invoice_id")}
        adding = statement.on_conflict_do_update(
            index_elements=["subscription_id", "period_start"],
            set_=agreed,
            where=or_(*(told[name] > known[name] for name in agreed)),
        )
        return self._sql.execute(adding.returning(known.subscription_id)).first() is not None


def _subscription(values: Sequence[Any]) -> Subscription:
    subscription = Subscription(*values)
    return replace(subscription, price_ids=tuple(subscription.price_ids))
