"""a payload has an end

Workers claim a hundred jobs at once, so what one payload may have decides what a claim takes: 256 KiB, as `jsonb` holds it.
Nothing of ours comes near; other programs insert rows too. One that is larger already can run no more and says so.

Safe under load: new rows are held to the rule first, then those of the past are mended, then looked through without making
anyone wait. Outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NAME = "job_queue_payload_size_check"
CONDITION = "pg_column_size(payload) <= 262144"

# Each statement is a transaction of its own, and brings its settings: behind a pooler the next one has another session.
ALONE = """
DO $alone$ BEGIN
    SET LOCAL lock_timeout = '5s';
    SET LOCAL app.tenant_id = '*';
    {statement};
END $alone$
"""
ADD = f"""
ALTER TABLE job_queue DROP CONSTRAINT IF EXISTS {NAME}, ADD CONSTRAINT {NAME} CHECK ({CONDITION}) NOT VALID
"""
MEND = f"""
UPDATE job_queue SET payload = jsonb_build_object('larger_than_256_KiB', pg_column_size(payload)) WHERE NOT ({CONDITION})
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    with op.get_context().autocommit_block():
        for statement in (ADD, MEND, f"ALTER TABLE job_queue VALIDATE CONSTRAINT {NAME}"):
            op.execute(ALONE.format(statement=statement))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(f"ALTER TABLE job_queue DROP CONSTRAINT IF EXISTS {NAME}")
