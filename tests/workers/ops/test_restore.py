"""A database that was put back to an earlier state makes no second post: what went out since is found, or left to a
person."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected
from domain.ports import Publisher, SubmissionMarks
from domain.posting.posts import PostStatus
from tests.post_stage import PLATFORMS, PostStage, post_stage
from workers.ops import post_stories, posts, restore
from workers.settings import Settings

TABLES = ("social_posts", "post_submissions", "post_events", "post_reservations")


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path) as made:
        yield made


def back_up(here: PostStage) -> dict[str, list[Any]]:
    with here.app.db.transaction(SYSTEM) as tx:
        return {
            table: [row[0] for row in tx.driver.execute(f"SELECT to_jsonb(t)::text FROM {table} t".encode())]
            for table in TABLES
        }


def put_back(here: PostStage, backup: dict[str, list[Any]]) -> None:
    """Do to the rows of posts what putting back a backup does; jobs of the time after it are gone too."""
    with here.app.db.transaction(SYSTEM) as tx:
        for table in reversed(TABLES):
            tx.driver.execute(f"DELETE FROM {table}".encode())
        tx.driver.execute("DELETE FROM job_queue")
        for table, rows in backup.items():
            for row in rows:
                columns = "OVERRIDING SYSTEM VALUE" if table == "post_events" else ""
                query = f"INSERT INTO {table} {columns} SELECT * FROM jsonb_populate_record(NULL::{table}, %s::jsonb)"
                tx.driver.execute(query.encode(), (row,))


@pytest.mark.proof(but=["mastodon", "youtube-shorts"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_went_out_since_the_backup_is_found_and_not_posted_again(here: PostStage, platform: str) -> None:
    tenant_id = here.tenant()
    out = here.ask(tenant_id, here.account(tenant_id, platform))
    never = here.ask(tenant_id, here.account(tenant_id, platform), after=timedelta(hours=3))
    taken_at, backup = here.clock[0], back_up(here)
    here.later(minutes=1)
    here.run()
    assert here.show(out).status == PostStatus.PUBLISHED
    put_back(here, backup)
    assert here.show(out).status == PostStatus.SCHEDULED
    restore.begin(here.app, taken_at)
    assert here.show(out).status == PostStatus.UNCONFIRMED
    assert here.events(out)[-1] == "restored"
    here.turn()
    assert here.show(out).status == PostStatus.PUBLISHED, here.show(out).error_message
    assert restore.status(here.app).undecided == 0
    assert not restore.end(here.app).open
    here.later(hours=3)
    here.run()
    assert here.show(never).status == PostStatus.PUBLISHED
    here.assert_once()


def test_that_it_went_back_is_noticed_and_nobody_posts_until_somebody_has_decided(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "mastodon")
    out = here.ask(tenant_id, account_id)
    taken_at, backup = here.clock[0], back_up(here)
    here.later(minutes=1)
    here.run()
    put_back(here, backup)
    here.run()
    assert here.show(out).status == PostStatus.SCHEDULED
    found = restore.status(here.app)
    assert found.open
    assert found.restore is not None
    assert "1 of the last 1 submissions are not in the database" in found.restore["noticed"]
    with here.app.db.transaction(SYSTEM) as tx:
        assert restore.check(here.app, tx)[0] == "fail"
    restore.begin(here.app, taken_at)
    restore.begin(here.app, taken_at)
    here.turn()
    restore.end(here.app)
    restore.end(here.app)
    here.run()
    assert here.show(out).status == PostStatus.PUBLISHED
    with here.app.db.transaction(SYSTEM) as tx:
        assert restore.check(here.app, tx)[0] == "ok"
    here.assert_once()


@pytest.mark.proof
def test_what_nobody_can_tell_stays_a_persons(here: PostStage) -> None:
    """TikTok lists no private posts, so that one is not in the list proves nothing."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "tiktok"), options={"privacy_level": "SELF_ONLY"})
    taken_at, backup = here.clock[0], back_up(here)
    here.later(minutes=1)
    here.run(turns=150, step=timedelta(hours=1))
    put_back(here, backup)
    restore.begin(here.app, taken_at)
    here.run()
    assert here.show(post_id).status == PostStatus.UNCONFIRMED
    with pytest.raises(Conflict, match="of 1 posts nobody knows yet"):
        restore.end(here.app)
    assert not restore.end(here.app, although_undecided=True).open
    here.run()
    assert here.show(post_id).status == PostStatus.UNCONFIRMED
    here.assert_once(unconfirmed=1)


