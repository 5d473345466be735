"""Lists of posts and videos of all tenants read an index, and no more than a page's worth of it."""

from uuid import UUID

import psycopg
import pytest

from db.ops import posts as views
from db.ops.posts import ALONG_INDEXES, page_values, post_page, video_page
from db.transaction import SYSTEM
from domain.ops.post_filters import PostFilter, VideoFilter
from tests.builders import a_tenant
from workers.app import App

POSTS = """
INSERT INTO social_accounts (id, tenant_id, platform, external_id, username)
VALUES ('00000000-0000-0000-0000-00000000000a', %(tenant)s, 'mastodon', '1', 'one');
INSERT INTO videos (id, tenant_id, status, source)
SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, %(tenant)s, 'completed', 'own'
FROM generate_series(1, 3000) n;
INSERT INTO social_posts (tenant_id, video_id, account_id, status, created_at, updated_at)
SELECT %(tenant)s, id, '00000000-0000-0000-0000-00000000000a',
    CASE WHEN row_number() OVER () % 300 = 0 THEN 'failed' ELSE 'published' END,
    now() - row_number() OVER () * interval '1 minute', now() FROM videos;
"""


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (PostFilter(), "social_posts_created_idx"),
        (PostFilter(platform="mastodon"), "social_posts_created_idx"),
        (PostFilter(status="published"), "social_posts_created_idx"),
        (PostFilter(status="failed"), "social_posts_failed_idx"),
        (PostFilter(tenant_id=UUID(int=7)), "social_posts_listed_idx"),
        (VideoFilter(), "videos_created_idx"),
        (VideoFilter(status="failed"), "videos_created_idx"),
    ],
    ids=str,
)
def test_a_page_is_read_by_an_index(
    app: App, monkeypatch: pytest.MonkeyPatch, wanted: PostFilter | VideoFilter, index: str
) -> None:
    monkeypatch.setattr(views, "WALK", 100)  # far fewer than there are
    tenant = a_tenant(app)
    with psycopg.connect(app.settings.owner_url, autocommit=True, options="-c app.tenant_id=*") as owner:
        owner.execute(POSTS.replace("%(tenant)s", f"'{tenant}'"))
        owner.execute("ANALYZE social_posts, videos")
    query = post_page(wanted) if isinstance(wanted, PostFilter) else video_page(wanted)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(ALONG_INDEXES, {"read": "off", "workers": "0"})
        rows = tx.driver.execute(f"EXPLAIN {query}".encode(), page_values(wanted, 50)).fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert index in plan, plan
    assert "Seq Scan on social_posts" not in plan
    assert "Seq Scan on videos" not in plan
