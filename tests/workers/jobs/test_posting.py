"""Posts go out once: from what is due to what people see."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db.posting.posts import CLAIM
from db.security import seeing_all_tenants
from db.transaction import SYSTEM
from domain.errors import Conflict
from domain.posting.limits import Allowance
from domain.posting.posts import PostStatus
from domain.posting.text import AI_WORDS
from tests.post_stage import PLATFORMS, PostStage, post_stage
from tests.wait import until
from workers.jobs.reconcile_posts import reconcile
from workers.ops import accounts
from workers.ops import posts as ops
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


def test_of_three_accounts_one_fails_and_only_that_one_is_tried_again(here: PostStage) -> None:
    """mixpost#205: a retry posted to all of them."""
    tenant_id = here.tenant()
    accounts = [here.account(tenant_id, "instagram-reels") for _ in range(3)]
    video_id = here.video(tenant_id)
    posts = [here.ask(tenant_id, account_id, video_id) for account_id in accounts]
    instagram = here.platforms["instagram-reels"]
    instagram.spoil(2207026)
    here.run()
    [failed] = [post_id for post_id in posts if here.show(post_id).status == PostStatus.FAILED]
    assert len(instagram.posts) == 2
    with here.app.db.transaction(tenant_id) as tx:
        assert tx.planned_posts.again(tenant_id, failed, here.clock[0])
    before = instagram.received.count("publish")
    here.run()
    assert instagram.received.count("publish") - before == 1
    assert {here.show(post_id).status for post_id in posts} == {PostStatus.PUBLISHED}
    here.assert_once()


