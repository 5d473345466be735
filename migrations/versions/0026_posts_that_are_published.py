"""posts that are published

Accounts that can be connected, posts with all that a platform takes, and what is kept so that nothing is posted twice.
What nobody counted is unknown, not 0: `performance_feedback`.

Safe under load: columns with constant defaults need no rewrite, and the wider CHECKs hold for new rows at first; the next
migration validates them and builds the indexes. One transaction: it happens or it does not. What the release before this
one reads and writes stays.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.security import force, protect

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

PLATFORMS = "'tiktok', 'youtube-shorts', 'instagram-reels'"
MORE_PLATFORMS = f"{PLATFORMS}, 'bluesky', 'mastodon'"
WITH_PLATFORMS = ("social_accounts", "performance_feedback", "audio_trends", "competitor_videos")
STATUSES = (
    "'draft', 'scheduled', 'claimed', 'submitting', 'submitted', 'processing', 'published', 'failed', 'unconfirmed'"
)
MORE_STATUSES = (
    "'draft', 'needs_approval', 'scheduled', 'claimed', 'submitting', 'submitted', 'processing', 'published', "
    "'in_inbox', 'failed', 'unconfirmed', 'missed', 'cancelled', 'removed'"
)
ACCOUNT_STATUSES = "'active', 'needs_reconnect', 'disconnected'"
COUNTS = ("views", "likes", "shares", "comments")

ACCOUNT_COLUMNS = {
    "server": "text NOT NULL DEFAULT ''",
    "reason": "text",
    "token_version": "integer NOT NULL DEFAULT 0",
    "refresh_begun_at": "timestamptz",
    "refresh_tries": "integer NOT NULL DEFAULT 0",
    "refreshed_at": "timestamptz",
    "connected_at": "timestamptz NOT NULL DEFAULT now()",
    "settings": "jsonb NOT NULL DEFAULT '{}'",
    "limits": "jsonb NOT NULL DEFAULT '{}'",
    "limits_read_at": "timestamptz",
}
POST_COLUMNS = {
    "group_id": "uuid",
    "title": "text NOT NULL DEFAULT ''",
    "hashtags": "text[] NOT NULL DEFAULT '{}'",
    "options": "jsonb NOT NULL DEFAULT '{}'",
    "cover_at": "numeric(8, 3)",
    "first_comment": "text",
    "handle_secrets": "bytea",
    "handle_expires_at": "timestamptz",
    "handles": "integer NOT NULL DEFAULT 0",
    "look_after": "timestamptz",
    "error_code": "text",
    "first_comment_id": "text",
    "job_id": "uuid",
    "claimed_at": "timestamptz",
    "approved_at": "timestamptz",
    "updated_at": "timestamptz NOT NULL DEFAULT now()",
}
TABLES = {
    "post_events": "tenant_id",
    "post_submissions": "tenant_id",
    "post_reservations": "tenant_id",
    "posting_policies": "tenant_id",
    "oauth_states": "tenant_id",
    "mastodon_apps": None,
    "restores": None,
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    # What the new tables refer to: first, as everybody else takes it, and not while the tables below wait for it.
    op.execute("LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE")
    for table in WITH_PLATFORMS:
        _allow(table, "platform", MORE_PLATFORMS)
    _allow("social_posts", "status", MORE_STATUSES)
    _allow("social_accounts", "status", ACCOUNT_STATUSES)
    for table, columns in (("social_accounts", ACCOUNT_COLUMNS), ("social_posts", POST_COLUMNS)):
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    for name in COUNTS:
        op.execute(f"ALTER TABLE performance_feedback ALTER {name} DROP NOT NULL, ALTER {name} DROP DEFAULT")
    _create_records_of_posts()
    _create_connections()
    _create_restores()
    for table, owner in TABLES.items():
        for statement in (*protect(table, owner_column=owner), force(table)):
            op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '15min'")
    op.execute("UPDATE social_posts SET status = 'draft' WHERE status = 'needs_approval'")
    op.execute("UPDATE social_posts SET status = 'published' WHERE status IN ('in_inbox', 'removed')")
    op.execute("UPDATE social_posts SET status = 'failed' WHERE status IN ('missed', 'cancelled')")
    _allow("social_posts", "status", STATUSES)
    op.execute("ALTER TABLE social_accounts DROP CONSTRAINT social_accounts_status_check")
    # Rows of the new platforms stay, and are looked at by nobody.
    for table in WITH_PLATFORMS:
        _allow(table, "platform", PLATFORMS)
    for name in COUNTS:
        op.execute(f"UPDATE performance_feedback SET {name} = 0 WHERE {name} IS NULL")
        op.execute(f"ALTER TABLE performance_feedback ALTER {name} SET DEFAULT 0, ALTER {name} SET NOT NULL")
    for table, columns in (("social_accounts", ACCOUNT_COLUMNS), ("social_posts", POST_COLUMNS)):
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    for table in reversed(TABLES):
        op.drop_table(table)


def _allow(table: str, column: str, values: str) -> None:
    name = f"{table}_{column}_check"
    op.execute(
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, "
        f"ADD CONSTRAINT {name} CHECK ({column} IN ({values})) NOT VALID"
    )


def _create_records_of_posts() -> None:
    op.create_table(
        "post_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _tenant(),
        sa.Column("post_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        _moment("at"),
        *_of_a_post("post_events"),
        sa.PrimaryKeyConstraint("id", name=op.f("post_events_pkey")),
    )
    op.create_index("post_events_post_idx", "post_events", ["tenant_id", "post_id", "id"])
    op.create_table(
        "post_submissions",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        _tenant(),
        sa.Column("post_id", sa.UUID(), nullable=False),
        _moment("created_at"),
        *_of_a_post("post_submissions"),
        sa.PrimaryKeyConstraint("id", name=op.f("post_submissions_pkey")),
    )
    op.create_index("post_submissions_post_idx", "post_submissions", ["tenant_id", "post_id"])
    op.create_index("post_submissions_created_idx", "post_submissions", ["created_at"])
    op.create_table(
        "post_reservations",
        _tenant(),
        sa.Column("post_id", sa.UUID(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        _moment("reserved_at"),
        *_of_a_post("post_reservations"),
        sa.PrimaryKeyConstraint("tenant_id", "post_id", "bucket", name=op.f("post_reservations_pkey")),
    )
    op.create_index("post_reservations_bucket_idx", "post_reservations", ["bucket", "reserved_at"])
    op.create_table(
        "posting_policies",
        _tenant(),
        sa.Column("late_after", sa.Interval(), server_default=sa.text("'2 hours'"), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "late_after >= '10 minutes' AND late_after <= '7 days'", name=op.f("posting_policies_late_after_check")
        ),
        _of_a_tenant("posting_policies"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("posting_policies_pkey")),
    )


def _create_connections() -> None:
    op.create_table(
        "oauth_states",
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        _tenant(),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("server", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("return_to", sa.Text(), nullable=True),
        sa.Column("verifier", sa.LargeBinary(), nullable=False),
        _moment("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("account_id", sa.UUID(), nullable=True),
        sa.CheckConstraint(f"platform IN ({MORE_PLATFORMS})", name=op.f("oauth_states_platform_check")),
        _of_a_tenant("oauth_states"),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("oauth_states_pkey")),
    )
    op.create_index("oauth_states_expires_idx", "oauth_states", ["expires_at"])
    op.create_table(
        "mastodon_apps",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("client_secret", sa.LargeBinary(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("server", "redirect_uri", name=op.f("mastodon_apps_pkey")),
    )


def _create_restores() -> None:
    op.create_table(
        "restores",
        sa.Column("id", sa.UUID(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("noticed", sa.Text(), nullable=True),
        _moment("noticed_at"),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("taken_at", "begun_at", "ended_at")),
        sa.Column("posts_in_doubt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("restores_pkey")),
    )
    op.create_index(
        "restores_open_idx",
        "restores",
        [sa.text("(ended_at IS NULL)")],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _of_a_post(table: str) -> tuple[sa.ForeignKeyConstraint, sa.ForeignKeyConstraint]:
    post = sa.ForeignKeyConstraint(
        ["tenant_id", "post_id"],
        ["social_posts.tenant_id", "social_posts.id"],
        name=op.f(f"{table}_tenant_id_post_id_fkey"),
    )
    return _of_a_tenant(table), post


def _of_a_tenant(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f(f"{table}_tenant_id_fkey"))


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
