"""concepts that support grants or takes: for the running period, beside what the plan gives

Safe under load: a column with a constant default, a trigger that only fires for rows that have some, and a check that
is validated without a lock that anybody waits for. The release before knows nothing of grants: its resets end them too,
by the trigger.
"""

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

KINDS = "'grant', 'hold', 'settle', 'release', 'reset', 'adjust'"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("ALTER TABLE tenants ADD COLUMN quota_granted integer DEFAULT 0 NOT NULL")
    op.execute("""
CREATE FUNCTION quota_grants_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.quota_granted := 0;
    RETURN NEW;
END
$$
""")
    op.execute("""
CREATE TRIGGER quota_grants_end_with_period BEFORE UPDATE ON tenants
FOR EACH ROW WHEN (NEW.quota_granted <> 0 AND NEW.quota_period_start <> OLD.quota_period_start)
EXECUTE FUNCTION quota_grants_end()
""")
    _allow(f"{KINDS}, 'extra'")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP TRIGGER quota_grants_end_with_period ON tenants")
    op.execute("DROP FUNCTION quota_grants_end()")
    op.execute("ALTER TABLE tenants DROP COLUMN quota_granted")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.execute("DELETE FROM quota_ledger WHERE kind = 'extra'")
    _allow(KINDS)


def _allow(kinds: str) -> None:
    op.execute("ALTER TABLE quota_ledger DROP CONSTRAINT quota_ledger_kind_check")
    op.execute(f"ALTER TABLE quota_ledger ADD CONSTRAINT quota_ledger_kind_check CHECK (kind IN ({kinds})) NOT VALID")
    op.execute("ALTER TABLE quota_ledger VALIDATE CONSTRAINT quota_ledger_kind_check")
