"""Words for where a chain stands: each stage, each way in which a video or a post can be, and what a person can do."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.autopilot.chains import Mode, Stage
from domain.autopilot.explanation import Considered, Decision, Explanation, Facts, decision_of, explain
from domain.posting.posts import PostStatus

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=3)
NOTHING = Decimal(0)
TAKEN = Decision("c-2", "Bread", 74.5, 60, [Considered("c-1", "Loaves", 48.0, "48 is less than the 60 asked for")])
NONE_GOOD = Decision(None, None, None, 60, TAKEN.passed_over)


def a_post(status: str, **columns: Any) -> dict[str, Any]:
    return {
        **{"id": "p1", "account_id": "a1", "platform": "tiktok", "username": "ada", "status": status},
        **{"scheduled_for": LATER, "submitted_at": None, "published_at": None, "permalink": None},
        **{"error_message": None, "account_status": "active", "held": None},
    } | columns


def found(stage: str, *, mode: Mode = Mode.AUTO, **facts: Any) -> Explanation:
    chain = {
        **{"id": "k1", "tenant_id": "t1", "stage": stage, "mode": "auto", "reason": "so it is", "job_id": "j1"},
        **{"generation_id": "g1", "concept_id": "c-2", "video_id": None, "spent_usd": NOTHING, "reserved_usd": NOTHING},
        **{"look_after": LATER, "since": NOW},
    }
    columns = {name: facts.pop(name) for name in list(facts) if name in chain}
    return explain(Facts(NOW, chain | columns, mode, **facts))


def a_video(status: str, provider: str = "storyboard") -> dict[str, Any]:
    return {"status": status, "provider": provider, "stage": "drawing", "percent": 40, "error_message": None}


VIDEOS = (None, "pending", "rendering", "completed", "failed", "cancelled", "unconfirmed")


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_has_words_whatever_its_video_and_posts_are(stage: str, mode: Mode) -> None:
    for video in VIDEOS:
        for status in (None, *PostStatus):
            facts = {"video": video and a_video(video), "posts": [a_post(status)] if status else []}
            says = found(stage, mode=mode, video_id="v1" if video else None, **facts)
            sentences = [says.stands, says.cost, *says.certain, *says.uncertain, says.next or ""]
            sentences += [each.says for each in (*says.posts, *says.advice)]
            assert says.stands
            assert says.cost
            assert not set(says.certain) & set(says.uncertain)
            for sentence in sentences:
                assert not {"None", "viral", "`"} & set(sentence.replace("`", " ` ").split())
            if stage in ("done", "stopped"):
                assert says.next_at is None


def test_a_chain_that_found_nothing_good_enough_says_how_near_it_came() -> None:
    says = found("stopped", concept_id=None, decision=NONE_GOOD)
    assert says.stands == "it stopped before it had a concept, and does nothing more"
    assert (says.why, says.cost, says.next) == ("so it is", "nothing", None)
    assert says.certain == ["nothing of it was posted", "it spends nothing more"]
    assert says.advice[0].says == "the best concept had 48: ask for less than 60, if that is enough"
    assert says.advice[0].command == "viral autopilot set --tenant t1 --least-score 48"


def test_a_chain_that_waits_for_approval_posts_nothing_by_itself() -> None:
    posts = [a_post("needs_approval"), a_post("needs_approval", id="p2", platform="bluesky")]
    says = found("posts", mode=Mode.APPROVE, video_id="v1", video=a_video("completed"), posts=posts)
    assert says.stands == "its video is made; of 2 posts 2 are waiting for approval"
    assert says.next == "it waits until a person approves it; 14 days after its time it is cancelled"
    assert says.next_at is None
    assert [each.command for each in says.advice] == ["viral posts approve p1 p2"]
    assert says.cost == "nothing: its video is drawn here"


def test_what_comes_next_of_several_posts_is_the_first() -> None:
    posts = [
        a_post("scheduled", username="grace", scheduled_for=LATER + timedelta(hours=1)),
        a_post("scheduled", account_status="needs_reconnect"),
    ]
    says = found("posts", video_id="v1", video=a_video("completed"), posts=posts)
    assert (says.next, says.next_at) == ("it is posted to ada (TikTok)", LATER)
    assert [each.command for each in says.advice] == ["viral accounts connect tiktok --tenant t1"]


@pytest.mark.parametrize(
    ("spent", "reserved", "says"),
    [
        pytest.param("0", "0", "nothing so far", id="nothing"),
        pytest.param("0", "1.2", "nothing so far; $1.20 reserved for its video", id="reserved"),
        pytest.param("1.2", "0", "$1.20", id="spent"),
        pytest.param("1.2", "0.005", "$1.20; $0.005 more are reserved for what was ordered", id="both"),
    ],
)
def test_what_it_cost_is_exact(spent: str, reserved: str, says: str) -> None:
    money = {"spent_usd": Decimal(spent), "reserved_usd": Decimal(reserved)}
    assert found("video", video_id="v1", video=a_video("rendering", "runway"), **money).cost == says


def test_a_stopped_chain_says_what_may_still_be_charged() -> None:
    clip = a_video("unconfirmed", "runway")
    says = found("stopped", video_id="v1", video=clip, reserved_usd=Decimal("1.2"))
    assert "whether the provider took the order of its clip" in says.uncertain
    assert (says.next_at, says.next) == (
        LATER,
        "what its video cost is settled, once its provider or a person has said it",
    )
    assert "how much of the $1.20 that is reserved will be charged" in says.uncertain
    assert "it spends nothing more" not in says.certain
    assert "viral videos show v1" in [each.command for each in says.advice]


def test_what_was_decided_last_counts() -> None:
    first = {"details": {"decision": asdict(NONE_GOOD)}}
    assert decision_of([first, {"details": {"decision": asdict(TAKEN)}}, {"details": {}}]) == TAKEN
    assert decision_of([{"details": {}}, {"details": None}]) is None


def test_a_chain_of_an_autopilot_that_was_switched_off_says_that_it_stops() -> None:
    says = found("video", mode=Mode.OFF, video_id="v1", video=a_video("rendering"))
    assert says.next == "it stops: the autopilot was switched off meanwhile"


def test_a_chain_whose_provider_cannot_work_says_so_until_when_and_what_to_do() -> None:
    why = {"unusable": "there is no key for runway here", "generation_id": None, "concept_id": None}
    says = found("concepts", concepts="completed", **why)
    assert says.stands == "the day's concepts are made; it waits for somebody who can make a video of the best"
    assert says.why == "there is no key for runway here"
    assert says.next == "it looks again every few minutes, and stops if nobody can make it by 2026-11-28 18:00 UTC"
    assert says.advice[0].command == "viral autopilot set --tenant t1 --provider storyboard"
    assert found("concepts", concepts="running", **why).stands.endswith("which are being made")
    assert found("stopped", **why).advice[0] == says.advice[0]
    able = found("concepts", concepts="completed", generation_id=None)
    assert (able.stands, able.why) == ("the day's concepts are made, and the best of them is chosen", None)


def test_why_is_what_holds_now_and_not_what_was_written_down() -> None:
    posts = [
        a_post("cancelled", held="the autopilot was switched off"),
        a_post("published", username="grace", permalink="https://x"),
        a_post("needs_approval", username="bob", held="the autopilot was set to approve"),
        a_post("failed", username="eve", error_message="it was refused"),
    ]
    for stage in ("posts", "done", "stopped"):
        says = found(stage, video_id="v1", video=a_video("completed"), posts=posts)
        assert says.why == (
            "ada (TikTok): cancelled (the autopilot was switched off); grace (TikTok): published; bob (TikTok): "
            "waiting for approval, for 2026-11-28 15:00 UTC (the autopilot was set to approve); eve (TikTok): failed "
            "(it was refused)"
        )
    assert says.stands == "it stopped after its posts were planned, and does nothing more; 1 post of it appeared"
    assert says.posts[0].says == "cancelled: the autopilot was switched off"


def test_what_is_due_has_no_time_that_is_past() -> None:
    says = found("video", video_id="v1", video=a_video("completed"), look_after=NOW - timedelta(seconds=9))
    assert (says.why, says.next_at) == (None, None)
    assert says.next == "it is scheduled on the accounts that consent; that is due now"
    says = found("video", video_id="v1", video=a_video("completed"), policy_asks=True)
    assert says.next == "its posts are prepared, and wait for a person to approve them"


def test_of_a_post_in_doubt_nobody_says_that_nothing_was_posted() -> None:
    sent = a_post("unconfirmed", submitted_at=NOW, error_message="no answer came")
    says = found("posts", video_id="v1", video=a_video("completed"), posts=[sent])
    assert says.certain == []
    assert says.uncertain == ["whether ada (TikTok) has it"]
    assert says.posts[0].says == "unconfirmed: no answer came"
