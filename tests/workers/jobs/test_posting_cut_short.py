"""A post is made once, wherever its jobs are cut short, whatever answers are lost, and whoever runs at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.posting.posts import PostStatus
from domain.posting.schedule import TURN
from simulators.platforms.platform import Fault
from tests.cutting import Died, Moments, rescue_all, watched
from tests.post_stage import PLATFORMS, PostStage, post_stage
from tests.seeds import seeded
from workers.settings import Settings

AT_MOST = 120
"""Moments of one post: there are about fifty."""
EVERY = 7
A_SECOND = timedelta(seconds=1)
COMMITS = {
    "tiktok": "upload",
    "youtube-shorts": "upload",
    "instagram-reels": "publish",
    "bluesky": "putRecord",
    "mastodon": "post",
}
"""The call that publishes."""
LASTING = ("instagram-reels", "mastodon")
"""Platforms whose access tokens last for months: one that has expired needs its owner."""


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


@pytest.mark.proof
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_process_may_die_at_any_moment(here: PostStage, platform: str) -> None:
    """Every seventh moment of each platform, each time others; `make chaos` kills at all of them."""
    tenant_id = here.tenant()
    first = seeded(platform).randrange(EVERY)
    for at in range(first, AT_MOST, EVERY):
        post_id = here.ask(tenant_id, here.account(tenant_id, platform))
        struck = run_cut(here, at)
        post = here.show(post_id)
        assert post.status == PostStatus.PUBLISHED, (at, post, here.events(post_id))
        if not struck:
            break
    else:
        raise AssertionError(f"more than {AT_MOST} moments")
    here.assert_once()


LOST: tuple[Fault, ...] = ("500 after", "hang-up after", "reset after", "cut after", "hang-up before", "500 before")


@pytest.mark.proof(but=["bluesky"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_answer_of_the_call_that_publishes_may_be_lost(here: PostStage, platform: str) -> None:
    """In every way, one post after the other."""
    tenant_id = here.tenant()
    for fault in LOST:
        post_id = here.ask(tenant_id, here.account(tenant_id, platform))
        here.platforms[platform].fault(COMMITS[platform], fault)
        here.run()
        assert here.show(post_id).status == PostStatus.PUBLISHED, (fault, here.events(post_id))
        here.assert_once()


@pytest.mark.parametrize("platform", [name for name in PLATFORMS if name not in LASTING])
def test_tokens_may_expire_at_every_call(here: PostStage, platform: str) -> None:
    """One after the other; each is answered as expired once, and no call that publishes is repeated."""
    tenant_id, simulator = here.tenant(), here.platforms[platform]
    calls = sorted(set(_calls_of(here, tenant_id, platform)))
    for call in calls:
        post_id = here.ask(tenant_id, here.account(tenant_id, platform))
        simulator.fault(call, "expired")
        here.run()
        assert here.show(post_id).status == PostStatus.PUBLISHED, (call, here.show(post_id), here.events(post_id))
    here.assert_once()


def _calls_of(here: PostStage, tenant_id: UUID, platform: str) -> list[str]:
    """Publish once, and return the calls that it took."""
    here.ask(tenant_id, here.account(tenant_id, platform))
    here.run()
    return list(here.platforms[platform].received)


def test_of_many_schedulers_one_claims_a_post(here: PostStage) -> None:
    tenant_id = here.tenant()
    accounts = [here.account(tenant_id, "mastodon") for _ in range(3)]
    firsts = [here.ask(tenant_id, account_id, after=-A_SECOND) for account_id in accounts]
    for account_id in accounts:
        here.ask(tenant_id, account_id)  # its turn has not come
    now = here.clock[0]

    def claim(_: int) -> list[UUID]:
        with here.app.db.transaction(SYSTEM) as tx:
            return [post for _, post in tx.posts.claim(now=now, last_turn=now - TURN, look_after=now, limit=2)]

    with ThreadPoolExecutor(16) as pool:
        claimed = [post_id for found in pool.map(claim, range(16)) for post_id in found]
    assert sorted(claimed) == sorted(firsts)


@pytest.mark.parametrize("act", ["cancel", "edit"])
def test_a_claim_and_its_tenant_have_one_winner(here: PostStage, act: str) -> None:
    """What was cancelled is not posted, and what was edited is posted as it was edited, or the edit is refused."""
    tenant_id = here.tenant()
    posts = [here.ask(tenant_id, here.account(tenant_id, "mastodon"), caption=f"before {n}") for n in range(8)]
    start = Barrier(2)

    def change(post_id: UUID) -> bool:
        with here.app.db.transaction(tenant_id) as tx:
            if act == "cancel":
                return tx.planned_posts.cancel(tenant_id, post_id)
            return tx.planned_posts.change(tenant_id, post_id, {"caption": f"after {post_id}"})

    def claim() -> list[UUID]:
        start.wait()
        with here.app.db.transaction(SYSTEM) as tx:
            now = here.clock[0]
            claimed = tx.posts.claim(now=now, last_turn=now - TURN, look_after=now - A_SECOND, limit=8)
            return [post_id for _, post_id in claimed]

    with ThreadPoolExecutor(2) as pool:
        claiming = pool.submit(claim)
        start.wait()
        changed = {post_id for post_id in posts if change(post_id)}
        claimed = set(claiming.result())
    here.run()
    for post_id in posts:
        post = here.show(post_id)
        if act == "cancel":
            assert (post_id in changed) != (post_id in claimed)
            assert post.status == (PostStatus.CANCELLED if post_id in changed else PostStatus.PUBLISHED)
        else:
            assert post.status == PostStatus.PUBLISHED
            assert post.caption.startswith("after") == (post_id in changed)
    here.assert_once()


def test_two_jobs_of_a_post_cross_the_point_of_no_return_once(here: PostStage) -> None:
    """A job whose lease has ended is stopped at its next commit, whatever it was about to do."""
    tenant_id = here.tenant()
    overtaken: list[str] = []

    def overtake() -> None:
        if not overtaken:
            overtaken.append("")
            rescue_all(here.app)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(here.turn).result()

    for at in range(6, 40, 5):
        overtaken.clear()
        post_id = here.ask(tenant_id, here.account(tenant_id, "instagram-reels"))
        moments = Moments(at, overtake, within_transactions=False)
        replace(here, app=watched(here.app, moments)).run()
        here.run()
        assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()
