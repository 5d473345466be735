"""customers of Stripe

Which tenant a customer pays for, and that it was deleted, are remembered apart from the tenant's own row; events can
carry a flag for a person. The links that exist are copied. A release that does not know the new table goes on working.
"""

import sqlalchemy as sa
from alembic import op

from db.security import protect

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEXES = {
    "webhook_events_parked_idx": "(status, subject) WHERE status LIKE 'parked:%'",
    "webhook_events_flag_idx": "(received_at) WHERE flag IS NOT NULL",
}
KNOWN_LINKS = """
INSERT INTO stripe_customers (id, tenant_id)
SELECT stripe_customer_id, id FROM tenants WHERE stripe_customer_id IS NOT NULL
"""


def upgrade() -> None:
    # It is committed before the indexes are made, and the revision is noted after them: a run that was cut short in
    # between finds it done.
    if not op.get_bind().scalar(sa.text("SELECT to_regclass('stripe_customers')")):
        _change()
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON webhook_events {definition}")


def _change() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.create_table(
        "stripe_customers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.UUID(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("stripe_customers_pkey")),
    )
    op.create_index(
        "stripe_customers_tenant_id_idx",
        "stripe_customers",
        ["tenant_id"],
        unique=False,
        postgresql_where=sa.text("tenant_id IS NOT NULL"),
    )
    for statement in protect("stripe_customers"):
        op.execute(statement)
    op.execute(KNOWN_LINKS)
    op.execute("ALTER TABLE webhook_events ADD COLUMN IF NOT EXISTS flag text")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE webhook_events DROP COLUMN flag")
    op.drop_table("stripe_customers")
