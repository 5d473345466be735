"""Generations of concepts, the language models that write them, and imports of the old app's exports."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import UUID

from db.schema.base import boolean, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key
from domain.dexie.imports import ImportStatus

SEARCHED = """
lower(
    jsonb_path_query_array(concepts, '$[*].title'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].caption'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].hashtags[*]'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].trendSource'::jsonpath)::text
    || jsonb_path_query_array(trends, '$[*].topic'::jsonpath)::text
)"""
"""The text that a search looks through: strings as JSON writes them, in small letters. No index would serve it: under
row-level security only operators that cannot leak use an index, and neither LIKE nor a text search is one of them."""

generations = table(
    "generations",
    uuid_key(),
    tenant_id(),
    string("source_id"),
    timestamp("date", now=True),
    jsonb("concepts", "[]"),
    jsonb("trends", "[]"),
    # The answer of each trend source, the failed ones included.
    jsonb("sources", "[]"),
    boolean("is_favorite"),
    string("generator"),
    sa.Column("job_id", UUID()),
    string("kept"),  # see `domain/dexie/records.py`, also for the tables of learning
    sa.Column("searched", sa.Text, sa.Computed(SEARCHED, persisted=True)),
    timestamp("created_at", now=True),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "source_id"),
    sa.UniqueConstraint("tenant_id", "job_id"),
    sa.Index("generations_history_idx", "tenant_id", "date", "id"),
    sa.Index("generations_favorites_idx", "tenant_id", "date", "id", postgresql_where=sa.text("is_favorite")),
)

# Models and their prices, by the day from which they hold; the first by rank is asked.
language_models = table(
    "language_models",
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("valid_from", sa.DateTime(timezone=True)),
    sa.Column("rank", sa.SmallInteger, nullable=False),
    sa.Column("usd_per_million_in", sa.Numeric(12, 6), nullable=False),
    sa.Column("usd_per_million_out", sa.Numeric(12, 6), nullable=False),
    timestamp("sunset_at"),
    sa.Column("enabled", sa.Boolean, server_default=sa.text("true"), nullable=False),
    sa.PrimaryKeyConstraint("provider", "model", "valid_from"),
)

# Exports of the old app that were uploaded. The file lies in the media store until it is over.
imports = table(
    "imports",
    uuid_key(),
    tenant_id(),
    string("status", default="checking"),
    string("object_key", nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("percent", sa.SmallInteger),
    # What would become, or became, of the records, by table; and the first of those with a reason.
    jsonb("report"),
    string("error_message"),
    sa.Column("job_id", UUID()),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    # When the file goes, whatever has become of it.
    timestamp("expires_at", nullable=False),
    timestamp("deleted_at"),
    one_of("status", ImportStatus),
    sa.Index("imports_listed_idx", "tenant_id", "created_at", "id"),
    sa.Index("imports_expires_idx", "expires_at", postgresql_where=sa.text("deleted_at IS NULL")),
    sa.Index("imports_deleted_idx", "deleted_at", postgresql_where=sa.text("deleted_at IS NOT NULL")),
)
