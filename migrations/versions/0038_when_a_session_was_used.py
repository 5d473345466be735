"""when an operator's session was last used

Safe under load: the table has been empty so far, and the default is no rewrite. The release before reads no session.
"""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE operator_sessions ADD seen_at timestamptz NOT NULL DEFAULT now()")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE operator_sessions DROP seen_at")
