"""outcomes as they are learned

The indexes of what 0030 added: which outcomes are to be learned, and the order in which a learner folds them.

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

INDEXES = {
    "performance_feedback_unlearned_idx": (
        "INDEX CONCURRENTLY performance_feedback_unlearned_idx ON performance_feedback (tenant_id, observed_at, id) "
        "WHERE learned_at IS NULL AND post_id IS NOT NULL AND horizon IN ('24h', '7d')"
    ),
    "performance_feedback_fold_idx": (
        "INDEX CONCURRENTLY performance_feedback_fold_idx ON performance_feedback "
        "(tenant_id, platform, horizon, observed_at, id) WHERE post_id IS NOT NULL AND horizon IN ('24h', '7d')"
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
