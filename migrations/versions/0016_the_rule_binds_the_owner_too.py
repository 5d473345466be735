"""the rule binds the owner too

Behind a pooler a transaction may find itself in another session than it thinks; and there are hosts where the owner is
the only role that one gets. So row-level security is forced. Safe under load: one short lock of one table at a time.

A program that connects as the owner, and sees all tenants, says so from here on: `SET app.tenant_id = '*'`, or
`options=-c%20app.tenant_id%3D*` in its URL. What the release before runs works as the application's role, and notices nothing.
"""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FUNCTIONS = ("0004_archive_weeks.sql", "0016_functions.sql")

TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relrowsecurity AND c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname
"""

ALTER = """
DO $$ BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    ALTER TABLE {table} {change};
END $$
"""

WEEK_POLICY = """
DO $$ BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = '{table}'::regclass) THEN
        CREATE POLICY scope ON {table} USING ((SELECT app_scope()) IN ('*', tenant_id::text));
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for name in FUNCTIONS:
        op.execute(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    tables = protected()
    with op.get_context().autocommit_block():
        for table in tables:
            if table.startswith("job_archive_"):
                op.execute(WEEK_POLICY.format(table=table))
            op.execute(ALTER.format(table=table, change="FORCE ROW LEVEL SECURITY"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    tables = protected()
    with op.get_context().autocommit_block():
        for table in tables:
            op.execute(ALTER.format(table=table, change="NO FORCE ROW LEVEL SECURITY"))


def protected() -> list[str]:
    return [row[0] for row in op.get_bind().exec_driver_sql(TABLES)]
