"""Posts go out once: from what is due to what people see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.posting.posts import PostStatus
from tests.post_stage import PLATFORMS, PostStage, post_stage
from workers.settings import Settings


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path) as made:
        yield made


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_post_that_is_due_is_published_with_its_video(here: PostStage, platform: str) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, platform))
    here.run()
    post = here.show(post_id)
    assert post.status == PostStatus.PUBLISHED, (post, here.events(post_id))
    assert post.external_id
    assert post.permalink
    here.assert_once()
