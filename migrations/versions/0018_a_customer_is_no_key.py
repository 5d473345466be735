"""a customer is no key

The index that keeps a Stripe customer to one tenant becomes partial. To change a column of a whole unique index locks the
row as a deletion does, and so deadlocks with whoever has added something to the tenant (see `db/postgres/locks.py`). The other index
is built concurrently, without making anyone wait, and then takes the place of the first in one short transaction; after a
failure all can be repeated.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NAME, OTHER = "tenants_stripe_customer_id_key", "tenants_stripe_customer_id_other"
INDEX = f"CREATE UNIQUE INDEX CONCURRENTLY {OTHER} ON tenants (stripe_customer_id)"


def upgrade() -> None:
    _build(f"{INDEX} WHERE stripe_customer_id IS NOT NULL")
    op.execute(f"ALTER TABLE tenants DROP CONSTRAINT {NAME}")
    op.execute(f"ALTER INDEX {OTHER} RENAME TO {NAME}")


def downgrade() -> None:
    _build(INDEX)
    op.execute(f"DROP INDEX {NAME}")
    op.execute(f"ALTER TABLE tenants ADD CONSTRAINT {NAME} UNIQUE USING INDEX {OTHER}")


def _build(index: str) -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {OTHER}")
        op.execute(index)
    op.execute("SET LOCAL lock_timeout = '5s'")
