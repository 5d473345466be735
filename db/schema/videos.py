"""Rendered videos."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from db.schema.base import jsonb, one_of, string, table, tenant_id, timestamp, uuid_key, within_tenant

VIDEO_STATUSES = ("pending", "rendering", "completed", "failed")

videos = table(
    "videos",
    uuid_key(),
    tenant_id(),
    sa.Column("generation_id", UUID()),
    string("concept_id"),
    string("status", default="pending"),
    string("provider"),
    string("prompt"),
    string("video_url"),
    string("thumbnail_url"),
    sa.Column("duration_seconds", sa.Numeric(8, 3)),
    sa.Column("cost_usd", sa.Numeric(12, 6)),
    string("error_message"),
    jsonb("details", "{}"),
    timestamp("created_at", now=True),
    timestamp("completed_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    within_tenant("generation_id", "generations"),
    one_of("status", VIDEO_STATUSES),
    sa.Index("videos_generation_idx", "tenant_id", "generation_id"),
)
