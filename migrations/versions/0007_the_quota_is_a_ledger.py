"""the quota is a ledger

Entries count in the period in which their concepts were taken. Nobody but the owner may change or delete one. Whatever
writes `tenants.used_quota` otherwise, by plain SQL or in the release before, is entered as an `adjust` when it commits;
so is, once, what has been used until now. What Stripe or a clock began before stays begun.
"""

from alembic import op

from db.security import APP_ROLE, for_app_role

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

AGREE = """
CREATE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant tenants;
    told integer;
BEGIN
    -- Not NEW: a row that is written twice in one transaction gets here twice, after both.
    SELECT * INTO tenant FROM tenants WHERE id = NEW.id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.id ORDER BY id DESC LIMIT 1;
    IF tenant.used_quota <> coalesce(told, 0) THEN
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', tenant.used_quota - coalesce(told, 0), tenant.used_quota, tenant.monthly_quota,
                tenant.quota_period_start, 'sql:' || session_user,
                CASE TG_OP WHEN 'INSERT' THEN tenant.quota_period_start
                ELSE greatest(now(), tenant.quota_period_start) END);
    END IF;
    RETURN NULL;
END
$$
"""

ON_INSERT = """
CREATE CONSTRAINT TRIGGER quota_agrees_with_ledger AFTER INSERT ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.used_quota <> 0) EXECUTE FUNCTION quota_agrees()
"""
ON_UPDATE = """
CREATE CONSTRAINT TRIGGER quota_still_agrees_with_ledger AFTER UPDATE ON tenants
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.used_quota <> NEW.used_quota) EXECUTE FUNCTION quota_agrees()
"""

OPENING = """
INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
SELECT id, 'adjust', used_quota - counted, used_quota, monthly_quota, quota_period_start, 'migration:0007',
       greatest(now(), quota_period_start)
FROM tenants t, LATERAL (
    SELECT coalesce(sum(amount), 0) AS counted FROM quota_ledger l
    WHERE l.tenant_id = t.id AND l.taken_at >= t.quota_period_start
      AND l.kind IN ('hold', 'settle', 'release', 'adjust')
) AS told
WHERE used_quota <> counted
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.execute(
        "ALTER TABLE quota_holds ADD COLUMN taken_at timestamptz NOT NULL DEFAULT now(), DROP COLUMN period_start"
    )
    op.execute("ALTER TABLE quota_ledger ADD COLUMN taken_at timestamptz NOT NULL DEFAULT now()")
    op.execute('UPDATE quota_ledger SET taken_at = "at"')
    op.execute("CREATE INDEX quota_ledger_tenant_id_taken_at_idx ON quota_ledger (tenant_id, taken_at)")
    op.execute(for_app_role(f"REVOKE UPDATE, DELETE, TRUNCATE ON quota_ledger FROM {APP_ROLE}"))
    op.execute("LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE")
    op.execute(AGREE)
    op.execute(ON_INSERT)
    op.execute(ON_UPDATE)
    op.execute(OPENING)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP TRIGGER quota_still_agrees_with_ledger ON tenants")
    op.execute("DROP TRIGGER quota_agrees_with_ledger ON tenants")
    op.execute("DROP FUNCTION quota_agrees()")
    op.execute(for_app_role(f"GRANT UPDATE, DELETE ON quota_ledger TO {APP_ROLE}"))
    op.execute("DROP INDEX quota_ledger_tenant_id_taken_at_idx")
    op.execute("ALTER TABLE quota_ledger DROP COLUMN taken_at")
    op.execute(
        "ALTER TABLE quota_holds ADD COLUMN period_start timestamptz NOT NULL DEFAULT now(), DROP COLUMN taken_at"
    )
    op.execute("ALTER TABLE quota_holds ALTER COLUMN period_start DROP DEFAULT")
