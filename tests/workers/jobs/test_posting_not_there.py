"""What is certainly not there, and what nobody knows that of: a post goes back, or ends, only if it was never sent, or
if that is told of all that was sent."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet

from db.transaction import SYSTEM
from domain.posting.posts import PostStatus
from integrations.vault import FernetVault
from tests.post_stage import PostStage, post_stage
from tests.wait import until
from workers.settings import Settings

S = PostStatus
AN_HOUR = timedelta(hours=1)


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, "mastodon") as made:
        yield made


def a_post(here: PostStage, tenant_id: UUID | None = None) -> UUID:
    tenant_id = tenant_id or here.tenant()
    return here.ask(tenant_id, here.account(tenant_id, "mastodon"))


def put_back(here: PostStage, post_id: UUID, status: PostStatus, **columns: object) -> None:
    """Let a published post's row be as if nobody had heard of its publication."""
    columns = {"external_id": None, "permalink": None, "published_at": None, "look_after": here.clock[0], **columns}
    more = "".join(f", {name} = %({name})s" for name in columns)
    query = f"UPDATE social_posts SET status = %(status)s{more} WHERE id = %(id)s"
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(query.encode(), {"status": status, "id": post_id, **columns})


def sent_once(here: PostStage) -> int:
    return here.platforms["mastodon"].received.count("post")


def test_what_may_be_there_is_looked_for_before_anything_is_done_with_it(here: PostStage) -> None:
    tenant_id = here.tenant()
    states = {
        S.PROCESSING: {"submitted_at": None},
        S.SUBMITTED: {"submitted_at": None},
        S.CLAIMED: {},
    }
    posts = {status: a_post(here, tenant_id) for status in states}
    here.run()
    assert sent_once(here) == 3
    for status, post_id in posts.items():
        put_back(here, post_id, status, **states[status])
    here.later(hours=3)
    here.run()
    assert {here.show(post_id).status for post_id in posts.values()} == {S.PUBLISHED}
    assert sent_once(here) == 3
    here.assert_once()


def test_what_a_platform_works_on_has_a_time_at_which_it_was_sent(here: PostStage) -> None:
    post_id = a_post(here)
    here.run()
    put_back(here, post_id, S.CLAIMED, submitted_at=None)
    post = here.show(post_id)
    with here.app.db.transaction(post.tenant_id) as tx:
        assert tx.posts.accepted(post.tenant_id, post_id, look_after=here.clock[0]) == S.CLAIMED
    assert here.show(post_id).submitted_at == post.claimed_at


def test_one_in_doubt_since_a_restore_stays_so_while_the_platform_works_on_it(here: PostStage) -> None:
    post_id = a_post(here)
    here.run()
    put_back(here, post_id, S.UNCONFIRMED, error_code="restored claimed")
    post = here.show(post_id)
    with here.app.db.transaction(post.tenant_id) as tx:
        tx.posts.accepted(post.tenant_id, post_id, look_after=here.clock[0])
    after = here.show(post_id)
    assert (after.status, after.error_code) == (S.UNCONFIRMED, "restored claimed")


def test_what_was_never_taken_is_missed_when_it_is_late(here: PostStage) -> None:
    tenant_id = here.tenant()
    with here.app.db.transaction(tenant_id) as tx:
        tx.planned_posts.set_policy(tenant_id, late_after=timedelta(minutes=10))
    post_id = a_post(here, tenant_id)
    here.platforms["mastodon"].fault("post", "500 before", times=1000)
    here.run(step=timedelta(minutes=6))
    post = here.show(post_id)
    assert post.status == S.MISSED, here.events(post_id)
    here.assert_once()


def test_what_is_never_late_is_not_sent_for_more_than_a_day(here: PostStage) -> None:
    tenant_id = here.tenant()
    with here.app.db.transaction(tenant_id) as tx:
        tx.planned_posts.set_policy(tenant_id, late_after=timedelta(days=7))
    post_id = a_post(here, tenant_id)
    here.platforms["mastodon"].fault("post", "500 before", times=1000)
    here.run(step=timedelta(hours=2))
    post = here.show(post_id)
    assert (post.status, post.error_code) == (S.FAILED, "tries")
    here.assert_once()


def test_a_platform_that_takes_no_questions_for_days_leaves_the_post_to_a_person(here: PostStage) -> None:
    post_id = a_post(here)
    mastodon = here.platforms["mastodon"]
    mastodon.fault("post", "hang-up after")
    mastodon.fault("statuses", "429", times=1000)
    here.run(step=AN_HOUR)
    assert here.show(post_id).status == S.UNCONFIRMED


