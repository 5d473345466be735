"""People and organizations as Clerk reports them, the tenants of accounts, and API keys."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import boolean, one_of, readable_times, string, table, tenant_id, timestamp, uuid_key, within_tenant
from domain.identity.people import Role

users = table(
    "users",
    uuid_key(),
    string("clerk_id", unique=True),
    string("email"),
    string("name"),
    string("image_url"),
    sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id")),
    string("role", default="MEMBER"),
    timestamp("last_login_at"),
    timestamp("source_updated_at"),
    timestamp("deleted_at"),
    boolean("banned"),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    one_of("role", Role),
    sa.CheckConstraint("tenant_id IS NOT NULL OR deleted_at IS NOT NULL", name="tenant_unless_deleted"),
    readable_times("last_login_at", "source_updated_at", "deleted_at", "created_at", "updated_at"),
    sa.Index("users_tenant_id_idx", "tenant_id"),
)

organizations = table(
    "organizations",
    sa.Column("clerk_id", sa.Text, primary_key=True),
    string("name"),
    timestamp("source_updated_at"),
    timestamp("deleted_at"),
    timestamp("updated_at", now=True),
)

organization_memberships = table(
    "organization_memberships",
    sa.Column("clerk_id", sa.Text, primary_key=True),
    string("organization_clerk_id", nullable=False),
    string("user_clerk_id", nullable=False),
    string("role", nullable=False),
    timestamp("joined_at", nullable=False),
    timestamp("source_updated_at", nullable=False),
    timestamp("deleted_at"),
    timestamp("updated_at", now=True),
    one_of("role", Role),
    sa.Index("organization_memberships_organization_idx", "organization_clerk_id"),
    sa.Index("organization_memberships_user_idx", "user_clerk_id"),
)

account_tenants = table(
    "account_tenants",
    sa.Column("clerk_id", sa.Text, primary_key=True),
    # It is not called `tenant_id`: a tenant that owned the row could take another account's place by changing it.
    sa.Column("home_id", UUID(), sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    timestamp("created_at", now=True),
    sa.Index("account_tenants_home_id_idx", "home_id"),
)

api_keys = table(
    "api_keys",
    uuid_key(),
    tenant_id(),
    string("name", nullable=False),
    string("prefix", nullable=False),
    sa.Column("key_hash", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("scopes", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    timestamp("expires_at"),
    timestamp("last_used_at"),
    timestamp("revoked_at"),
    timestamp("created_at", now=True),
    # It refers to `users` without a foreign key: other programs delete people, and the key then has no maker any more.
    sa.Column("maker_id", UUID()),
    sa.Column("parent_id", UUID()),
    string("operator"),
    sa.UniqueConstraint("tenant_id", "id"),
    within_tenant("parent_id", "api_keys"),
    sa.Index("api_keys_tenant_id_idx", "tenant_id"),
    sa.Index("api_keys_maker_id_idx", "maker_id", postgresql_where=sa.text("revoked_at IS NULL")),
)
