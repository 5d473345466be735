"""posts as they are looked up

What 0026 added is validated, and indexed. The unique indexes have no room for several posts of one video to one account
that are not over, nor for several with one id of the platform, which no release made. Of the former those that were not
sent are cancelled, but for one if none was; of the latter those that are not published lose the id. Where that leaves
more than one, a person has to decide, and is told of which.

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
    "social_posts_turn_idx": (
        "INDEX CONCURRENTLY social_posts_turn_idx ON social_posts (tenant_id, account_id, claimed_at) "
        "WHERE claimed_at IS NOT NULL"
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
UNSENT = "(post.status IN ('draft', 'scheduled') OR post.status = 'claimed' AND post.submitted_at IS NULL)"
RANK = f"(post.status = 'published', NOT {UNSENT}, post.attempt_group, post.id)"
BINDS = "(post.status = 'published', post.created_at, post.id)"
"""Of several posts the one with the most of it keeps its place."""
END_DOUBLES = f"""
UPDATE social_posts post SET status = 'cancelled', updated_at = now(),
    error_message = 'another post of the video to this account is there, or comes later'
WHERE {UNSENT} AND EXISTS (
    SELECT FROM social_posts other
    WHERE (other.tenant_id, other.video_id, other.account_id) = (post.tenant_id, post.video_id, post.account_id)
        AND other.{NOT_OVER} AND {RANK.replace("post.", "other.")} > {RANK}
)
"""
UNBIND_DOUBLES = f"""
UPDATE social_posts post SET error_message = concat_ws('; ', error_message, 'another post has the id ' || external_id),
    external_id = NULL, updated_at = now()
WHERE external_id IS NOT NULL AND status <> 'published' AND EXISTS (
    SELECT FROM social_posts other
    WHERE (other.tenant_id, other.account_id, other.external_id) = (post.tenant_id, post.account_id, post.external_id)
        AND {BINDS.replace("post.", "other.")} > {BINDS}
)
"""
REFUSE_DOUBLES = f"""
DECLARE doubles text;
BEGIN
    SELECT string_agg(ids, '; ') INTO doubles FROM (
        SELECT string_agg(id::text, ', ' ORDER BY id) AS ids FROM social_posts WHERE {NOT_OVER}
        GROUP BY tenant_id, video_id, account_id HAVING count(*) > 1
        UNION
        SELECT string_agg(id::text, ', ' ORDER BY id) FROM social_posts WHERE external_id IS NOT NULL
        GROUP BY tenant_id, account_id, external_id HAVING count(*) > 1
        LIMIT 20
    ) AS several;
    IF doubles IS NOT NULL THEN
        RAISE EXCEPTION 'these social_posts were sent, and are the same post of a video or of a platform: %. Look at the '
            'platform which of each are there, set the status of the others to failed or removed and their external_id '
            'to NULL, and migrate again', doubles;
    END IF;
END
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
        for statement in (END_DOUBLES, UNBIND_DOUBLES, REFUSE_DOUBLES):
            op.execute(ALONE.format(statement=statement))
        for name, definition in INDEXES.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
