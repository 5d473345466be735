"""What went wrong elsewhere, one test for each report, from the row that is due to what people see.

The reports are of Postiz, TryPost, Mixpost, AiToEarn and the platforms themselves. What is about one client alone is in
tests/integrations/platforms.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db.transaction import SYSTEM
from domain.ports import MediaStore
from domain.posting.accounts import AccountStatus
from domain.posting.posts import PostStatus
from domain.videos.media import StoreUnavailable
from simulators.loopback import json_reply
from tests.cutting import Died, Moments, rescue_all, watched
from tests.post_stage import PostStage, post_stage
from workers.settings import Settings

Open = Callable[..., AbstractContextManager[PostStage]]


@pytest.fixture
def on(settings: Settings, tmp_path: Path) -> Open:
    """Open a stage with these platforms."""

    @contextmanager
    def opened(*platforms: str) -> Iterator[PostStage]:
        with post_stage(settings, tmp_path, *platforms) as stage:
            yield stage
            stage.assert_once()

    return opened


def account_of(stage: PostStage, account_id: Any) -> dict[str, Any]:
    with stage.app.db.transaction(SYSTEM) as tx:
        query = "SELECT status, reason, refresh_token FROM social_accounts WHERE id = %s"
        status, reason, refresh_token = tx.driver.execute(query, (account_id,)).fetchone() or ()
    return {"status": status, "reason": reason, "refresh_token": refresh_token}


def sent(simulator: Any, call: str) -> int:
    return int(simulator.received.count(call))


def moments_of(stage: PostStage) -> list[str]:
    """Run until no job is live, and return the moments that a process could have died at."""
    moments = Moments(10_000, lambda: None, within_transactions=True)
    replace(stage, app=watched(stage.app, moments)).run()
    return moments.passed


def die_at(stage: PostStage, moment: int) -> None:
    """Run in a process that dies at this moment, and let the reaper find its job."""

    def die() -> None:
        raise Died

    with pytest.raises(Died):
        replace(stage, app=watched(stage.app, Moments(moment, die, within_transactions=True))).run()
    rescue_all(stage.app)


# --- tokens --------------------------------------------------------------------------------------------------------


def test_postiz_1682_1741_tokens_that_expire_at_every_poll_restart_nothing(on: Open) -> None:
    """TikTok's token expired while its status was asked for; the refresh began the whole post again."""
    with on("tiktok") as stage:
        tenant_id, tiktok = stage.tenant(), stage.platforms["tiktok"]
        tiktok.processing_seconds = 300
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "tiktok"))
        for call in ("creator_info", "init", "status"):
            tiktok.fault(call, "expired", times=3 if call == "status" else 1)
        stage.run()
        assert stage.show(post_id).status == PostStatus.PUBLISHED
        # An init that was refused for its token opened nothing.
        assert len(tiktok.uploads) == 1
        assert sent(tiktok, "init") == 2


def test_postiz_1884_1935_1822_a_network_error_disconnects_nobody_and_keeps_the_refresh_token(on: Open) -> None:
    """Accounts asked for a reconnection every day, which stored an empty refresh token."""
    with on("bluesky") as stage:
        tenant_id, bluesky = stage.tenant(), stage.platforms["bluesky"]
        account_id = stage.account(tenant_id, "bluesky")
        stage.later(hours=3)
        post_id = stage.ask(tenant_id, account_id)
        for fault in ("500 before", "hang-up before", "429"):
            bluesky.fault("refreshSession", fault)
        stage.run()
        assert stage.show(post_id).status == PostStatus.PUBLISHED, stage.events(post_id)
        account = account_of(stage, account_id)
        assert account["status"] == AccountStatus.ACTIVE
        assert account["refresh_token"]


# --- the point of no return ----------------------------------------------------------------------------------------


def test_postiz_1813_1996_a_worker_that_dies_at_the_commit_posts_nothing_twice(on: Open) -> None:
    """A worker died while it posted; its activity ran again, or nobody said what became of the post."""
    with on("mastodon") as stage:
        tenant_id = stage.tenant()
        posts = [stage.ask(tenant_id, stage.account(tenant_id, "mastodon"))]
        passed = moments_of(stage)
        for moment in ("before commit", "after commit"):
            posts.append(stage.ask(tenant_id, stage.account(tenant_id, "mastodon")))
            die_at(stage, passed.index(moment))
            stage.run()
        assert {stage.show(each).status for each in posts} == {PostStatus.PUBLISHED}
        assert sent(stage.platforms["mastodon"], "post") == 3


def test_postiz_1681_blocked_and_yet_live_is_published(on: Open) -> None:
    """Instagram answered 2207051 to a publish that it had acted upon; the user read "blocked", and posted again."""
    with on("instagram-reels") as stage:
        tenant_id, instagram = stage.tenant(), stage.platforms["instagram-reels"]
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "instagram-reels"))
        instagram.misbehave("publish", 4, 2207051, acted=True)
        stage.run()
        assert stage.show(post_id).status == PostStatus.PUBLISHED
        assert sent(instagram, "publish") == 1


