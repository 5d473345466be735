"""Another column, a constraint on it and an index (throwaway: only the harness applies this)."""

import sqlalchemy as sa
from alembic import op

revision = "chaos_2"
down_revision = "chaos_1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.add_column("job_queue", sa.Column("chaos_number", sa.Integer, server_default="0", nullable=False))
    op.create_check_constraint("chaos_number_check", "job_queue", "chaos_number >= 0")
    op.create_index("chaos_number_idx", "job_queue", ["chaos_number"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.drop_column("job_queue", "chaos_number")
