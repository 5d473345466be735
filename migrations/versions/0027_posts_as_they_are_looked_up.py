"""posts as they are looked up

What 0026 added is validated, and indexed. Of several posts of one video to one account that are not over, and of several
with one id of the platform, which no release made, only the newest keeps its place, so that the unique indexes can be built.

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

CONSTRAINTS = (
    ("social_accounts", "platform"),
    ("social_accounts", "status"),
    ("performance_feedback", "platform"),
    ("audio_trends", "platform"),
    ("competitor_videos", "platform"),
    ("social_posts", "status"),
)
NOT_OVER = "status NOT IN ('failed', 'missed', 'cancelled', 'removed')"
INDEXES = {
    "social_posts_once_idx": (
        f"UNIQUE INDEX CONCURRENTLY social_posts_once_idx ON social_posts (tenant_id, video_id, account_id) WHERE {NOT_OVER}"
    ),
    "social_posts_external_idx": (
        "UNIQUE INDEX CONCURRENTLY social_posts_external_idx ON social_posts (tenant_id, account_id, external_id) "
        "WHERE external_id IS NOT NULL"
    ),
    "social_posts_listed_idx": (
        "INDEX CONCURRENTLY social_posts_listed_idx ON social_posts (tenant_id, created_at, id)"
    ),
    "social_posts_calendar_idx": (
        "INDEX CONCURRENTLY social_posts_calendar_idx ON social_posts (tenant_id, scheduled_for)"
    ),
    "social_posts_look_idx": (
        "INDEX CONCURRENTLY social_posts_look_idx ON social_posts (look_after) WHERE look_after IS NOT NULL"
    ),
    "social_accounts_refresh_idx": (
        "INDEX CONCURRENTLY social_accounts_refresh_idx ON social_accounts (access_expires_at) WHERE status = 'active'"
    ),
}
OLD_STATUSES = """
UPDATE social_accounts SET status = 'needs_reconnect' WHERE status NOT IN ('active', 'needs_reconnect', 'disconnected')
"""
END_DOUBLES = f"""
UPDATE social_posts SET status = CASE status WHEN 'published' THEN 'removed' ELSE 'cancelled' END,
    error_message = 'another post of the video to this account is newer', updated_at = now()
WHERE {NOT_OVER} AND EXISTS (
    SELECT FROM social_posts newer
    WHERE newer.tenant_id = social_posts.tenant_id AND newer.video_id = social_posts.video_id
        AND newer.account_id = social_posts.account_id
        AND newer.status NOT IN ('failed', 'missed', 'cancelled', 'removed')
        AND (newer.attempt_group, newer.id) > (social_posts.attempt_group, social_posts.id)
)
"""
UNBIND_DOUBLES = """
UPDATE social_posts SET error_message = concat_ws('; ', error_message, 'a newer post has the id ' || external_id),
    external_id = NULL, updated_at = now()
WHERE external_id IS NOT NULL AND EXISTS (
    SELECT FROM social_posts newer
    WHERE newer.account_id = social_posts.account_id AND newer.external_id = social_posts.external_id
        AND (newer.created_at, newer.id) > (social_posts.created_at, social_posts.id)
)
"""

# Each statement is a transaction of its own and brings its settings: behind a pooler the next one has another session.
ALONE = """
DO $alone$ BEGIN
    SET LOCAL lock_timeout = '5s';
    SET LOCAL app.tenant_id = '*';
    {statement};
END $alone$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(ALONE.format(statement=OLD_STATUSES))
        for table, column in CONSTRAINTS:
            op.execute(ALONE.format(statement=f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_{column}_check"))
        for statement in (END_DOUBLES, UNBIND_DOUBLES):
            op.execute(ALONE.format(statement=statement))
        for name, definition in INDEXES.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
