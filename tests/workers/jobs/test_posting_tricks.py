"""What TikTok and YouTube do after the last byte: each has one end, and what people see agrees with it."""

from datetime import timedelta
from pathlib import Path

import pytest

from domain.posting.posts import PostStatus
from simulators.platforms.tiktok import Trick as TikTokTrick
from simulators.platforms.youtube import Trick as YouTubeTrick
from tests.post_stage import post_stage
from workers.app import App

ENDS: dict[tuple[str, TikTokTrick | YouTubeTrick], PostStatus] = {
    ("tiktok", "address expires"): PostStatus.PUBLISHED,
    ("tiktok", "fails its check"): PostStatus.FAILED,
    ("tiktok", "fails internally"): PostStatus.PUBLISHED,
    ("tiktok", "several ids"): PostStatus.PUBLISHED,
    ("tiktok", "accepts repeats"): PostStatus.PUBLISHED,
    ("youtube-shorts", "rejected as duplicate"): PostStatus.FAILED,
    ("youtube-shorts", "forgotten"): PostStatus.PUBLISHED,
    ("youtube-shorts", "forgotten before"): PostStatus.PUBLISHED,
    ("youtube-shorts", "accepts repeats"): PostStatus.PUBLISHED,
}


@pytest.mark.parametrize(("platform", "trick"), ENDS, ids=lambda part: part.replace(" ", "-"))
def test_each_trick_has_its_end(app: App, tmp_path: Path, platform: str, trick: TikTokTrick | YouTubeTrick) -> None:
    with post_stage(app.settings, tmp_path, platform) as stage:
        tenant_id = stage.tenant()
        account_id = stage.account(tenant_id, platform)
        stage.platforms[platform].misbehave(trick)
        post_id = stage.ask(tenant_id, account_id)
        stage.run(turns=200, step=timedelta(minutes=5))
        post = stage.show(post_id)
        assert post.status == ENDS[platform, trick], (post.error_message, stage.events(post_id))
        stage.assert_once()
        if trick == "several ids":
            with stage.app.db.transaction(tenant_id) as tx:
                query = "SELECT message FROM post_events WHERE post_id = %s AND kind = 'published'"
                [message] = tx.driver.execute(query, (post_id,)).fetchone() or ("",)
            assert "further ones: 7399000000000000001" in message