def test_what_is_too_late_is_missed_and_says_so(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    late, still = here.ask(tenant_id, account_id), here.ask(tenant_id, account_id, after=timedelta(hours=1))
    here.later(hours=2.5)
    here.run()
    missed = here.show(late)
    assert missed.status == PostStatus.MISSED
    assert "could not be begun within 2 hours" in str(missed.error_message)
    assert here.show(still).status == PostStatus.PUBLISHED
    here.assert_once()


def test_a_tenant_says_how_late_is_too_late(here: PostStage) -> None:
    tenant_id = here.tenant()
    with here.app.db.transaction(tenant_id) as tx:
        tx.planned_posts.set_policy(tenant_id, late_after=timedelta(hours=6))
    post_id = here.ask(tenant_id, here.account(tenant_id, "mastodon"))
    here.later(hours=5)
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED


def test_after_an_outage_accounts_take_turns_and_their_posts_are_apart(here: PostStage) -> None:
    tenant_id, other = here.tenant(), here.tenant()
    many, one = here.account(tenant_id, "mastodon"), here.account(other, "mastodon")
    video_ids = [here.video(tenant_id) for _ in range(4)]
    posts = [here.ask(tenant_id, many, video_id) for video_id in video_ids]
    alone = here.ask(other, one)
    here.later(minutes=30)
    begun = []
    for _ in range(8):
        here.due()
        here.turn()
        begun.append({post_id for post_id in (*posts, alone) if here.show(post_id).status != PostStatus.SCHEDULED})
        assert _waiting(here, posts) == {*posts} - begun[-1]  # until its turn it is its tenant's to change
        here.later(minutes=1)
    assert [len(each) for each in begun] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert alone in begun[0]
    here.run()
    assert {here.show(post_id).status for post_id in posts} == {PostStatus.PUBLISHED}
    here.assert_once()


def _waiting(here: PostStage, posts: Sequence[UUID]) -> set[UUID]:
    """Those of the posts that their tenant can still change."""
    found = set()
    for post_id in posts:
        with suppress(Conflict):
            ops.edit(here.app, None, post_id, {"caption": f"A fox, {post_id}", "title": ""})
            found.add(post_id)
    return found


def test_what_is_due_is_counted_once_whatever_postgres_expects(here: PostStage, owner_url: str) -> None:
    """A crowd that is due at once, which statistics from before say nothing of, once took a claim a minute."""
    tenant_id = here.tenant()
    accounts = [here.account(tenant_id, "mastodon") for _ in range(8)]
    with psycopg.connect(seeing_all_tenants(owner_url), autocommit=True) as owner:
        owner.execute(
            "INSERT INTO videos (tenant_id, status, source, title)"
            " SELECT %s, 'completed', 'file', 'crowd' FROM generate_series(1, 25)",
            (tenant_id,),
        )
        owner.execute(
            "INSERT INTO social_posts (tenant_id, video_id, account_id, status, scheduled_for)"
            " SELECT tenant_id, v.id, a.id, 'scheduled', now() + interval '1 year'"
            " FROM videos v JOIN unnest(%s::uuid[]) AS a (id) ON true WHERE title = 'crowd'",
            (accounts,),
        )
        owner.execute("ANALYZE social_posts")
        owner.execute("UPDATE social_posts SET scheduled_for = now()")
    now = here.clock[0] + timedelta(minutes=1)
    values = {"now": now, "last_turn": now, "look_after": now, "limit": 200}
    with here.app.db.transaction(SYSTEM) as tx:
        [(plan,)] = tx.driver.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {CLAIM}".encode(), values).fetchall()
    assert [node["Actual Loops"] for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "WindowAgg"] == [1]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


def test_a_disconnected_account_costs_nobody_else_anything(here: PostStage) -> None:
    tenant_id = here.tenant()
    gone, fine = here.account(tenant_id, "tiktok"), here.account(tenant_id, "tiktok")
    waits, goes = here.ask(tenant_id, gone), here.ask(tenant_id, fine)
    with here.app.db.transaction(tenant_id) as tx:
        row = tx.social_accounts.get(tenant_id, gone)
    assert row is not None
    here.platforms["tiktok"].revoke_account(row["external_id"])
    here.run()
    assert here.show(goes).status == PostStatus.PUBLISHED
    post = here.show(waits)
    assert post.status == PostStatus.SCHEDULED
    assert "connect it again" in str(post.error_message)
    # Its owner connects it again in time: the post goes out by itself.
    account = here.platforms["tiktok"].accounts[row["external_id"]]
    account.revoked = False
    here.connect(tenant_id, "tiktok", PLATFORMS["tiktok"].grant(here.platforms["tiktok"], row["external_id"]))
    here.run()
    assert here.show(waits).status == PostStatus.PUBLISHED
    here.assert_once()


def test_the_places_of_a_day_are_kept(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    with here.app.db.transaction(tenant_id) as tx:
        tx.social_accounts.change(tenant_id, account_id, settings={}, daily_limit=2, has_daily_limit=True)
    posts = [here.ask(tenant_id, account_id) for _ in range(3)]
    for _ in range(3):
        here.due()
        here.turn()
        here.turn()
        here.later(minutes=2)
    states = sorted(here.show(post_id).status for post_id in posts)
    assert states == [PostStatus.CLAIMED, PostStatus.PUBLISHED, PostStatus.PUBLISHED]
    [waiting] = [here.show(post_id) for post_id in posts if here.show(post_id).status == PostStatus.CLAIMED]
    assert "waits for a place" in str(waiting.error_message)


def test_a_foreign_post_in_between_is_not_taken_for_ours(here: PostStage) -> None:
    """trypost#281: the newest of the list was bound."""
    tenant_id = here.tenant()
    instagram = here.platforms["instagram-reels"]
    account_id = here.account(tenant_id, "instagram-reels", "17841400000000001")
    post_id = here.ask(tenant_id, account_id)
    instagram.fault("publish", "hang-up after")
    here.due()
    here.turn()
    instagram.foreign_post("17841400000000001", "something else")
    here.run()
    [ours] = [post for post in instagram.posts if not post.foreign]
    assert here.show(post_id).external_id == ours.id


def test_an_unconfirmed_post_is_looked_for_and_bound(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "mastodon"))
    here.platforms["mastodon"].fault("post", "hang-up after")
    here.due()
    until(lambda: here.turn() and here.show(post_id).status == PostStatus.SUBMITTING, "the call that publishes")
    with here.app.db.transaction(tenant_id) as tx:
        tx.posts.doubt(tenant_id, post_id, code="unknown", message="nobody can tell", look_after=None)
        reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()


def test_no_secret_is_kept_in_clear_or_told(here: PostStage) -> None:
    tenant_id = here.tenant()
    here.ask(tenant_id, here.account(tenant_id, "tiktok"))
    here.ask(tenant_id, here.account(tenant_id, "youtube-shorts"))
    here.run()
    secrets = [
        token
        for simulator in here.platforms.values()
        for account in simulator.accounts.values()
        for token in (*account.access_tokens, *account.refresh_tokens)
    ]
    secrets += ["upload_id=", "upload/"]
    assert len(secrets) > 4
    with here.app.db.transaction(SYSTEM) as tx:
        texts = [
            str(row[0])
            for table in ("job_queue", "job_steps", "post_events", "social_posts", "social_accounts")
            for row in tx.driver.execute(f"SELECT to_jsonb(t)::text FROM {table} t".encode())
        ]
    assert not [secret for secret in secrets for text in texts if secret in text]


@pytest.mark.parametrize(
    ("source", "says", "labelled"),
    [("concept", None, True), ("concept", False, True), ("own", None, False), ("own", True, True)],
)
def test_what_a_program_made_is_labelled(here: PostStage, source: str, *, says: bool | None, labelled: bool) -> None:
    tenant_id = here.tenant()
    chosen = {} if says is None else {"ai_generated": says}
    posts = []
    for platform in ("tiktok", "bluesky"):
        account_id, video_id = here.account(tenant_id, platform), here.video(tenant_id)
        with here.app.db.transaction(tenant_id) as tx:
            tx.driver.execute("UPDATE videos SET source = %s WHERE id = %s", (source, video_id))
        options = {**PLATFORMS[platform].options, **chosen}
        posts.append(here.ask(tenant_id, account_id, video_id, options=options))
    here.run()
    assert [here.show(each).status for each in posts] == [PostStatus.PUBLISHED] * 2
    [clip], [skeet] = here.platforms["tiktok"].posts, here.platforms["bluesky"].posts
    assert clip.fields["is_aigc"] is labelled
    assert (AI_WORDS in skeet.text) is labelled


def test_a_post_of_one_tenant_is_never_taken_for_anothers_on_the_same_account(here: PostStage) -> None:
    """Both have connected it, and both post the same words; the answer to the second is lost before it is sent."""
    first, second = here.tenant(), here.tenant()
    account = here.account(first, "mastodon", "5001")
    simulator = here.platforms["mastodon"]
    other = here.connect(second, "mastodon", PLATFORMS["mastodon"].grant(simulator, "5001"))
    made = here.ask(first, account, caption="The same words", title="")
    here.run()
    doubtful = here.ask(second, other, caption="The same words", title="")
    with here.app.db.transaction(second) as tx:
        tx.driver.execute(
            "UPDATE social_posts SET status = 'unconfirmed', error_code = 'unknown',"
            " claimed_at = now() - interval '1 hour'"
        )
    with here.app.db.transaction(SYSTEM) as tx:
        external_id = here.show(made).external_id or ""
        assert tx.posts.bound_by(second, doubtful, external_id) == made
        assert tx.posts.bound(second, other, [external_id]) == {external_id}
    with here.app.db.transaction(second) as tx:
        reconcile.enqueue(tx, tenant_id=second, post_id=doubtful)
    here.run()
    assert (here.show(doubtful).status, here.show(doubtful).error_code) == (PostStatus.FAILED, "absent")


def test_the_places_of_what_waited_for_a_disconnected_account_are_free_again(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    waits, sent = here.ask(tenant_id, account_id), here.ask(tenant_id, account_id)
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'claimed', claimed_at = now()")
        tx.driver.execute("UPDATE social_posts SET submitted_at = now() WHERE id = %s", (sent,))
    with here.app.db.transaction(SYSTEM) as tx:
        for post_id in (waits, sent):
            allowance = Allowance("a-bucket", 2, here.clock[0] - timedelta(days=1), None, "")
            tx.reservations.reserve(tenant_id, post_id, [allowance], here.clock[0])
    accounts.disconnect(here.app, tenant_id, account_id)
    assert (here.show(waits).status, here.show(sent).status) == (PostStatus.CANCELLED, PostStatus.UNCONFIRMED)
    with here.app.db.transaction(SYSTEM) as tx:
        assert tx.reservations.used("a-bucket", here.clock[0] - timedelta(hours=1)) == 1
        assert not tx.reservations.others_wait(tenant_id, "mastodon", here.clock[0])


def test_a_refused_first_comment_leaves_the_address(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "youtube-shorts"), first_comment="x" * 10_001)
    here.run()
    post = here.show(post_id)
    assert (post.status, bool(post.permalink), post.first_comment_id) == (PostStatus.PUBLISHED, True, "")
