"""The weeks of `job_archive`: each a partition, from Monday to Monday in UTC.

The application's role may not make or drop tables. Two functions of the owner's do this one thing for it, with the
owner's rights, a `search_path` of their own, and little patience: who reads or fills the archive is not kept waiting.
A partition is reached through `job_archive` only: nobody is granted anything on it. Its owner, who dumps it by itself,
is under the same rule there. A migration makes the functions: what they do in a database that exists is changed by
another migration.
"""

from db.security import APP_ROLE, for_app_role

PARTITION = r"job_archive_(\d{4}_\d\d_\d\d)"
"""What partitions are called: after their Monday."""

OWNERS_RIGHTS = """
SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s'
""".strip()

# Attached, not made as a partition: that would lock out who reads the archive. Of two who make the same week the
# second waits for the lock, and then finds it there.
MAKE_WEEK = f"""
CREATE OR REPLACE FUNCTION make_job_archive_week(moment timestamptz) RETURNS boolean
LANGUAGE plpgsql STRICT {OWNERS_RIGHTS} AS $$
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
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        EXECUTE format('REVOKE ALL ON %I FROM {APP_ROLE}', week);
    END IF;
    EXECUTE format('ALTER TABLE job_archive ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   week, monday, monday + interval '7 days');
    RETURN true;
END $$
"""

# Where somebody uses the archive for longer than the patience lasts (a dump), nothing is dropped this time.
DROP_WEEKS = f"""
CREATE OR REPLACE FUNCTION drop_job_archive_weeks(before timestamptz) RETURNS integer
LANGUAGE plpgsql STRICT {OWNERS_RIGHTS} AS $$
DECLARE
    week name;
    dropped integer := 0;
BEGIN
    FOR week IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'job_archive'::regclass
          AND to_timestamp(substring(relname FROM '^{PARTITION}$'), 'YYYY_MM_DD')
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
END $$
"""

SIGNATURES = ("make_job_archive_week(timestamptz)", "drop_job_archive_weeks(timestamptz)")

CREATE_PARTITIONING = (
    MAKE_WEEK,
    DROP_WEEKS,
    *(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC" for signature in SIGNATURES),
    *(for_app_role(f"GRANT EXECUTE ON FUNCTION {signature} TO {APP_ROLE}") for signature in SIGNATURES),
)

DROP_PARTITIONING = tuple(f"DROP FUNCTION {signature}" for signature in SIGNATURES)