def test_a_post_that_was_not_made_since_goes_out_after_all(here: PostStage) -> None:
    """The account's list is complete and does not have it, so it was not made."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "mastodon"))
    restore.begin(here.app, here.clock[0] - timedelta(minutes=1))
    here.turn()
    assert here.show(post_id).status == PostStatus.UNCONFIRMED, "a list may lag behind"
    here.later(hours=1)
    here.turn()
    assert here.show(post_id).status == PostStatus.SCHEDULED
    restore.end(here.app)
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()


def test_nothing_is_submitted_after_a_restore_has_begun(here: PostStage) -> None:
    """A job that has everything ready is stopped at the commit before the call."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "tiktok"))
    here.due()
    with here.app.db.transaction(SYSTEM) as tx:
        tx.restores.notice("a test", here.clock[0])
    here.turn()
    assert here.platforms["tiktok"].posts == []
    assert here.show(post_id).status == PostStatus.SCHEDULED


def test_places_that_are_lost_raise_no_alarm(here: PostStage) -> None:
    marks = here.app.ports.marks
    assert marks is not None
    assert list(marks.recall(here.clock[0])) == []
    one = uuid4()
    marks.remember(one, here.clock[0])
    assert list(marks.recall(here.clock[0] - timedelta(seconds=1))) == [one]
    file = here.app.settings.viral_home / "submissions"
    file.write_text("cut sho")
    assert list(marks.recall(here.clock[0] - timedelta(seconds=1))) == [one]
    assert list(marks.recall(here.clock[0] + timedelta(seconds=1))) == []


def test_only_so_many_are_remembered(here: PostStage) -> None:
    marks = here.app.ports.marks
    assert marks is not None
    ids = [UUID(int=n + 1) for n in range(300)]
    for n, each in enumerate(ids):
        marks.remember(each, here.clock[0] + timedelta(seconds=n))
    assert set(marks.recall(here.clock[0] - timedelta(seconds=1))) == set(ids[-64:])


def test_a_moment_to_come_is_refused(here: PostStage) -> None:
    with pytest.raises(Rejected, match="is still to come"):
        restore.begin(here.app, here.clock[0] + timedelta(hours=1))


