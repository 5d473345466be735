"""Measurements and changes of the system, who may see them, and the use of the API and of paid services by tenants."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import count, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key

STEPS = ("minute", "hour")
CHANGES = ("deploy", "setting", "limit", "pause", "migration")
ROLES = ("look", "act")
ACTION_OUTCOMES = ("begun", "done", "unchanged", "refused", "failed")
BULK_STATES = ("previewed", "running", "cancelling", "completed", "cancelled")

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

# An action on many things. `chosen` is the filter or the list by which they were chosen; its items are what was found
# then, so that what is previewed is what is acted upon. One that nobody starts within an hour is deleted.
bulk_actions = table(
    "bulk_actions",
    uuid_key(),
    timestamp("at", now=True),
    string("who", nullable=False),
    string("action", nullable=False),
    jsonb("chosen", "{}"),
    jsonb("arguments", "{}"),
    string("reason"),
    string("state", default="previewed"),
    sa.Column("items", sa.Integer, nullable=False),
    timestamp("started_at"),
    timestamp("ended_at"),
    sa.Column("job_id", UUID()),
    string("cancelled_by"),
    one_of("state", BULK_STATES),
    sa.Index("bulk_actions_at_idx", "at"),
)

# One thing of a bulk action, in the order in which they are acted upon; without an outcome it is still to come.
bulk_items = table(
    "bulk_items",
    sa.Column("bulk_id", UUID(), sa.ForeignKey("bulk_actions.id", ondelete="CASCADE"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    string("target", nullable=False),
    string("outcome"),
    string("says"),
    jsonb("before"),
    jsonb("after"),
    timestamp("at"),
    one_of("outcome", ACTION_OUTCOMES[1:]),
    sa.PrimaryKeyConstraint("bulk_id", "position"),
    sa.Index("bulk_items_left_idx", "bulk_id", "position", postgresql_where=sa.text("outcome IS NULL")),
)

# Who did what, and why. The row is there before the action begins: one that stays `begun` was cut short, and nobody
# knows from it what became of the action.
operator_actions = table(
    "operator_actions",
    uuid_key(),
    timestamp("at", now=True),
    string("who", nullable=False),
    string("action", nullable=False),
    string("target", nullable=False),
    jsonb("arguments", "{}"),
    string("reason"),
    string("outcome", default="begun"),
    string("says"),
    jsonb("before"),
    jsonb("after"),
    timestamp("ended_at"),
    sa.Column("bulk_id", UUID()),
    one_of("outcome", ACTION_OUTCOMES),
    sa.Index("operator_actions_at_idx", "at"),
    sa.Index("operator_actions_target_idx", "target", "at"),
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

# Of what people of the operator are notified (`domain/ops/notices.py`): one row for each stretch of a cause.
notices = table(
    "notices",
    uuid_key(),
    string("cause", nullable=False),
    sa.Column("says", ARRAY(sa.Text), nullable=False),
    string("page", nullable=False),
    string("shell", nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    timestamp("first_at", nullable=False),
    timestamp("last_at", nullable=False),
    timestamp("sent_at"),
    count("sent_number"),
    timestamp("ended_at"),
    timestamp("over_sent_at"),
    sa.Index("notices_cause_idx", "cause", unique=True, postgresql_where=sa.text("ended_at IS NULL")),
    sa.Index("notices_last_at_idx", "last_at"),
)

# The one row says when somebody last looked, which is whose turn it is.
notice_looks = table(
    "notice_looks",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    timestamp("looked_at", nullable=False),
    sa.CheckConstraint("id = 1", name="id"),
)

# The notices of one look, as all channels are sent it.
notice_messages = table(
    "notice_messages",
    uuid_key(),
    timestamp("made_at", now=True),
    string("title", nullable=False),
    string("text", nullable=False),
    jsonb("content", "[]"),
    sa.Index("notice_messages_made_at_idx", "made_at"),
)

# `next_at` is when it is tried (again); while it is being sent, when somebody else may. NULL: it is sent or given up.
notice_deliveries = table(
    "notice_deliveries",
    sa.Column("message_id", UUID(), sa.ForeignKey("notice_messages.id", ondelete="CASCADE"), nullable=False),
    string("channel", nullable=False),
    count("attempts"),
    timestamp("next_at"),
    timestamp("sent_at"),
    timestamp("given_up_at"),
    string("error"),
    sa.PrimaryKeyConstraint("message_id", "channel"),
    sa.Index("notice_deliveries_next_at_idx", "next_at", postgresql_where=sa.text("next_at IS NOT NULL")),
)
