"""what people are told: notices, the messages that told them, and their deliveries

Safe under load: new tables only, which the release before does not know.
"""

from alembic import op

from db.security import force, protect

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

TABLES = {
    "notices": """
CREATE TABLE notices (
    id uuid NOT NULL DEFAULT gen_random_uuid(), cause text NOT NULL, says text[] NOT NULL, page text NOT NULL,
    shell text NOT NULL, number integer NOT NULL, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
    sent_at timestamptz, sent_number integer NOT NULL DEFAULT 0, ended_at timestamptz, over_sent_at timestamptz,
    CONSTRAINT notices_pkey PRIMARY KEY (id)
)""",
    "notice_looks": """
CREATE TABLE notice_looks (
    id integer NOT NULL, looked_at timestamptz NOT NULL,
    CONSTRAINT notice_looks_pkey PRIMARY KEY (id),
    CONSTRAINT notice_looks_id_check CHECK (id = 1)
)""",
    "notice_messages": """
CREATE TABLE notice_messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(), made_at timestamptz NOT NULL DEFAULT now(), title text NOT NULL,
    text text NOT NULL, content jsonb NOT NULL DEFAULT '[]'::jsonb,
    CONSTRAINT notice_messages_pkey PRIMARY KEY (id)
)""",
    "notice_deliveries": """
CREATE TABLE notice_deliveries (
    message_id uuid NOT NULL, channel text NOT NULL, attempts integer NOT NULL DEFAULT 0, next_at timestamptz,
    sent_at timestamptz, given_up_at timestamptz, error text,
    CONSTRAINT notice_deliveries_pkey PRIMARY KEY (message_id, channel),
    CONSTRAINT notice_deliveries_message_id_fkey FOREIGN KEY (message_id)
        REFERENCES notice_messages (id) ON DELETE CASCADE
)""",
}
INDEXES = (
    "CREATE UNIQUE INDEX notices_cause_idx ON notices (cause) WHERE ended_at IS NULL",
    "CREATE INDEX notices_last_at_idx ON notices (last_at)",
    "CREATE INDEX notice_messages_made_at_idx ON notice_messages (made_at)",
    "CREATE INDEX notice_deliveries_next_at_idx ON notice_deliveries (next_at) WHERE next_at IS NOT NULL",
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