def test_aitoearn_586_a_death_between_the_answer_and_its_commit_opens_no_second_post(on: Open) -> None:
    """TikTok's `publish_id` was not kept before the upload, and one upload had two public ids."""
    with on("tiktok") as stage:
        tenant_id, tiktok = stage.tenant(), stage.platforms["tiktok"]
        tiktok.misbehave(None, "several ids")
        first = stage.ask(tenant_id, stage.account(tenant_id, "tiktok"))
        passed = moments_of(stage)
        second = stage.ask(tenant_id, stage.account(tenant_id, "tiktok"))
        die_at(stage, passed.index("after commit"))
        stage.run()
        assert [stage.show(each).status for each in (first, second)] == [PostStatus.PUBLISHED] * 2
        assert len(tiktok.uploads) == 2


@pytest.mark.parametrize("platform", ["tiktok", "youtube-shorts"])
def test_google_api_python_client_122_yt_192_a_transfer_that_is_cut_short_is_one_whole_video(
    on: Open, platform: str
) -> None:
    """A transfer that was cut short was published as it was; the next one was refused as a duplicate."""
    with on(platform) as stage:
        tenant_id, ports = stage.tenant(), stage.app.ports
        posts = []
        for at in (0, 50_000):
            broken = replace(ports, media=_BreaksOff(ports.media, at))  # type: ignore[arg-type]
            posts.append(stage.ask(tenant_id, stage.account(tenant_id, platform)))
            replace(stage, app=replace(stage.app, ports=broken)).run()
        assert {stage.show(each).status for each in posts} == {PostStatus.PUBLISHED}
        assert len(stage.posts()) == 2


class _BreaksOff:
    """A media store whose first reading breaks off after so many bytes."""

    def __init__(self, store: MediaStore, at: int) -> None:
        self._store = store
        self._left: int | None = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        left, self._left = self._left, None
        if left is None:
            yield from self._store.read(key, start, end)
        else:
            yield from self._store.read(key, start, start + left)
            raise StoreUnavailable("the store broke off")


def test_mastodon_40399_30039_21840_the_upload_decides_and_not_the_key(on: Open) -> None:
    """A repeated Idempotency-Key is a 500, is ignored for scheduled posts, or lets two at once go on."""
    with on("mastodon") as stage:
        tenant_id, mastodon = stage.tenant(), stage.platforms["mastodon"]
        mastodon.repeats_fail = True
        posts = []
        for fault in ("reset after", "500 before"):
            mastodon.fault("post", fault)
            posts.append(stage.ask(tenant_id, stage.account(tenant_id, "mastodon")))
            stage.run()
        mastodon.kind = "gotosocial"
        for fault in ("delivered twice", "hang-up before"):
            mastodon.fault("post", fault)
            posts.append(stage.ask(tenant_id, stage.account(tenant_id, "mastodon")))
            stage.run()
        assert {stage.show(each).status for each in posts} == {PostStatus.PUBLISHED}


# --- before and after it -------------------------------------------------------------------------------------------


def test_postiz_1900_what_fails_before_anything_exists_is_done_again(on: Open) -> None:
    """One failed fetch of the video by Instagram (2207052), and the whole post had failed."""
    with on("instagram-reels") as stage:
        tenant_id, instagram = stage.tenant(), stage.platforms["instagram-reels"]
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "instagram-reels"))
        instagram.misbehave("create", -1, 2207052)
        stage.run()
        assert stage.show(post_id).status == PostStatus.PUBLISHED


def test_postiz_1562_1568_a_permalink_that_cannot_be_read_changes_nothing(on: Open) -> None:
    """A live post was shown as failed, since its address could not be read."""
    with on("instagram-reels") as stage:
        tenant_id, instagram = stage.tenant(), stage.platforms["instagram-reels"]
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "instagram-reels"))
        instagram.fault("permalink", "500 before", times=10_000)
        stage.run(turns=120, step=timedelta(hours=1))
        post = stage.show(post_id)
        assert (post.status, post.permalink) == (PostStatus.PUBLISHED, None)
        assert post.external_id


def test_postiz_1470_2007_an_id_that_comes_hours_later_is_kept_exactly(on: Open) -> None:
    """The publish id was kept as the post's, the later one never asked for, and its 19 digits were rounded."""
    with on("tiktok") as stage:
        tenant_id, tiktok = stage.tenant(), stage.platforms["tiktok"]
        tiktok.misbehave("id is late")
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "tiktok"))
        stage.run(turns=200, step=timedelta(minutes=20))
        post, [shown] = stage.show(post_id), tiktok.posts
        assert post.status == PostStatus.PUBLISHED
        assert post.external_id == shown.id
        assert len(shown.id) == 19


