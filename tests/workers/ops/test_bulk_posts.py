"""Many posts, and many videos, are acted upon as one is: each once, with its own rules and its own conflict, whoever
else changes them at the same time."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from db.transaction import SYSTEM, Contended
from domain.errors import Rejected, ViralError
from domain.ops.actions import target
from domain.ops.post_filters import PostFilter, VideoFilter
from tests.post_stage import PostStage, post_stage
from tests.video_stage import Stage, a_concept
from tests.video_stage import stage as video_stage
from tests.workers.ops.test_bulk import items
from workers.adapters.many_things import ManyThingsInDatabase
from workers.app import App
from workers.ops import posts, videos
from workers.ops.bulk import Bulk, begin, bulk, preview
from workers.settings import Settings

ADA = "person:ada"
MASTODON, TIKTOK = "mastodon", "tiktok"


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, MASTODON, TIKTOK) as made:
        yield made


@pytest.fixture
def studio(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    with video_stage(settings, tmp_path) as made:
        yield made


def put(here: PostStage, post_id: UUID, status: str, **columns: object) -> None:
    with here.app.db.transaction(SYSTEM) as tx:
        sets = "".join(f", {name} = %({name})s" for name in columns)
        values = {"status": status, "id": post_id} | columns
        tx.driver.execute(f"UPDATE social_posts SET status = %(status)s{sets} WHERE id = %(id)s", values)


def begun(app: App, shown: Bulk, reason: str = "it is over") -> Bulk:
    begin(app, shown.id, who=ADA, reason=reason)
    return shown


def outcomes(app: App, shown: Bulk) -> dict[UUID, str | None]:
    return {target(what).uuid: outcome for what, outcome in items(app, shown.id)}


def test_a_time_at_which_nothing_can_be_posted_is_refused_before_anything_is_chosen(app: App) -> None:
    for at, why in (("2020-01-01T09:00Z", "has passed"), ("2999-01-01", "too far away")):
        with pytest.raises(Rejected, match=why):
            preview(app, "post.retry", {"at": at}, who=ADA, wanted=PostFilter(status="failed"))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT count(*) FROM bulk_actions").fetchall() == [(0,)]


def test_failed_posts_of_a_platform_are_tried_again_each_with_its_own_conflict(here: PostStage) -> None:
    ada, bob = here.tenant(), here.tenant()
    accounts = {(tenant, name): here.account(tenant, name) for tenant in (ada, bob) for name in (TIKTOK, MASTODON)}
    failed = [here.ask(tenant, accounts[tenant, MASTODON], title="") for tenant in (ada, bob, ada, bob)]
    elsewhere = here.ask(ada, accounts[ada, TIKTOK])
    for each in (*failed, elsewhere):
        put(here, each, "failed", error_code="refused", error_message="no")
    old = here.ask(bob, accounts[bob, MASTODON])
    put(here, old, "failed", updated_at=here.clock[0] - timedelta(days=2))
    wanted = PostFilter(status="failed", platform=MASTODON, since=timedelta(hours=2))
    shown = preview(here.app, "post.retry", who=ADA, wanted=wanted)
    assert outcomes(here.app, shown) == dict.fromkeys(sorted(failed))
    assert shown.shell == "viral posts retry --status failed --platform mastodon --since 2h"
    later = here.ask(ada, accounts[ada, MASTODON])
    put(here, later, "failed")
    put(here, failed[1], "published")
    with here.app.db.transaction(SYSTEM) as tx:
        [(video_id,)] = tx.driver.execute("SELECT video_id FROM social_posts WHERE id = %s", (failed[2],)).fetchall()
    here.ask(ada, accounts[ada, MASTODON], video_id)
    begun(here.app, shown)
    here.run()
    found = bulk(here.app, shown.id)
    assert (found.state, found.counts) == ("completed", {"done": 2, "refused": 2}), found.refused
    why = {target(each["target"]).uuid: each["says"] for each in found.refused}
    assert why.keys() == {failed[1], failed[2]}
    assert "it is not made again" in why[failed[1]]
    assert "this video is already on account" in why[failed[2]]
    assert {here.show(each).status for each in (failed[0], failed[3])} == {"published"}
    assert {here.show(each).status for each in (old, later, elsewhere)} == {"failed"}
    with here.app.db.transaction(SYSTEM) as tx:
        query = "SELECT before, after FROM bulk_items WHERE bulk_id = %s AND target = %s"
        [(before, after)] = tx.driver.execute(query, (shown.id, f"post:{failed[0]}")).fetchall()
    assert (before["status"], before["error_code"], after["status"]) == ("failed", "refused", "scheduled")


def test_what_is_lost_is_given_up_by_filter_and_found_is_said_of_one(here: PostStage) -> None:
    tenant = here.tenant()
    account = here.account(tenant, TIKTOK)
    doubted = [here.ask(tenant, account) for _ in range(3)]
    for each in doubted:
        put(here, each, "unconfirmed", submitted_at=here.clock[0] - timedelta(days=1))
    put(here, doubted[2], "unconfirmed", submitted_at=here.clock[0])
    wanted = PostFilter(status="unconfirmed", account_id=account)
    for arguments in ({"verdict": "found"}, {"verdict": "lost", "external_id": "7"}, {}):
        with pytest.raises(Rejected):
            preview(here.app, "post.resolve", arguments, who=ADA, wanted=wanted)
    for senseless in (PostFilter(account_id=account), PostFilter(status="published")):
        with pytest.raises(Rejected, match="only such can be: unconfirmed"):
            preview(here.app, "post.resolve", {"verdict": "lost"}, who=ADA, wanted=senseless)
    shown = begun(here.app, preview(here.app, "post.resolve", {"verdict": "lost"}, who=ADA, wanted=wanted))
    assert shown.shell is not None
    assert shown.shell.startswith(f"viral posts resolve lost --status unconfirmed --account {account}")
    here.turn()
    assert outcomes(here.app, shown) == {doubted[0]: "done", doubted[1]: "done", doubted[2]: "refused"}
    assert "may still arrive" in bulk(here.app, shown.id).refused[0]["says"]
    assert [here.show(each).error_code for each in doubted] == ["lost", "lost", None]
    assert here.posts() == []


def test_many_act_on_posts_of_many_tenants_while_their_tenants_do_and_each_change_is_one(here: PostStage) -> None:
    """Three bulk actions go over the same tenants in different orders, and their people cancel and approve meanwhile:
    nobody waits for ever, nothing fails of it, and what became of each is said once."""
    tenants = [here.tenant() for _ in range(4)]
    accounts = {tenant: here.account(tenant, MASTODON) for tenant in tenants}
    ids = [here.ask(tenant, accounts[tenant], after=timedelta(days=1), title="") for tenant in tenants * 3]
    for each in ids:
        put(here, each, "needs_approval", approved_at=None)
    rng = Random(7)
    orders = [rng.sample(ids, len(ids)) for _ in range(3)]
    chosen = []
    for name, order in zip(("post.approve", "post.cancel", "post.cancel"), orders, strict=True):
        shown = preview(here.app, name, who=ADA, targets=[target(f"post:{each}") for each in order])
        with here.app.db.transaction(SYSTEM) as tx:  # each in an order of its own
            tx.driver.execute("UPDATE bulk_items SET position = -position WHERE bulk_id = %s", (shown.id,))
            for position, each in enumerate(order, start=1):
                query = "UPDATE bulk_items SET position = %s WHERE bulk_id = %s AND target = %s"
                tx.driver.execute(query, (position, shown.id, f"post:{each}"))
        chosen.append(begun(here.app, shown))
    many = ManyThingsInDatabase(here.app.db, here.app.job_types)

    def act(shown: Bulk) -> None:
        going = True
        while going:
            with suppress(Contended):
                going = many.act(shown.id, here.clock[0])

    def as_a_person(number: int) -> int:
        done = 0
        for each in rng.sample(ids, len(ids)):
            with suppress(ViralError):
                (posts.approve if number % 2 else posts.cancel)(here.app, None, each)
                done += 1
        return done

    with ThreadPoolExecutor(7) as pool:
        acting = [pool.submit(act, each) for each in chosen]
        people = [pool.submit(as_a_person, number) for number in range(4)]
        for each in (*acting, *people):
            each.result(timeout=120)
    counts: Counter[str | None] = Counter()
    for shown in chosen:
        found = bulk(here.app, shown.id)
        assert (found.state, found.left, found.counts.get("failed", 0)) == ("completed", 0, 0)
        counts += Counter(outcomes(here.app, shown).values())
    assert {here.show(each).status for each in ids} == {"cancelled"}
    for each in ids:
        events = Counter(here.events(each))
        assert events["cancelled"] == 1
        assert events["approved"] <= 1
    assert counts["done"] <= 2 * len(ids)


def test_videos_are_stopped_and_their_orders_given_up_by_filter(studio: Stage) -> None:
    ada, bob = studio.tenant(), studio.tenant()
    drawn = [studio.ask(tenant) for tenant in (ada, ada, bob)]
    bought = studio.ask(ada, a_concept(segments=4), provider="runway")
    wanted = VideoFilter(status="pending", tenant_id=ada)
    shown = begun(studio.app, preview(studio.app, "video.cancel", who=ADA, wanted=wanted))
    studio.run()
    assert outcomes(studio.app, shown) == dict.fromkeys(sorted([*drawn[:2], bought]), "done")
    assert [studio.show(each)["status"] for each in (*drawn, bought)] == [*["cancelled"] * 2, "completed", "cancelled"]
    assert studio.budget(ada).reserved == 0
    studio.bills["runway"].misbehave("500 after")
    unclear = [studio.ask(bob, a_concept(segments=4), provider="runway")]
    studio.run()
    assert studio.show(unclear[0])["status"] == "unconfirmed"
    with pytest.raises(Rejected):
        preview(studio.app, "video.resolve", {"verdict": "lost", "charged": "1"}, who=ADA, wanted=wanted)
    doubted = VideoFilter(status="unconfirmed", provider="runway")
    shown = begun(studio.app, preview(studio.app, "video.resolve", {"verdict": "lost"}, who=ADA, wanted=doubted))
    studio.turn()
    assert outcomes(studio.app, shown) == {unclear[0]: "done"}
    studio.run()
    assert studio.budget(bob).spent == sum((cost for _, cost in studio.usage(bob)), start=studio.budget(bob).spent * 0)
    studio.assert_books()


def test_a_video_is_stopped_by_one_of_many_while_its_job_makes_it(studio: Stage) -> None:
    tenant = studio.tenant()
    ids = [studio.ask(tenant) for _ in range(6)]
    shown = [
        begun(studio.app, preview(studio.app, "video.cancel", who=ADA, wanted=VideoFilter(status="pending")))
        for _ in range(3)
    ]
    many = ManyThingsInDatabase(studio.app.db, studio.app.job_types)

    def act(which: Bulk) -> None:
        going = True
        while going:
            with suppress(Contended):
                going = many.act(which.id, studio.clock[0])

    with ThreadPoolExecutor(5) as pool:
        acting = [pool.submit(act, each) for each in shown]
        making = pool.submit(studio.turn)
        single = [pool.submit(videos.cancel, studio.app, None, each) for each in ids]
        for each in (*acting, making, *single):
            with suppress(Contended):
                each.result(timeout=120)
    studio.run()
    assert {studio.show(each)["status"] for each in ids} <= {"cancelled", "completed"}
    for which in shown:
        assert bulk(studio.app, which.id).counts.get("failed", 0) == 0
    assert studio.budget(tenant).reserved == 0
    studio.assert_books()
