"""numbers as they are looked up

The indexes of what 0028 added, and those by which `upkeep.prune` finds what is old; and posts that were published within the last days are measured from now on. A horizon
that has passed is written down as missed when they are measured first. What the release before this one publishes
until it is gone is begun by `analytics.due`.

Safe under load: outside a transaction, so that no lock lasts; every step can be repeated after a failure.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

INDEXES = {
    "analytics_snapshots_once_idx": (
        "UNIQUE INDEX CONCURRENTLY analytics_snapshots_once_idx ON analytics_snapshots (tenant_id, post_id, horizon) "
        "WHERE horizon IS NOT NULL"
    ),
    "analytics_snapshots_captured_idx": (
        "INDEX CONCURRENTLY analytics_snapshots_captured_idx ON analytics_snapshots (tenant_id, captured_at)"
    ),
    "social_posts_measure_idx": (
        "INDEX CONCURRENTLY social_posts_measure_idx ON social_posts (measure_at) WHERE measure_at IS NOT NULL"
    ),
    "social_posts_measured_idx": (
        "INDEX CONCURRENTLY social_posts_measured_idx ON social_posts (tenant_id, account_id, measure_at) "
        "WHERE measure_at IS NOT NULL"
    ),
    "social_posts_published_idx": (
        "INDEX CONCURRENTLY social_posts_published_idx ON social_posts (tenant_id, published_at) "
        "WHERE published_at IS NOT NULL"
    ),
    "social_posts_unmeasured_idx": (
        "INDEX CONCURRENTLY social_posts_unmeasured_idx ON social_posts (published_at) "
        "WHERE status = 'published' AND measure_at IS NULL"
    ),
    "audio_trends_captured_idx": ("INDEX CONCURRENTLY audio_trends_captured_idx ON audio_trends (region, captured_at)"),
    "audio_trends_old_idx": "INDEX CONCURRENTLY audio_trends_old_idx ON audio_trends (captured_at)",
    "post_events_at_idx": "INDEX CONCURRENTLY post_events_at_idx ON post_events (at)",
    "post_reservations_reserved_idx": (
        "INDEX CONCURRENTLY post_reservations_reserved_idx ON post_reservations (reserved_at)"
    ),
    "competitor_videos_captured_idx": (
        "INDEX CONCURRENTLY competitor_videos_captured_idx ON competitor_videos (tenant_id, captured_at)"
    ),
}
MEASURED = """
UPDATE social_posts SET measure_at = greatest(published_at + interval '1 hour', now())
WHERE status = 'published' AND measure_at IS NULL AND published_at > now() - interval '7 days'
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
        for name, definition in INDEXES.items():
            # One that an interrupted run left behind is invalid: made anew.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE {definition}")
        op.execute(ALONE.format(statement=MEASURED))


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
