"""Numbers of posts: each horizon is met by what the platform said at that age, or missed with a reason."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest

from db.learning.snapshots import BEGIN
from db.transaction import SYSTEM
from domain.learning.horizons import HALTED, NO_ID, NOT_IN_ANSWER, NOT_IN_TIME, REMOVED
from domain.learning.numbers import Horizon, Measured
from domain.learning.outcomes import Features, definition_on
from domain.learning.scoring import Scoring, shown_of
from domain.posting.limits import Act, draws
from domain.posting.posts import PostStatus
from tests.cutting import Died, Moments, rescue_all, watched
from tests.drain import drain
from tests.number_stage import aged, collect, curve, feedback, live, missed, older, snapshots, waits
from tests.post_stage import PLATFORMS, PostStage, post_stage
from tests.seeds import seeded
from workers.jobs import analytics
from workers.jobs.reconcile_posts import reconcile
from workers.ops import accounts
from workers.ops import restore as restores
from workers.ops.number_checks import check_numbers
from workers.settings import Settings

MINUTE = timedelta(minutes=1)
WITHOUT_VIEWS = ("bluesky", "mastodon")


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, "tiktok", "youtube-shorts") as made:
        yield made


def test_growth_comes_back_exactly_at_each_horizon_of_each_platform(settings: Settings, tmp_path: Path) -> None:
    with post_stage(settings, tmp_path) as here:
        tenant_id = here.tenant()
        posts = {name: here.ask(tenant_id, here.account(tenant_id, name)) for name in PLATFORMS}
        here.run()
        for name, post_id in posts.items():
            assert here.show(post_id).status == PostStatus.PUBLISHED, name
            assert waits(here, post_id) == Horizon.H1.age
            simulator = here.platforms[name]
            post = simulator.post(here.show(post_id).external_id)
            post.published_at = simulator.now() - 30  # a minute's middle: two clocks are never equal
            aged(here, post_id, timedelta(0))
        for horizon in Horizon:
            for post_id in posts.values():
                aged(here, post_id, horizon.age)
            collect(here)
        for name, post_id in posts.items():
            rows = snapshots(here, post_id)
            assert [(row["horizon"], row["age"]) for row in rows] == [(each, each.age) for each in Horizon], name
            for row in rows:
                expected = curve(here, post_id, row["age"])
                assert row["views"] == (None if name in WITHOUT_VIEWS else expected.views)
                assert (row["likes"], row["comments"]) == (expected.likes, expected.comments)
                assert row["shares"] == (None if name == "youtube-shorts" else expected.shares)
                assert (row["definition"] is None) == (name in WITHOUT_VIEWS)
                assert row["source"].startswith(name.split("-")[0])
            fed = [
                {name: each[name] for name in ("horizon", "views", "likes", "shares")}
                for each in feedback(here, post_id)
            ]
            assert fed == [{name: row[name] for name in fed[0]} for row in rows]
            assert missed(here, post_id) == {}
            assert waits(here, post_id) is None


def test_feedback_has_what_was_predicted_and_of_which_concept(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(
        here, tenant_id, account_id, Horizon.H1.age, concept_id="c-1", prediction='{"score": 71.5, "low": 60}'
    )
    older_prediction = live(here, tenant_id, account_id, Horizon.H1.age, prediction='{"score": 1e300}')
    collect(here)
    [row] = feedback(here, post_id)
    assert (float(row["predicted_score"]), row["concept_id"], row["platform"]) == (71.5, "c-1", "tiktok")
    assert row["observed_at"] == here.clock[0]
    assert feedback(here, older_prediction)[0]["predicted_score"] is None


def test_feedback_has_the_shown_prediction_of_the_rows_and_the_definition_of_the_outcome(here: PostStage) -> None:
    tenant_id = here.tenant()
    accounts = {name: here.account(tenant_id, name) for name in ("tiktok", "youtube-shorts")}
    posts = {
        name: live(here, tenant_id, account_id, Horizon.H24.age, prediction='{"score": 1}')
        for name, account_id in accounts.items()
    }
    today = here.clock[0].date()
    predicted = {name: Scoring().predict(name, Features(str(each)), today) for name, each in accounts.items()}
    with here.app.db.transaction(tenant_id) as tx:
        for name, post_id in posts.items():
            tx.predictions.add(tenant_id, post_id, predicted[name], None)
    collect(here)
    for name, post_id in posts.items():
        [row] = [each for each in feedback(here, post_id) if each["horizon"] == Horizon.H24]
        shown = shown_of(predicted[name])
        assert shown is not None
        assert float(row["predicted_score"]) == round(shown.score, 4) != 1
        assert row["definition"] == shown.key.definition == definition_on(name, today)


def test_posts_of_an_account_share_a_call_and_those_that_are_soon_due_join(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    due = [live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(3)]
    soon = live(here, tenant_id, account_id, Horizon.D7.age - timedelta(hours=6))
    later = live(here, tenant_id, account_id, Horizon.D7.age - timedelta(hours=12))
    for post_id in (soon, later):
        settle(here, post_id, *list(Horizon)[:-1])
    collect(here)
    assert here.platforms["tiktok"].received == ["query"]
    assert [len(snapshots(here, post_id)) for post_id in (*due, soon, later)] == [1, 1, 1, 1, 0]
    assert snapshots(here, soon)[0]["age"] == Horizon.D7.age - timedelta(hours=6)


def test_a_platform_that_is_silent_for_hours_leaves_marks_and_no_numbers(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "tiktok"), Horizon.H1.age)
    tiktok = here.platforms["tiktok"]
    tiktok.fault("query", "hang-up before", times=1000)
    for _ in range(8):
        collect(here)
        older(here, post_id, MINUTE)
    assert snapshots(here, post_id) == []
    assert missed(here, post_id)["1h"].startswith("the platform did not answer: ")
    assert waits(here, post_id) == Horizon.H6.age
    asked = len(tiktok.received)
    aged(here, post_id, timedelta(hours=5))
    collect(here)
    assert len(tiktok.received) == asked
    tiktok.heal()
    aged(here, post_id, Horizon.H6.age)
    collect(here)
    assert [row["horizon"] for row in snapshots(here, post_id)] == ["6h"]
    assert list(missed(here, post_id)) == ["1h"]


def test_an_account_that_is_held_off_is_asked_when_its_platform_said(here: PostStage) -> None:
    tenant_id = here.tenant()
    posts = [live(here, tenant_id, here.account(tenant_id, "tiktok"), Horizon.H1.age) for _ in range(2)]
    tiktok = here.platforms["tiktok"]
    tiktok.fault("query", "429")
    collect(here)
    assert sorted(len(snapshots(here, post_id)) for post_id in posts) == [0, 1]
    asked = len(tiktok.received)
    collect(here)
    assert len(tiktok.received) == asked
    for post_id in posts:
        older(here, post_id, MINUTE)
    collect(here)
    assert [[row["horizon"] for row in snapshots(here, post_id)] for post_id in posts] == [["1h"]] * 2


def test_what_holds_off_the_whole_installation_holds_off_every_account(here: PostStage) -> None:
    tenant_id, youtube = here.tenant(), here.platforms["youtube-shorts"]
    posts = [live(here, tenant_id, here.account(tenant_id, "youtube-shorts"), Horizon.H1.age) for _ in range(3)]
    youtube.statistics_a_day = 0
    with here.app.db.transaction(SYSTEM) as tx:
        analytics.find_due.enqueue(tx)
    drain(here.app)
    assert youtube.received == ["statistics"]
    assert [job[1] for job in here.live()] == ["pending"] * 3
    youtube.statistics_a_day = None
    here.later(hours=24)  # past the next midnight at YouTube, whatever time it is here
    here.turn()
    assert [[row["horizon"] for row in snapshots(here, post_id)] for post_id in posts] == [["24h"]] * 3
    assert [list(missed(here, post_id)) for post_id in posts] == [["1h", "6h"]] * 3
    assert any("took no more calls" in missed(here, post_id)["1h"] for post_id in posts)


def test_tokens_that_have_expired_are_refreshed(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, Horizon.H1.age)
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute("UPDATE social_accounts SET refreshed_at = refreshed_at - interval '5 minutes'")
    tiktok = here.platforms["tiktok"]
    tiktok.fault("query", "expired")
    collect(here)
    assert tiktok.received == ["query", "token", "query"]
    assert [row["horizon"] for row in snapshots(here, post_id)] == ["1h"]


def test_after_an_outage_of_ours_late_numbers_fill_no_horizon(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "tiktok"), timedelta(hours=40))
    collect(here)
    [late] = snapshots(here, post_id)
    assert (late["horizon"], late["age"]) == (None, timedelta(hours=40))
    assert late["views"] == curve(here, post_id, late["age"]).views
    assert feedback(here, post_id) == []
    assert missed(here, post_id) == dict.fromkeys(("1h", "6h", "24h"), NOT_IN_TIME)
    assert waits(here, post_id) == Horizon.H72.age
    collect(here)
    assert len(snapshots(here, post_id)) == 1


def test_an_account_that_waits_for_its_owner_costs_nothing_and_goes_on_after(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, Horizon.H1.age)
    tiktok = here.platforms["tiktok"]
    with here.app.db.transaction(tenant_id) as tx:
        assert tx.social_accounts.refuse(tenant_id, account_id, "its owner took our access away")
    for age in (Horizon.H1.age, timedelta(hours=2)):
        aged(here, post_id, age)
        collect(here)
    assert tiktok.received == []
    assert missed(here, post_id) == {"1h": "its account has to be reconnected: its owner took our access away"}
    [account] = tiktok.accounts.values()
    here.connect(tenant_id, "tiktok", PLATFORMS["tiktok"].grant(tiktok, account.external_id))
    aged(here, post_id, Horizon.H6.age)
    collect(here)
    assert [row["horizon"] for row in snapshots(here, post_id)] == ["6h"]


def test_horizons_of_a_disconnected_account_are_missed_for_that(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, Horizon.H1.age)
    accounts.disconnect(here.app, tenant_id, account_id)
    for age in (Horizon.H1.age, timedelta(hours=2)):
        aged(here, post_id, age)
        collect(here)
    assert missed(here, post_id) == {"1h": "its account was disconnected"}
    assert here.platforms["tiktok"].received.count("query") == 0


def test_a_post_without_an_id_is_measured_from_when_it_is_named(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, Horizon.H1.age)
    external_id = here.show(post_id).external_id
    set_external_id(here, post_id, None)
    collect(here)
    aged(here, post_id, timedelta(hours=2))
    collect(here)
    assert missed(here, post_id) == {"1h": NO_ID}
    set_external_id(here, post_id, external_id)
    aged(here, post_id, Horizon.H6.age)
    collect(here)
    assert [row["horizon"] for row in snapshots(here, post_id)] == ["6h"]


def test_a_post_is_removed_when_its_platform_says_so_twice(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "youtube-shorts"), Horizon.H1.age)
    post = here.show(post_id)
    here.platforms["youtube-shorts"].remove(post.external_id)
    collect(here)
    assert here.show(post_id).status == PostStatus.PUBLISHED
    collect(here)
    assert here.platforms["youtube-shorts"].received.count("statistics") == 1
    older(here, post_id, 5 * MINUTE)
    collect(here)
    removed = here.show(post_id)
    assert (removed.status, removed.external_id, removed.error_code) == (
        PostStatus.REMOVED,
        post.external_id,
        "removed",
    )
    assert here.events(post_id) == ["removed"]
    assert missed(here, post_id) == dict.fromkeys(Horizon, REMOVED)
    assert waits(here, post_id) is None
    older(here, post_id, timedelta(days=1))
    here.due()
    assert collect(here) == 0, "nothing of it is due any more"
    assert here.show(post_id).status == PostStatus.REMOVED
    assert here.platforms["youtube-shorts"].received.count("open") == 0


def test_a_post_that_seemed_gone_once_is_measured_when_it_is_back(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "youtube-shorts"), Horizon.H1.age)
    there = here.platforms["youtube-shorts"].post(here.show(post_id).external_id)
    there.removed = True
    collect(here)
    there.removed = False
    older(here, post_id, 5 * MINUTE)
    collect(here)
    assert here.show(post_id).status == PostStatus.PUBLISHED
    assert [row["horizon"] for row in snapshots(here, post_id)] == ["1h"]
    there.removed = True
    aged(here, post_id, Horizon.H6.age)
    collect(here)
    assert here.show(post_id).status == PostStatus.PUBLISHED


def test_whether_a_post_is_gone_is_asked_once_a_horizon(here: PostStage) -> None:
    """YouTube leaves it out of the numbers, and still has it."""
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "youtube-shorts"), Horizon.H1.age)
    youtube = here.platforms["youtube-shorts"]
    youtube.left_out.add(here.show(post_id).external_id)
    for _ in range(6):
        collect(here)
        older(here, post_id, MINUTE)
    assert youtube.received.count("statistics") > 2
    assert youtube.received.count("videos") == 1
    aged(here, post_id, Horizon.H6.age)
    collect(here)
    assert youtube.received.count("videos") == 2
    assert missed(here, post_id) == {"1h": NOT_IN_ANSWER}


def test_where_posts_need_what_is_left_nobody_asks_whether_one_is_gone(here: PostStage) -> None:
    """The numbers of others come all the same, and it is asked once there is room again."""
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "youtube-shorts")
    post_id, other = (live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(2))
    youtube = here.platforms["youtube-shorts"]
    youtube.remove(here.show(post_id).external_id)
    use_half_of_the_units(here)
    collect(here)
    assert youtube.received == ["statistics"]
    assert [row["horizon"] for row in snapshots(here, other)] == ["1h"]
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM rate_buckets")
    for _ in range(2):
        older(here, post_id, 5 * MINUTE)
        collect(here)
    assert here.show(post_id).status == PostStatus.REMOVED


def test_after_a_restore_what_could_not_be_measured_says_why(here: PostStage) -> None:
    tenant_id = here.tenant()
    post_id = live(here, tenant_id, here.account(tenant_id, "tiktok"), timedelta(hours=2))
    restores.begin(here.app, here.clock[0])
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE restores SET noticed_at = noticed_at - interval '90 minutes'")
    restores.end(here.app, although_undecided=True)
    collect(here)
    assert missed(here, post_id) == {"1h": HALTED}


def test_what_a_restore_has_lost_was_not_missed_for_want_of_a_worker(here: PostStage) -> None:
    """The 6th hour came after the backup was taken, and was over before anybody noticed that the database is old."""
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    lost, before = live(here, tenant_id, account_id, timedelta(hours=8)), live(here, tenant_id, account_id)
    older(here, before, timedelta(hours=30))
    for post_id, due in ((lost, Horizon.H6), (before, Horizon.H24)):
        settle(here, post_id, *[each for each in Horizon if each.age < due.age])
    restores.begin(here.app, here.clock[0] - timedelta(hours=3))
    restores.end(here.app, although_undecided=True)
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE social_posts SET measure_at = %s", (here.clock[0],))
    collect(here)
    assert missed(here, lost)["6h"] == HALTED
    assert missed(here, before)["24h"] == NOT_IN_TIME


@pytest.mark.proof
def test_a_process_may_die_at_any_moment_of_collecting(here: PostStage) -> None:
    """Before and after each commit and each call, of which there are two; every third moment, each time others."""
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    for at in range(seeded("collect").randrange(3), 100, 3):
        posts = [live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(21)]
        moments = Moments(at, die, within_transactions=True)
        try:
            collect(replace(here, app=watched(here.app, moments)))
        except Died:
            rescue_all(here.app)
            collect(here)
        assert counted(here, "analytics_snapshots", posts) == [1] * 21, moments.passed[-1]
        assert counted(here, "performance_feedback", posts) == [1] * 21, moments.passed[-1]
        if not moments.struck:
            break
    assert "after measure" in moments.passed
    assert moments.passed.count("before measure") == 2


def test_a_post_that_is_found_late_is_as_old_as_its_platform_says(here: PostStage) -> None:
    tenant_id, youtube = here.tenant(), here.platforms["youtube-shorts"]
    post_id = here.ask(tenant_id, here.account(tenant_id, "youtube-shorts"))
    here.run()
    there = youtube.post(here.show(post_id).external_id)
    with here.app.db.transaction(tenant_id) as tx:
        tx.driver.execute(
            "UPDATE social_posts SET status = 'unconfirmed', external_id = NULL, published_at = NULL, handle = NULL,"
            " measure_at = NULL WHERE id = %s",
            (post_id,),
        )
        reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
    here.later(hours=3)
    here.turn()
    found = here.show(post_id)
    assert found.published_at is not None
    assert (found.status, found.published_at.timestamp()) == (PostStatus.PUBLISHED, int(there.published_at))
    collect(here)
    assert list(missed(here, post_id)) == ["1h"]
    assert waits(here, post_id) == Horizon.H6.age


def test_many_at_once_meet_a_horizon_once(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    posts = [live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(5)]
    with here.app.db.transaction(tenant_id) as tx:
        for number in range(8):
            analytics.collect.with_options(unique_key=f"{number}").enqueue(
                tx, tenant_id=tenant_id, account_id=account_id
            )
    with here.app.db.transaction(SYSTEM) as tx:
        jobs = tx.jobs.due_now()
    publisher, answered = here.app.ports.publishers["tiktok"], Barrier(8)

    class Together:
        """All have their answers before the first writes one down."""

        measured_at_once, doubted_at_once = publisher.measured_at_once, 1

        def measure(self, *asked: Any) -> Measured:
            answer = publisher.measure(*asked)
            answered.wait(timeout=30)
            return answer

    ports = replace(here.app.ports, publishers={"tiktok": Together()})  # type: ignore[dict-item]
    runner = replace(here.app, ports=ports).runner()
    register(here, runner.worker_id)
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(runner.run_one, jobs)) == 8
    with here.app.db.transaction(SYSTEM) as tx:
        ended = [(row["status"], row["attempts"]) for job_id in jobs if (row := tx.jobs.get(job_id))]
    assert ended == [("completed", 1)] * 8
    assert [[row["horizon"] for row in snapshots(here, post_id)] for post_id in posts] == [["1h"]] * 5
    assert [len(feedback(here, post_id)) for post_id in posts] == [1] * 5
    assert [missed(here, post_id) for post_id in posts] == [{}] * 5


def test_a_tenant_is_measured_with_its_own_token_only(here: PostStage) -> None:
    """Two tenants have the same account; each asks with what its own owner gave."""
    tiktok, posts, tokens = here.platforms["tiktok"], [], []
    for _ in range(2):
        tenant_id = here.tenant()
        tiktok.add_account("77")
        grant = PLATFORMS["tiktok"].grant(tiktok, "77")
        account_id = here.connect(tenant_id, "tiktok", grant)
        tokens.append(f"Bearer {grant.access_token}")
        posts.append(live(here, tenant_id, account_id, Horizon.H1.age))
    collect(here)
    asked = [
        (request.headers["authorization"], json.loads(request.body)["filters"]["video_ids"])
        for request in tiktok.server.requests
        if tiktok.call_of(request) == "query"
    ]
    ids = [[here.show(post_id).external_id] for post_id in posts]
    assert sorted(asked) == sorted(zip(tokens, ids, strict=True))


def test_the_doctor_says_when_posts_are_not_measured_in_time(here: PostStage) -> None:
    def checked() -> tuple[str, str]:
        with here.app.db.transaction(SYSTEM) as tx:
            return check_numbers(here.app, tx)

    assert checked() == ("ok", "no post had to be measured on the last day")
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, timedelta(hours=2))
    state, says = checked()
    assert (state, says.split(" should")[0]) == ("warn", "1 post")
    collect(here)
    says = "horizons of the last day that were missed: 1 of 1, most often because"
    assert checked() == ("warn", f"{says} {NOT_IN_TIME}")
    more = [live(here, tenant_id, account_id, Horizon.H1.age) for _ in range(12)]
    collect(here)
    assert checked() == ("ok", "12 horizons of posts met on the last day, 1 missed")
    assert waits(here, more[0]) == waits(here, post_id) == Horizon.H6.age


def test_what_the_release_before_publishes_during_a_rollout_is_measured(here: PostStage) -> None:
    """It publishes without `measure_at`, after the migration has begun what was there."""
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    young, older_, over, met, too_old = (
        live(here, tenant_id, account_id, age)
        for age in (timedelta(minutes=3), timedelta(hours=5), timedelta(days=6), Horizon.D7.age, timedelta(days=9))
    )
    settle(here, over, *Horizon)
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO analytics_snapshots (tenant_id, post_id, horizon, captured_at)"
            " SELECT tenant_id, id, '7d', %s FROM social_posts WHERE id = %s",
            (here.clock[0], met),
        )
        tx.driver.execute("UPDATE social_posts SET measure_at = NULL")
    collect(here)
    assert waits(here, young) == Horizon.H1.age
    assert list(missed(here, older_)) == ["1h"]
    assert waits(here, older_) == Horizon.H6.age
    assert [waits(here, post_id) for post_id in (over, met, too_old)] == [None] * 3


def test_a_turn_of_the_schedule_reads_no_post_whose_measuring_is_over(here: PostStage) -> None:
    values = {"first": Horizon.H1.age, "now": here.clock[0], "since": here.clock[0], "limit": 9}
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {BEGIN}".encode(), values))
    assert "social_posts_unmeasured_idx" in plan


def test_tenants_take_turns(here: PostStage) -> None:
    many, one = here.tenant(), here.tenant()
    for tenant_id, count in ((many, 3), (one, 1)):
        for place in range(count):
            post_id = live(here, tenant_id, here.account(tenant_id, "tiktok"), Horizon.H1.age)
            older(here, post_id, (10 - place) * timedelta(seconds=1) if tenant_id == many else timedelta(0))
    with here.app.db.transaction(SYSTEM) as tx:
        found = tx.snapshots.due_accounts(now=here.clock[0], limit=2)
    assert [tenant_id for tenant_id, _ in found] == [many, one]


def test_a_job_that_fails_lets_its_posts_wait(here: PostStage) -> None:
    tenant_id = here.tenant()
    account_id = here.account(tenant_id, "tiktok")
    post_id = live(here, tenant_id, account_id, Horizon.H1.age)

    class Broken:
        measured_at_once = 0

    ports = replace(here.app.ports, publishers={"tiktok": Broken()})
    broken = replace(here, app=replace(here.app, ports=ports))
    for _ in range(3):
        collect(broken)
    with here.app.db.transaction(SYSTEM) as tx:
        [(status,)] = tx.driver.execute("SELECT status FROM job_queue WHERE job_type = 'analytics.collect'").fetchall()
    assert status == "failed"
    assert waits(here, post_id) > Horizon.H1.age + 29 * MINUTE


def counted(stage: PostStage, table: str, posts: Sequence[UUID]) -> list[int]:
    """Return how many rows of the first horizon each post has."""
    query = f"SELECT (SELECT count(*) FROM {table} WHERE post_id = p.id AND horizon = '1h') FROM unnest(%s) AS p (id)"
    with stage.app.db.transaction(SYSTEM) as tx:
        return [row[0] for row in tx.driver.execute(query.encode(), (posts,))]


def die() -> None:
    raise Died


def settle(stage: PostStage, post_id: UUID, *horizons: Horizon) -> None:
    """Let horizons of a post be missed already."""
    with stage.app.db.transaction(SYSTEM) as tx:
        for each in horizons:
            tx.driver.execute(
                "INSERT INTO missed_horizons (tenant_id, post_id, horizon, reason)"
                " SELECT tenant_id, id, %s, 'a test' FROM social_posts WHERE id = %s",
                (each, post_id),
            )
        tx.driver.execute(
            "UPDATE social_posts SET measure_at = published_at + interval '7 days' WHERE id = %s", (post_id,)
        )


def use_half_of_the_units(stage: PostStage) -> None:
    """Let posts have drawn half of what YouTube lets this installation do at once."""
    [drawn] = draws("youtube-shorts", Act.GONE, UUID(int=0))
    with stage.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO rate_buckets (name, used_until, promised_until) VALUES (%s, now() + %s, now())",
            (drawn.bucket, drawn.rate.every * (drawn.rate.burst // 2)),
        )


def set_external_id(stage: PostStage, post_id: UUID, external_id: str | None) -> None:
    with stage.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE social_posts SET external_id = %s WHERE id = %s", (external_id, post_id))


def register(stage: PostStage, worker_id: object) -> None:
    with stage.app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(worker_id, hostname="tests", pid=0, queues=(), version="", lease=timedelta(minutes=1))
