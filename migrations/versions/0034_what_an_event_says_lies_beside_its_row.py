"""what an event says lies beside its row

Of each event, its signed body and its payload are stored, and never changed when the event is applied. So far one of
the two was kept in the row itself, which each change of the event's status wrote again, and read wherever events are
listed. New rows keep both in the table's TOAST relation, and where the server has lz4 they are compressed by it: its
own method was nearly a third of the time that Postgres took for a webhook.

Safe under load: only new rows are stored otherwise; the locks last for a moment. The release before does not notice. A
dump for a server without lz4 needs `pg_dump --no-toast-compression`.
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

COMPRESSION = """
DO $$ BEGIN
    IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
        ALTER TABLE webhook_events ALTER body SET COMPRESSION lz4, ALTER payload SET COMPRESSION lz4;
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE webhook_events SET (toast_tuple_target = 128)")
    op.execute(COMPRESSION)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE webhook_events RESET (toast_tuple_target)")
    op.execute("ALTER TABLE webhook_events ALTER body SET COMPRESSION default, ALTER payload SET COMPRESSION default")
