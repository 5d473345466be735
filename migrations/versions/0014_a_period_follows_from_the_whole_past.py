"""a period follows from the whole past

A fresh count, given by a person or by plain SQL, gets a column of its own: `quota_period_start` is derived from what Stripe
tells and from the calendar alone. Safe under load: the column needs no rewrite, and few rows are touched.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

AGREE = """
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
    happened := greatest(tenant.quota_period_start, tenant.quota_restarted_at,
                         CASE TG_OP WHEN 'UPDATE' THEN clock_timestamp() END);
    IF tenant.used_quota < told THEN
        -- The old count ends with its last moment; the new one begins with what is left.
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        VALUES (tenant.id, 'adjust', -told, 0, tenant.monthly_quota, tenant.quota_period_start, 'sql:' || session_user,
                happened);
        told := 0;
        happened := happened + interval '1 microsecond';
        UPDATE tenants SET quota_restarted_at = happened WHERE id = tenant.id;
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

# Until now a fresh count began a period.
KEEP_RESTARTS = """
UPDATE tenants t SET quota_restarted_at = quota_period_start WHERE EXISTS (
    SELECT FROM quota_ledger l WHERE l.tenant_id = t.id AND (
        l.kind = 'reset' AND l.cause LIKE 'person:%' AND l.period_start = t.quota_period_start
        OR l.kind = 'adjust' AND l.amount < 0 AND l.taken_at = t.quota_period_start - interval '1 microsecond'
    )
)
"""

# As 0013 made it.
BEFORE = """
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

BEGIN_PERIODS = """
UPDATE tenants SET quota_period_start = quota_restarted_at
WHERE quota_restarted_at > quota_period_start AND quota_restarted_at < quota_reset_at
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.execute("ALTER TABLE tenants ADD COLUMN quota_restarted_at timestamptz")
    op.execute(AGREE)
    op.execute(KEEP_RESTARTS)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.execute(BEGIN_PERIODS)
    op.execute("ALTER TABLE tenants DROP COLUMN quota_restarted_at")
    op.execute(BEFORE)
