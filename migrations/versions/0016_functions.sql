-- As of 0016. What they do today is in db/security.py and db/schema; a change of it is another migration.
CREATE OR REPLACE FUNCTION app_scope() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
BEGIN
    IF scope IS NULL OR scope = '' THEN
        RAISE EXCEPTION 'tenant context not set: set app.tenant_id in this transaction first'
            USING ERRCODE = 'VD001',
                  HINT = 'A tenant''s id, or * for the rows of all: SET LOCAL app.tenant_id = ''*'', or on a direct '
                         'connection options=-c%20app.tenant_id%3D* in the URL.';
    END IF;
    RETURN scope;
END $$;

CREATE OR REPLACE FUNCTION quota_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
    tenant tenants;
    told integer;
    happened timestamptz;
BEGIN
    PERFORM set_config('app.tenant_id', NEW.id::text, true);
    -- Not NEW: a row that is written twice in one transaction gets here twice, after both.
    SELECT * INTO tenant FROM tenants WHERE id = NEW.id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.id ORDER BY id DESC LIMIT 1;
    told := coalesce(told, 0);
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
    PERFORM set_config('app.tenant_id', scope, true);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION quota_entry_agrees() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
    used integer;
    told integer;
BEGIN
    PERFORM set_config('app.tenant_id', NEW.tenant_id::text, true);
    SELECT used_quota INTO used FROM tenants WHERE id = NEW.tenant_id;
    SELECT used_after INTO told FROM quota_ledger WHERE tenant_id = NEW.tenant_id ORDER BY id DESC LIMIT 1;
    IF used <> told THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = format(
            'tenant %s has used %s, and its quota ledger says %s', NEW.tenant_id, used, told);
    END IF;
    PERFORM set_config('app.tenant_id', scope, true);
    RETURN NULL;
END
$$;
