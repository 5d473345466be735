"""The mirror of Stripe: one row a subscription, one row a paid period. The tenant's plan is derived from these."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from db.tables import stripe_paid_periods, stripe_subscriptions
from domain.billing import PaidPeriod, Subscription

COLUMNS = tuple(stripe_subscriptions.c[name] for name in Subscription.__slots__)
PERIOD_COLUMNS = tuple(stripe_paid_periods.c[name] for name in PaidPeriod.__slots__)


class Billing:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def lock_customer(self, customer_id: str) -> None:
        """Until the transaction ends, be the only one that applies events of this Stripe customer."""
        self._sql.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"stripe:{customer_id}", 0))))

    def subscription(self, subscription_id: str) -> Subscription | None:
        row = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.id == subscription_id)).one_or_none()
        return None if row is None else _subscription(row)

    def subscriptions(self, customer_id: str) -> list[Subscription]:
        """All that were ever mirrored for this customer."""
        rows = self._sql.execute(select(*COLUMNS).where(stripe_subscriptions.c.customer_id == customer_id))
        return [_subscription(row) for row in rows]

    def save_subscription(self, subscription: Subscription) -> None:
        values = {name: getattr(subscription, name) for name in Subscription.__slots__}
        values["price_ids"] = list(subscription.price_ids)
        statement = insert(stripe_subscriptions).values(values | {"updated_at": func.now()})
        self._sql.execute(
            statement.on_conflict_do_update(
                index_elements=["id"], set_={name: statement.excluded[name] for name in [*values, "updated_at"]}
            )
        )

    def paid_periods(self, customer_id: str) -> list[PaidPeriod]:
        rows = self._sql.execute(select(*PERIOD_COLUMNS).where(stripe_paid_periods.c.customer_id == customer_id))
        return [PaidPeriod(*row) for row in rows]

    def add_paid_period(self, period: PaidPeriod) -> None:
        """A period is paid once, by its start; should two invoices disagree on its end, the later one counts."""
        statement = insert(stripe_paid_periods).values({name: getattr(period, name) for name in PaidPeriod.__slots__})
        agreed = {
            name: func.greatest(stripe_paid_periods.c[name], statement.excluded[name])
            for name in ("period_end", "invoice_id")
        }
        self._sql.execute(
            statement.on_conflict_do_update(index_elements=["subscription_id", "period_start"], set_=agreed)
        )


def _subscription(values: Sequence[Any]) -> Subscription:
    subscription = Subscription(*values)
    return replace(subscription, price_ids=tuple(subscription.price_ids))
