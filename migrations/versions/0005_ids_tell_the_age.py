"""ids tell the age

Jobs that other programs insert get ids that grow with time, as ours do, so the newest are found by the primary key; the
index on `created_at`, which every change of state had to write, is not needed any more.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NEW_JOB_ID = """
CREATE OR REPLACE FUNCTION new_job_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(NEW_JOB_ID)
    op.execute("ALTER TABLE job_queue ALTER COLUMN id SET DEFAULT new_job_id()")
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS job_queue_created_idx")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS job_queue_created_idx")
        op.execute("CREATE INDEX CONCURRENTLY job_queue_created_idx ON job_queue (created_at)")
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE job_queue ALTER COLUMN id SET DEFAULT gen_random_uuid()")
    op.execute("DROP FUNCTION new_job_id()")
