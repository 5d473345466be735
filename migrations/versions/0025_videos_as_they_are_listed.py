"""videos as they are listed

What 0024 added to `videos` is validated, and indexed. Of several live videos of one concept, which no release made, only
the newest stays live, so that the unique index can be built.

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

CONSTRAINTS = ("status_check", "tenant_id_media_id_fkey", "tenant_id_thumbnail_id_fkey")
LIVE = "status IN ('pending', 'rendering', 'unconfirmed') AND concept_id IS NOT NULL"
INDEXES = {
    "videos_listed_idx": "INDEX CONCURRENTLY videos_listed_idx ON videos (tenant_id, created_at, id)",
    "videos_media_idx": "INDEX CONCURRENTLY videos_media_idx ON videos (tenant_id, media_id)",
    "videos_thumbnail_idx": "INDEX CONCURRENTLY videos_thumbnail_idx ON videos (tenant_id, thumbnail_id)",
    "videos_live_idx": (
        f"UNIQUE INDEX CONCURRENTLY videos_live_idx ON videos (tenant_id, generation_id, concept_id) WHERE {LIVE}"
    ),
}
END_DOUBLES = f"""
UPDATE videos SET status = 'failed', error_message = 'another video of the concept was being made', updated_at = now()
WHERE {LIVE} AND EXISTS (
    SELECT FROM videos newer
    WHERE newer.tenant_id = videos.tenant_id AND newer.generation_id = videos.generation_id
        AND newer.concept_id = videos.concept_id AND newer.status IN ('pending', 'rendering', 'unconfirmed')
        AND (newer.created_at, newer.id) > (videos.created_at, videos.id)
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
        for constraint in CONSTRAINTS:
            op.execute(ALONE.format(statement=f"ALTER TABLE videos VALIDATE CONSTRAINT videos_{constraint}"))
        op.execute(ALONE.format(statement=END_DOUBLES))
        for name, definition in INDEXES.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
