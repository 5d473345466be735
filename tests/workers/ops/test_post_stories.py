"""What became of a post, and what a person decides of one in doubt: against simulated platforms."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected, UnknownPost
from domain.ops.actions import target
from domain.posting.limits import closed_bucket
from domain.queue.rate import hold_off
from tests.post_stage import PostStage, post_stage
from tests.workers.ops.test_posts import at_once
from workers.ops import post_stories, posts
from workers.ops.actions import perform
from workers.settings import Settings

MASTODON = "mastodon"


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, MASTODON) as made:
        yield made


def published(here: PostStage, tenant_id: UUID, account_id: UUID) -> UUID:
    post_id = here.ask(tenant_id, account_id)
    here.run()
    assert here.show(post_id).status == "published"
    return post_id


def in_doubt(here: PostStage, post_id: UUID, code: str = "unknown") -> str:
    """Let the database lose what became of the post; return what the platform calls it."""
    external_id = here.show(post_id).external_id
    with here.app.db.transaction(here.show(post_id).tenant_id) as tx:
        query = "UPDATE social_posts SET status = 'unconfirmed', external_id = NULL, error_code = %s WHERE id = %s"
        tx.driver.execute(query, (code, post_id))
    return external_id or ""


def test_what_was_sent_and_answered_is_said_at_each_step(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, MASTODON))
    here.platforms[MASTODON].fault("post", "hang-up after")
    before = post_stories.explain(here.app, tenant_id, post_id)
    assert "nothing that publishes it was ever sent to Mastodon" in before.certain
    here.due()
    while here.show(post_id).status != "submitting":
        here.turn()
    there = post_stories.explain(here.app, None, post_id)
    assert there.certain[-1].startswith("the call that publishes it was begun at")
    assert there.uncertain[0].startswith("whether Mastodon published it: it was sent, and may be published")
    assert (there.next_at is not None, bool(there.job)) == (True, True)
    here.run()
    after = post_stories.explain(here.app, tenant_id, post_id)
    assert after.certain[0].startswith(f"Mastodon published it as {here.show(post_id).external_id}")
    assert (after.uncertain, after.next, after.advice, after.job) == ([], "its numbers are collected", [], [])
    assert [event["kind"] for event in after.events][:4] == ["claimed", "opened", "submitting", "unknown"]
    here.assert_once()


def test_what_is_not_the_posts_own_is_said_too(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    post_id = here.ask(tenant_id, account_id)
    with here.app.db.transaction(SYSTEM) as tx:
        bucket, until = closed_bucket(MASTODON, account_id), tx.now().replace(year=2100)
        tx.rates.change([bucket], lambda found, _: ({bucket: hold_off(found[bucket], until)}, None))
    assert "takes no more for now" in (post_stories.explain(here.app, tenant_id, post_id).next or "")
    with here.app.db.transaction(SYSTEM) as tx:
        tx.restores.notice("3 submissions are missing", here.clock[0])
    assert "the database was put back" in (post_stories.explain(here.app, tenant_id, post_id).next or "")
    with pytest.raises(UnknownPost):
        post_stories.explain(here.app, here.tenant(), post_id)


def test_a_post_in_doubt_is_found_by_its_id_or_address_once_and_no_other_is(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    first, second = published(here, tenant_id, account_id), published(here, tenant_id, account_id)
    address = here.show(second).permalink
    other, own = here.show(first).external_id, in_doubt(here, second)
    with pytest.raises(Conflict, match="has the id"):
        post_stories.resolve(here.app, second, "found", other)
    with pytest.raises(Conflict, match="Mastodon knows no post 999999 on the account"):
        post_stories.resolve(here.app, second, "found", "999999")
    for verdict, external_id in (("found", None), ("lost", own), ("found", "x" * 501), ("found", "a\nb")):
        with pytest.raises(Rejected):
            post_stories.resolve(here.app, second, verdict, external_id)  # type: ignore[arg-type]
    results = at_once(8, lambda _: post_stories.resolve(here.app, second, "found", address))
    assert Counter(getattr(each, "code", "done") for each in results) == {"done": 1, "NOT_IN_DOUBT": 7}
    post = here.show(second)
    assert (post.status, post.external_id, post.permalink) == ("published", own, address)
    assert here.events(second)[-1] == "resolved"
    here.run()
    here.assert_once()


def test_a_platform_that_does_not_answer_leaves_it_to_the_person(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = published(here, tenant_id, here.account(tenant_id, MASTODON))
    own = in_doubt(here, post_id)
    away = replace(here.app, ports=replace(here.app.ports, publishers={}))
    assert "could not be asked" in post_stories.resolve(away, post_id, "found", own).says
    assert here.show(post_id).status == "published"


def test_what_is_lost_fails_and_is_not_sent_again_by_itself(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, MASTODON), title="")
    for code in ("unknown", "restored scheduled"):
        in_doubt(here, post_id, code)
        post_stories.resolve(here.app, post_id, "lost")
        here.run()
        assert (here.show(post_id).status, here.show(post_id).error_code) == ("failed", "lost")
    assert here.posts() == []
    in_doubt(here, post_id, "restored needs_approval")
    assert "needs_approval again" in post_stories.resolve(here.app, post_id, "lost").says
    posts.approve(here.app, tenant_id, post_id)
    here.run()
    assert here.show(post_id).status == "published"
    here.assert_once()


def test_the_platform_is_asked_again_for_one_post_or_all_of_an_account(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    made = [published(here, tenant_id, account_id) for _ in range(2)]
    ids = [in_doubt(here, post_id) for post_id in made]
    perform(here.app, "post.reconcile", target(f"post:{made[0]}"), who="person:ada")
    here.run()
    assert [here.show(each).status for each in made] == ["published", "unconfirmed"]
    assert post_stories.reconcile_of_account(here.app, account_id).says.startswith("1 unconfirmed")
    here.run()
    assert [here.show(each).external_id for each in made] == ids
    refused = perform(here.app, "post.reconcile", target(f"post:{made[0]}"), who="person:ada")
    assert "there is nothing to decide" in refused.says


def test_a_private_post_that_a_platform_does_not_list_is_found_as_the_person_says(
    settings: Settings, tmp_path: Path
) -> None:
    """TikTok shows programs no private posts: with the id that the owner sees, or without one, a person is believed."""
    with post_stage(settings, tmp_path, "tiktok") as here:
        tenant_id = here.tenant()
        account_id = here.account(tenant_id, "tiktok")
        named, seen = here.ask(tenant_id, account_id), here.ask(tenant_id, account_id)
        here.run()
        for post_id in (named, seen):
            in_doubt(here, post_id)
        change = post_stories.resolve(here.app, named, "found", "7400000000000000206")
        assert (here.show(named).status, here.show(named).external_id) == ("published", "7400000000000000206")
        assert "does not list every post, so this is as the person says" in change.says
        post_stories.resolve(here.app, seen, "found")
        assert (here.show(seen).status, here.show(seen).external_id) == ("published", None)


def test_a_platform_that_lists_every_post_wants_its_id(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = published(here, tenant_id, here.account(tenant_id, MASTODON))
    in_doubt(here, post_id)
    with pytest.raises(Conflict, match="say its id"):
        post_stories.resolve(here.app, post_id, "found")
