"""what tenants' programs are told: endpoints of outgoing webhooks, and deliveries to them

Safe under load: new tables only, which the release before does not know. What it publishes is told to nobody.
"""

from alembic import op

from db.security import force, protect

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

TABLES = {
    "webhook_endpoints": """
CREATE TABLE webhook_endpoints (
    id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, url text NOT NULL, events text[] NOT NULL,
    secret bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), failing_since timestamptz,
    disabled_at timestamptz, disabled_reason text,
    CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_endpoints_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT webhook_endpoints_tenant_id_id_key UNIQUE (tenant_id, id)
)""",
    "webhook_deliveries": """
CREATE TABLE webhook_deliveries (
    id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, endpoint_id uuid NOT NULL,
    event_id uuid NOT NULL, event text NOT NULL, post_id uuid, body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), attempts integer NOT NULL DEFAULT 0, next_at timestamptz,
    delivered_at timestamptz, given_up_at timestamptz, status_code integer, error text,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_deliveries_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id),
    CONSTRAINT webhook_deliveries_tenant_id_endpoint_id_fkey FOREIGN KEY (tenant_id, endpoint_id)
        REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT webhook_deliveries_tenant_id_endpoint_id_event_id_key UNIQUE (tenant_id, endpoint_id, event_id)
)""",
}
INDEXES = (
    "CREATE INDEX webhook_deliveries_tenant_id_idx ON webhook_deliveries (tenant_id, created_at, id)",
    "CREATE INDEX webhook_deliveries_next_at_idx ON webhook_deliveries (next_at) WHERE next_at IS NOT NULL",
    "CREATE INDEX webhook_deliveries_created_at_idx ON webhook_deliveries (created_at)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table, statement in TABLES.items():
        op.execute(statement)
        for rule in (*protect(table), force(table)):
            op.execute(rule)
    for statement in INDEXES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
