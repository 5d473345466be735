"""posts and videos of all tenants, the newest first: what operators look through

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

INDEXES = {
    "social_posts_created_idx": "INDEX CONCURRENTLY social_posts_created_idx ON social_posts (created_at, id)",
    "videos_created_idx": "INDEX CONCURRENTLY videos_created_idx ON videos (created_at, id)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
