"""The mirror of Stripe: its customers, subscriptions and invoices. The tenant's plan is derived from these rows.

A hot path: rows are loaded and saved by the batch of events, one statement a table.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from domain.billing.books import Mirror
from domain.billing.invoices import Invoice, Line, PaidPeriod, from_paid_periods
from domain.billing.plan import Customer
from domain.billing.subscriptions import TERMINAL, Item, Subscription, newer
from domain.text.storable import to_json

SUBSCRIPTION_COLUMNS = {
    "id": "text",
    "customer_id": "text",
    "status": "text",
    "price_ids": "text[]",
    "started_at": "timestamptz",
    "billing_cycle_anchor": "timestamptz",
    "period_start": "timestamptz",
    "period_end": "timestamptz",
    "trial_end": "timestamptz",
    "cancel_at": "timestamptz",
    "ended_at": "timestamptz",
    "event_created": "timestamptz",
    "event_rank": "smallint",
    "collection_paused": "boolean",
    "paused_at": "timestamptz",
}
"""The columns that people and other programs read, and their types; all are fields of `Subscription` too."""

INVOICE_COLUMNS = {
    "id": "text",
    "subscription_id": "text",
    "customer_id": "text",
    "status": "text",
    "reason": "text",
    "issued_at": "timestamptz",
    "due_at": "timestamptz",
    "lines": "jsonb",
    "event_created": "timestamptz",
}
ABSENT = {"price_ids": "'{}'", "collection_paused": "false", "lines": "'[]'"}
"""What a column has where the row's JSON says nothing of it (`_as_json`), if that is not NULL."""

CUSTOMER = "id, tenant_id, deleted_at"
SUBSCRIPTION = f"{', '.join(SUBSCRIPTION_COLUMNS)}, told"
INVOICE = ", ".join(INVOICE_COLUMNS)
PERIOD = "subscription_id, period_start, period_end, customer_id, invoice_id"

# In the order of the keys, whatever the ids are: whoever locks several does it here.
LOCK = """
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended('stripe:' || id, 0) AS key FROM unnest(%b::text[]) AS id ORDER BY key
) AS keys
"""

# Arrays instead of joins, here and below: whatever the statistics say, the plan is a probe of an index for each id.
CUSTOMERS = f"""
SELECT {CUSTOMER} FROM stripe_customers WHERE id = ANY(ARRAY(
    SELECT unnest(%(customers)b::text[])
    UNION SELECT id FROM stripe_customers WHERE tenant_id = ANY(%(tenants)b::uuid[])
))
"""

# Customers whose rows may make a plan: those that are asked for, and the deleted ones of the tenants.
THAT_COUNT = """
SELECT unnest(%(customers)b::text[])
UNION SELECT id FROM stripe_customers WHERE tenant_id = ANY(%(tenants)b::uuid[]) AND deleted_at IS NOT NULL
"""

SUBSCRIPTIONS = f"""
SELECT {SUBSCRIPTION} FROM stripe_subscriptions WHERE id = ANY(ARRAY(
    SELECT unnest(%(ids)b::text[])
    UNION SELECT id FROM stripe_subscriptions WHERE customer_id = ANY(ARRAY({THAT_COUNT}))
))
"""

INVOICES = f"""
SELECT {INVOICE} FROM stripe_invoices WHERE id = ANY(ARRAY(
    SELECT unnest(%(ids)b::text[])
    UNION SELECT id FROM stripe_invoices WHERE customer_id = ANY(ARRAY({THAT_COUNT}))
))
"""

# One for each paid period that only the release before received.
PERIODS = f"""
SELECT {PERIOD} FROM stripe_paid_periods period
WHERE customer_id = ANY(ARRAY({THAT_COUNT}))
      AND NOT EXISTS (SELECT FROM stripe_invoices WHERE id = period.invoice_id)
"""

OF_TENANT = f"""
SELECT {CUSTOMER} FROM stripe_customers
WHERE id = %(linked)s OR (tenant_id = %(tenant_id)s AND deleted_at IS NOT NULL)
"""

RUNNING = """
SELECT id, customer_id FROM stripe_subscriptions
WHERE status <> ALL(%(terminal)s) AND event_created < %(before)s
      AND customer_id NOT IN (SELECT id FROM stripe_customers WHERE deleted_at IS NOT NULL)
      AND (%(customer_id)s::text IS NULL OR customer_id = %(customer_id)s)
"""

RUNNING_FOR = """
SELECT id FROM stripe_subscriptions
WHERE status <> ALL(%(terminal)s) AND customer_id IN (
    SELECT id FROM stripe_customers WHERE tenant_id = %(tenant_id)s AND deleted_at IS NULL
    UNION SELECT stripe_customer_id FROM tenants WHERE id = %(tenant_id)s
    EXCEPT SELECT id FROM stripe_customers WHERE deleted_at IS NOT NULL
) ORDER BY id
"""

