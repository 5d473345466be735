"""numbers and the autopilot

What the platforms say of posts at each horizon, what the autopilot may do and did, and exports of the old app that were
uploaded.

Safe under load: columns without defaults need no rewrite; the next migration builds the indexes of tables that have rows.
One transaction: it happens or it does not. What the release before this one reads and writes stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import force, protect

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

HORIZONS = "'1h', '6h', '24h', '72h', '7d'"
MODES = "'off', 'approve', 'auto'"
STAGES = "'concepts', 'video', 'posts', 'done', 'stopped'"
IMPORT_STATUSES = "'checking', 'checked', 'importing', 'done', 'failed', 'cancelled'"
COLUMNS = {
    "analytics_snapshots": {"horizon": "text", "age": "interval", "source": "text", "definition": "text"},
    "social_posts": {"measure_at": "timestamptz", "measure_note": "text", "gone_at": "timestamptz"},
}
TABLES = (
    "missed_horizons",
    "autopilots",
    "autopilot_accounts",
    "autopilot_chains",
    "autopilot_events",
    "imports",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    # What the new tables refer to, in the order of locks.
    for table in ("tenants", "generations", "videos", "social_accounts"):
        op.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    for table, columns in reversed(COLUMNS.items()):
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    op.create_table(
        "missed_horizons",
        _tenant(),
        sa.Column("post_id", sa.UUID(), nullable=False),
        sa.Column("horizon", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _moment("at"),
        sa.CheckConstraint(f"horizon IN ({HORIZONS})", name=op.f("missed_horizons_horizon_check")),
        *_within("missed_horizons", post_id="social_posts"),
        sa.PrimaryKeyConstraint("tenant_id", "post_id", "horizon", name=op.f("missed_horizons_pkey")),
    )
    op.create_index("missed_horizons_at_idx", "missed_horizons", ["tenant_id", "at"])
    _create_autopilot()
    op.create_table(
        "imports",
        _id(),
        _tenant(),
        sa.Column("status", sa.Text(), server_default=sa.text("'checking'"), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("percent", sa.SmallInteger(), nullable=True),
        sa.Column("report", postgresql.JSONB(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"status IN ({IMPORT_STATUSES})", name=op.f("imports_status_check")),
        *_within("imports"),
        sa.PrimaryKeyConstraint("id", name=op.f("imports_pkey")),
    )
    op.create_index("imports_listed_idx", "imports", ["tenant_id", "created_at", "id"])
    op.create_index("imports_expires_idx", "imports", ["expires_at"], postgresql_where=sa.text("deleted_at IS NULL"))
    op.create_index(
        "imports_deleted_idx", "imports", ["deleted_at"], postgresql_where=sa.text("deleted_at IS NOT NULL")
    )
    for table in TABLES:
        for statement in (*protect(table), force(table)):
            op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table in reversed(TABLES):
        op.drop_table(table)
    for table, columns in COLUMNS.items():
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


def _create_autopilot() -> None:
    op.create_table(
        "autopilots",
        _tenant(),
        sa.Column("mode", sa.Text(), server_default=sa.text("'off'"), nullable=False),
        sa.Column("least_score", sa.SmallInteger(), server_default=sa.text("30"), nullable=False),
        sa.Column("videos_a_day", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("concepts_a_day", sa.SmallInteger(), server_default=sa.text("5"), nullable=False),
        sa.Column("times", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("provider", sa.Text(), server_default=sa.text("'storyboard'"), nullable=False),
        _money("budget_usd"),
        sa.Column("last_on", sa.Date(), nullable=True),
        _moment("changed_at"),
        sa.Column("changed_by", sa.Text(), nullable=True),
        _moment("created_at"),
        sa.CheckConstraint(f"mode IN ({MODES})", name=op.f("autopilots_mode_check")),
        sa.CheckConstraint(
            "least_score BETWEEN 0 AND 100 AND videos_a_day BETWEEN 1 AND 10 AND concepts_a_day BETWEEN 1 AND 20 "
            "AND budget_usd >= 0",
            name=op.f("autopilots_bounds_check"),
        ),
        *_within("autopilots"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("autopilots_pkey")),
    )
    op.create_table(
        "autopilot_accounts",
        _tenant(),
        sa.Column("account_id", sa.UUID(), nullable=False),
        _moment("consented_at"),
        sa.Column("consented_by", sa.Text(), nullable=True),
        *_within("autopilot_accounts", account_id="social_accounts"),
        sa.PrimaryKeyConstraint("tenant_id", "account_id", name=op.f("autopilot_accounts_pkey")),
    )
    op.create_table(
        "autopilot_chains",
        _id(),
        _tenant(),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'concepts'"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("generation_id", sa.UUID(), nullable=True),
        sa.Column("concept_id", sa.Text(), nullable=True),
        sa.Column("score", sa.Numeric(10, 4), nullable=True),
        sa.Column("video_id", sa.UUID(), nullable=True),
        sa.Column("group_id", sa.UUID(), nullable=True),
        _money("reserved_usd"),
        _money("spent_usd"),
        sa.Column("month", sa.Date(), nullable=True),
        _moment("since"),
        sa.Column("look_after", sa.DateTime(timezone=True), nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"stage IN ({STAGES})", name=op.f("autopilot_chains_stage_check")),
        sa.CheckConstraint("reserved_usd >= 0 AND spent_usd >= 0", name=op.f("autopilot_chains_money_check")),
        *_within("autopilot_chains", generation_id="generations", video_id="videos"),
        sa.PrimaryKeyConstraint("id", name=op.f("autopilot_chains_pkey")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("autopilot_chains_tenant_id_id_key")),
        sa.UniqueConstraint("tenant_id", "day", "place", name=op.f("autopilot_chains_tenant_id_day_place_key")),
    )
    op.create_index(
        "autopilot_chains_look_idx",
        "autopilot_chains",
        ["look_after"],
        postgresql_where=sa.text("look_after IS NOT NULL"),
    )
    op.create_index("autopilot_chains_generation_idx", "autopilot_chains", ["tenant_id", "generation_id"])
    op.create_index("autopilot_chains_video_idx", "autopilot_chains", ["tenant_id", "video_id"])
    op.create_table(
        "autopilot_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _tenant(),
        sa.Column("chain_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        _moment("at"),
        *_within("autopilot_events", chain_id="autopilot_chains"),
        sa.PrimaryKeyConstraint("id", name=op.f("autopilot_events_pkey")),
    )
    op.create_index("autopilot_events_chain_idx", "autopilot_events", ["tenant_id", "chain_id", "id"])
    op.create_index(
        "autopilot_events_job_idx", "autopilot_events", ["job_id"], postgresql_where=sa.text("job_id IS NOT NULL")
    )
    op.create_index("autopilot_events_at_idx", "autopilot_events", ["at"])


def _within(table: str, **parents: str) -> tuple[sa.ForeignKeyConstraint, ...]:
    """Return the foreign keys to the tenant, and to its own rows of other tables."""
    tenant = sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f(f"{table}_tenant_id_fkey"))
    own = (
        sa.ForeignKeyConstraint(
            ["tenant_id", column],
            [f"{parent}.tenant_id", f"{parent}.id"],
            name=op.f(f"{table}_tenant_id_{column}_fkey"),
        )
        for column, parent in parents.items()
    )
    return (tenant, *own)


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False)


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _money(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(12, 6), server_default=sa.text("0"), nullable=False)
