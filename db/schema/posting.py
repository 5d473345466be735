"""Social accounts of tenants, and the posts to them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import count, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key, within_tenant
from domain.concepts.virality import PLATFORMS

POST_STATUSES = (
    "draft",
    "scheduled",
    "claimed",
    "submitting",
    "submitted",
    "processing",
    "published",
    "failed",
    "unconfirmed",
)

social_accounts = table(
    "social_accounts",
    uuid_key(),
    tenant_id(),
    string("platform", nullable=False),
    string("external_id", nullable=False),
    string("username"),
    string("niche"),
    string("timezone", default="UTC"),
    string("status", default="active"),
    sa.Column("access_token", sa.LargeBinary),
    sa.Column("refresh_token", sa.LargeBinary),
    timestamp("access_expires_at"),
    timestamp("refresh_expires_at"),
    sa.Column("scopes", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    sa.Column("daily_limit", sa.Integer),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "platform", "external_id"),
    one_of("platform", PLATFORMS),
)

social_posts = table(
    "social_posts",
    uuid_key(),
    tenant_id(),
    sa.Column("video_id", UUID(), nullable=False),
    sa.Column("account_id", UUID(), nullable=False),
    count("attempt_group", 1),
    string("status", default="draft"),
    string("caption", default=""),
    timestamp("scheduled_for"),
    jsonb("handle"),
    sa.Column("request_hash", sa.LargeBinary),
    string("external_id"),
    string("permalink"),
    jsonb("prediction"),
    string("error_message"),
    timestamp("submitted_at"),
    timestamp("published_at"),
    timestamp("created_at", now=True),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "video_id", "account_id", "attempt_group"),
    within_tenant("video_id", "videos"),
    within_tenant("account_id", "social_accounts"),
    one_of("status", POST_STATUSES),
    sa.Index("social_posts_account_idx", "tenant_id", "account_id"),
    sa.Index("social_posts_due_idx", "scheduled_for", postgresql_where=sa.text("status = 'scheduled'")),
)
