"""Measurements and changes of the system, who may see them, and the use of the API and of paid services by tenants."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import jsonb, one_of, string, table, tenant_id, timestamp, uuid_key

STEPS = ("minute", "hour")
CHANGES = ("deploy", "setting", "limit", "pause", "migration")
ROLES = ("look", "act")

# What was counted in a minute or an hour that begins at `at`: of a histogram `buckets` too (cases by bucket, the last
# has those above all bounds), and then `value` is their sum.
system_metrics = table(
    "system_metrics",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    string("name", nullable=False),
    sa.Column("value", sa.Numeric, nullable=False),
    jsonb("labels", "{}"),
    timestamp("at", now=True),
    string("step", default="minute"),
    sa.Column("buckets", ARRAY(sa.BigInteger)),
    one_of("step", STEPS),
    sa.UniqueConstraint("name", "labels", "step", "at"),
    sa.Index("system_metrics_name_idx", "name", "at"),
)

# What each process has counted since its start, as it reported it last: a report that comes twice counts once.
process_metrics = table(
    "process_metrics",
    uuid_key(),
    string("role", nullable=False),
    string("hostname", nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    string("release", nullable=False),
    jsonb("reported", "{}"),
    timestamp("started_at", now=True),
    timestamp("reported_at", now=True),
)

# What all processes have ever counted.
metric_totals = table(
    "metric_totals",
    string("name", nullable=False),
    jsonb("labels", "{}"),
    sa.Column("value", sa.Numeric, nullable=False),
    sa.Column("buckets", ARRAY(sa.BigInteger)),
    sa.PrimaryKeyConstraint("name", "labels"),
)

# What was changed in the system, for the rail beside each chart. `cause` as in `job_queue`.
changes = table(
    "changes",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    timestamp("at", now=True),
    string("kind", nullable=False),
    string("subject", nullable=False),
    jsonb("before"),
    jsonb("after"),
    string("cause"),
    one_of("kind", CHANGES),
    sa.Index("changes_at_idx", "at"),
)

# Who may see or use the operator's page; of tokens and of sessions only hashes are kept.
operator_tokens = table(
    "operator_tokens",
    uuid_key(),
    string("name", nullable=False),
    string("role", nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False, unique=True),
    timestamp("created_at", now=True),
    timestamp("last_used_at"),
    timestamp("revoked_at"),
    one_of("role", ROLES),
    sa.Index("operator_tokens_name_idx", "name", unique=True, postgresql_where=sa.text("revoked_at IS NULL")),
)

# A session without a token was begun with OPS_TOKEN.
operator_sessions = table(
    "operator_sessions",
    sa.Column("session_hash", sa.LargeBinary, primary_key=True),
    sa.Column("token_id", UUID(), sa.ForeignKey("operator_tokens.id", ondelete="CASCADE")),
    timestamp("created_at", now=True),
    timestamp("expires_at", nullable=False),
    timestamp("seen_at", now=True),
    sa.Index("operator_sessions_token_id_idx", "token_id"),
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
