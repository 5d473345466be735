"""what operators do: the audit of actions, and actions on many things with their items

Safe under load: new tables only, which the release before does not know.
"""

from alembic import op

from db.security import force, protect

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

TABLES = {
    "bulk_actions": """
CREATE TABLE bulk_actions (
    id uuid NOT NULL DEFAULT gen_random_uuid(), at timestamptz NOT NULL DEFAULT now(), who text NOT NULL,
    action text NOT NULL, chosen jsonb NOT NULL DEFAULT '{}'::jsonb,
    arguments jsonb NOT NULL DEFAULT '{}'::jsonb, reason text,
    state text NOT NULL DEFAULT 'previewed', items integer NOT NULL, started_at timestamptz, ended_at timestamptz,
    job_id uuid, cancelled_by text,
    CONSTRAINT bulk_actions_pkey PRIMARY KEY (id),
    CONSTRAINT bulk_actions_state_check
        CHECK (state IN ('previewed', 'running', 'cancelling', 'completed', 'cancelled'))
)""",
    "bulk_items": """
CREATE TABLE bulk_items (
    bulk_id uuid NOT NULL, position integer NOT NULL, target text NOT NULL, outcome text, says text,
    before jsonb, after jsonb, at timestamptz,
    CONSTRAINT bulk_items_pkey PRIMARY KEY (bulk_id, position),
    CONSTRAINT bulk_items_bulk_id_fkey FOREIGN KEY (bulk_id) REFERENCES bulk_actions (id) ON DELETE CASCADE,
    CONSTRAINT bulk_items_outcome_check CHECK (outcome IN ('done', 'unchanged', 'refused', 'failed'))
)""",
    "operator_actions": """
CREATE TABLE operator_actions (
    id uuid NOT NULL DEFAULT gen_random_uuid(), at timestamptz NOT NULL DEFAULT now(), who text NOT NULL,
    action text NOT NULL, target text NOT NULL, arguments jsonb NOT NULL DEFAULT '{}'::jsonb, reason text,
    outcome text NOT NULL DEFAULT 'begun', says text, before jsonb, after jsonb, ended_at timestamptz, bulk_id uuid,
    CONSTRAINT operator_actions_pkey PRIMARY KEY (id),
    CONSTRAINT operator_actions_outcome_check CHECK (outcome IN ('begun', 'done', 'unchanged', 'refused', 'failed'))
)""",
}
INDEXES = (
    "CREATE INDEX bulk_actions_at_idx ON bulk_actions (at)",
    "CREATE INDEX bulk_items_left_idx ON bulk_items (bulk_id, position) WHERE outcome IS NULL",
    "CREATE INDEX operator_actions_at_idx ON operator_actions (at)",
    "CREATE INDEX operator_actions_target_idx ON operator_actions (target, at)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
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
