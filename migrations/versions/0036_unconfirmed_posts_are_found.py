"""unconfirmed posts are found

By an index of those few alone: they are counted every few seconds.

Safe under load: outside a transaction, so that no lock lasts; it can be repeated after a failure.
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

NAME = "social_posts_unconfirmed_idx"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that an interrupted run left behind is invalid: made anew.
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.execute(f"CREATE INDEX CONCURRENTLY {NAME} ON social_posts (updated_at) WHERE status = 'unconfirmed'")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
