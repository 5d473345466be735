"""a job is inserted by a function

The statement that inserts one job is sent as text together with BEGIN and COMMIT, and Postgres read and planned it anew
each time. A function's plan is kept by the session. The release before does not call it.
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

ENQUEUE_JOB = """
CREATE FUNCTION enqueue_job(
    id uuid, job_type text, queue text, tenant_id uuid, payload jsonb, priority integer, max_attempts integer,
    unique_key text, ordering_key text, cost integer, payload_version integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version)
    VALUES (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
            cost, payload_version);
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(ENQUEUE_JOB)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(
        "DROP FUNCTION enqueue_job(uuid, text, text, uuid, jsonb, integer, integer, text, text, integer, integer)"
    )
