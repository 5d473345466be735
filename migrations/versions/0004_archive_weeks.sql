-- How weeks of the archive are made and dropped, as of 0016. What it is today is in db/schema/archive.py; a change of
-- it is another migration.
CREATE OR REPLACE FUNCTION make_job_archive_week(moment timestamptz) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s' AS $$
DECLARE
    monday timestamptz := date_trunc('week', moment);
    week text := 'job_archive_' || to_char(monday, 'YYYY_MM_DD');
BEGIN
    IF to_regclass(week) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE ONLY job_archive IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(week) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE job_archive INCLUDING ALL)', week);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', week);
    EXECUTE format('CREATE POLICY scope ON %I USING ((SELECT app_scope()) IN (''*'', tenant_id::text))', week);
    EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', week);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'viral_app') THEN
        EXECUTE format('REVOKE ALL ON %I FROM viral_app', week);
    END IF;
    EXECUTE format('ALTER TABLE job_archive ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   week, monday, monday + interval '7 days');
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION drop_job_archive_weeks(before timestamptz) RETURNS integer
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s' AS $$
DECLARE
    week name;
    dropped integer := 0;
BEGIN
    FOR week IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'job_archive'::regclass
          AND to_timestamp(substring(relname FROM '^job_archive_(\d{4}_\d\d_\d\d)$'), 'YYYY_MM_DD')
              + interval '7 days' <= before
        ORDER BY relname
    LOOP
        LOCK TABLE ONLY job_archive IN ACCESS EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(week) IS NULL;
        EXECUTE format('DROP TABLE %I', week);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END $$;

REVOKE ALL ON FUNCTION make_job_archive_week(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_job_archive_weeks(timestamptz) FROM PUBLIC;

DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'viral_app') THEN
        GRANT EXECUTE ON FUNCTION make_job_archive_week(timestamptz), drop_job_archive_weeks(timestamptz) TO viral_app;
    END IF;
END $do$;
