"""trends, models and daily wishes

Safe under load: columns with constant defaults need no rewrite, indexes are built concurrently and can be repeated after
a failure, and what the release before this one reads stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import protect

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

WISHES = {
    "region": "text NOT NULL DEFAULT 'US'",
    "timezone": "text NOT NULL DEFAULT 'UTC'",
    "daily_enabled": "boolean NOT NULL DEFAULT false",
    "daily_hour": "smallint NOT NULL DEFAULT 9 CONSTRAINT tenants_daily_hour_check CHECK (daily_hour BETWEEN 0 AND 23)",
    "daily_count": "integer NOT NULL DEFAULT 5 CONSTRAINT tenants_daily_count_check CHECK (daily_count BETWEEN 1 AND 20)",
    "daily_last_on": "date",
}
INDEXES = {
    "tenants_daily_idx": "tenants (id) WHERE daily_enabled",
    "api_usage_job_id_idx": "api_usage (job_id) WHERE job_id IS NOT NULL",
}
EMPTY_LIST = sa.text("'[]'::jsonb")


def upgrade() -> None:
    # It is committed before the indexes are made, and the revision is noted after them: a run that was cut short in
    # between finds it done.
    if not op.get_bind().scalar(sa.text("SELECT to_regclass('trend_sources')")):
        _change()
    with op.get_context().autocommit_block():
        for name, on in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}")


def _change() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for name, kind in WISHES.items():
        op.execute(f"ALTER TABLE tenants ADD COLUMN {name} {kind}")
    op.execute("ALTER TABLE generations ADD COLUMN sources jsonb NOT NULL DEFAULT '[]'::jsonb")
    op.create_table(
        "trend_sources",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("sightings", postgresql.JSONB(), server_default=EMPTY_LIST, nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("modified", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("source", "region", name=op.f("trend_sources_pkey")),
    )
    models = op.create_table(
        "language_models",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rank", sa.SmallInteger(), nullable=False),
        sa.Column("usd_per_million_in", sa.Numeric(12, 6), nullable=False),
        sa.Column("usd_per_million_out", sa.Numeric(12, 6), nullable=False),
        sa.Column("sunset_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "valid_from", name=op.f("language_models_pkey")),
    )
    for statement in (
        *protect("trend_sources", owner_column=None),
        *protect("language_models", owner_column=None),
    ):
        op.execute(statement)
    # Prices as published in November 2026. A change of price is a row with a later day.
    op.bulk_insert(
        models,
        [
            {
                "provider": "anthropic",
                "model": model,
                "valid_from": "2026-11-01T00:00:00Z",
                "rank": rank,
                "usd_per_million_in": usd_in,
                "usd_per_million_out": usd_out,
            }
            for rank, (model, usd_in, usd_out) in enumerate((("claude-sonnet-5-5", 2, 10), ("claude-sonnet-5", 2, 10)))
        ],
    )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.drop_table("language_models")
    op.drop_table("trend_sources")
    op.execute("ALTER TABLE generations DROP COLUMN sources")
    for name in WISHES:
        op.execute(f"ALTER TABLE tenants DROP COLUMN {name}")
