"""Measurements of the system, and the use of the API and of paid services by tenants."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import jsonb, string, table, tenant_id, timestamp, uuid_key

system_metrics = table(
    "system_metrics",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    string("name", nullable=False),
    sa.Column("value", sa.Numeric, nullable=False),
    jsonb("labels", "{}"),
    timestamp("at", now=True),
    sa.Index("system_metrics_name_idx", "name", "at"),
)

api_usage = table(
    "api_usage",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    tenant_id(),
    string("kind", nullable=False),
    string("name", nullable=False),
    sa.Column("status_code", sa.Integer),
    sa.Column("duration_ms", sa.Integer),
    sa.Column("tokens_in", sa.BigInteger),
    sa.Column("tokens_out", sa.BigInteger),
    sa.Column("cost_usd", sa.Numeric(12, 6)),
    sa.Column("job_id", UUID()),
    timestamp("created_at", now=True),
    sa.Index("api_usage_tenant_id_idx", "tenant_id", "created_at"),
    sa.Index("api_usage_job_id_idx", "job_id", postgresql_where=sa.text("job_id IS NOT NULL")),
)

# What a process (web, worker) sees of the media store: `sees` are the processes whose markers it finds in its folder.
store_views = table(
    "store_views",
    uuid_key(),
    string("role", nullable=False),
    string("hostname", nullable=False),
    string("store", nullable=False),
    sa.Column("sees", ARRAY(UUID()), nullable=False),
    string("trouble"),
    timestamp("started_at", now=True),
    timestamp("seen_at", now=True),
)
