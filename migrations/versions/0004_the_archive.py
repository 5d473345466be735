"""the archive

Safe under load: the index is built concurrently, and can be repeated after a failure; the rest is new, and one
transaction. Going back forgets what was archived, which is history: nothing that lives is in it.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WEEKS = Path(__file__).with_name("0004_archive_weeks.sql")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that an interrupted run left behind is invalid: made anew.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS job_queue_ended_idx")
        op.execute(
            "CREATE INDEX CONCURRENTLY job_queue_ended_idx ON job_queue (status, completed_at) WHERE completed_at IS NOT NULL"
        )
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.create_table(
        "job_archive",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("ordering_key", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.UUID(), nullable=True),
        sa.Column("attempt_history", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("steps", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        postgresql_partition_by="RANGE (completed_at)",
    )
    op.create_index("job_archive_id_idx", "job_archive", ["id"])
    op.create_index("job_archive_tenant_idx", "job_archive", ["tenant_id", "completed_at"])
    for statement in (*protect("job_archive"), WEEKS.read_text(encoding="utf-8")):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP FUNCTION make_job_archive_week(timestamptz), drop_job_archive_weeks(timestamptz)")
    op.drop_table("job_archive")
    op.execute("DROP INDEX job_queue_ended_idx")
