"""`viral posts`, as an operator uses it, against a simulated Mastodon."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from tests.cli.shell import Shell, working
from tests.post_stage import PostStage, post_stage
from workers.settings import Settings

NOBODY = "00000000-0000-0000-0000-000000000000"
MASTODON = "mastodon"


@pytest.fixture
def here(settings: Settings, tmp_path: Path, viral: Shell) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, MASTODON) as made:
        made.later(minutes=10)  # its clock stands, and the shell's goes on
        found = made.app.settings
        viral.environment |= {
            "MEDIA_DIR": str(found.media_dir),
            "MASTODON_BASE_URL": found.mastodon_base_url,
            "TOKEN_ENCRYPTION_KEYS": found.reveal(found.token_encryption_keys)[0],
        }
        yield made


def test_a_video_is_posted_waited_for_and_explained(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id, video_id = here.account(tenant_id, MASTODON), here.video(tenant_id)
    asked = ("posts", "create", video_id, "--account", account_id, "--caption", "A fox [bold]in[/bold] the snow")
    checked = viral.done(*asked, "--dry-run").out
    assert "| A fox [bold]in[/bold] the snow" in checked
    assert "characters as Mastodon counts" in checked
    assert viral.json("posts", "list") == []
    with working(here.app):
        made = viral.done(*asked, "--wait").out
    assert ": published" in made
    [post] = viral.json("posts", "list", "--tenant", tenant_id, "--status", "published")
    assert post["permalink"] in made
    explained = viral.done("posts", "explain", post["id"]).out
    assert f"Certain: Mastodon published it as {post['external_id']}" in explained
    assert "What happened" in explained
    assert viral.json("posts", "explain", post["id"])["uncertain"] == []
    shown = viral.done("posts", "show", post["id"]).out
    assert post["permalink"] in shown
    assert "A fox [bold]in[/bold] the snow" in viral.done("posts", "list").out
    again = viral.refused(*asked)
    assert "this video is already on account" in again
    here.assert_once()


def test_what_is_planned_is_changed_approved_cancelled_and_tried_again(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    asked = ("posts", "create", here.video(tenant_id), "--account", account_id, "--caption", "x")
    policy = viral.json("posts", "policy", tenant_id, "--late-after", "1h", "--needs-approval")
    assert policy == {"late_after_seconds": 3600, "needs_approval": True}
    assert "late_after      1h" in viral.done("posts", "policy", tenant_id).out
    [made] = viral.json(*asked, "--at", "suggested", "-o", "mastodon.visibility=unlisted")
    assert (made["status"], made["options"]["visibility"]) == ("needs_approval", "unlisted")
    edited = viral.json("posts", "edit", made["id"], "--caption", "y", "-o", "sensitive=true", "-o", "visibility=")
    assert (edited["caption"], edited["options"]) == ("y", {"visibility": "public", "sensitive": True})
    assert "scheduled for" in viral.done("posts", "approve", made["id"]).out
    [planned] = viral.json("posts", "calendar", tenant_id)
    assert planned["id"] == made["id"]
    assert "cancelled" in viral.done("posts", "cancel", made["id"]).out
    assert "is too far away" in viral.refused("posts", "retry", made["id"], "--at", "2999-01-01")
    assert ": scheduled for" in viral.done("posts", "retry", made["id"]).out
    assert "is scheduled: it is not made again" in viral.refused("posts", "retry", made["id"])


def test_posts_in_doubt_are_decided(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    post_id = here.ask(tenant_id, here.account(tenant_id, MASTODON))
    here.run()
    external_id = here.show(post_id).external_id
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'unconfirmed', external_id = NULL")
    assert f"`viral posts resolve {post_id} lost`" in viral.done("posts", "explain", post_id).out
    assert "knows no post 99999" in viral.refused("posts", "resolve", post_id, "found", "99999")
    assert "asked whether it has it" in viral.done("posts", "reconcile", post_id).out
    assert f"it is published: {external_id}" in viral.done("posts", "resolve", post_id, "found", external_id).out
    assert "nothing to decide" in viral.refused("posts", "resolve", post_id, "lost")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", NOBODY), "--account"),
        (("create", NOBODY, "--account", NOBODY, "--at", "tomorrow"), "is no time"),
        (("create", NOBODY, "--account", NOBODY, "-o", "privacy"), "not NAME=VALUE"),
        (("create", NOBODY, "--account", NOBODY, "-o", "privacy=x"), "not PLATFORM.NAME=VALUE"),
        (("edit", NOBODY), "say what to change"),
        (("list", "--status", "done"), "no such status"),
        (("reconcile",), "name posts, or say --status"),
        (("resolve", "lost"), "is no id"),
        (("resolve", NOBODY), "say found or lost"),
        (("resolve", "found", "--status", "unconfirmed"), "of one at a time"),
        (("retry", NOBODY, "--status", "failed"), "one of them"),
        (("retry", "--status", "gone"), "no such status"),
        (("retry", "--status", "failed"), "say why"),
        (("resolve", NOBODY, "lost", "7"), "goes with found"),
        (("resolve", NOBODY, "maybe"), "no such verdict"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    away: Shell, words: tuple[str, ...], says: str
) -> None:
    assert says in away.senseless("posts", *words)


def test_what_is_not_there_is_said_in_one_line(here: PostStage, viral: Shell) -> None:
    account_id: UUID = here.account(here.tenant(), MASTODON)
    assert "no video" in viral.refused("posts", "create", NOBODY, "--account", account_id)
    for words in (("show",), ("explain",), ("cancel",), ("wait",), ("reconcile",)):
        assert "there is no post" in viral.refused("posts", *words, NOBODY)
    foreign = here.video(here.tenant())
    assert "there is no account" in viral.refused("posts", "create", foreign, "--account", account_id)


def test_all_that_is_wrong_with_a_post_is_said(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id, video_id = here.account(tenant_id, MASTODON), here.video(tenant_id)
    line = viral.refused(
        "posts", "create", video_id, "--account", account_id, "--at", "2099-01-01", "--caption", "x" * 600
    )
    assert "at most 500" in line
    assert "at most 180 days ahead" in line
    assert "details" not in line, "a shell shows none"


@pytest.mark.parametrize(
    ("words", "status", "becomes"),
    [
        (("approve",), "needs_approval", "scheduled"),
        (("cancel",), "scheduled", "cancelled"),
        (("retry",), "failed", "published"),
        (("retry", "--at", f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"), "failed", "scheduled"),
        (("reconcile",), "unconfirmed", "failed"),
        (("resolve", "lost"), "unconfirmed", "failed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_all_that_fit_are_acted_upon(
    here: PostStage, viral: Shell, words: tuple[str, ...], status: str, becomes: str
) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    ids = [here.ask(tenant_id, account_id, title="", after=timedelta(days=1)) for _ in range(3)]
    with here.app.db.transaction(SYSTEM) as tx:
        query = "UPDATE social_posts SET status = %s, submitted_at = now() - interval '2 days' WHERE id <> %s"
        tx.driver.execute(query, (status, ids[2]))
        tx.driver.execute("UPDATE social_posts SET status = 'published' WHERE id = %s", (ids[2],))
    chosen = ("posts", *words, "--status", status, "--account", account_id, "--reason", "it is over")
    assert "2 posts? Say --yes to do it" in viral.senseless(*chosen)
    with working(here.app):
        result = viral(*chosen, "--yes")
    here.run()
    assert result.code == 0, result
    assert result.out.splitlines()[-1].endswith("completed: 2 done")
    if words != ("reconcile",):
        assert {here.show(each).status for each in ids[:2]} == {becomes}
    assert here.show(ids[2]).status == "published"


def test_what_all_are_refused_for_is_said_once_and_counted(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    video_id = here.video(tenant_id)
    ids = []
    for _ in range(2):
        ids.append(here.ask(tenant_id, account_id, video_id, title="", after=timedelta(days=1)))
        with here.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE social_posts SET status = 'failed' WHERE id = %s", (ids[-1],))
    here.ask(tenant_id, account_id, video_id, title="", after=timedelta(days=1))
    with working(here.app):
        result = viral("posts", "retry", "--status", "failed", "--reason", "it is over", "--yes")
    assert result.code == 1, result
    assert result.out.splitlines()[-1].endswith("completed: 2 refused")
    assert "2 × this video is already on account" in result.out
    assert {here.show(each).status for each in ids} == {"failed"}


def test_several_are_given_up_at_once_and_one_is_found(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    ids = [here.ask(tenant_id, account_id, title="") for _ in range(2)]
    with here.app.db.transaction(SYSTEM) as tx:
        query = "UPDATE social_posts SET status = 'unconfirmed', submitted_at = now() - interval '2 days'"
        tx.driver.execute(query)
    assert "of one at a time" in viral.senseless("posts", "resolve", *ids, "found")
    viral.done("posts", "resolve", *ids, "lost")
    assert {here.show(each).status for each in ids} == {"failed"}


def test_what_is_refused_keeps_nobody_from_the_next(here: PostStage, viral: Shell) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, MASTODON)
    gone, *others = sorted(here.ask(tenant_id, account_id, title="", after=timedelta(days=1)) for _ in range(3))
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE social_posts SET status = 'published' WHERE id = %s", (gone,))
    result = viral("posts", "cancel", gone, *others)
    assert (result.code, "it is published" in result.out.splitlines()[0]) == (1, True)
    assert {here.show(each).status for each in others} == {"cancelled"}
    assert "it is published" in viral.refused("posts", "cancel", gone)
