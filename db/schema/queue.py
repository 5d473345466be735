"""Jobs, their attempts and steps, the processes that run them, and what operators decided of queues."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.postgres.errors import NO_LEASE
from db.schema.base import (
    after_tables,
    before_tables,
    boolean,
    count,
    jsonb,
    metadata,
    one_of,
    readable_times,
    string,
    table,
    timestamp,
)

JOB_STATUSES = ("pending", "running", "completed", "failed", "cancelled")
ATTEMPT_OUTCOMES = ("failed", "rejected", "lost", "returned", "snoozed", "cancelled")
LIVE = "status IN ('pending', 'running')"
SHARE = """
CASE
    WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000'::uuid
    ELSE tenant_id
END"""
"""The tenant in whose share of a queue a job counts; what belongs to no tenant has a share of its own. Not COALESCE:
under row-level security the planner does not take that for safe, and would not look it up in an index. Written as
Postgres writes it, so that Alembic finds no difference."""

BY_A_JOB = "left(cause, 4) = 'job:'"

# A version 7 UUID (RFC 9562), as in `domain/ids.py`: 48 bits of time in front. Postgres 18 has a function for it.
before_tables("""
CREATE FUNCTION new_job_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6
    ), 52, 1), 53, 1), 'hex')::uuid
$$
""")

job_lease_token = sa.Sequence("job_lease_token", metadata=metadata)

job_queue = table(
    "job_queue",
    sa.Column("id", UUID(), primary_key=True, server_default=sa.text("new_job_id()")),
    sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id")),
    string("job_type", nullable=False),
    string("queue", default="default"),
    string("status", default="pending"),
    sa.Column("priority", sa.SmallInteger, server_default=sa.text("5"), nullable=False),
    jsonb("payload", "{}"),
    jsonb("result"),
    string("error_message"),
    count("attempts"),
    count("max_attempts", 3),
    timestamp("scheduled_for", now=True),
    timestamp("created_at", now=True),
    timestamp("started_at"),
    timestamp("completed_at"),
    string("unique_key"),
    string("ordering_key"),
    # A ready job has no `wake_at`; a deferred one is looked at again then. `wake_count`: how often that was too early.
    timestamp("wake_at"),
    count("wake_count", kind=sa.SmallInteger),
    # Its weight among its tenant's jobs, and the version of its payload.
    count("cost", 1),
    count("payload_version", 1, kind=sa.SmallInteger),
    # The lease: the boot of a process that runs it, and the token that its finish must show.
    sa.Column("worker_id", UUID()),
    sa.Column("lease_token", sa.BigInteger),
    timestamp("deadline_at"),
    count("crashes", kind=sa.SmallInteger),
    count("snoozes", kind=sa.Integer),
    timestamp("cancel_requested_at"),
    # What enqueued it, as `domain/ops/causes.py` writes it, and the trace that goes on in it (W3C `traceparent`).
    string("cause"),
    string("traceparent"),
    # Retired, dropped in the next release: only the release before uses them, and `job_queue_batch_idx`.
    timestamp("ring_at"),
    count("rings", kind=sa.SmallInteger),
    sa.Column("batch_id", UUID()),
    boolean("follows_batch"),
    one_of("status", JOB_STATUSES),
    sa.CheckConstraint("cost > 0", name="cost"),
    sa.CheckConstraint("max_attempts > 0", name="max_attempts"),
    sa.CheckConstraint("least(attempts, wake_count, crashes, snoozes, payload_version - 1) >= 0", name="counts"),
    readable_times(
        *("scheduled_for", "wake_at", "created_at", "started_at", "completed_at", "deadline_at"),
        "cancel_requested_at",
    ),
    sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name="payload_object"),
    # A new row is not compressed yet, so this is its whole size. Workers claim hundreds of jobs at once.
    sa.CheckConstraint("pg_column_size(payload) <= 262144", name="payload_size"),
    sa.CheckConstraint("status <> 'running' OR (worker_id IS NOT NULL AND lease_token IS NOT NULL)", name="lease"),
    # What is included is what counting reads, and the rule of row-level security: of a backlog no row is fetched.
    sa.Index(
        "job_queue_ready_idx",
        *("queue", "priority", sa.text(f"({SHARE})"), "scheduled_for", "id"),
        postgresql_include=["tenant_id", "cost"],
        postgresql_where=sa.text("status = 'pending' AND wake_at IS NULL"),
    ),
    sa.Index(
        "job_queue_deferred_idx",
        "wake_at",
        postgresql_include=["id", "queue", "scheduled_for", "attempts", "tenant_id"],
        postgresql_where=sa.text("status = 'pending' AND wake_at IS NOT NULL"),
    ),
    sa.Index("job_queue_running_idx", "queue", "tenant_id", postgresql_where=sa.text("status = 'running'")),
    sa.Index(
        "job_queue_ordering_idx",
        "ordering_key",
        "status",
        "id",
        postgresql_where=sa.text(f"ordering_key IS NOT NULL AND {LIVE}"),
    ),
    sa.Index("job_queue_batch_idx", "batch_id", "status", postgresql_where=sa.text("batch_id IS NOT NULL")),
    sa.Index(
        "job_queue_unique_idx",
        "job_type",
        "tenant_id",
        "unique_key",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text(f"unique_key IS NOT NULL AND {LIVE}"),
    ),
    # Its costs are explained in `db/queue/archive.py`.
    sa.Index("job_queue_ended_idx", "status", "completed_at", postgresql_where=sa.text("completed_at IS NOT NULL")),
    sa.Index("job_queue_tenant_idx", "tenant_id", "created_at", postgresql_where=sa.text("tenant_id IS NOT NULL")),
    # Only what jobs enqueued: the jobs of events and of schedule runs are found by those.
    sa.Index("job_queue_cause_idx", "cause", postgresql_where=sa.text(BY_A_JOB)),
    postgresql_with={
        "fillfactor": "80",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.02",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

# This is a function, so that it can be sent as text together with COMMIT, and the session keeps its plan all the same.
# The expression on `status` keeps the planner from its indexes, as in `db/queue/transitions.py`.
after_tables(f"""
CREATE FUNCTION complete_job(job_id uuid, token bigint, outcome jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE job_queue SET status = 'completed', completed_at = now(), result = outcome, error_message = NULL
    WHERE id = job_id AND status || '' = 'running' AND lease_token = token;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease does not own the job any more' USING ERRCODE = '{NO_LEASE}';
    END IF;
END $$
""")

# A function for the same reason: one job is sent as text together with BEGIN and COMMIT (`insert_plain`).
after_tables("""
CREATE FUNCTION enqueue_job(
    id uuid, job_type text, queue text, tenant_id uuid, payload jsonb, priority integer, max_attempts integer,
    unique_key text, ordering_key text, cost integer, payload_version integer, cause text, traceparent text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version, cause, traceparent)
    SELECT enqueue_job.id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
           cost, payload_version, cause, traceparent
    WHERE enqueue_job.tenant_id IS NULL OR NOT EXISTS (
        SELECT FROM tenants t WHERE t.id = enqueue_job.tenant_id AND t.deletion_began_at IS NOT NULL
    );
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'VD003', MESSAGE = format('tenant %s was deleted on %s', tenant_id, (
            SELECT to_char(t.deletion_began_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM tenants t
            WHERE t.id = enqueue_job.tenant_id));
    END IF;
END $$
""")

# Retired: the release before calls it.
after_tables("""
CREATE FUNCTION enqueue_job(
    id uuid, job_type text, queue text, tenant_id uuid, payload jsonb, priority integer, max_attempts integer,
    unique_key text, ordering_key text, cost integer, payload_version integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version)
    VALUES (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
            cost, payload_version);
END $$
""")

# The release before reads and writes `ring_at` and `rings`; this goes with the retired columns.
after_tables("""
CREATE FUNCTION job_wake_columns() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.wake_at := coalesce(NEW.wake_at, NEW.ring_at);
        NEW.wake_count := CASE WHEN NEW.wake_count <> 0 THEN NEW.wake_count ELSE NEW.rings END;
    ELSE
        IF NEW.wake_at IS NOT DISTINCT FROM OLD.wake_at THEN NEW.wake_at := NEW.ring_at; END IF;
        IF NEW.wake_count = OLD.wake_count THEN NEW.wake_count := NEW.rings; END IF;
    END IF;
    NEW.ring_at := NEW.wake_at;
    NEW.rings := NEW.wake_count;
    RETURN NEW;
END
$$
""")
after_tables("""
CREATE TRIGGER job_wake_columns_agree BEFORE INSERT OR UPDATE ON job_queue FOR EACH ROW
WHEN (NEW.wake_at IS DISTINCT FROM NEW.ring_at OR NEW.wake_count <> NEW.rings) EXECUTE FUNCTION job_wake_columns()
""")

job_attempts = table(
    "job_attempts",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("job_id", UUID(), sa.ForeignKey("job_queue.id", ondelete="CASCADE"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("worker_id", UUID()),
    string("outcome", nullable=False),
    string("error_class"),
    string("error_message"),
    string("traceback"),
    # The release that ran it, and its error without what differs from case to case.
    string("release"),
    string("error_group"),
    timestamp("started_at"),
    timestamp("ended_at", now=True),
    one_of("outcome", ATTEMPT_OUTCOMES),
    sa.Index("job_attempts_job_id_idx", "job_id"),
)

job_steps = table(
    "job_steps",
    sa.Column("job_id", UUID(), sa.ForeignKey("job_queue.id", ondelete="CASCADE")),
    sa.Column("step", sa.Text),
    string("status", default="intended"),
    string("idempotency_key", nullable=False),
    jsonb("result"),
    timestamp("created_at", now=True),
    timestamp("confirmed_at"),
    sa.PrimaryKeyConstraint("job_id", "step"),
    one_of("status", ("intended", "confirmed", "unknown")),
)

# Decisions of operators about a queue (no tenant), or about one tenant's jobs in it.
queue_policies = table(
    "queue_policies",
    string("queue", nullable=False),
    sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id")),
    timestamp("paused_at"),
    sa.Column("max_running", sa.Integer),
    sa.Column("max_running_per_tenant", sa.Integer),
    timestamp("updated_at", now=True),
    sa.UniqueConstraint("queue", "tenant_id", postgresql_nulls_not_distinct=True),
    sa.CheckConstraint("max_running > 0", name="max_running"),
    sa.CheckConstraint("max_running_per_tenant > 0", name="max_running_per_tenant"),
    sa.CheckConstraint("tenant_id IS NULL OR max_running_per_tenant IS NULL", name="per_tenant_of_a_queue"),
)

# How much an outside account lets us do in a period of time: see `domain/queue/rate.py`.
rate_buckets = table(
    "rate_buckets",
    sa.Column("name", sa.Text, primary_key=True),
    timestamp("used_until", nullable=False),
    timestamp("promised_until", nullable=False),
    timestamp("closed_until"),
    timestamp("updated_at", now=True),
)

workers = table(
    "workers",
    sa.Column("id", UUID(), primary_key=True),
    string("hostname", nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("queues", ARRAY(sa.Text), nullable=False),
    string("version", default=""),
    timestamp("started_at", now=True),
    timestamp("heartbeat_at", now=True),
    timestamp("lease_until", nullable=False),
    boolean("draining"),
)

schedule_fires = table(
    "schedule_fires",
    sa.Column("schedule", sa.Text),
    sa.Column("fire_at", sa.DateTime(timezone=True)),
    sa.Column("job_id", UUID()),
    timestamp("created_at", now=True),
    sa.PrimaryKeyConstraint("schedule", "fire_at"),
    readable_times("fire_at", "created_at"),
)
