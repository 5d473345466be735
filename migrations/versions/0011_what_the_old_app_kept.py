"""what the old app kept

The tables of content and learning take every field of the old app's records, each in a column of its name. They are
empty until this release writes to them; what somebody may have put there by hand is carried over, both ways.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None

KEPT = ("generations", "self_critiques", "reflexion_insights", "scoring_adjustments")

SEARCHED = """
lower(
    jsonb_path_query_array(concepts, '$[*].title'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].caption'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].hashtags[*]'::jsonpath)::text
    || jsonb_path_query_array(concepts, '$[*].trendSource'::jsonpath)::text
    || jsonb_path_query_array(trends, '$[*].topic'::jsonpath)::text
)"""

UP = (
    f"ALTER TABLE generations ADD COLUMN searched text GENERATED ALWAYS AS ({SEARCHED}) STORED",
    """
    ALTER TABLE self_critiques
        ADD COLUMN performance_gap jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN hypothesized_reasons jsonb NOT NULL DEFAULT '[]',
        ADD COLUMN scoring_issues jsonb NOT NULL DEFAULT '[]',
        ADD COLUMN adjustment_plan text NOT NULL DEFAULT '',
        ADD COLUMN confidence_level text NOT NULL DEFAULT 'low',
        ADD COLUMN applied_at timestamptz,
        ALTER COLUMN critique DROP DEFAULT,
        ALTER COLUMN critique TYPE text USING critique::text,
        ALTER COLUMN critique SET DEFAULT ''
    """,
    "UPDATE self_critiques SET applied_at = created_at WHERE applied",
    "ALTER TABLE self_critiques DROP COLUMN applied",
    "ALTER TABLE reflexion_insights RENAME COLUMN applied TO applied_to_scoring",
    """
    ALTER TABLE reflexion_insights
        ADD COLUMN impact text NOT NULL DEFAULT 'neutral',
        ADD COLUMN discovered_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT now(),
        ALTER COLUMN evidence_count TYPE bigint
    """,
    "ALTER TABLE scoring_adjustments RENAME COLUMN factor TO new_value",
    """
    ALTER TABLE scoring_adjustments
        ADD COLUMN adjustment_type text NOT NULL DEFAULT 'category-weight',
        ADD COLUMN old_value double precision,
        ADD COLUMN critique_id text,
        ADD COLUMN applied_at timestamptz NOT NULL DEFAULT now(),
        ALTER COLUMN platform DROP NOT NULL,
        ALTER COLUMN new_value DROP NOT NULL,
        ALTER COLUMN new_value TYPE double precision
    """,
)

DOWN = (
    "DELETE FROM scoring_adjustments WHERE platform IS NULL OR abs(coalesce(new_value, 'NaN')) >= 1e6",
    """
    ALTER TABLE scoring_adjustments
        DROP COLUMN adjustment_type,
        DROP COLUMN old_value,
        DROP COLUMN critique_id,
        DROP COLUMN applied_at,
        ALTER COLUMN platform SET NOT NULL,
        ALTER COLUMN new_value TYPE numeric(10, 4),
        ALTER COLUMN new_value SET NOT NULL
    """,
    "ALTER TABLE scoring_adjustments RENAME COLUMN new_value TO factor",
    """
    ALTER TABLE reflexion_insights
        DROP COLUMN impact,
        DROP COLUMN discovered_at,
        DROP COLUMN last_seen_at,
        ALTER COLUMN evidence_count TYPE integer USING least(evidence_count, 2147483647)
    """,
    "ALTER TABLE reflexion_insights RENAME COLUMN applied_to_scoring TO applied",
    "ALTER TABLE self_critiques ADD COLUMN applied boolean NOT NULL DEFAULT false",
    "UPDATE self_critiques SET applied = applied_at IS NOT NULL",
    """
    ALTER TABLE self_critiques
        DROP COLUMN performance_gap,
        DROP COLUMN hypothesized_reasons,
        DROP COLUMN scoring_issues,
        DROP COLUMN adjustment_plan,
        DROP COLUMN confidence_level,
        DROP COLUMN applied_at,
        ALTER COLUMN critique DROP DEFAULT,
        ALTER COLUMN critique TYPE jsonb USING jsonb_build_object('critique', critique),
        ALTER COLUMN critique SET DEFAULT '{}'
    """,
    "ALTER TABLE generations DROP COLUMN searched",
)

INDEXES = {
    "generations_favorites_idx": "generations (tenant_id, date, id) WHERE is_favorite",
    "self_critiques_created_idx": "self_critiques (tenant_id, created_at, id)",
    "self_critiques_unapplied_idx": "self_critiques (tenant_id, created_at) WHERE applied_at IS NULL",
    "reflexion_insights_seen_idx": "reflexion_insights (tenant_id, last_seen_at, id)",
    "scoring_adjustments_cell_idx": "scoring_adjustments (tenant_id, category, platform, applied_at)",
    "scoring_adjustments_applied_idx": "scoring_adjustments (tenant_id, applied_at, id)",
}
CELL_BEFORE = "scoring_adjustments (tenant_id, category, platform, created_at)"


def upgrade() -> None:
    # It is committed before the indexes are made, and the revision is noted after them: a run that was cut short in
    # between finds it done.
    if not op.get_bind().scalar(
        sa.text(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'generations'::regclass AND attname = 'kept')"
        )
    ):
        _change()
    with op.get_context().autocommit_block():
        for name, on in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {on}")


def _change() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table in KEPT:
        op.execute(f"ALTER TABLE {table} ADD COLUMN kept text")
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE INDEX CONCURRENTLY scoring_adjustments_cell_idx ON {CELL_BEFORE}")
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for statement in DOWN:
        op.execute(statement)
    for table in KEPT:
        op.execute(f"ALTER TABLE {table} DROP COLUMN kept")
