"""Social accounts of tenants, the posts to them, and what is kept so that nothing is posted twice.

A post's handle is kept before the call that publishes, and each such call is a row of `post_submissions`: what stands
there and nowhere outside, or the other way round, tells that the database went back (`restores`).
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.base import boolean, count, jsonb, one_of, string, table, tenant_id, timestamp, uuid_key, within_tenant
from domain.posting.accounts import AccountStatus
from domain.posting.posts import OVER, PostStatus
from domain.videos.profiles import NAMES

PLATFORMS = tuple(NAMES)
_OVER = ", ".join(f"'{status}'" for status in OVER)

social_accounts = table(
    "social_accounts",
    uuid_key(),
    tenant_id(),
    string("platform", nullable=False),
    string("external_id", nullable=False),
    string("username"),
    string("niche"),
    string("timezone", default="UTC"),
    string("status", default="active"),
    # Encrypted (`domain.ports.Vault`).
    sa.Column("access_token", sa.LargeBinary),
    sa.Column("refresh_token", sa.LargeBinary),
    timestamp("access_expires_at"),
    timestamp("refresh_expires_at"),
    sa.Column("scopes", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    sa.Column("daily_limit", sa.Integer),
    timestamp("created_at", now=True),
    timestamp("updated_at", now=True),
    # The origin of the account's own server, where the platform has many.
    string("server", default=""),
    # Why it is not active, in words.
    string("reason"),
    # Counts the tokens that it had: a refresh that was overtaken changes nothing.
    count("token_version"),
    # A refresh that was begun, and how many of the present tokens were begun without an answer.
    timestamp("refresh_begun_at"),
    count("refresh_tries"),
    timestamp("refreshed_at"),
    timestamp("connected_at", now=True),
    # What its owner chose (privacy, interactions, the time of consent), and what the platform said that it may do.
    jsonb("settings", "{}"),
    jsonb("limits", "{}"),
    timestamp("limits_read_at"),
    # Since when operators let nothing be posted to it.
    timestamp("disabled_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "platform", "external_id"),
    one_of("platform", PLATFORMS),
    one_of("status", AccountStatus),
    sa.Index("social_accounts_refresh_idx", "access_expires_at", postgresql_where=sa.text("status = 'active'")),
    sa.Index("social_accounts_reconnect_idx", "tenant_id", postgresql_where=sa.text("status = 'needs_reconnect'")),
)

social_posts = table(
    "social_posts",
    uuid_key(),
    tenant_id(),
    sa.Column("video_id", UUID(), nullable=False),
    sa.Column("account_id", UUID(), nullable=False),
    # Counts the posts of one video to one account.
    count("attempt_group", 1),
    string("status", default="draft"),
    string("caption", default=""),
    timestamp("scheduled_for"),
    # By what the platform knows the coming post; its secret parts encrypted beside it.
    jsonb("handle"),
    sa.Column("request_hash", sa.LargeBinary),
    string("external_id"),
    string("permalink"),
    jsonb("prediction"),
    string("error_message"),
    timestamp("submitted_at"),
    timestamp("published_at"),
    timestamp("created_at", now=True),
    # Posts that were asked for together.
    sa.Column("group_id", UUID()),
    string("title", default=""),
    sa.Column("hashtags", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    jsonb("options", "{}"),
    sa.Column("cover_at", sa.Numeric(8, 3)),
    string("first_comment"),
    sa.Column("handle_secrets", sa.LargeBinary),
    timestamp("handle_expires_at"),
    # Counts the handles that it had.
    count("handles"),
    # When the platform is asked again what became of it.
    timestamp("look_after"),
    string("error_code"),
    string("first_comment_id"),
    sa.Column("job_id", UUID()),
    timestamp("claimed_at"),
    timestamp("approved_at"),
    timestamp("updated_at", now=True),
    # When its numbers are collected next; NULL before it is published, and after the last time.
    timestamp("measure_at"),
    # Why that could not be done the last time; and since when the platform says that it does not have the post.
    string("measure_note"),
    timestamp("gone_at"),
    sa.UniqueConstraint("tenant_id", "id"),
    sa.UniqueConstraint("tenant_id", "video_id", "account_id", "attempt_group"),
    within_tenant("video_id", "videos"),
    within_tenant("account_id", "social_accounts"),
    one_of("status", PostStatus),
    sa.Index("social_posts_account_idx", "tenant_id", "account_id"),
    sa.Index("social_posts_due_idx", "scheduled_for", postgresql_where=sa.text("status = 'scheduled'")),
    # One video is on one account once.
    sa.Index(
        "social_posts_once_idx",
        "tenant_id",
        "video_id",
        "account_id",
        unique=True,
        postgresql_where=sa.text(f"status NOT IN ({_OVER})"),
    ),
    # What the platform knows by one id is one post.
    sa.Index(
        "social_posts_external_idx",
        "tenant_id",
        "account_id",
        "external_id",
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    ),
    # Whose turn it is.
    sa.Index(
        "social_posts_turn_idx",
        "tenant_id",
        "account_id",
        "claimed_at",
        postgresql_where=sa.text("claimed_at IS NOT NULL"),
    ),
    sa.Index("social_posts_listed_idx", "tenant_id", "created_at", "id"),
    sa.Index("social_posts_created_idx", "created_at", "id"),
    sa.Index("social_posts_calendar_idx", "tenant_id", "scheduled_for"),
    sa.Index(
        "social_posts_look_idx",
        "look_after",
        postgresql_where=sa.text("look_after IS NOT NULL"),
    ),
    sa.Index("social_posts_measure_idx", "measure_at", postgresql_where=sa.text("measure_at IS NOT NULL")),
    sa.Index(
        "social_posts_measured_idx",
        "tenant_id",
        "account_id",
        "measure_at",
        postgresql_where=sa.text("measure_at IS NOT NULL"),
    ),
    sa.Index(
        "social_posts_published_idx",
        "tenant_id",
        "published_at",
        postgresql_where=sa.text("published_at IS NOT NULL"),
    ),
    # Those of which nobody can tell whether they are live.
    sa.Index("social_posts_unconfirmed_idx", "updated_at", postgresql_where=sa.text("status = 'unconfirmed'")),
    sa.Index("social_posts_failed_idx", "updated_at", postgresql_where=sa.text("status IN ('failed', 'missed')")),
    # Whose measuring has ended, or never begun.
    sa.Index(
        "social_posts_unmeasured_idx",
        "published_at",
        postgresql_where=sa.text("status = 'published' AND measure_at IS NULL"),
    ),
)

# What happened to a post, in words: what was sent when, and what the platform answered.
post_events = table(
    "post_events",
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    string("kind", nullable=False),
    string("message", nullable=False),
    jsonb("details", "{}"),
    sa.Column("job_id", UUID()),
    timestamp("at", now=True),
    within_tenant("post_id", "social_posts"),
    sa.Index("post_events_post_idx", "tenant_id", "post_id", "id"),
    sa.Index("post_events_at_idx", "at"),
)

# One row for each time that the point of no return was crossed, committed before the call.
post_submissions = table(
    "post_submissions",
    uuid_key(),
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    timestamp("created_at", now=True),
    within_tenant("post_id", "social_posts"),
    sa.Index("post_submissions_post_idx", "tenant_id", "post_id"),
    sa.Index("post_submissions_created_idx", "created_at"),
)

# Places among the posts that a platform allows in 24 hours. `bucket` is an account, or a whole installation.
post_reservations = table(
    "post_reservations",
    tenant_id(),
    sa.Column("post_id", UUID(), nullable=False),
    string("bucket", nullable=False),
    timestamp("reserved_at", now=True),
    sa.PrimaryKeyConstraint("tenant_id", "post_id", "bucket"),
    within_tenant("post_id", "social_posts"),
    sa.Index("post_reservations_bucket_idx", "bucket", "reserved_at"),
    sa.Index("post_reservations_reserved_idx", "reserved_at"),
)

# How a tenant wants its posts: without a row, as the defaults say.
posting_policies = table(
    "posting_policies",
    sa.Column("tenant_id", UUID(), sa.ForeignKey("tenants.id"), primary_key=True),
    # A post that could not be begun so long after its time is missed, and a person is asked.
    sa.Column("late_after", sa.Interval, server_default=sa.text("'2 hours'"), nullable=False),
    boolean("needs_approval"),
    sa.CheckConstraint("late_after >= '10 minutes' AND late_after <= '7 days'", name="late_after"),
)

# Connections that somebody has begun in a browser. Only a hash of the state is kept, and it is good for one use.
oauth_states = table(
    "oauth_states",
    sa.Column("state_hash", sa.LargeBinary, primary_key=True),
    tenant_id(),
    string("platform", nullable=False),
    string("server", default=""),
    string("redirect_uri", nullable=False),
    string("return_to"),
    # PKCE's, encrypted.
    sa.Column("verifier", sa.LargeBinary, nullable=False),
    timestamp("created_at", now=True),
    timestamp("expires_at", nullable=False),
    timestamp("used_at"),
    # What it led to.
    sa.Column("account_id", UUID()),
    one_of("platform", PLATFORMS),
    sa.Index("oauth_states_expires_idx", "expires_at"),
)

# This installation as each Mastodon instance knows it.
mastodon_apps = table(
    "mastodon_apps",
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("redirect_uri", sa.Text, primary_key=True),
    string("client_id", nullable=False),
    sa.Column("client_secret", sa.LargeBinary, nullable=False),
    timestamp("created_at", now=True),
)

# Times at which the database was, or may have been, put back to an earlier state. While one is open nothing is posted.
restores = table(
    "restores",
    uuid_key(),
    # Why it was noticed; NULL if a person began it.
    string("noticed"),
    timestamp("noticed_at", now=True),
    # What a person said: the moment that the backup has.
    timestamp("taken_at"),
    timestamp("begun_at"),
    timestamp("ended_at"),
    count("posts_in_doubt"),
    # Queues that it paused, and that go on when it ends.
    sa.Column("paused", ARRAY(sa.Text), server_default=sa.text("'{}'"), nullable=False),
    sa.Index(
        "restores_open_idx", sa.text("(ended_at IS NULL)"), unique=True, postgresql_where=sa.text("ended_at IS NULL")
    ),
)