SAVE_CUSTOMERS = """
INSERT INTO stripe_customers (id, tenant_id, deleted_at, updated_at)
SELECT id, tenant_id, deleted_at, now()
FROM unnest(%b::text[], %b::uuid[], %b::timestamptz[]) AS new (id, tenant_id, deleted_at)
ON CONFLICT (id) DO UPDATE
SET tenant_id = excluded.tenant_id, deleted_at = excluded.deleted_at, updated_at = excluded.updated_at
"""

SAVE_PERIODS = f"""
INSERT INTO stripe_paid_periods AS stored ({PERIOD})
SELECT * FROM unnest(%b::text[], %b::timestamptz[], %b::timestamptz[], %b::text[], %b::text[])
ON CONFLICT (subscription_id, period_start) DO UPDATE
SET period_end = greatest(stored.period_end, excluded.period_end),
    invoice_id = greatest(stored.invoice_id COLLATE "C", excluded.invoice_id)
WHERE excluded.period_end > stored.period_end OR excluded.invoice_id COLLATE "C" > stored.invoice_id
"""


def _save(table: str, columns: Mapping[str, str], whole: str | None = None) -> str:
    """Write the statement that saves rows given as JSON, one text each; `whole` is a column for all of it."""
    values = [f"coalesce({name}, {ABSENT[name]})" if name in ABSENT else name for name in columns]
    names, values = [*columns, "updated_at"], [*values, "now()"]
    if whole is not None:
        names, values = [*names, whole], [*values, "json"]
    return f"""
INSERT INTO {table} ({", ".join(names)}) SELECT {", ".join(values)}
FROM (SELECT text::jsonb AS json FROM unnest(%b::text[]) AS text OFFSET 0) AS new,
     jsonb_to_record(json) AS fields ({", ".join(f"{name} {kind}" for name, kind in columns.items())})
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in names if name != "id")}
"""


SAVE_SUBSCRIPTIONS = _save("stripe_subscriptions", SUBSCRIPTION_COLUMNS, whole="told")
SAVE_INVOICES = _save("stripe_invoices", INVOICE_COLUMNS)


class Billing:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock_customers(self, customer_ids: Collection[str]) -> None:
        """Until the transaction ends, be the only one that applies events of these Stripe customers."""
        self._driver.execute(LOCK, (list(customer_ids),), prepare=True)

    def mirror(
        self,
        customers: Iterable[str],
        tenants: Iterable[UUID],
        *,
        subscriptions: Collection[str] = (),
        invoices: Collection[str] = (),
    ) -> Mirror:
        """Return all that is mirrored of the customers and of the deleted ones of the tenants; besides, the tenants'
        other customers, and the rows of these ids. One round trip."""
        values = {"customers": list(customers), "tenants": list(tenants)}
        with self._driver.pipeline():
            found = self._driver.execute(CUSTOMERS, values, prepare=True)
            rows = self._driver.execute(SUBSCRIPTIONS, values | {"ids": list(subscriptions)}, prepare=True)
            bills = self._driver.execute(INVOICES, values | {"ids": list(invoices)}, prepare=True)
            older = self._driver.execute(PERIODS, values, prepare=True)
        return Mirror(
            {row[0]: Customer(*row) for row in found},
            {row[0]: _subscription(row) for row in rows},
            {row[0]: _invoice(row) for row in bills},
            {(row[0], row[1]): PaidPeriod(*row) for row in older},
        )

    def save(
        self,
        *,
        customers: Iterable[Customer] = (),
        subscriptions: Iterable[Subscription] = (),
        invoices: Iterable[Invoice] = (),
        periods: Iterable[PaidPeriod] = (),
    ) -> None:
        """Save rows, none of them twice: one statement a table, one round trip. `periods` are what the invoices pay for
        (`domain.billing.invoices.periods_paid`), as the release before knows them."""
        with self._driver.pipeline():
            if some := sorted(customers, key=lambda each: each.id):
                arrays = [[getattr(each, name) for each in some] for name in Customer.__slots__]
                self._driver.execute(SAVE_CUSTOMERS, arrays, prepare=True)
            if rows := sorted(subscriptions, key=lambda each: each.id):
                self._driver.execute(SAVE_SUBSCRIPTIONS, ([_subscription_json(each) for each in rows],), prepare=True)
            if bills := sorted(invoices, key=lambda each: each.id):
                self._driver.execute(SAVE_INVOICES, ([to_json(_as_json(each)) for each in bills],), prepare=True)
            if paid := sorted(periods, key=lambda each: (each.subscription_id, each.period_start)):
                arrays = [[getattr(each, name) for each in paid] for name in PaidPeriod.__slots__]
                self._driver.execute(SAVE_PERIODS, arrays, prepare=True)

    def customer(self, customer_id: str) -> Customer:
        """Return the customer as far as events said; perhaps only its id."""
        query = f"SELECT {CUSTOMER} FROM stripe_customers WHERE id = %s"
        row = self._driver.execute(query.encode(), (customer_id,)).fetchone()
        return Customer(customer_id) if row is None else Customer(*row)

    def customers_that_count(self, tenant_id: UUID, linked: str | None) -> list[Customer]:
        """Return the customers whose subscriptions make the tenant's plan: the linked one, and its deleted ones."""
        found = self._driver.execute(OF_TENANT, {"tenant_id": tenant_id, "linked": linked})
        return [Customer(*row) for row in found]

    def tenants_of_customers(self) -> dict[str, UUID]:
        """Return the tenant that each customer pays for, or paid for before it was deleted."""
        query = "SELECT id, tenant_id FROM stripe_customers WHERE tenant_id IS NOT NULL"
        return dict(self._driver.execute(query).fetchall())

    def subscription(self, subscription_id: str) -> Subscription | None:
        return self.mirror([], [], subscriptions=[subscription_id]).subscriptions.get(subscription_id)

    def invoice(self, invoice_id: str) -> Invoice | None:
        return self.mirror([], [], invoices=[invoice_id]).invoices.get(invoice_id)

    def of_tenant(self, tenant_id: UUID, linked: str | None) -> tuple[list[Subscription], list[Invoice]]:
        """Return the subscriptions and invoices that make the tenant's plan; of each paid period that only the release
        before knew, an invoice."""
        mirror = self.mirror([each.id for each in self.customers_that_count(tenant_id, linked)], [])
        invoices = [*mirror.invoices.values(), *from_paid_periods(mirror.periods.values())]
        return list(mirror.subscriptions.values()), invoices

    def running_for(self, tenant_id: UUID) -> list[str]:
        """Return the subscriptions of any customer of the tenant's that have not ended. System scope."""
        values = {"tenant_id": tenant_id, "terminal": sorted(TERMINAL)}
        return [row[0] for row in self._driver.execute(RUNNING_FOR, values)]

    def running(self, *, before: datetime, customer_id: str | None = None) -> list[tuple[str, str]]:
        """Return (subscription, customer) of those that had not ended as of their last event, if that came earlier."""
        values = {"terminal": sorted(TERMINAL), "before": before, "customer_id": customer_id}
        return self._driver.execute(RUNNING, values).fetchall()


