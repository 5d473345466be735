"""who answers

Whether a person is banned in Clerk is mirrored, and an API key says who made it: a person, another key, or an operator.
Keys that exist say nothing of that, and go on working. Safe under load: the new columns need no rewrite, there are few
keys to index, and the release before neither reads nor writes the columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    banned = sa.Column("banned", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("users", banned)
    op.add_column("api_keys", sa.Column("maker_id", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("parent_id", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("operator", sa.Text(), nullable=True))
    op.create_unique_constraint("api_keys_tenant_id_id_key", "api_keys", ["tenant_id", "id"])
    both = ["tenant_id", "parent_id"]
    op.create_foreign_key("api_keys_tenant_id_parent_id_fkey", "api_keys", "api_keys", both, ["tenant_id", "id"])
    op.create_index("api_keys_maker_id_idx", "api_keys", ["maker_id"], postgresql_where=sa.text("revoked_at IS NULL"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.drop_index("api_keys_maker_id_idx", table_name="api_keys")
    op.drop_constraint("api_keys_tenant_id_parent_id_fkey", "api_keys", type_="foreignkey")
    op.drop_constraint("api_keys_tenant_id_id_key", "api_keys", type_="unique")
    op.drop_column("api_keys", "operator")
    op.drop_column("api_keys", "parent_id")
    op.drop_column("api_keys", "maker_id")
    op.drop_column("users", "banned")
