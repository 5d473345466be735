"""Jobs that ended a while ago, whole, in partitions by week: each from Monday to Monday in UTC.

The application's role may not make or drop tables. Two functions do this one thing for it, with their owner's rights, a
`search_path` of their own, and little patience: nobody who reads or fills the archive is kept waiting. A partition is
reached through `job_archive` only: nobody is granted anything on it. Its owner, who dumps it by itself, is under the
same rule there.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID

from db.schema.base import after_tables, jsonb, string, table, timestamp
from db.schema.queue import BY_A_JOB
from db.security import APP_ROLE, for_app_role

PARTITION = r"job_archive_(\d{4}_\d\d_\d\d)"
"""The name of a partition, after its Monday."""

# It has no foreign key: making and dropping a week would lock the table that it refers to.
job_archive = table(
    "job_archive",
    sa.Column("id", UUID(), nullable=False),
    sa.Column("tenant_id", UUID()),
    string("job_type", nullable=False),
    string("queue", nullable=False),
    string("status", nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    jsonb("result"),
    string("error_message"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    timestamp("scheduled_for", nullable=False),
    timestamp("created_at", nullable=False),
    timestamp("started_at"),
    timestamp("completed_at", nullable=False),
    string("unique_key"),
    string("ordering_key"),
    string("cause"),
    sa.Column("batch_id", UUID()),  # retired, too
    # The rows of `job_attempts` and `job_steps`, oldest first.
    jsonb("attempt_history", "[]"),
    jsonb("steps", "[]"),
    sa.Index("job_archive_id_idx", "id"),
    sa.Index("job_archive_tenant_idx", "tenant_id", "completed_at"),
    # Only what is rare: an operator looks for what failed among a hundred times as many that did not.
    sa.Index("job_archive_ended_idx", "status", "completed_at", postgresql_where=sa.text("status <> 'completed'")),
    sa.Index("job_archive_cause_idx", "cause", postgresql_where=sa.text(BY_A_JOB)),
    postgresql_partition_by="RANGE (completed_at)",
)

OWNERS_RIGHTS = """
SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s'
""".strip()

# The table is attached, not created as a partition: that would lock out who reads the archive. Of two who make the same
# week the second waits for the lock, and then finds the week there.
MAKE_WEEK = f"""
CREATE FUNCTION make_job_archive_week(moment timestamptz) RETURNS boolean
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

# While somebody uses the archive for longer than the lock timeout (a dump), nothing is dropped.
DROP_WEEKS = f"""
CREATE FUNCTION drop_job_archive_weeks(before timestamptz) RETURNS integer
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

SIGNATURES = "make_job_archive_week(timestamptz), drop_job_archive_weeks(timestamptz)"
after_tables(
    MAKE_WEEK,
    DROP_WEEKS,
    f"REVOKE ALL ON FUNCTION {SIGNATURES} FROM PUBLIC",
    for_app_role(f"GRANT EXECUTE ON FUNCTION {SIGNATURES} TO {APP_ROLE}"),
)