def test_trypost_281_the_newest_of_the_list_is_not_ours_for_being_the_newest(on: Open) -> None:
    """The owner posted something else in between, and that was bound."""
    with on("bluesky", "mastodon") as stage:
        tenant_id, posts, foreign = stage.tenant(), [], []
        for name, call in (("bluesky", "putRecord"), ("mastodon", "post")):
            simulator = stage.platforms[name]
            posts.append(stage.ask(tenant_id, stage.account(tenant_id, name)))
            simulator.fault(call, "hang-up before")
            stage.due()
            stage.turn()
            foreign.append(simulator.foreign_post(list(simulator.accounts)[-1], "what its owner had to say").id)
            stage.run()
        assert [stage.show(each).status for each in posts] == [PostStatus.PUBLISHED] * 2
        assert not {stage.show(each).external_id for each in posts} & set(foreign)


# --- accounts and apps ---------------------------------------------------------------------------------------------


def test_postiz_1854_a_cap_of_the_app_disconnects_nobody_and_is_waited_for(on: Open) -> None:
    """At three in the morning all tenants' posts failed: TikTok lets an app post for so many users a day."""
    with on("tiktok") as stage:
        tiktok, tenants = stage.platforms["tiktok"], [stage.tenant() for _ in range(3)]
        tiktok.active_users = 0
        accounts = [stage.account(tenant_id, "tiktok") for tenant_id in tenants]
        posts = [stage.ask(tenant_id, account_id) for tenant_id, account_id in zip(tenants, accounts, strict=True)]
        stage.due()
        for _ in range(3):
            stage.turn()
        assert sent(tiktok, "creator_info") == 1, "the first answer closes the bucket for all"
        assert {stage.show(each).status for each in posts} <= {PostStatus.CLAIMED, PostStatus.SCHEDULED}
        assert {account_of(stage, each)["status"] for each in accounts} == {AccountStatus.ACTIVE}
        assert tiktok.posts == []


def test_mixpost_205_one_account_of_three_fails_and_only_it_is_tried_again(on: Open) -> None:
    """One state stood for many accounts, so a retry posted to all of them."""
    with on("mastodon") as stage:
        tenant_id, mastodon = stage.tenant(), stage.platforms["mastodon"]
        video_id = stage.video(tenant_id)
        posts = [stage.ask(tenant_id, stage.account(tenant_id, "mastodon"), video_id) for _ in range(3)]
        mastodon.server.fail(json_reply({"error": "Validation failed: Text is not nice"}, 422), path="v1/statuses")
        stage.run()
        failed = [each for each in posts if stage.show(each).status == PostStatus.FAILED]
        assert len(failed) == 1
        assert "not nice" in str(stage.show(failed[0]).error_message)
        before = sent(mastodon, "post")
        with stage.app.db.transaction(tenant_id) as tx:
            tx.planned_posts.again(tenant_id, failed[0], stage.clock[0])
        stage.run()
        assert {stage.show(each).status for each in posts} == {PostStatus.PUBLISHED}
        assert sent(mastodon, "post") == before + 1


# --- what is sent --------------------------------------------------------------------------------------------------


def test_postiz_1728_1749_what_was_chosen_is_applied_and_the_label_is_there(on: Open) -> None:
    """Settings were ignored by the way of posting, and the AI label was not sent."""
    with on("tiktok") as stage:
        tenant_id, tiktok = stage.tenant(), stage.platforms["tiktok"]
        chosen = {"privacy_level": "SELF_ONLY", "allow_comment": True, "allow_duet": False, "allow_stitch": False}
        video_id = stage.video(tenant_id, source="concept")
        post_id = stage.ask(tenant_id, stage.account(tenant_id, "tiktok"), video_id, options=chosen)
        stage.run(step=timedelta(hours=20))
        assert stage.show(post_id).status == PostStatus.PUBLISHED
        [shown] = tiktok.posts
        assert shown.fields["privacy_level"] == "SELF_ONLY"
        assert shown.fields["is_aigc"] is True
        assert (shown.fields["disable_comment"], shown.fields["disable_duet"]) == (False, True)


def test_postiz_1589_bsky_docs_367_trypost_110_a_video_that_is_there_already_is_in_its_post(on: Open) -> None:
    """A second upload of a video is answered in several shapes, as a kind of failure; the post failed, or went out
    without its video."""
    with on("bluesky") as stage:
        tenant_id, bluesky = stage.tenant(), stage.platforms["bluesky"]
        bluesky.polls = 3
        for known_as in ("job", "field", "blob"):
            bluesky.known_as = known_as
            bluesky.fault("uploadVideo", "hang-up after")
            post_id = stage.ask(tenant_id, stage.account(tenant_id, "bluesky"))
            stage.run()
            post = stage.show(post_id)
            assert (post.status, post.external_id) == (PostStatus.PUBLISHED, bluesky.posts[-1].id)
        assert len(bluesky.jobs) == 3
        assert sent(bluesky, "uploadVideo") == 6
