"""YouTube's numbers against the simulated YouTube: exact, or unknown; and when a video is gone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import Unavailable
from domain.learning.numbers import Measured, Numbers
from domain.posting.limits import Act, draws
from domain.posting.publishing import HeldOff, TokenExpired
from integrations.platforms.youtube import YouTube
from simulators.loopback import Request, json_reply
from simulators.platforms.growth import Grown
from simulators.platforms.platform import FAULTS, Fault, SimulatedPost
from simulators.platforms.youtube import YouTubeSimulator, youtube_simulator
from tests.google_api import check, discovery, fits
from tests.platform_stage import ADA, Stage, a_content

OurStage = Stage[YouTubeSimulator, YouTube]
SOURCE = "youtube videos.batchGetStats"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
AGE = 5430.0
"""In the middle of a minute, so that a moment more makes no other number."""


@pytest.fixture
def stage() -> Iterator[OurStage]:
    with youtube_simulator(held_seconds=0.05) as simulator:
        yield Stage(simulator, YouTube, a_content(privacy="public"), b"a video")
        for request in simulator.server.requests:
            check(request)


def measured(stage: OurStage, *external_ids: str, now: datetime = NOW) -> Measured:
    """Return what the numbers are, and which of the videos are gone for certain."""
    found = stage.client.measure(stage.credential, external_ids, now)
    assert isinstance(found, Measured)
    doubted = [each for each in external_ids if each in found.missing]
    gone = stage.client.gone(stage.credential, doubted) if doubted else found.gone
    return replace(found, gone=gone, missing=frozenset())


def numbers(grown: Grown, **changes: Any) -> Numbers:
    counts = {"views": grown.views, "likes": grown.likes, "comments": grown.comments}
    return Numbers(**counts | {"definition": "youtube-starts-all"} | changes)


def a_post(stage: OurStage) -> SimulatedPost:
    return stage.simulator.post_elsewhere(ADA, "A fox", before=AGE)


def test_numbers_come_by_id_and_shares_are_unknown(stage: OurStage) -> None:
    one, private = a_post(stage), a_post(stage)
    private.private = True
    found = measured(stage, one.id, private.id)
    assert found == Measured(SOURCE, {each.id: numbers(stage.simulator.grown(each)) for each in (one, private)})
    assert stage.simulator.received == ["statistics"]
    [request] = stage.simulator.server.requests
    assert request.params == {"part": "id,statistics", "id": f"{one.id},{private.id}"}
    reply = stage.simulator.route("statistics", request)
    fits(json.loads(reply.body), {"$ref": "BatchGetStatsResponse"}, "the answer")


def test_views_before_and_after_24_august_2026_are_of_two_kinds(stage: OurStage) -> None:
    post = a_post(stage)
    days = (datetime(2026, 8, 23, tzinfo=UTC), datetime(2026, 8, 24, tzinfo=UTC))
    before, after = (measured(stage, post.id, now=now).numbers[post.id].definition for now in days)
    assert (before, after) == ("youtube-starts", "youtube-starts-all")


def test_hidden_likes_and_comments_that_are_off_are_unknown_and_not_0(stage: OurStage) -> None:
    hidden, new = a_post(stage), stage.simulator.post_elsewhere(ADA, "A fox")
    stage.simulator.say(hidden.id, likes=None, comments=None)
    found = measured(stage, hidden.id, new.id).numbers
    assert found[hidden.id] == numbers(stage.simulator.grown(hidden), likes=None, comments=None)
    assert (found[new.id].views, found[new.id].likes, found[new.id].comments) == (0, 0, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(value=st.sampled_from([-1, "many", "1e3", " 12", "٣", 1.5, 1e300, True, 10**18, "9" * 5000, [], {}]))
def test_what_is_no_count_is_unknown(stage: OurStage, value: Any) -> None:
    post = a_post(stage)
    stage.simulator.say(post.id, likes=value)
    assert measured(stage, post.id).numbers[post.id] == numbers(stage.simulator.grown(post), likes=None)


@pytest.mark.parametrize("count", [1, 50])
def test_so_many_posts_are_one_request(stage: OurStage, count: int) -> None:
    posts = [a_post(stage).id for _ in range(count)]
    assert count <= stage.client.measured_at_once
    assert measured(stage, *posts).numbers.keys() == set(posts)
    assert stage.simulator.received == ["statistics"]


def test_a_video_that_its_owner_deleted_is_gone(stage: OurStage) -> None:
    there, removed = a_post(stage), a_post(stage)
    stage.simulator.remove(removed.id)
    found = measured(stage, there.id, removed.id)
    assert (found.numbers.keys(), found.gone) == ({there.id}, {removed.id})
    assert stage.simulator.received == ["statistics", "videos", "channels", "playlist"]


def test_a_video_that_is_only_not_shown_is_not_gone(stage: OurStage) -> None:
    left_out, unreadable = a_post(stage), a_post(stage)
    stage.simulator.left_out.add(left_out.id)
    stage.simulator.unreadable.add(unreadable.id)
    assert measured(stage, left_out.id, unreadable.id) == Measured(SOURCE)


def test_a_video_that_is_rejected_later_is_gone(stage: OurStage) -> None:
    stage.simulator.misbehave("rejected for copyright")
    stage.open()
    stage.commit()
    [external_id] = stage.simulator.rejected
    assert measured(stage, external_id) == Measured(SOURCE, gone=frozenset({external_id}))


def test_whether_videos_are_gone_costs_what_is_drawn_for_it(stage: OurStage) -> None:
    ids = [f"video-{number:02}" for number in range(stage.client.doubted_at_once)]
    assert stage.client.measure(stage.credential, ids, NOW) == Measured(SOURCE, missing=frozenset(ids))
    assert stage.simulator.received == ["statistics"]
    stage.simulator.received.clear()
    assert stage.client.gone(stage.credential, ids) == set(ids)
    [drawn] = draws("youtube-shorts", Act.GONE, uuid4())
    assert len(stage.simulator.received) == drawn.cost


@pytest.mark.parametrize("call", ["videos", "channels", "playlist"])
@pytest.mark.parametrize("fault", FAULTS)
def test_with_every_fault_a_video_is_not_gone_before_all_is_answered(stage: OurStage, call: str, fault: Fault) -> None:
    post, removed = a_post(stage), a_post(stage)
    stage.simulator.remove(removed.id)
    stage.simulator.fault(call, fault)
    assert measured(stage, post.id).numbers == {post.id: numbers(stage.simulator.grown(post))}
    if fault == "delivered twice":
        assert measured(stage, removed.id).gone == {removed.id}
    else:
        with pytest.raises({"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)):
            measured(stage, removed.id)
    assert measured(stage, removed.id).gone == {removed.id}


@pytest.mark.parametrize("answer", [{}, {"items": None}, {"items": [1, {"id": ["x"]}, {"id": "x"}]}, []], ids=range(4))
def test_an_answer_that_says_nothing_proves_nothing(stage: OurStage, answer: Any) -> None:
    for path in ("batchGetStats", "videos", "playlistItems"):
        stage.simulator.server.fail(json_reply(answer), path=path)
    assert measured(stage, "video-1") == Measured(SOURCE)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_be_asked_again_says_so(stage: OurStage, fault: Fault) -> None:
    post = a_post(stage)
    stage.simulator.fault("statistics", fault)
    if fault != "delivered twice":
        kind = {"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)
        with pytest.raises(kind):
            measured(stage, post.id)
    assert measured(stage, post.id).numbers == {post.id: numbers(stage.simulator.grown(post))}


def test_the_projects_quota_of_numbers_is_everybodys(stage: OurStage) -> None:
    stage.simulator.statistics_a_day = 1
    post = a_post(stage)
    measured(stage, post.id)
    with pytest.raises(HeldOff) as raised:
        measured(stage, post.id)
    assert raised.value.whole_app


def test_an_account_that_gave_uploads_only_still_posts(stage: OurStage) -> None:
    post = a_post(stage)
    stage.simulator.upload_only.add(ADA)
    found = measured(stage, post.id)
    assert not found.numbers
    assert not found.gone
    assert "connect it again" in found.withheld


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("part=id,statistics&id=a,b", 200),
        ("part=statistics", 200),
        ("part=status&id=a", 400),
        ("part=id&id=a&maxResults=5", 400),
        (f"part=id&id={','.join(map(str, range(51)))}", 400),
    ],
    ids=range(5),
)
def test_the_simulator_takes_no_more_than_google_describes(stage: OurStage, query: str, status: int) -> None:
    token = {"authorization": f"Bearer {stage.credential.access_token}"}
    request = Request("GET", "/youtube/v3/videos:batchGetStats", query, token, b"")
    assert stage.simulator._reply(request).status == status
    assert discovery()["resources"]["videos"]["methods"]["batchGetStats"]["path"] == "youtube/v3/videos:batchGetStats"
