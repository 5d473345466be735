"""what was paid for

Invoices are mirrored with their lines, and a subscription's row keeps all that merging needs. Both fill with what is told
from now on; `stripe_paid_periods` stays what the release before reads, writes and was told of. A tenant that another
program inserts with a `quota_reset_at` that has passed has used its concepts in the month that ended then. Safe under
load: the new columns need no rewrite.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import force, protect

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

BEGUN_BEFORE_IT_ENDS = """
CREATE FUNCTION quota_period_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.quota_period_start := (NEW.quota_reset_at AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC';
    RETURN NEW;
END
$$
"""

ON_INSERT = """
CREATE TRIGGER quota_period_ends_at_reset BEFORE INSERT ON tenants
FOR EACH ROW WHEN (NEW.quota_period_start >= NEW.quota_reset_at) EXECUTE FUNCTION quota_period_ends()
"""

# Those that came that way before: their first entry is moved into the month in which it counts.
ENTRIES = """
UPDATE quota_ledger l
SET taken_at = (t.quota_reset_at AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC'
FROM tenants t WHERE t.id = l.tenant_id AND t.quota_period_start >= t.quota_reset_at
  AND l.kind = 'adjust' AND l.cause LIKE 'sql:%' AND l.taken_at = t.quota_period_start
"""
PERIODS = """
UPDATE tenants SET quota_period_start = (quota_reset_at AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC'
WHERE quota_period_start >= quota_reset_at
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    op.add_column("tenants", sa.Column("quota_drawn_until", sa.DateTime(timezone=True), nullable=True))
    within = "quota_drawn_until BETWEEN '1970-01-01Z' AND '9999-01-01Z'"
    op.create_check_constraint("quota_drawn_until", "tenants", within)
    paused = sa.Column("collection_paused", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("stripe_subscriptions", paused)
    op.add_column("stripe_subscriptions", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stripe_subscriptions", sa.Column("told", postgresql.JSONB(), nullable=True))
    op.create_table(
        "stripe_invoices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lines", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("event_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("stripe_invoices_pkey")),
    )
    op.create_index("stripe_invoices_customer_id_idx", "stripe_invoices", ["customer_id"])
    for statement in (*protect("stripe_invoices", None), force("stripe_invoices")):
        op.execute(statement)
    op.execute(ENTRIES)
    op.execute(PERIODS)
    op.execute(BEGUN_BEFORE_IT_ENDS)
    op.execute(ON_INSERT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("DROP TRIGGER quota_period_ends_at_reset ON tenants")
    op.execute("DROP FUNCTION quota_period_ends()")
    op.drop_table("stripe_invoices")
    op.drop_column("stripe_subscriptions", "told")
    op.drop_column("stripe_subscriptions", "paused_at")
    op.drop_column("stripe_subscriptions", "collection_paused")
    op.drop_column("tenants", "quota_drawn_until")
