"""Outgoing webhooks: endpoints of tenants, and what is on its way to them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import count, string, table, tenant_id, timestamp, uuid_key

# `secret` is sealed. `failing_since` is when it began to take nothing; a disabled one gets nothing more.
webhook_endpoints = table(
    "webhook_endpoints",
    uuid_key(),
    tenant_id(),
    string("url", nullable=False),
    sa.Column("events", ARRAY(sa.Text), nullable=False),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    timestamp("created_at", now=True),
    timestamp("failing_since"),
    timestamp("disabled_at"),
    string("disabled_reason"),
    sa.UniqueConstraint("tenant_id", "id"),
)

# `body` is sent as it is, however often. `next_at` is when it is tried (again); while it is being sent, when somebody
# else may. NULL: it was taken, or is given up.
webhook_deliveries = table(
    "webhook_deliveries",
    uuid_key(),
    tenant_id(),
    sa.Column("endpoint_id", UUID(), nullable=False),
    sa.Column("event_id", UUID(), nullable=False),
    string("event", nullable=False),
    sa.Column("post_id", UUID()),
    string("body", nullable=False),
    timestamp("created_at", now=True),
    count("attempts"),
    timestamp("next_at"),
    timestamp("delivered_at"),
    timestamp("given_up_at"),
    sa.Column("status_code", sa.Integer),
    string("error"),
    sa.ForeignKeyConstraint(
        ["tenant_id", "endpoint_id"],
        ["webhook_endpoints.tenant_id", "webhook_endpoints.id"],
        ondelete="CASCADE",
    ),
    sa.UniqueConstraint("tenant_id", "endpoint_id", "event_id"),
    sa.Index("webhook_deliveries_tenant_id_idx", "tenant_id", "created_at", "id"),
    sa.Index("webhook_deliveries_next_at_idx", "next_at", postgresql_where=sa.text("next_at IS NOT NULL")),
    sa.Index("webhook_deliveries_created_at_idx", "created_at"),
)
