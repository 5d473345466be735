"""who answers

Whether a person is banned in Clerk is mirrored, and an API key says who made it: a person, another key, or an operator.
Keys that exist say nothing of that, and go on working; who is banned already is told by the event that their row is of.
Safe under load: stored events are searched before anything is locked, the new columns need no rewrite, there are few
keys to index, and the release before neither reads nor writes the columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

BANNED = """
SELECT DISTINCT u.id, u.source_updated_at FROM webhook_events e JOIN users u ON u.clerk_id = e.subject
WHERE e.source = 'clerk' AND e.type IN ('user.created', 'user.updated')
  AND e.payload @> '{"data": {"banned": true}}' AND u.deleted_at IS NULL
  AND e.payload #> '{data,updated_at}' = to_jsonb((extract(epoch FROM u.source_updated_at) * 1000)::bigint)
"""
BAN = "UPDATE users SET banned = true WHERE id = %s AND source_updated_at = %s"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("SET LOCAL app.tenant_id = '*'")
    found = [tuple(row) for row in op.get_bind().exec_driver_sql(BANNED)]
    banned = sa.Column("banned", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("users", banned)
    op.add_column("api_keys", sa.Column("maker_id", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("parent_id", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("operator", sa.Text(), nullable=True))
    op.create_unique_constraint("api_keys_tenant_id_id_key", "api_keys", ["tenant_id", "id"])
    both = ["tenant_id", "parent_id"]
    op.create_foreign_key("api_keys_tenant_id_parent_id_fkey", "api_keys", "api_keys", both, ["tenant_id", "id"])
    op.create_index("api_keys_maker_id_idx", "api_keys", ["maker_id"], postgresql_where=sa.text("revoked_at IS NULL"))
    for row in found:
        op.get_bind().exec_driver_sql(BAN, row)


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
