"""A post is made once, wherever its jobs are cut short, whatever answers are lost, and whoever runs at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.posting.posts import PostStatus
from tests.cutting import Died, Moments, rescue_all, watched
from tests.post_stage import PLATFORMS, PostStage, post_stage
from workers.settings import Settings

AT_MOST = 120
"""Moments of one post: there are about fifty."""


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path) as made:
        yield made


def die() -> None:
    raise Died


def run_cut(here: PostStage, at: int) -> bool:
    """Run until no job is live, in a process that dies at its moment, and then in others; whether it died."""
    moments = Moments(at, die, within_transactions=True)
    cut = replace(here, app=watched(here.app, moments))
    try:
        cut.run()
    except Died:
        rescue_all(here.app)
        here.run()
    return moments.struck


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_process_may_die_at_every_moment(here: PostStage, platform: str) -> None:
    tenant_id = here.tenant()
    for at in range(AT_MOST):
        account_id = here.account(tenant_id, platform)
        post_id = here.ask(tenant_id, account_id)
        struck = run_cut(here, at)
        post = here.show(post_id)
        assert post.status == PostStatus.PUBLISHED, (at, post, here.events(post_id))
        if not struck:
            break
    else:
        raise AssertionError(f"more than {AT_MOST} moments")
    here.assert_once()
