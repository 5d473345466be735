"""A column with a default on the busiest table (throwaway: only the harness applies this)."""

import sqlalchemy as sa
from alembic import op

from db.migrate.upgrade import newest

revision = "chaos_1"
down_revision = newest()
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.add_column("job_queue", sa.Column("chaos_note", sa.Text, server_default="", nullable=False))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.drop_column("job_queue", "chaos_note")
