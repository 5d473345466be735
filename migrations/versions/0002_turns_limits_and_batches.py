"""turns, limits and batches

Safe under load: columns with constant defaults need no rewrite, checks are validated without an exclusive lock, and
what the release before this one reads stays. It gives up rather than make others wait (`lock_timeout`).
"""

import sqlalchemy as sa
from alembic import op

from db.security import protect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = {
    "cost": "integer NOT NULL DEFAULT 1 CONSTRAINT job_queue_cost_check CHECK (cost > 0)",
    "payload_version": "smallint NOT NULL DEFAULT 1",
    "batch_id": "uuid",
    "follows_batch": "boolean NOT NULL DEFAULT false",
    "deadline_at": "timestamptz",
    "snoozes": "integer NOT NULL DEFAULT 0",
    "cancel_requested_at": "timestamptz",
}
# A function, so that it can be sent as text together with COMMIT, and its plan is kept by the session all the same.
CREATE_COMPLETE_JOB = """
CREATE FUNCTION complete_job(job_id uuid, token bigint, outcome jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE job_queue SET status = 'completed', completed_at = now(), result = outcome, error_message = NULL
    WHERE id = job_id AND status || '' = 'running' AND lease_token = token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease does not own the job any more' USING ERRCODE = 'VD002';
    END IF;
END $$
"""
OUTCOMES = "'failed', 'rejected', 'lost', 'returned'"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for name, kind in COLUMNS.items():
        op.execute(f"ALTER TABLE job_queue ADD COLUMN {name} {kind}")
    op.execute("ALTER TABLE job_queue ALTER COLUMN ring_at DROP NOT NULL, ALTER COLUMN ring_at DROP DEFAULT")
    _set_outcomes(f"{OUTCOMES}, 'snoozed', 'cancelled'")
    op.create_table(
        "queue_policies",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("max_running_per_tenant", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("max_running > 0", name=op.f("queue_policies_max_running_check")),
        sa.CheckConstraint("max_running_per_tenant > 0", name=op.f("queue_policies_max_running_per_tenant_check")),
        sa.CheckConstraint(
            "tenant_id IS NULL OR max_running_per_tenant IS NULL",
            name=op.f("queue_policies_per_tenant_of_a_queue_check"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("queue_policies_tenant_id_fkey")),
        sa.UniqueConstraint(
            "queue",
            "tenant_id",
            name=op.f("queue_policies_queue_tenant_id_key"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "rate_buckets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("used_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promised_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("rate_buckets_pkey")),
    )
    op.execute(CREATE_COMPLETE_JOB)
    for statement in (*protect("queue_policies"), *protect("rate_buckets", owner_column=None)):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP FUNCTION complete_job(uuid, bigint, jsonb)")
    op.drop_table("rate_buckets")
    op.drop_table("queue_policies")
    op.execute("UPDATE job_attempts SET outcome = 'returned' WHERE outcome IN ('snoozed', 'cancelled')")
    _set_outcomes(OUTCOMES)
    op.execute("ALTER TABLE job_queue ALTER COLUMN ring_at SET DEFAULT now()")
    op.execute("UPDATE job_queue SET ring_at = now() WHERE ring_at IS NULL")
    op.execute("ALTER TABLE job_queue ALTER COLUMN ring_at SET NOT NULL")
    for name in COLUMNS:
        op.execute(f"ALTER TABLE job_queue DROP COLUMN {name}")


def _set_outcomes(outcomes: str) -> None:
    """Without a scan under the exclusive lock: what is there satisfies the narrower list already."""
    op.execute("ALTER TABLE job_attempts DROP CONSTRAINT IF EXISTS job_attempts_outcome_check")
    op.execute(
        f"ALTER TABLE job_attempts ADD CONSTRAINT job_attempts_outcome_check CHECK (outcome IN ({outcomes})) NOT VALID"
    )
    op.execute("ALTER TABLE job_attempts VALIDATE CONSTRAINT job_attempts_outcome_check")
