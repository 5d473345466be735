"""What is seen on the web and on platforms."""

import sqlalchemy as sa

from db.schema.base import count, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key
from db.schema.posting import PLATFORMS

# The last answer of each trend source for each region, shared by all tenants, and how it is doing.
trend_sources = table(
    "trend_sources",
    sa.Column("source", sa.Text),
    sa.Column("region", sa.Text),
    jsonb("sightings", "[]"),
    string("etag"),
    string("modified"),
    timestamp("answered_at"),
    timestamp("tried_at"),
    timestamp("asked_until"),
    count("failures"),
    string("error"),
    timestamp("retry_at"),
    sa.PrimaryKeyConstraint("source", "region"),
)

audio_trends = table(
    "audio_trends",
    uuid_key(),
    string("platform", nullable=False),
    string("external_id", nullable=False),
    string("title", nullable=False),
    string("artist"),
    string("region", default="US"),
    sa.Column("usage_count", sa.BigInteger),
    sa.Column("rank", sa.Integer),
    timestamp("captured_at", now=True),
    sa.UniqueConstraint("platform", "region", "external_id", "captured_at"),
    one_of("platform", PLATFORMS),
    sa.Index("audio_trends_captured_idx", "region", "captured_at"),
    sa.Index("audio_trends_old_idx", "captured_at"),
)

competitor_videos = table(
    "competitor_videos",
    uuid_key(),
    tenant_id(),
    string("platform", nullable=False),
    string("external_id", nullable=False),
    string("url"),
    string("channel"),
    string("title"),
    sa.Column("views", sa.BigInteger),
    jsonb("details", "{}"),
    timestamp("captured_at", now=True),
    sa.UniqueConstraint("tenant_id", "platform", "external_id"),
    one_of("platform", PLATFORMS),
    sa.Index("competitor_videos_captured_idx", "tenant_id", "captured_at"),
)
