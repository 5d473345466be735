"""A video is paid once and none is forgotten, wherever its jobs are cut short, cancelled, or run at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from db.transaction import SYSTEM
from domain.errors import BudgetExceeded, Conflict
from domain.videos.media import MediaUnusable, StudioUnavailable
from simulators.video.clips import TRICKS, Trick
from tests.conftest import Servers
from tests.cutting import Died, Moments, rescue_all, watched
from tests.video_stage import Stage, a_concept, stage
from tests.wait import until
from workers.jobs.videos import render
from workers.ops import jobs, videos
from workers.settings import Settings

ENDED = ("completed", "failed", "cancelled", "unconfirmed")
AT_MOST = 200
"""Moments of one video: there are about fifty."""


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    with stage(settings, tmp_path / "media") as made:
        yield made


def die() -> None:
    raise Died


def until_ended(here: Stage, moments: Moments) -> None:
    """Run until no job is live, in a process that dies at its moment, and then in others."""
    cut = replace(here, app=watched(here.app, moments))
    try:
        cut.run()
    except Died:
        rescue_all(here.app)
        here.run()


def decide(here: Stage, video_id: UUID) -> None:
    """Do what a person does who has read the bill."""
    [row] = [
        each for each in here.show(video_id)["submissions"] if each["state"] in ("unconfirmed", "submitted", "running")
    ]
    orders = here.bills[row["provider"]].orders
    mine = [order for order in orders if order.prompt == row["prompt"]]
    if row["provider_job_id"] or mine:
        videos.resolve(here.app, video_id, "found", row["provider_job_id"] or mine[-1].id)
    else:
        videos.resolve(here.app, video_id, "lost")


@pytest.mark.proof
def test_a_process_may_die_at_every_moment(here: Stage) -> None:
    """Each moment of making a video with a bought clip: never two orders, no money forgotten, an end in words."""
    tenant_id = here.tenant(usd=10_000)
    unconfirmed = 0
    for at in range(AT_MOST):
        before = here.bills["runway"].posts
        concept = a_concept(segments=4, script=a_concept(segments=4)["script"])
        concept["script"][0]["visual"] = f"Take {at}"
        video_id = here.ask(tenant_id, concept, provider="runway")
        moments = Moments(at, die, within_transactions=True)
        until_ended(here, moments)
        video = here.show(video_id)
        assert video["status"] in ENDED, (at, moments.passed[-1:], video)
        assert here.bills["runway"].posts - before <= 1, (at, moments.passed[-1:])
        if video["status"] == "unconfirmed":
            unconfirmed += 1
            decide(here, video_id)
            here.run()
            video = here.show(video_id)
        assert video["status"] == "completed", (at, moments.passed[-1:], video["error_message"])
        here.assert_books()
        assert here.budget(tenant_id).reserved == 0
        assert here.budget(tenant_id).spent == here.bill()
        if not moments.struck:
            break
    else:
        raise AssertionError("it never ended")
    assert at > 40
    assert 1 <= unconfirmed <= 6, "only around the order itself"


@pytest.mark.proof(but=["storyboard"])
@pytest.mark.parametrize("provider", ["storyboard", "runway"])
def test_a_video_may_be_cancelled_at_every_moment(here: Stage, provider: str) -> None:
    """What was reserved is released or settled, whatever the job was doing."""
    tenant_id = here.tenant(usd=10_000)
    seen = set()
    for at in range(AT_MOST):
        video_id = here.ask(tenant_id, a_concept(segments=4), provider=provider)
        stopped: list[bool] = []
        stop = lambda: stopped.append(videos.cancel(here.app, tenant_id, video_id).done)  # noqa: B023, E731
        moments = Moments(at, stop, within_transactions=False)
        replace(here, app=watched(here.app, moments)).run()
        video = here.show(video_id)
        seen.add(video["status"])
        assert video["status"] in ("completed", "cancelled"), (at, moments.passed[-1:], video)
        assert (video["status"] == "cancelled") == (stopped == [True]), (at, moments.passed[-1:], video)
        assert here.budget(tenant_id).reserved == 0, (at, moments.passed[-1:])
        assert here.budget(tenant_id).spent == here.bill(), (at, moments.passed[-1:])
        assert video["reserved_usd"] == 0
        here.assert_books()
        if not moments.struck:
            break
    assert seen == {"completed", "cancelled"}
    assert at > 8


@pytest.mark.proof(but=["0", "5"])
@pytest.mark.parametrize("turns", range(6))
def test_a_video_that_waits_is_cancelled_at_once(here: Stage, turns: int) -> None:
    tenant_id = here.tenant()
    here.bills["google"].misbehave("throttled")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="google")
    with suppress(AssertionError):
        here.run(turns)
    done = videos.cancel(here.app, tenant_id, video_id)
    if here.show(video_id)["status"] == "completed":
        assert not done.done
        return
    assert done.done
    assert here.show(video_id)["status"] == "cancelled"
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["reserved_usd"]) == ("cancelled", 0)
    assert here.budget(tenant_id).reserved == 0
    here.assert_books()


def test_a_cancelled_clip_that_is_finished_nevertheless_is_paid_and_kept(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="luma")  # which cannot cancel
    here.turn()
    videos.cancel(here.app, tenant_id, video_id)
    here.run()
    video = here.show(video_id)
    [row] = video["submissions"]
    assert (video["status"], row["state"]) == ("cancelled", "succeeded")
    assert row["media_id"]
    assert video["cost_usd"] == here.budget(tenant_id).spent == here.bill() > 0


@pytest.mark.parametrize("refuses", [False, True])
def test_what_is_finished_there_before_it_is_withdrawn_is_kept(here: Stage, refuses: bool) -> None:
    """Runway deletes what has ended by the same request that stops what has not; and it may refuse that."""
    tenant_id = here.tenant()
    if refuses:
        here.bills["runway"].misbehave("cancels fail")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    videos.cancel(here.app, tenant_id, video_id)
    if not refuses:
        here.bills["runway"].orders[0].state = "succeeded"
    here.run(turns=10)
    video = here.show(video_id)
    [row] = video["submissions"]
    assert (video["status"], row["state"]) == ("cancelled", "succeeded")
    assert row["media_id"]
    assert video["cost_usd"] == here.budget(tenant_id).spent == here.bill() > 0


def test_an_order_whose_job_is_deleted_is_in_doubt_and_not_sent_again(here: Stage) -> None:
    """Its steps went with the job: nothing tells any more whether it was sent."""
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    with suppress(Died):
        replace(here, app=watched(here.app, Named("after submit", die))).turn()
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM job_queue")
    assert videos.recover(here.app) == 1
    here.run()
    video = here.show(video_id)
    assert (video["status"], here.bills["runway"].posts) == ("unconfirmed", 1)
    assert video["reserved_usd"] > 0
    here.assert_books()


def test_what_cannot_be_withdrawn_is_shown_to_a_person_and_counted_when_decided(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("never ends")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    here.bills["runway"].orders.clear()  # the vendor knows it no longer
    videos.cancel(here.app, tenant_id, video_id)
    here.run(step=timedelta(hours=7))
    video = here.show(video_id)
    assert video["status"] == "cancelled"
    assert "$0.48 stay reserved" in video["error_message"]
    assert [row["id"] for row in videos.listed(here.app, None, status="unconfirmed").videos] == [video_id]
    videos.resolve(here.app, video_id, "lost", charged_usd=Decimal("0.48"))
    video = here.show(video_id)
    assert (video["cost_usd"], video["error_message"]) == (Decimal("0.48"), None)
    assert videos.listed(here.app, None, status="unconfirmed").videos == []


@pytest.mark.parametrize("verdict", ["found", "lost"])
def test_what_is_decided_about_is_cancelled_while_it_waits(here: Stage, verdict: Literal["found", "lost"]) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    videos.resolve(here.app, video_id, verdict, here.bills["runway"].orders[0].id)
    video = here.show(video_id)
    assert (video["status"], video["error_message"]) == ("pending", None)
    assert jobs.cancel(here.app, video["job_id"]).done
    here.run()
    assert here.show(video_id)["status"] == "cancelled"
    assert here.budget(tenant_id).reserved == 0


def test_a_video_that_nobody_wants_is_withdrawn_although_its_job_fails(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    die_at(here, "before poll")

    def cancel_and_die() -> None:
        videos.cancel(here.app, tenant_id, video_id)
        die()

    with suppress(Died):
        replace(here, app=watched(here.app, Named("before poll", cancel_and_die))).turn()
    rescue_all(here.app)
    here.run()
    video = here.show(video_id)
    [row] = video["submissions"]
    assert (video["status"], row["state"]) == ("cancelled", "succeeded")
    assert here.budget(tenant_id).reserved == 0


def test_who_gives_up_an_order_that_is_answered_just_then_is_told_so(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    [row] = here.submissions(tenant_id, video_id)
    [order] = here.bills["runway"].orders
    answer = {"provider_job_id": order.id, "estimated_usd": None, "now": here.clock[0], "deadline_at": here.clock[0]}
    with ThreadPoolExecutor(2) as pool:
        with here.app.db.transaction(tenant_id) as tx:
            assert tx.submissions.accept(tenant_id, row.id, **answer) == "unconfirmed"
            deciding = pool.submit(videos.resolve, here.app, video_id, "lost")
            until(lambda: pool.submit(_waits, here).result(), "the decision to wait")
        with pytest.raises(Conflict, match="more has become known"):
            deciding.result()
    assert here.budget(tenant_id).reserved > 0
    here.assert_books()


def _waits(here: Stage) -> bool:
    query = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"
    with here.app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute(query).fetchone() is not None


def test_a_video_that_was_asked_for_with_a_key_has_one_job(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, key="mine")
    with here.app.db.transaction(tenant_id) as tx:
        job_id = render.enqueue(tx, tenant_id=tenant_id, video_id=video_id)
    assert job_id == here.show(video_id)["job_id"]


class Named(Moments):
    """Strikes at the first moment of this name."""

    def __init__(self, name: str, strike: Callable[[], object]) -> None:
        super().__init__(0, strike, within_transactions=True)
        self.name, self.reached = name, False

    def reach(self, passed: str) -> None:
        if self.inside and passed == self.name and not self.reached:
            self.reached = True
            self.strike()


def test_a_job_that_fails_leaves_what_is_under_way_to_a_person(here: Stage) -> None:
    """Nothing that is paid for is lost because something else broke."""
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    for at in range(2):  # the process dies twice while it looks: the job is quarantined
        moments = Moments(at, die, within_transactions=False)
        with suppress(Died):
            replace(here, app=watched(here.app, moments)).turn()
        rescue_all(here.app)
    video = here.show(video_id)
    assert video["status"] == "unconfirmed"
    assert "quarantined" in video["error_message"]
    assert video["reserved_usd"] > 0
    videos.resolve(here.app, video_id, "found")
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.bills["runway"].posts == 1
    assert here.budget(tenant_id).spent == here.bill()


def test_a_job_that_dies_twice_at_its_order_leaves_a_doubt_and_none_that_died_before(here: Stage) -> None:
    """Whether anything was sent, the step tells, when the job is quarantined and nobody can ask any more."""
    tenant_id = here.tenant()
    for name, status, orders in (("before submit", "unconfirmed", 0), ("before look", "unconfirmed", 1)):
        video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
        die_at(here, "after submit" if orders else name)
        die_at(here, "before look")
        video = here.show(video_id)
        assert (video["status"], video["reserved_usd"] > 0) == (status, True)
        decide(here, video_id)
        here.run()
        assert here.show(video_id)["status"] == "completed"
    untouched = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    for _ in range(2):
        die_at(here, "after a commit")
    assert (here.show(untouched)["status"], here.budget(tenant_id).reserved) == ("failed", 0)
    here.assert_books()


def die_at(here: Stage, name: str) -> None:
    """Let the process die when it is at a moment of this name for the first time."""
    named = Named(name, die)
    with suppress(Died):
        replace(here, app=watched(here.app, named)).turn()
    assert named.reached
    rescue_all(here.app)


def test_an_answer_that_comes_after_all_takes_the_video_up_again(here: Stage) -> None:
    """A process is stopped while its order is on its way; another finds the step begun and leaves a doubt; then the
    first wakes up."""
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")

    class Stopped(Moments):
        def reach(self, passed: str) -> None:
            if passed == "after submit":
                rescue_all(here.app)
                here.run()
                assert here.show(video_id)["status"] == "unconfirmed"

    replace(here, app=watched(here.app, Stopped(0, die, within_transactions=False))).turn()
    here.run()
    video = here.show(video_id)
    assert video["status"] == "completed"
    assert here.bills["runway"].posts == 1
    assert here.budget(tenant_id).spent == here.bill()
    assert here.budget(tenant_id).reserved == 0


def test_an_answer_that_comes_after_a_person_has_decided_is_booked(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")

    class Stopped(Moments):
        def reach(self, passed: str) -> None:
            if passed == "after submit":
                rescue_all(here.app)
                here.run()
                videos.resolve(here.app, video_id, "lost")
                here.run()

    replace(here, app=watched(here.app, Stopped(0, die, within_transactions=False))).turn()
    here.run()
    assert here.bills["runway"].posts == 1
    assert here.budget(tenant_id).spent == here.bill() == Decimal("0.48")
    [row] = here.show(video_id)["submissions"]
    assert "taken after all" in row["error_message"]
    assert here.show(video_id)["cost_usd"] == here.bill()


def test_a_drawing_that_fails_keeps_its_paid_clips_for_the_next_try(here: Stage) -> None:
    tenant_id = here.tenant()
    here.studio.fails = ValueError("a bug")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    video = here.show(video_id)
    assert (video["status"], here.budget(tenant_id).reserved) == ("failed", 0)
    here.studio.fails = None
    assert jobs.retry(here.app, [video["job_id"]])[video["job_id"]].done
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.bills["runway"].posts == 1
    assert here.studio.drawn[-1][1] == {0}


def test_a_clip_that_was_paid_for_is_used_when_its_concept_is_asked_for_again(here: Stage) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id, a_concept(segments=3))
    wanted: dict[str, Any] = {"generation_id": generation_id, "layout": "scenes"}
    here.studio.fails = StudioUnavailable("ffmpeg is missing")
    first = videos.request(here.app, tenant_id, provider="runway", **wanted)
    here.run()
    assert (here.show(first["id"])["status"], here.bills["runway"].posts) == ("failed", 3)
    here.studio.fails = None
    other = videos.request(here.app, tenant_id, provider="luma", **wanted)  # its clips are others
    here.run()
    assert (here.show(other["id"])["status"], here.bills["luma"].posts) == ("completed", 3)
    second = videos.request(here.app, tenant_id, provider="auto", **wanted, again=True)
    here.run()
    video = here.show(second["id"])
    assert (video["status"], here.studio.drawn[-1][1]) == ("completed", {0, 1, 2})
    assert here.bills["runway"].posts == 3
    assert video["cost_usd"] == Decimal("1.44")
    assert here.show(first["id"])["cost_usd"] == 0
    assert here.budget(tenant_id).spent == here.bill()
    here.assert_books()


@pytest.mark.parametrize("layout", ["clip", "hook"])
def test_a_video_whose_clip_another_has_buys_none_when_it_is_tried_again(here: Stage, layout: str) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id, a_concept(segments=2))
    wanted: dict[str, Any] = {"generation_id": generation_id, "provider": "runway", "layout": layout}
    here.studio.fails = StudioUnavailable("ffmpeg is missing")
    first = videos.request(here.app, tenant_id, **wanted)
    here.run()
    job_id = here.show(first["id"])["job_id"]
    here.studio.fails = None
    videos.request(here.app, tenant_id, **wanted)
    here.run()
    assert jobs.retry(here.app, [job_id])[job_id].done
    here.run()
    video = here.show(first["id"])
    assert (video["status"], here.bills["runway"].posts) == ({"clip": "failed", "hook": "completed"}[layout], 1)
    assert "in another video" in (video["error_message"] or "its clip is in another video")


def test_a_clip_that_cannot_be_shown_is_not_used_again(here: Stage) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id, a_concept(segments=2))
    wanted: dict[str, Any] = {"generation_id": generation_id, "provider": "runway", "layout": "clip"}
    here.studio.fails = MediaUnusable("it cannot be joined")
    first = videos.request(here.app, tenant_id, **wanted)
    here.run()
    assert here.show(first["id"])["status"] == "failed"
    here.studio.fails = None
    second = videos.request(here.app, tenant_id, **wanted)
    here.run()
    assert (here.show(second["id"])["status"], here.bills["runway"].posts) == ("completed", 2)


def test_of_many_that_would_take_a_clip_over_one_does(here: Stage) -> None:
    tenant_id = here.tenant()
    here.studio.fails = StudioUnavailable("ffmpeg is missing")
    first = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    [row] = here.submissions(tenant_id, first)
    others = [here.ask(tenant_id) for _ in range(8)]

    def take(video_id: UUID) -> bool:
        with here.app.db.transaction(tenant_id) as tx:
            return tx.submissions.take_over(row, video_id)

    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(take, others))
    assert took.count(True) == 1
    assert [len(here.submissions(tenant_id, each)) for each in others] == [int(each) for each in took]
    here.assert_books()


def test_many_threads_ask_for_one_concept_and_one_video_is_made(here: Stage) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id)
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(videos.request, here.app, tenant_id, generation_id=generation_id, provider="runway")
            for _ in range(24)
        ]
        rows = [each.result() for each in asked]
    assert len({row["id"] for row in rows}) == 1
    assert sum(not row["existing"] for row in rows) == 1
    here.run()
    again = videos.request(here.app, tenant_id, generation_id=generation_id, provider="runway")
    assert (again["status"], again["existing"]) == ("completed", True)
    another = videos.request(here.app, tenant_id, generation_id=generation_id, provider="runway", again=True)
    assert not another["existing"]
    here.run()
    assert len(here.bills["runway"].orders) == 2


def test_the_limit_holds_when_many_ask_at_once(here: Stage) -> None:
    """Forty videos of 36 cents, and a dollar: two are made, and the others are refused before they begin."""
    tenant_id = here.tenant(usd=1)
    concepts = [a_concept(segments=2, seconds=3) | {"id": f"fox {n}"} for n in range(40)]
    generation_id = here.generation(tenant_id, *concepts)

    def ask(n: int) -> UUID | str:
        wanted: dict[str, Any] = {"generation_id": generation_id, "provider": "runway", "layout": "hook"}
        try:
            return videos.request(here.app, tenant_id, concept_id=f"fox {n}", **wanted)["id"]
        except BudgetExceeded as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    made = [each for each in answers if isinstance(each, UUID)]
    assert len(made) == 2
    refused = [each for each in answers if isinstance(each, str)]
    assert all("$0.28 of $1.00 are left" in each and "$0.72 for videos under way" in each for each in refused)
    [option] = [
        each
        for each in videos.estimate(here.app, tenant_id, generation_id, "fox 0")
        if (each.provider, each.layout) == ("runway", "hook")
    ]
    assert not option.usable
    here.run()
    assert [(here.show(each)["status"], here.show(each)["cost_usd"]) for each in made] == [
        ("completed", Decimal("0.36"))
    ] * 2
    assert here.budget(tenant_id).left == Decimal("0.28")
    here.assert_books()


@pytest.mark.proof
def test_all_that_a_tenant_does_with_videos_at_once_waits_in_no_circle(
    here: Stage, servers: Servers, database: str
) -> None:
    """Threads that ask, cancel, decide, set limits and run the jobs: no deadlock, and the books are right."""
    tenant_id = here.tenant(usd=1_000)
    for bill in here.bills.values():
        bill.misbehave(*(["500 after", None, "limited", "failed", None] * 4))
    asked: list[UUID] = []

    def act(n: int) -> None:
        if n % 4 == 0:
            asked.append(here.ask(tenant_id, a_concept(segments=2), provider="auto", layout="scenes"))
        elif n % 4 == 1 and asked:
            videos.cancel(here.app, tenant_id, asked[n % len(asked)])
        elif n % 4 == 2 and asked:
            with suppress(Conflict):
                videos.resolve(here.app, asked[n % len(asked)], "lost")
            videos.set_budget(here.app, tenant_id, Decimal(1_000 + n))
        here.turn()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(act, range(48)))
    here.run()
    here.assert_books()
    assert len(asked) == 12
    with here.app.db.transaction(SYSTEM) as tx:
        query = "SELECT DISTINCT error_class FROM job_attempts WHERE outcome IN ('failed', 'returned', 'lost')"
        assert {name for (name,) in tx.driver.execute(query)} <= {"ClipNotMade"}
    here.app.close()
    with servers.admin() as connection:
        left = "SELECT FROM pg_stat_activity WHERE datname = %s"
        until(lambda: connection.execute(left, (database,)).fetchone() is None, "the connections to end")
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
        assert connection.execute(query, (database,)).fetchall() == [(0,)]


def test_more_than_is_left_is_refused_before_anything_is_written(here: Stage) -> None:
    tenant_id = here.tenant(usd=1)
    with pytest.raises(BudgetExceeded, match=r"may cost \$1\.44, and \$1\.00 of \$1\.00 are left for November 2026"):
        here.ask(tenant_id, a_concept(segments=3), provider="runway", layout="scenes")
    free = here.tenant(tier="FREE")
    with pytest.raises(BudgetExceeded, match="no money for clips in this plan"):
        here.ask(free, provider="runway")
    assert videos.listed(here.app, None).videos == []
    assert here.live() == []


class Books(RuleBasedStateMachine):
    """Anything may happen to a few videos, in any order: the books are right all the time."""

    here: Stage

    def __init__(self) -> None:
        super().__init__()
        self.tenant_id = self.here.tenant(usd=50)
        self.videos: list[UUID] = []

    @rule(
        provider=st.sampled_from(["runway", "google", "luma", "auto"]),
        layout=st.sampled_from([None, "hook", "scenes"]),
        tricks=st.lists(
            st.sampled_from([None, *(each for each in TRICKS if each not in ("held after", "slow"))]), max_size=2
        ),
    )
    def ask(self, provider: str, layout: str | None, tricks: list[Trick | None]) -> None:
        for each in self.here.bills.values():
            each.tricks.clear()
            each.misbehave(*tricks)
        with suppress(BudgetExceeded):
            self.videos.append(self.here.ask(self.tenant_id, a_concept(segments=2), provider=provider, layout=layout))

    @rule(at=st.integers(0, 12))
    def die(self, at: int) -> None:
        moments = Moments(at, die, within_transactions=True)
        with suppress(Died):
            replace(self.here, app=watched(self.here.app, moments)).turn()
        rescue_all(self.here.app)

    @rule(minutes=st.sampled_from([0, 0, 1, 30, 60 * 25, 60 * 24 * 20]))
    def turn(self, minutes: int) -> None:
        self.here.turn()
        self.here.later(minutes=minutes)

    @precondition(lambda self: self.videos)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        videos.cancel(self.here.app, self.tenant_id, self.videos[which % len(self.videos)])

    @precondition(lambda self: self.videos)
    @rule(which=st.integers(0, 9), charged=st.sampled_from([None, Decimal(0), Decimal("0.5")]))
    def resolve(self, which: int, charged: Decimal | None) -> None:
        video_id = self.videos[which % len(self.videos)]
        with suppress(Conflict):
            if charged is None:
                videos.resolve(self.here.app, video_id, "found")
            else:
                videos.resolve(self.here.app, video_id, "lost", charged_usd=charged)

    @invariant()
    def books(self) -> None:
        self.here.assert_books()

    def teardown(self) -> None:
        """Every video ends, and nothing is reserved but for what nobody can tell."""
        self.here.run(turns=200, step=timedelta(hours=1))
        for video_id in self.videos:
            video = self.here.show(video_id)
            assert video["status"] in ENDED
            opened = [
                each
                for each in video["submissions"]
                if each["state"] in ("intended", "submitted", "running", "unconfirmed")
            ]
            assert all(each["state"] == "unconfirmed" for each in opened) or video["status"] == "unconfirmed"
        self.here.assert_books()


@pytest.mark.proof
def test_the_books_are_right_whatever_happens(here: Stage) -> None:
    machine = type("BooksHere", (Books,), {"here": here})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=hypothesis_settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
