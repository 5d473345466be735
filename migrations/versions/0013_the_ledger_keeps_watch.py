"""the ledger keeps watch

Whatever scope a transaction ends in, its count and its ledger are held against each other. An entry that does not agree
with the tenant's row is refused. Less used, by plain SQL, is a fresh count: what was taken before is not given back into it.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

FOLLOW = """
CREATE OR REPLACE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    tenant tenants;
    told integer;
    happened timestamptz;
BEGIN
    -- Not NEW: a row that is written twice in one transaction gets here twice, after both.
    SELECT * INTO tenant FROM tenants WHERE id = NEW.id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.id ORDER BY id DESC LIMIT 1;
    told := coalesce(told, 0);
    IF tenant.used_quota = told THEN
        RETURN NULL;
    END IF;
    happened := CASE TG_OP WHEN 'INSERT' THEN tenant.quota_period_start
                ELSE greatest(clock_timestamp(), tenant.quota_period_start) END;
    IF tenant.used_quota < told THEN
        -- The old count ends with its last moment; the new one begins with what is left.
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', -told, 0, tenant.monthly_quota, tenant.quota_period_start, 'sql:' || session_user,
                CASE WHEN happened < tenant.quota_reset_at THEN happened ELSE tenant.quota_period_start END);
        told := 0;
        IF happened < tenant.quota_reset_at THEN
            happened := happened + interval '1 microsecond';
            UPDATE tenants SET quota_period_start = happened WHERE id = tenant.id;
        END IF;
    END IF;
    IF tenant.used_quota > told THEN
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', tenant.used_quota - told, tenant.used_quota, tenant.monthly_quota,
                tenant.quota_period_start, 'sql:' || session_user, happened);
    END IF;
    RETURN NULL;
END
$$
"""

REFUSE = """
CREATE OR REPLACE FUNCTION quota_entry_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    used integer;
    told integer;
BEGIN
    SELECT used_quota INTO used FROM tenants WHERE id = NEW.tenant_id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.tenant_id ORDER BY id DESC LIMIT 1;
    IF used <> told THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = format(
            'tenant %s has used %s, and its quota ledger says %s', NEW.tenant_id, used, told);
    END IF;
    RETURN NULL;
END
$$
"""

ON_ENTRY = """
CREATE CONSTRAINT TRIGGER quota_entry_agrees_with_tenant AFTER INSERT ON quota_ledger
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION quota_entry_agrees()
"""

# As 0007 made it.
BEFORE = """
CREATE OR REPLACE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    tenant tenants;
    told integer;
BEGIN
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


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute(FOLLOW)
    op.execute(REFUSE)
    for function in ("quota_agrees", "quota_entry_agrees"):
        op.execute(f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC")
    op.execute(ON_ENTRY)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP TRIGGER quota_entry_agrees_with_tenant ON quota_ledger")
    op.execute("DROP FUNCTION quota_entry_agrees()")
    op.execute(BEFORE)
    op.execute("GRANT EXECUTE ON FUNCTION quota_agrees() TO PUBLIC")
