"""what explains: causes, traces, measures by the minute, changes, tokens of operators

Safe under load: columns without defaults need no rewrite, the index covers jobs that other jobs enqueued from now on
only, and `system_metrics` has been empty so far. What the release before reads and writes stays, its `enqueue_job` too.
"""

from alembic import op

from db.security import force, protect

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

COLUMNS = {
    "job_queue": ("cause", "traceparent"),
    "job_archive": ("cause",),
    "job_attempts": ("release", "error_group"),
    "webhook_events": ("traceparent",),
}
ENQUEUE_JOB = """
CREATE FUNCTION enqueue_job(
    id uuid, job_type text, queue text, tenant_id uuid, payload jsonb, priority integer, max_attempts integer,
    unique_key text, ordering_key text, cost integer, payload_version integer, cause text, traceparent text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_queue (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
                           cost, payload_version, cause, traceparent)
    VALUES (id, job_type, queue, tenant_id, payload, priority, max_attempts, unique_key, ordering_key,
            cost, payload_version, cause, traceparent);
END $$
"""
SIGNATURE = "uuid, text, text, uuid, jsonb, integer, integer, text, text, integer, integer, text, text"
SERIES = """
ALTER TABLE system_metrics ADD step text NOT NULL DEFAULT 'minute', ADD buckets bigint[],
    ADD CONSTRAINT system_metrics_step_check CHECK (step IN ('minute', 'hour')),
    ADD CONSTRAINT system_metrics_name_labels_step_at_key UNIQUE (name, labels, step, at)
"""
TABLES = {
    "process_metrics": """
CREATE TABLE process_metrics (
    id uuid NOT NULL DEFAULT gen_random_uuid(), role text NOT NULL, hostname text NOT NULL, pid integer NOT NULL,
    release text NOT NULL, reported jsonb NOT NULL DEFAULT '{}'::jsonb,
    started_at timestamptz NOT NULL DEFAULT now(), reported_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT process_metrics_pkey PRIMARY KEY (id)
)""",
    "metric_totals": """
CREATE TABLE metric_totals (
    name text NOT NULL, labels jsonb NOT NULL DEFAULT '{}'::jsonb, value numeric NOT NULL, buckets bigint[],
    CONSTRAINT metric_totals_pkey PRIMARY KEY (name, labels)
)""",
    "changes": """
CREATE TABLE changes (
    id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL,
    subject text NOT NULL, before jsonb, after jsonb, cause text,
    CONSTRAINT changes_pkey PRIMARY KEY (id),
    CONSTRAINT changes_kind_check CHECK (kind IN ('deploy', 'setting', 'limit', 'pause', 'migration'))
)""",
    "operator_tokens": """
CREATE TABLE operator_tokens (
    id uuid NOT NULL DEFAULT gen_random_uuid(), name text NOT NULL, role text NOT NULL, token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), last_used_at timestamptz, revoked_at timestamptz,
    CONSTRAINT operator_tokens_pkey PRIMARY KEY (id),
    CONSTRAINT operator_tokens_token_hash_key UNIQUE (token_hash),
    CONSTRAINT operator_tokens_role_check CHECK (role IN ('look', 'act'))
)""",
    "operator_sessions": """
CREATE TABLE operator_sessions (
    session_hash bytea NOT NULL, token_id uuid, created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT operator_sessions_pkey PRIMARY KEY (session_hash),
    CONSTRAINT operator_sessions_token_id_fkey FOREIGN KEY (token_id) REFERENCES operator_tokens (id) ON DELETE CASCADE
)""",
}
INDEXES = (
    "CREATE INDEX job_queue_cause_idx ON job_queue (cause) WHERE left(cause, 4) = 'job:'",
    "CREATE INDEX job_archive_cause_idx ON job_archive (cause) WHERE left(cause, 4) = 'job:'",
    "CREATE INDEX changes_at_idx ON changes (at)",
    "CREATE UNIQUE INDEX operator_tokens_name_idx ON operator_tokens (name) WHERE revoked_at IS NULL",
    "CREATE INDEX operator_sessions_token_id_idx ON operator_sessions (token_id)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table, columns in COLUMNS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'ADD {column} text' for column in columns)}")
    op.execute(ENQUEUE_JOB)
    op.execute(SERIES)
    for table, statement in TABLES.items():
        op.execute(statement)
        for rule in (*protect(table, owner_column=None), force(table)):
            op.execute(rule)
    for statement in INDEXES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute(
        "ALTER TABLE system_metrics DROP CONSTRAINT system_metrics_name_labels_step_at_key, DROP step, DROP buckets"
    )
    op.execute(f"DROP FUNCTION enqueue_job({SIGNATURE})")
    for table, columns in COLUMNS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'DROP {column}' for column in columns)}")
