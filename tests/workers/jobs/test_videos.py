"""Clips are bought once and none is lost, whatever providers, people and processes do."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Conflict
from domain.videos.plan import Clip
from domain.videos.submissions import ClipOrder, RefusedFor
from integrations.video.runway import Runway
from tests.integrations.store.conftest import small_disk
from tests.video_stage import Stage, a_concept, stage
from workers.ops import jobs, videos
from workers.settings import Settings

__all__ = ["small_disk"]


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    with stage(settings, tmp_path / "media") as made:
        yield made


def test_a_storyboard_costs_nothing_and_is_complete(here: Stage) -> None:
    tenant_id = here.tenant(tier="FREE")
    video_id = here.ask(tenant_id)
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["cost_usd"], video["submissions"]) == ("completed", 0, [])
    assert video["media_id"]
    assert video["thumbnail_id"]
    assert video["duration_seconds"] == 12
    assert here.bill() == 0
    with here.app.db.transaction(tenant_id) as tx:
        assert tx.driver.execute("SELECT probe FROM media WHERE kind = 'video'").fetchall() == [
            (video["details"]["probe"],)
        ]


def test_a_clip_that_is_the_whole_video(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=2, seconds=4), provider="runway")
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["layout"]) == ("completed", "clip")
    assert video["cost_usd"] == here.bill() == Decimal("0.96")
    assert here.budget(tenant_id).spent == Decimal("0.96")
    assert here.budget(tenant_id).reserved == 0
    assert here.usage(tenant_id) == [("runway/gen4.5", Decimal("0.96"))]
    [(script, clips)] = here.studio.drawn
    assert (script.seconds, clips) == (8, {0})


def test_a_hook_and_scenes(here: Stage) -> None:
    tenant_id = here.tenant()
    hook = here.ask(tenant_id, a_concept(segments=5), provider="google")
    scenes = here.ask(tenant_id, a_concept(segments=3), provider="luma", layout="scenes")
    here.run()
    assert here.show(hook)["layout"] == "hook"
    assert [len(here.show(each)["submissions"]) for each in (hook, scenes)] == [1, 3]
    assert sorted(sorted(clips) for _, clips in here.studio.drawn) == [[0], [0, 1, 2]]
    here.assert_books()


def test_who_is_busy_or_refuses_the_prompt_is_followed_by_the_next(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("limited")
    here.bills["google"].misbehave("moderated")
    video_id = here.ask(tenant_id, provider="auto")
    here.run()
    states = [(each["provider"], each["state"]) for each in here.show(video_id)["submissions"]]
    assert states == [("runway", "refused"), ("google", "refused"), ("luma", "succeeded")]
    video = here.show(video_id)
    assert (video["status"], video["details"].get("slides")) == ("completed", None)
    assert video["estimated_usd"] == video["cost_usd"] == Decimal("1.00"), "the dearest of them, which was shown"
    assert here.bill() == here.budget(tenant_id).spent
    here.assert_books()


def test_a_busy_provider_that_was_named_is_asked_again_a_few_times(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("limited", "limited", None)
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.turn()
    assert here.show(video_id)["stage"].startswith("waiting: Runway answers 429")
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.bills["runway"].posts == 3
    assert len(here.bills["runway"].orders) == 1
    here.bills["runway"].misbehave(*["limited"] * 9)
    another = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.run()
    assert here.show(another)["status"] == "failed"
    assert "answers 429" in here.show(another)["error_message"]
    assert here.bills["runway"].posts == 8
    here.assert_books()


def test_nothing_is_ordered_while_the_store_has_no_room_for_a_clip(settings: Settings, small_disk: Path) -> None:
    with stage(settings, small_disk) as here:
        tenant_id = here.tenant()
        video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
        here.run()
        assert (here.show(video_id)["status"], here.bills["runway"].posts) == ("failed", 0)
        assert here.show(video_id)["error_message"] == "an error of our own; it has been logged"
        assert (here.budget(tenant_id).reserved, here.budget(tenant_id).spent) == (0, 0)
        here.assert_books()


def test_what_is_charged_for_an_order_that_was_given_up_counts_too(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    clip = Clip(0, ClipOrder("gen4.5", "A fox", 8, "720:1280"), Decimal("0.96"))
    now = here.clock[0]
    with here.app.db.transaction(tenant_id) as tx:
        order: dict[str, Any] = {"id": tx.new_id(), "job_id": here.show(video_id)["job_id"], "provider": "runway"}
        row = tx.submissions.intend(tenant_id, video_id, **order, clip=clip, now=now)
        tx.submissions.refuse(tenant_id, row.id, kind=RefusedFor.BUSY, message="no answer", now=now)
        taken: dict[str, Any] = {"provider_job_id": "late-1", "estimated_usd": None, "now": now, "deadline_at": now}
        tx.submissions.accept(tenant_id, row.id, **taken)
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["cost_usd"], here.bills["runway"].posts) == ("failed", Decimal("0.96"), 0)
    assert video["error_message"] == "runway: no answer; it was taken after all, as late-1"


def test_who_takes_more_than_was_shown_is_not_asked(here: Stage) -> None:
    """Luma comes into the chain when the price has been shown, and costs more."""
    tenant_id = here.tenant()
    videos.disable(here.app, "luma")
    for provider in ("runway", "google"):
        here.bills[provider].misbehave("moderated")
    video_id = here.ask(tenant_id, a_concept(segments=5, seconds=3), provider="auto")
    videos.enable(here.app, "luma")
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["estimated_usd"], video["cost_usd"]) == ("completed", Decimal("0.36"), 0)
    assert "luma takes $1.00 for it, more than the $0.36 that are left" in video["details"]["slides"]["0"]
    assert here.bills["luma"].posts == 0
    here.assert_books()


@pytest.mark.parametrize("trick", ["500 after", "hang-up after", "cut after", "500 before"])
def test_what_nobody_can_tell_stays_reserved_and_buys_no_second_clip(here: Stage, trick: str) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave(trick)  # type: ignore[arg-type]
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="auto")
    here.run()
    video = here.show(video_id)
    assert video["status"] == "unconfirmed"
    assert video["error_message"].endswith("$0.96 stay reserved until our people have looked into it")
    assert sum(each.posts for each in here.bills.values()) == 1
    assert here.budget(tenant_id).reserved == Decimal("0.96")
    here.assert_books()


def test_resolved_as_found_it_goes_on_and_is_paid_once(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.run()
    [order] = here.bills["runway"].orders
    assert videos.resolve(here.app, video_id, "found", order.id).done
    seen: list[Decimal] = []
    here.studio.during = lambda watch: seen.append(here.show(video_id)["cost_usd"])
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert seen == [here.bill()], "what has been settled, while it is drawn"
    assert here.bills["runway"].posts == 1
    assert here.budget(tenant_id).spent == here.bill()
    assert here.budget(tenant_id).reserved == 0
    here.assert_books()


@pytest.mark.parametrize("cancelled", [False, True])
def test_found_as_a_job_that_its_provider_does_not_know_it_can_be_decided_anew(here: Stage, cancelled: bool) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    with pytest.raises(Conflict, match="runway knows no job nope"):
        videos.resolve(here.app, video_id, "found", "nope")
    keyless = replace(here.app, ports=replace(here.app.ports, clips={}))
    assert "no key for runway here" in videos.resolve(keyless, video_id, "found", "nope").says
    if cancelled:
        here.turn()
        videos.cancel(here.app, tenant_id, video_id)
    here.run()
    video = here.show(video_id)
    assert video["status"] == ("cancelled" if cancelled else "unconfirmed")
    assert "runway says that it knows no job nope; $0.48 stay reserved" in video["error_message"]
    videos.resolve(here.app, video_id, "found", here.bills["runway"].orders[0].id)
    here.run()
    video = here.show(video_id)
    assert video["status"] == ("cancelled" if cancelled else "completed")
    assert (video["cost_usd"], here.bills["runway"].posts) == (here.bill(), 1)
    here.assert_books()


def test_a_job_that_its_provider_does_not_know_for_a_moment_goes_on(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    [order] = here.bills["runway"].orders
    here.bills["runway"].orders.clear()
    here.later(seconds=20)
    here.turn()
    assert "knows no job" in here.show(video_id)["stage"]
    here.bills["runway"].orders.append(order)
    here.run()
    video = here.show(video_id)
    assert (video["status"], video["submissions"][0]["error_code"]) == ("completed", None)


def test_resolved_as_lost_the_next_is_asked_if_nothing_was_charged(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 before")
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="auto")
    here.run()
    videos.resolve(here.app, video_id, "lost")
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert [each.posts for each in here.bills.values()] == [1, 1, 0]
    assert here.budget(tenant_id).spent == here.bill()


def test_resolved_as_lost_and_charged_nothing_more_is_bought(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="auto")
    here.run()
    videos.resolve(here.app, video_id, "lost", charged_usd=Decimal("0.96"))
    here.run()
    assert here.show(video_id)["status"] == "failed"
    assert sum(each.posts for each in here.bills.values()) == 1
    assert here.budget(tenant_id).spent == here.bill() == Decimal("0.96")


@pytest.mark.parametrize("trick", ["expired address", "broken media", "truncated media", "polls fail", "unknown state"])
def test_what_passes_is_waited_out(here: Stage, trick: str) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave(trick)  # type: ignore[arg-type]
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.budget(tenant_id).spent == here.bill()
    here.assert_books()


@pytest.mark.parametrize(
    ("trick", "says"),
    [("truncated media", "cannot be copied now: "), ("polls fail", "waiting for clip 1 (runway")],
)
def test_what_is_waited_for_is_said_with_its_last_reason(here: Stage, trick: str, says: str) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave(trick)  # type: ignore[arg-type]
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    stages: list[str] = []
    for _ in range(5):
        here.turn()
        here.later(seconds=20)
        stages.append(here.show(video_id)["stage"])
    assert any(says in stage for stage in stages), stages
    assert not any("127.0.0.1" in stage for stage in stages)


def test_a_provider_that_cannot_be_reached_is_not_called_busy(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    nobody = Runway("a key", base_url="http://127.0.0.1:9", private_hosts=["127.0.0.1"])
    away = replace(here, app=replace(here.app, ports=replace(here.app.ports, clips={"runway": nobody})))
    away.turn()
    assert here.show(video_id)["stage"] == "waiting: Runway cannot be reached: Connection refused (no_connection)"


def test_a_file_that_is_no_clip_is_paid_and_its_scene_is_a_slide(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("wrong media")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    video = here.show(video_id)
    assert video["status"] == "completed"
    assert "no MP4" in video["details"]["slides"]["0"]
    assert here.studio.drawn[0][1] == set()
    assert video["cost_usd"] == here.bill() > 0


@pytest.mark.parametrize("trick", ["failed", "failed and charged", "cancelled", "moderated later"])
def test_what_fails_there_is_settled_by_what_it_cost(here: Stage, trick: str) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave(trick)  # type: ignore[arg-type]
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.run()
    assert here.show(video_id)["status"] == "failed"
    assert here.budget(tenant_id).spent == here.bill()
    assert here.budget(tenant_id).reserved == 0
    here.assert_books()


def test_a_clip_that_failed_for_want_of_money_is_made_when_it_is_tried_again(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    videos.set_budget(here.app, tenant_id, Decimal(0))
    here.run()
    video = here.show(video_id)
    assert video["status"] == "failed"
    videos.set_budget(here.app, tenant_id, Decimal(10))
    assert jobs.retry(here.app, [video["job_id"]])[video["job_id"]].done
    here.run()
    assert here.show(video_id)["status"] == "completed"
    here.assert_books()


def test_a_late_clip_is_not_failed_and_after_a_day_a_person_decides(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("never ends")
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.turn()
    here.later(hours=2)
    here.turn()
    video = here.show(video_id)
    assert video["status"] == "rendering"
    assert "late" in video["stage"]
    here.later(hours=23)
    here.run()
    video = here.show(video_id)
    assert video["status"] == "unconfirmed"
    assert here.budget(tenant_id).reserved == Decimal("0.96")
    here.bills["runway"].orders[0].trick = None
    videos.resolve(here.app, video_id, "found")
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.bills["runway"].posts == 1


def test_the_month_of_the_reservation_pays(here: Stage) -> None:
    tenant_id = here.tenant(usd=5)
    here.clock[0] = november = datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC)
    video_id = here.ask(tenant_id, a_concept(segments=2), provider="runway")
    here.turn()
    here.clock[0] = december = datetime(2026, 12, 1, 0, 10, tzinfo=UTC)
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.budget(tenant_id, november).spent == Decimal("0.96")
    assert here.budget(tenant_id, december).spent == 0
    assert here.budget(tenant_id, december).limit == 5
    assert timedelta(0) < december - november