FIELDS: Mapping[type, tuple[str, ...]] = {kind: kind.__slots__ for kind in (Subscription, Item, Invoice, Line)}


def _as_json(value: Any) -> Any:
    """Return a row of the mirror as JSON, without what says nothing."""
    if isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_as_json(each) for each in value]
    values = ((name, getattr(value, name)) for name in FIELDS[type(value)])
    return {name: _as_json(each) for name, each in values if each is not None and each is not False and each != ()}


NULLABLE: dict[str, Any] = dict.fromkeys(("period_start", "period_end", "trial_end", "cancel_at", "ended_at"))
TIMES = {
    *NULLABLE,
    *("started_at", "billing_cycle_anchor", "event_created", "trial_start", "paused_at", "left_at", "start", "end"),
}


def _times(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: datetime.fromisoformat(value) if name in TIMES else value for name, value in values.items()}


def _subscription_json(subscription: Subscription) -> str:
    """Write the whole row for the column `told`, in which the recent rows have that name, too."""
    whole = _as_json(subscription)
    whole["told"] = whole.pop("recent", [])
    return to_json(whole)


def _subscription_from_json(row: Mapping[str, Any]) -> Subscription:
    """Read what `_subscription_json` writes. Members that only a later release knows are left out."""
    values = _times(row)
    values |= {name: _subscription_from_json(values[name]) for name in ("before", "active") if name in values}
    values["items"] = tuple(Item(**_times(each)) for each in values.get("items", ()))
    values["recent"] = tuple(_subscription_from_json(each) for each in values.get("told", ()))
    values["price_ids"] = tuple(values.get("price_ids", ()))
    return Subscription(**NULLABLE | {name: value for name, value in values.items() if name in Subscription.__slots__})


def _subscription(row: tuple[Any, ...]) -> Subscription:
    """Return the whole row, with what the columns say. What the release before has written into these is newer."""
    *columns, whole = row
    values = dict(zip(SUBSCRIPTION_COLUMNS, columns, strict=True))
    values["price_ids"] = tuple(values["price_ids"])
    by_columns = Subscription(**values)
    if whole is None:
        return by_columns
    read = _subscription_from_json(whole)
    return replace(read, **values) if read.event_created >= by_columns.event_created else newer(read, by_columns)


def _invoice(row: tuple[Any, ...]) -> Invoice:
    values = dict(zip(INVOICE_COLUMNS, row, strict=True))
    values["lines"] = tuple(Line(**{"price_id": None} | _times(each)) for each in values["lines"])
    return Invoice(**values)
