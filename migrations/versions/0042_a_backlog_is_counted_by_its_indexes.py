"""a backlog is counted by its indexes: what is read to count ready and deferred jobs is included in them

Safe under load: outside a transaction, so that no lock lasts. A new index is whole before the old one goes, and takes
its name, which the release before asks for as well; it can be repeated after a failure. No update becomes dearer: what
is included changes only together with the state, which moves a row from one index to the other anyway.
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

SHARE = "(CASE WHEN (tenant_id IS NULL) THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE tenant_id END)"
READY = f"(queue, priority, {SHARE}, scheduled_for, id) {{include}} WHERE status = 'pending' AND wake_at IS NULL"
DEFERRED = "(wake_at) {include} WHERE status = 'pending' AND wake_at IS NOT NULL"
INDEXES = {
    "job_queue_ready_idx": (READY, "INCLUDE (tenant_id, cost)"),
    "job_queue_deferred_idx": (DEFERRED, "INCLUDE (id, queue, scheduled_for, attempts, tenant_id)"),
}


def upgrade() -> None:
    _replace({name: definition.format(include=include) for name, (definition, include) in INDEXES.items()})


def downgrade() -> None:
    _replace({name: definition.format(include="") for name, (definition, _) in INDEXES.items()})


def _replace(indexes: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, definition in indexes.items():
            # One that an interrupted run left behind may be invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_next")
            op.execute(f"CREATE INDEX CONCURRENTLY {name}_next ON job_queue {definition}")
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"ALTER INDEX {name}_next RENAME TO {name}")
