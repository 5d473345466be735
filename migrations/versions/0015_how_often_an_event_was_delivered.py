"""how often an event was delivered

Safe under load: a constant default needs no rewrite, and what the release before this one stores has been delivered once.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(
        "ALTER TABLE webhook_events ADD COLUMN duplicates integer NOT NULL DEFAULT 0, ADD COLUMN duplicate_at timestamptz"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE webhook_events DROP COLUMN duplicates, DROP COLUMN duplicate_at")
