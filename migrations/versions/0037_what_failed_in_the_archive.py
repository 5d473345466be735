"""what failed, in the archive

The archive's dead letters and cancelled jobs are found by an index, in the order in which they ended.

Safe under load: the archive is read through once while nothing may be moved into it, for which upkeep waits and nobody
else; the index holds a hundredth of the rows. The release before does not know of it.
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("CREATE INDEX job_archive_ended_idx ON job_archive (status, completed_at) WHERE status <> 'completed'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP INDEX job_archive_ended_idx")
