"""the first schema

A migration runs while the system works: additive first, destructive a release later. It gives up rather than
queue behind a long transaction and block everyone else (`lock_timeout`); run it again then.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import (
    APP_ROLE,
    CREATE_APP_ROLE,
    CREATE_SCOPE_FUNCTION,
    DROP_SCOPE_FUNCTION,
    GRANT_ROLE_TO_OWNER,
    for_app_role,
    protect,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


TENANT_OWNED = (
    "api_keys",
    "api_usage",
    "competitor_videos",
    "generations",
    "job_queue",
    "quota_holds",
    "quota_ledger",
    "reflexion_insights",
    "scoring_adjustments",
    "self_critiques",
    "social_accounts",
    "users",
    "videos",
    "social_posts",
    "analytics_snapshots",
    "performance_feedback",
)
SYSTEM_ONLY = (
    "audio_trends",
    "schedule_fires",
    "stripe_paid_periods",
    "stripe_subscriptions",
    "system_metrics",
    "webhook_events",
    "workers",
    "job_attempts",
    "job_steps",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(CREATE_APP_ROLE)
    op.execute(GRANT_ROLE_TO_OWNER)
    op.execute(CREATE_SCOPE_FUNCTION)
    op.execute("CREATE SEQUENCE job_lease_token")
    op.create_table(
        "audio_trends",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("artist", sa.Text(), nullable=True),
        sa.Column("region", sa.Text(), server_default=sa.text("'US'"), nullable=False),
        sa.Column("usage_count", sa.BigInteger(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("captured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "platform IN ('tiktok', 'youtube-shorts', 'instagram-reels')", name=op.f("audio_trends_platform_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("audio_trends_pkey")),
        sa.UniqueConstraint(
            "platform",
            "region",
            "external_id",
            "captured_at",
            name=op.f("audio_trends_platform_region_external_id_captured_at_key"),
        ),
    )
    op.create_table(
        "schedule_fires",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("schedule", "fire_at", name=op.f("schedule_fires_pkey")),
    )
    op.create_table(
        "stripe_paid_periods",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "period_start", name=op.f("stripe_paid_periods_pkey")),
    )
    op.create_index("stripe_paid_periods_customer_id_idx", "stripe_paid_periods", ["customer_id"], unique=False)
    op.create_table(
        "stripe_subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("price_ids", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("billing_cycle_anchor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trial_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("event_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_rank", sa.SmallInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("stripe_subscriptions_pkey")),
    )
    op.create_index("stripe_subscriptions_customer_id_idx", "stripe_subscriptions", ["customer_id"], unique=False)
    op.create_table(
        "system_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Numeric(), nullable=False),
        sa.Column(
            "labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("system_metrics_pkey")),
    )
    op.create_index("system_metrics_name_idx", "system_metrics", ["name", "at"], unique=False)
    op.create_table(
        "tenants",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subscription_tier", sa.Text(), server_default=sa.text("'FREE'"), nullable=False),
        sa.Column("subscription_status", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("stripe_customer_id", sa.Text(), nullable=True),
        sa.Column("stripe_subscription_id", sa.Text(), nullable=True),
        sa.Column("monthly_quota", sa.Integer(), server_default=sa.text("10"), nullable=False),
        sa.Column("used_quota", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("quota_anchor", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("quota_period_start", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "quota_reset_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("(((now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')"),
            nullable=False,
        ),
        sa.Column("quota_paid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "subscription_tier IN ('FREE', 'STARTER', 'PRO', 'AGENCY')", name=op.f("tenants_subscription_tier_check")
        ),
        sa.CheckConstraint("monthly_quota >= 0", name=op.f("tenants_monthly_quota_check")),
        sa.CheckConstraint("used_quota >= 0", name=op.f("tenants_used_quota_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("tenants_pkey")),
        sa.UniqueConstraint("stripe_customer_id", name=op.f("tenants_stripe_customer_id_key")),
    )
    op.create_index("tenants_quota_reset_at_idx", "tenants", ["quota_reset_at"], unique=False)
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("api_version", sa.Text(), nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column(
            "payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'received'"), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_events_pkey")),
        sa.UniqueConstraint("source", "external_id", name=op.f("webhook_events_source_external_id_key")),
    )
    op.create_index(
        "webhook_events_subject_idx",
        "webhook_events",
        ["subject"],
        unique=False,
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_index("webhook_events_received_at_idx", "webhook_events", ["received_at"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("version", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("api_keys_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("key_hash", name=op.f("api_keys_key_hash_key")),
    )
    op.create_index("api_keys_tenant_id_idx", "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "api_usage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("tokens_in", sa.BigInteger(), nullable=True),
        sa.Column("tokens_out", sa.BigInteger(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=12, scale=6), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("api_usage_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_usage_pkey")),
    )
    op.create_index("api_usage_tenant_id_idx", "api_usage", ["tenant_id", "created_at"], unique=False)
    op.create_table(
        "competitor_videos",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("views", sa.BigInteger(), nullable=True),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("captured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "platform IN ('tiktok', 'youtube-shorts', 'instagram-reels')", name=op.f("competitor_videos_platform_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("competitor_videos_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("competitor_videos_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "platform", "external_id", name=op.f("competitor_videos_tenant_id_platform_external_id_key")
        ),
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("date", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "concepts", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column(
            "trends", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("is_favorite", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("generator", sa.Text(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("generations_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("generations_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("generations_tenant_id_id_key")),
        sa.UniqueConstraint("tenant_id", "job_id", name=op.f("generations_tenant_id_job_id_key")),
        sa.UniqueConstraint("tenant_id", "source_id", name=op.f("generations_tenant_id_source_id_key")),
    )
    op.create_index("generations_history_idx", "generations", ["tenant_id", "date", "id"], unique=False)
    op.create_table(
        "job_queue",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default=sa.text("'default'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("5"), nullable=False),
        sa.Column(
            "payload", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("ordering_key", sa.Text(), nullable=True),
        sa.Column("ring_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("rings", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("crashes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name=op.f("job_queue_payload_object_check")),
        sa.CheckConstraint(
            "status <> 'running' OR (worker_id IS NOT NULL AND lease_token IS NOT NULL)",
            name=op.f("job_queue_lease_check"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')", name=op.f("job_queue_status_check")
        ),
        sa.CheckConstraint(
            "scheduled_for BETWEEN '1970-01-01Z' AND '9999-01-01Z'", name=op.f("job_queue_scheduled_for_check")
        ),
        sa.CheckConstraint("ring_at BETWEEN '1970-01-01Z' AND '9999-01-01Z'", name=op.f("job_queue_ring_at_check")),
        sa.CheckConstraint("max_attempts > 0", name=op.f("job_queue_max_attempts_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("job_queue_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("job_queue_pkey")),
        postgresql_with={
            "fillfactor": "80",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_analyze_scale_factor": "0.02",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("job_queue_created_idx", "job_queue", ["created_at"], unique=False)
    op.create_index(
        "job_queue_ring_idx", "job_queue", ["ring_at"], unique=False, postgresql_where=sa.text("status = 'pending'")
    )
    op.create_index(
        "job_queue_tenant_idx",
        "job_queue",
        ["tenant_id", "created_at"],
        unique=False,
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    )
    op.create_index(
        "job_queue_unique_idx",
        "job_queue",
        ["job_type", "tenant_id", "unique_key"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("unique_key IS NOT NULL AND status IN ('pending', 'running')"),
    )
    op.create_index(
        "job_queue_worker_idx", "job_queue", ["worker_id"], unique=False, postgresql_where=sa.text("status = 'running'")
    )
    op.create_table(
        "quota_holds",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'held'"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('held', 'settled', 'released')", name=op.f("quota_holds_status_check")),
        sa.CheckConstraint("count > 0", name=op.f("quota_holds_count_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("quota_holds_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("quota_holds_pkey")),
    )
    op.create_index("quota_holds_tenant_id_idx", "quota_holds", ["tenant_id", "status"], unique=False)
    op.create_table(
        "quota_ledger",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("used_after", sa.Integer(), nullable=False),
        sa.Column("quota_after", sa.Integer(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('grant', 'hold', 'settle', 'release', 'reset', 'adjust')", name=op.f("quota_ledger_kind_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("quota_ledger_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("quota_ledger_pkey")),
    )
    op.create_index("quota_ledger_tenant_id_idx", "quota_ledger", ["tenant_id", "id"], unique=False)
    op.create_table(
        "reflexion_insights",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("recommendation", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("evidence_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "evidence", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("applied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("reflexion_insights_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("reflexion_insights_pkey")),
        sa.UniqueConstraint("tenant_id", "source_id", name=op.f("reflexion_insights_tenant_id_source_id_key")),
    )
    op.create_index(
        "reflexion_insights_once_idx",
        "reflexion_insights",
        ["tenant_id", "category", "platform", sa.literal_column("md5(pattern)")],
        unique=True,
    )
    op.create_table(
        "scoring_adjustments",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("factor", sa.Numeric(precision=10, scale=4), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("sample_size", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("scoring_adjustments_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("scoring_adjustments_pkey")),
        sa.UniqueConstraint("tenant_id", "source_id", name=op.f("scoring_adjustments_tenant_id_source_id_key")),
    )
    op.create_index(
        "scoring_adjustments_cell_idx",
        "scoring_adjustments",
        ["tenant_id", "category", "platform", "created_at"],
        unique=False,
    )
    op.create_table(
        "self_critiques",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("concept_id", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("platform", sa.Text(), nullable=True),
        sa.Column("predicted_score", sa.Numeric(precision=10, scale=4), nullable=True),
        sa.Column("actual_score", sa.Numeric(precision=10, scale=4), nullable=True),
        sa.Column(
            "critique", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("applied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("self_critiques_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("self_critiques_pkey")),
        sa.UniqueConstraint("tenant_id", "source_id", name=op.f("self_critiques_tenant_id_source_id_key")),
    )
    op.create_index("self_critiques_concept_idx", "self_critiques", ["tenant_id", "concept_id"], unique=False)
    op.create_table(
        "social_accounts",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=True),
        sa.Column("niche", sa.Text(), nullable=True),
        sa.Column("timezone", sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'active'"), nullable=False),
        sa.Column("access_token", sa.LargeBinary(), nullable=True),
        sa.Column("refresh_token", sa.LargeBinary(), nullable=True),
        sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refresh_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("daily_limit", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "platform IN ('tiktok', 'youtube-shorts', 'instagram-reels')", name=op.f("social_accounts_platform_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("social_accounts_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("social_accounts_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("social_accounts_tenant_id_id_key")),
        sa.UniqueConstraint(
            "tenant_id", "platform", "external_id", name=op.f("social_accounts_tenant_id_platform_external_id_key")
        ),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("clerk_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("image_url", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("role", sa.Text(), server_default=sa.text("'MEMBER'"), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role IN ('ADMIN', 'MEMBER')", name=op.f("users_role_check")),
        sa.CheckConstraint(
            "tenant_id IS NOT NULL OR deleted_at IS NOT NULL", name=op.f("users_tenant_unless_deleted_check")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("users_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
        sa.UniqueConstraint("clerk_id", name=op.f("users_clerk_id_key")),
    )
    op.create_index("users_tenant_id_idx", "users", ["tenant_id"], unique=False)
    op.create_table(
        "job_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('failed', 'rejected', 'lost', 'returned')", name=op.f("job_attempts_outcome_check")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job_queue.id"], name=op.f("job_attempts_job_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("job_attempts_pkey")),
    )
    op.create_index("job_attempts_job_id_idx", "job_attempts", ["job_id"], unique=False)
    op.create_table(
        "job_steps",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'intended'"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('intended', 'confirmed', 'unknown')", name=op.f("job_steps_status_check")),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], name=op.f("job_steps_job_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step", name=op.f("job_steps_pkey")),
    )
    op.create_table(
        "videos",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("generation_id", sa.UUID(), nullable=True),
        sa.Column("concept_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("video_url", sa.Text(), nullable=True),
        sa.Column("thumbnail_url", sa.Text(), nullable=True),
        sa.Column("duration_seconds", sa.Numeric(precision=8, scale=3), nullable=True),
        sa.Column("cost_usd", sa.Numeric(precision=12, scale=6), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'rendering', 'completed', 'failed')", name=op.f("videos_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "generation_id"],
            ["generations.tenant_id", "generations.id"],
            name=op.f("videos_tenant_id_generation_id_fkey"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("videos_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("videos_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("videos_tenant_id_id_key")),
    )
    op.create_index("videos_generation_idx", "videos", ["tenant_id", "generation_id"], unique=False)
    op.create_table(
        "social_posts",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("video_id", sa.UUID(), nullable=False),
        sa.Column("account_id", sa.UUID(), nullable=False),
        sa.Column("attempt_group", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'draft'"), nullable=False),
        sa.Column("caption", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("handle", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("permalink", sa.Text(), nullable=True),
        sa.Column("prediction", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('draft', 'scheduled', 'claimed', 'submitting', 'submitted', 'processing', 'published', 'failed', 'unconfirmed')",
            name=op.f("social_posts_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"],
            ["social_accounts.tenant_id", "social_accounts.id"],
            name=op.f("social_posts_tenant_id_account_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "video_id"],
            ["videos.tenant_id", "videos.id"],
            name=op.f("social_posts_tenant_id_video_id_fkey"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("social_posts_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("social_posts_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("social_posts_tenant_id_id_key")),
        sa.UniqueConstraint(
            "tenant_id",
            "video_id",
            "account_id",
            "attempt_group",
            name=op.f("social_posts_tenant_id_video_id_account_id_attempt_group_key"),
        ),
    )
    op.create_index("social_posts_account_idx", "social_posts", ["tenant_id", "account_id"], unique=False)
    op.create_index(
        "social_posts_due_idx",
        "social_posts",
        ["scheduled_for"],
        unique=False,
        postgresql_where=sa.text("status = 'scheduled'"),
    )
    op.create_table(
        "analytics_snapshots",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("post_id", sa.UUID(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=True),
        sa.Column("likes", sa.BigInteger(), nullable=True),
        sa.Column("shares", sa.BigInteger(), nullable=True),
        sa.Column("comments", sa.BigInteger(), nullable=True),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "post_id"],
            ["social_posts.tenant_id", "social_posts.id"],
            name=op.f("analytics_snapshots_tenant_id_post_id_fkey"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("analytics_snapshots_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("analytics_snapshots_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "post_id", "captured_at", name=op.f("analytics_snapshots_tenant_id_post_id_captured_at_key")
        ),
    )
    op.create_table(
        "performance_feedback",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("generation_id", sa.UUID(), nullable=True),
        sa.Column("concept_id", sa.Text(), nullable=True),
        sa.Column("post_id", sa.UUID(), nullable=True),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=True),
        sa.Column("views", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("likes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("shares", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("comments", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("predicted_score", sa.Numeric(precision=10, scale=4), nullable=True),
        sa.Column("actual_score", sa.Numeric(precision=10, scale=4), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "platform IN ('tiktok', 'youtube-shorts', 'instagram-reels')",
            name=op.f("performance_feedback_platform_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "generation_id"],
            ["generations.tenant_id", "generations.id"],
            name=op.f("performance_feedback_tenant_id_generation_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "post_id"],
            ["social_posts.tenant_id", "social_posts.id"],
            name=op.f("performance_feedback_tenant_id_post_id_fkey"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("performance_feedback_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("performance_feedback_pkey")),
    )
    op.create_index(
        "performance_feedback_generation_idx", "performance_feedback", ["tenant_id", "generation_id"], unique=False
    )
    op.create_index(
        "performance_feedback_observed_idx", "performance_feedback", ["tenant_id", "observed_at"], unique=False
    )
    op.create_index(
        "performance_feedback_once_idx",
        "performance_feedback",
        ["tenant_id", "post_id", "horizon"],
        unique=True,
        postgresql_where=sa.text("post_id IS NOT NULL AND horizon IS NOT NULL"),
    )
    for table in TENANT_OWNED:
        protect_table(table, "tenant_id")
    protect_table("tenants", "id")
    for table in SYSTEM_ONLY:
        protect_table(table, None)
    op.execute(for_app_role(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}"))
    op.execute(for_app_role(f"GRANT SELECT ON alembic_version TO {APP_ROLE}"))


def protect_table(table: str, owner_column: str | None) -> None:
    for statement in protect(table, owner_column):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.drop_index(
        "performance_feedback_once_idx",
        table_name="performance_feedback",
        postgresql_where=sa.text("post_id IS NOT NULL AND horizon IS NOT NULL"),
    )
    op.drop_index("performance_feedback_observed_idx", table_name="performance_feedback")
    op.drop_index("performance_feedback_generation_idx", table_name="performance_feedback")
    op.drop_table("performance_feedback")
    op.drop_table("analytics_snapshots")
    op.drop_index("social_posts_due_idx", table_name="social_posts", postgresql_where=sa.text("status = 'scheduled'"))
    op.drop_index("social_posts_account_idx", table_name="social_posts")
    op.drop_table("social_posts")
    op.drop_index("videos_generation_idx", table_name="videos")
    op.drop_table("videos")
    op.drop_table("job_steps")
    op.drop_index("job_attempts_job_id_idx", table_name="job_attempts")
    op.drop_table("job_attempts")
    op.drop_index("users_tenant_id_idx", table_name="users")
    op.drop_table("users")
    op.drop_table("social_accounts")
    op.drop_index("self_critiques_concept_idx", table_name="self_critiques")
    op.drop_table("self_critiques")
    op.drop_index("scoring_adjustments_cell_idx", table_name="scoring_adjustments")
    op.drop_table("scoring_adjustments")
    op.drop_index("reflexion_insights_once_idx", table_name="reflexion_insights")
    op.drop_table("reflexion_insights")
    op.drop_index("quota_ledger_tenant_id_idx", table_name="quota_ledger")
    op.drop_table("quota_ledger")
    op.drop_index("quota_holds_tenant_id_idx", table_name="quota_holds")
    op.drop_table("quota_holds")
    op.drop_index("job_queue_worker_idx", table_name="job_queue", postgresql_where=sa.text("status = 'running'"))
    op.drop_index(
        "job_queue_unique_idx",
        table_name="job_queue",
        postgresql_where=sa.text("unique_key IS NOT NULL AND status IN ('pending', 'running')"),
    )
    op.drop_index("job_queue_tenant_idx", table_name="job_queue", postgresql_where=sa.text("tenant_id IS NOT NULL"))
    op.drop_index("job_queue_ring_idx", table_name="job_queue", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index("job_queue_created_idx", table_name="job_queue")
    op.drop_table("job_queue")
    op.drop_index("generations_history_idx", table_name="generations")
    op.drop_table("generations")
    op.drop_table("competitor_videos")
    op.drop_index("api_usage_tenant_id_idx", table_name="api_usage")
    op.drop_table("api_usage")
    op.drop_index("api_keys_tenant_id_idx", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_index("webhook_events_received_at_idx", table_name="webhook_events")
    op.drop_index("webhook_events_subject_idx", table_name="webhook_events")
    op.drop_table("webhook_events")
    op.drop_index("tenants_quota_reset_at_idx", table_name="tenants")
    op.drop_table("tenants")
    op.drop_index("system_metrics_name_idx", table_name="system_metrics")
    op.drop_table("system_metrics")
    op.drop_index("stripe_subscriptions_customer_id_idx", table_name="stripe_subscriptions")
    op.drop_table("stripe_subscriptions")
    op.drop_index("stripe_paid_periods_customer_id_idx", table_name="stripe_paid_periods")
    op.drop_table("stripe_paid_periods")
    op.drop_table("schedule_fires")
    op.drop_table("audio_trends")
    op.execute("DROP SEQUENCE job_lease_token")
    op.execute(DROP_SCOPE_FUNCTION)