def test_a_missed_post_that_was_scheduled_again_stands_in_nobodys_way(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id, video_id = here.account(tenant_id, "mastodon"), here.video(tenant_id)
    missed = here.ask(tenant_id, account_id, video_id)
    here.later(hours=3)
    here.run()
    assert here.show(missed).status == PostStatus.MISSED
    again = here.ask(tenant_id, account_id, video_id)
    restore.begin(here.app, here.clock[0] - timedelta(hours=4))
    assert here.show(missed).status == PostStatus.MISSED
    assert here.show(again).status == PostStatus.UNCONFIRMED


def test_queues_that_were_paused_before_stay_so(here: PostStage) -> None:
    with here.app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("media")
    restore.begin(here.app, here.clock[0])
    restore.begin(here.app, here.clock[0])
    restore.end(here.app)
    with here.app.db.transaction(SYSTEM) as tx:
        assert (tx.queues.resume("social"), tx.queues.resume("media")) == (False, True)


def test_no_transaction_is_open_while_the_outside_is_read(here: PostStage) -> None:
    class Marks:
        def recall(self, since: datetime) -> list[UUID]:
            with here.app.db.transaction(SYSTEM) as tx:  # it would be refused in another one
                tx.now()
            return [UUID(int=1)]

    app = replace(here.app, ports=replace(here.app.ports, marks=cast("SubmissionMarks", Marks())))
    with app.db.transaction(SYSTEM) as tx:
        assert "lacks 1 of the last 1 submissions" in restore.check(app, tx)[1]


def test_what_is_being_uploaded_when_a_restore_begins_is_not_made_twice(here: PostStage) -> None:
    """It was sent, and nothing of it is there yet: neither the reconciler nor a person may say that it is not."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "bluesky"))
    here.platforms["bluesky"].fault("putRecord", "hang-up before")
    here.due()
    while here.show(post_id).status != PostStatus.SUBMITTING:
        here.turn()
    restore.begin(here.app, here.clock[0])
    here.turn()
    assert here.show(post_id).status == PostStatus.UNCONFIRMED
    with pytest.raises(Conflict, match="may still arrive until"):
        post_stories.resolve(here.app, post_id, "lost")
    here.later(hours=1)
    here.turn()
    assert here.show(post_id).status == PostStatus.SCHEDULED
    restore.end(here.app)
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()


@pytest.mark.parametrize("platform", ["mastodon", "bluesky"])
def test_a_text_that_was_changed_after_the_backup_does_not_make_a_second_post(here: PostStage, platform: str) -> None:
    """Where the list shows no marks somebody has to say which it is; Bluesky's keys have them."""
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, platform)
    edited = here.ask(tenant_id, account_id)
    taken_at, backup = here.clock[0], back_up(here)
    here.later(minutes=1)
    with here.app.db.transaction(tenant_id) as tx:
        tx.planned_posts.change(tenant_id, edited, {"caption": "Not the words of the backup"})
    here.run()
    external_id = here.show(edited).external_id
    put_back(here, backup)
    restore.begin(here.app, taken_at)
    for _ in range(5):
        here.later(minutes=30)
        here.turn()
    if platform == "bluesky":
        assert here.show(edited).status == PostStatus.PUBLISHED
    else:
        assert here.show(edited).status == PostStatus.UNCONFIRMED
        assert "one may be it" in str(here.show(edited).error_message)
        post_stories.resolve(here.app, edited, "found", external_id)
    assert here.show(edited).external_id == external_id
    here.assert_once()


def test_a_post_that_had_failed_before_the_backup_is_looked_for_before_it_is_made_again(here: PostStage) -> None:
    """It was tried again after the backup, and published."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "bluesky"), title="")
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'failed', error_code = 'refused'")
    taken_at, backup = datetime.now(UTC), back_up(here)
    posts.retry(here.app, tenant_id, post_id)
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED
    put_back(here, backup)
    restore.begin(here.app, taken_at)
    restore.end(here.app)
    assert posts.retry(here.app, tenant_id, post_id)["status"] == PostStatus.UNCONFIRMED
    here.run()
    assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()


def test_what_was_in_doubt_before_the_backup_fails_if_it_is_not_there(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "bluesky"))
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'unconfirmed', error_code = 'unknown'")
    restore.begin(here.app, here.clock[0])
    assert here.show(post_id).restored_from == PostStatus.UNCONFIRMED
    here.later(hours=1)
    here.turn()
    assert (here.show(post_id).status, here.show(post_id).error_code) == (PostStatus.FAILED, "absent")


def test_an_answer_that_comes_after_all_is_not_lost(here: PostStage) -> None:
    """Meanwhile the post counted as not there: it is not made again."""
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, "bluesky"))

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(here.app.ports.publishers["bluesky"], name)

        def commit(self, *values: Any, **named: Any) -> Any:
            answer = here.app.ports.publishers["bluesky"].commit(*values, **named)
            with here.app.db.transaction(tenant_id) as tx:
                tx.driver.execute("UPDATE social_posts SET status = 'scheduled', submitted_at = NULL")
            return answer

    late = replace(here.app, ports=replace(here.app.ports, publishers={"bluesky": cast("Publisher", Late())}))
    replace(here, app=late).run()
    here.later(minutes=1)
    here.run()
    assert "contradicted" in here.events(post_id)
    assert here.show(post_id).status == PostStatus.PUBLISHED
    here.assert_once()