def test_what_waits_for_too_long_is_missed_in_time_and_gives_its_places_back(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    with here.app.db.transaction(tenant_id) as tx:
        tx.social_accounts.change(tenant_id, account_id, settings={}, daily_limit=1, has_daily_limit=True)
    goes, waits = (here.ask(tenant_id, account_id) for _ in range(2))
    for _ in range(2):
        here.due()
        here.turn()
        here.turn()
        here.later(minutes=2)
    if here.show(waits).status == S.PUBLISHED:
        goes, waits = waits, goes
    assert here.show(goes).status == S.PUBLISHED
    assert here.show(waits).status == S.CLAIMED
    here.later(hours=2.1)
    with here.app.db.transaction(SYSTEM) as tx:
        late = tx.posts.late(now=here.clock[0], begun=timedelta(minutes=30), limit=10)
    assert [row[0] for row in late] == [waits]
    here.run()
    post = here.show(waits)
    assert post.status == S.MISSED
    assert "waits for a place" in str(post.error_message)
    with here.app.db.transaction(SYSTEM) as tx:
        assert not tx.driver.execute("SELECT 1 FROM post_reservations WHERE post_id = %s", (waits,)).fetchall()


def test_what_nothing_can_be_begun_with_is_missed_too(here: PostStage) -> None:
    """Its platform is not in this release."""
    post_id = a_post(here)
    without = replace(here, app=replace(here.app, ports=replace(here.app.ports, publishers={})))
    without.due()
    without.turn()
    without.turn()
    assert here.show(post_id).status == S.CLAIMED
    here.later(hours=3)
    without.run()
    assert here.show(post_id).status == S.MISSED


def test_a_handle_that_cannot_be_read_any_more_is_replaced(here: PostStage) -> None:
    post_id = a_post(here)
    here.platforms["mastodon"].fault("media", "500 before", times=2)
    here.due()
    until(lambda: here.turn() and here.show(post_id).handle is not None, "its handle")
    with here.app.db.transaction(SYSTEM) as tx:
        sealed = FernetVault([Fernet.generate_key().decode()]).seal("{}")
        tx.driver.execute("UPDATE social_posts SET handle_secrets = %s WHERE id = %s", (sealed, post_id))
    here.run()
    assert here.show(post_id).status == S.PUBLISHED
    assert "reopened" in here.events(post_id)
    here.assert_once()


@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "never"])
def test_a_repeated_commit_that_is_refused_is_looked_for_first(here: PostStage, *, arrives: bool) -> None:
    post_id = a_post(here)
    mastodon = here.platforms["mastodon"]
    mastodon.fault("post", "500 before")
    here.due()
    until(lambda: here.turn() and here.show(post_id).status == S.SUBMITTING, "the first commit")
    mastodon.most_characters = 1
    for _ in range(20):
        here.later(seconds=40)
        here.turn()
        if "refused_again" in here.events(post_id):
            break
    assert here.show(post_id).status == S.SUBMITTING
    if arrives:  # …and that was why the second was refused
        media_id = (here.show(post_id).handle or {})["media_id"]
        [account] = mastodon.accounts
        mastodon._appear(account, {"status": here.show(post_id).caption, "media_ids": [media_id]})
    here.run()
    post = here.show(post_id)
    assert post.status == (S.PUBLISHED if arrives else S.FAILED)
    assert arrives or "Text character limit" in str(post.error_message)
    here.assert_once()


def test_a_disconnected_account_cancels_what_was_never_sent_only(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    sent, never = (here.ask(tenant_id, account_id) for _ in range(2))
    here.run()
    put_back(here, sent, S.CLAIMED)
    put_back(here, never, S.CLAIMED, submitted_at=None)
    with here.app.db.transaction(tenant_id) as tx:
        assert tx.social_accounts.disconnect(tenant_id, account_id) == (1, 1)
    assert here.show(sent).status == S.UNCONFIRMED
    assert here.show(never).status == S.CANCELLED


def test_an_account_that_is_lost_brings_no_sent_post_back(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    post_id = here.ask(tenant_id, account_id)
    here.run()
    put_back(here, post_id, S.CLAIMED)
    with here.app.db.transaction(tenant_id) as tx:
        tx.social_accounts.refuse(tenant_id, account_id, "its owner took it away")
    here.later(minutes=20)
    here.due()
    here.turn()
    here.turn()
    assert here.show(post_id).submitted_at is not None
    here.run(step=AN_HOUR)
    assert here.show(post_id).status == S.UNCONFIRMED


def test_nothing_is_said_of_a_submission_that_nobody_was_told_of(here: PostStage) -> None:
    post_id = a_post(here)
    here.run()
    put_back(here, post_id, S.SUBMITTING)
    post = here.show(post_id)
    earlier = replace(post, submitted_at=here.clock[0] - AN_HOUR)
    for status in (S.SUBMITTING, S.CLAIMED):
        put_back(here, post_id, status)
        with here.app.db.transaction(post.tenant_id) as tx:
            for to in (S.CLAIMED, S.SCHEDULED, S.MISSED, S.FAILED):
                assert tx.posts.not_there(post, to, certain=False) is None
                assert tx.posts.not_there(earlier, to, certain=True) is None
    with here.app.db.transaction(post.tenant_id) as tx:
        assert tx.posts.not_there(post, S.CLAIMED, certain=True, keep_handle=True) == S.CLAIMED
        assert tx.posts.not_there(post, S.CLAIMED, certain=True) == S.CLAIMED
        assert tx.posts.not_there(post, S.FAILED, certain=True) is None
    assert here.show(post_id).submitted_at is None
