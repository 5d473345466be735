"""organizations

Safe under load: three new tables, one transaction. Going back forgets who is a member of what; the events that said so
are kept, and are applied again by replaying them.
"""

import sqlalchemy as sa
from alembic import op

from db.security import protect

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.create_table(
        "organizations",
        sa.Column("clerk_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("clerk_id", name=op.f("organizations_pkey")),
    )
    op.create_table(
        "organization_memberships",
        sa.Column("clerk_id", sa.Text(), nullable=False),
        sa.Column("organization_clerk_id", sa.Text(), nullable=False),
        sa.Column("user_clerk_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("clerk_id", name=op.f("organization_memberships_pkey")),
        sa.CheckConstraint("role IN ('ADMIN', 'MEMBER')", name=op.f("organization_memberships_role_check")),
    )
    op.create_index("organization_memberships_organization_idx", "organization_memberships", ["organization_clerk_id"])
    op.create_index("organization_memberships_user_idx", "organization_memberships", ["user_clerk_id"])
    op.create_table(
        "account_tenants",
        sa.Column("clerk_id", sa.Text(), nullable=False),
        sa.Column("home_id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("clerk_id", name=op.f("account_tenants_pkey")),
        sa.ForeignKeyConstraint(
            ["home_id"], ["tenants.id"], name=op.f("account_tenants_home_id_fkey"), ondelete="CASCADE"
        ),
    )
    op.create_index("account_tenants_home_id_idx", "account_tenants", ["home_id"])
    for table in ("organizations", "organization_memberships", "account_tenants"):
        for statement in protect(table, owner_column=None):
            op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    for table in ("account_tenants", "organization_memberships", "organizations"):
        op.drop_table(table)
