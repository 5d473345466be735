"""what hurts, over all tenants: indexes of what a person should look at

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

INDEXES = {
    "social_posts_failed_idx": (
        "INDEX CONCURRENTLY social_posts_failed_idx ON social_posts (updated_at) WHERE status IN ('failed', 'missed')"
    ),
    "social_accounts_reconnect_idx": (
        "INDEX CONCURRENTLY social_accounts_reconnect_idx ON social_accounts (tenant_id) "
        "WHERE status = 'needs_reconnect'"
    ),
    "provider_jobs_unconfirmed_idx": (
        "INDEX CONCURRENTLY provider_jobs_unconfirmed_idx ON provider_jobs (created_at) WHERE state = 'unconfirmed'"
    ),
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
