"""Customers, subscriptions and invoices as Stripe's events report them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from db.schema.base import boolean, jsonb, string, table, timestamp

# A customer may be known before its tenant is, so this refers to none.
stripe_customers = table(
    "stripe_customers",
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant_id", UUID()),
    timestamp("deleted_at"),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    sa.Index("stripe_customers_tenant_id_idx", "tenant_id", postgresql_where=sa.text("tenant_id IS NOT NULL")),
)

stripe_subscriptions = table(
    "stripe_subscriptions",
    sa.Column("id", sa.Text, primary_key=True),
    string("customer_id", nullable=False),
    string("status", nullable=False),
    sa.Column("price_ids", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    timestamp("started_at", nullable=False),
    timestamp("billing_cycle_anchor", nullable=False),
    timestamp("period_start"),
    timestamp("period_end"),
    timestamp("trial_end"),
    timestamp("cancel_at"),
    timestamp("ended_at"),
    timestamp("event_created", nullable=False),
    sa.Column("event_rank", sa.SmallInteger, nullable=False),
    boolean("collection_paused"),
    timestamp("paused_at"),
    # The whole row as `domain/billing/subscriptions.py` has it; the columns are what people and other programs read.
    sa.Column("told", JSONB),
    timestamp("updated_at", now=True),
    sa.Index("stripe_subscriptions_customer_id_idx", "customer_id"),
)

stripe_invoices = table(
    "stripe_invoices",
    sa.Column("id", sa.Text, primary_key=True),
    string("subscription_id", nullable=False),
    string("customer_id", nullable=False),
    string("status", nullable=False),
    string("reason"),
    timestamp("issued_at", nullable=False),
    timestamp("due_at"),
    jsonb("lines", "[]"),
    timestamp("event_created", nullable=False),
    timestamp("updated_at", now=True),
    sa.Index("stripe_invoices_customer_id_idx", "customer_id"),
)

# The release before writes these; a period whose invoice is not in `stripe_invoices` still counts.
stripe_paid_periods = table(
    "stripe_paid_periods",
    sa.Column("subscription_id", sa.Text),
    timestamp("period_start", nullable=False),
    timestamp("period_end", nullable=False),
    string("customer_id", nullable=False),
    string("invoice_id", nullable=False),
    timestamp("created_at", now=True),
    sa.PrimaryKeyConstraint("subscription_id", "period_start"),
    sa.Index("stripe_paid_periods_customer_id_idx", "customer_id"),
)
