"""indexes for turns

Built and dropped concurrently, so outside a transaction, and without making anyone wait; every step can be repeated
after a failure. Rows whose ring was owed by the release before are woken by this one's relay when it is due.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LIVE = "status IN ('pending', 'running')"
INDEXES = {
    "job_queue_turn_idx": "(queue, priority, "
    "(CASE WHEN (tenant_id IS NULL) THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE tenant_id END), "
    "scheduled_for, id) WHERE status = 'pending' AND ring_at IS NULL",
    "job_queue_asleep_idx": "(ring_at) WHERE status = 'pending' AND ring_at IS NOT NULL",
    "job_queue_running_idx": "(queue, tenant_id) WHERE status = 'running'",
    "job_queue_ordering_idx": f"(ordering_key, status, id) WHERE ordering_key IS NOT NULL AND {LIVE}",
    "job_queue_batch_idx": "(batch_id, status) WHERE batch_id IS NOT NULL",
}
REPLACED = {
    "job_queue_ring_idx": "(ring_at) WHERE status = 'pending'",
    "job_queue_worker_idx": "(worker_id) WHERE status = 'running'",
}


def upgrade() -> None:
    _replace(drop=REPLACED, create=INDEXES)


def downgrade() -> None:
    _replace(drop=INDEXES, create=REPLACED)


def _replace(*, drop: dict[str, str], create: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, definition in create.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON job_queue {definition}")
        for name in drop:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
