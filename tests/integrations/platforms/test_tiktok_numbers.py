"""TikTok's numbers against the simulated TikTok: exact, or unknown."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from domain.errors import Unavailable
from domain.learning.numbers import Measured, Numbers
from domain.posting.publishing import AccountRevoked, HeldOff, Published, TokenExpired
from integrations.platforms.tiktok import TikTok
from simulators.platforms.growth import Grown
from simulators.platforms.platform import FAULTS, Fault, SimulatedPost
from simulators.platforms.tiktok import TikTokSimulator, tiktok_simulator
from tests.platform_stage import ADA, Stage, a_content

OurStage = Stage[TikTokSimulator, TikTok]
CHOSEN = {"privacy_level": "PUBLIC_TO_EVERYONE"}
AGE = 5430.0
"""In the middle of a minute, so that a moment more makes no other number."""


@pytest.fixture
def stage() -> Iterator[OurStage]:
    with tiktok_simulator(held_seconds=0.05) as simulator:
        yield Stage(simulator, TikTok, a_content(**CHOSEN), b"a video")


class Filters(BaseModel):
    """Query Videos (Display API), page of November 2026."""

    model_config = ConfigDict(extra="forbid", strict=True)
    video_ids: Annotated[list[str], Field(min_length=1, max_length=20)]


def measured(stage: OurStage, *external_ids: str) -> Measured:
    found = stage.client.measure(stage.credential, external_ids, datetime.now(UTC))
    assert isinstance(found, Measured)
    return found


def numbers(grown: Grown, **changes: Any) -> Numbers:
    counts = {"views": grown.views, "likes": grown.likes, "comments": grown.comments, "shares": grown.shares}
    return Numbers(**counts | {"definition": "tiktok-views"} | changes)


def a_post(stage: OurStage) -> SimulatedPost:
    return stage.simulator.post_elsewhere(ADA, "A fox", before=AGE)


def test_numbers_come_by_id_and_what_is_not_shown_is_not_known(stage: OurStage) -> None:
    one, other, private, removed = (a_post(stage) for _ in range(4))
    private.private = True
    stage.simulator.remove(removed.id)
    found = measured(stage, one.id, other.id, private.id, removed.id, "1")
    assert found == Measured(
        "tiktok video/query", {post.id: numbers(stage.simulator.grown(post)) for post in (one, other)}
    )
    [request] = stage.simulator.server.requests
    Filters.model_validate(json.loads(request.body)["filters"])
    assert request.params == {"fields": "id,view_count,like_count,comment_count,share_count"}


def test_a_post_of_which_the_id_comes_after_hours_has_its_numbers(stage: OurStage) -> None:
    """postiz#1470, #2007: the id of the upload is no post's, and 19 digits do not fit a float."""
    stage.simulator.misbehave("id is late")
    stage.open()
    stage.commit()
    [post] = stage.simulator.posts
    assert stage.look() == Published(None)
    assert measured(stage, post.id, stage.handle.public["publish_id"]) == Measured("tiktok video/query")
    stage.later(timedelta(hours=7, seconds=30))
    stage.refreshed()
    seen = stage.look()
    assert isinstance(seen, Published)
    assert seen.external_id == post.id
    assert int(float(post.id)) != int(post.id)
    [(external_id, found)] = measured(stage, post.id).numbers.items()
    assert (external_id, found) == (post.id, numbers(stage.simulator.grown(post)))


@pytest.mark.parametrize("count", [1, 20])
def test_so_many_posts_are_one_request(stage: OurStage, count: int) -> None:
    posts = [a_post(stage).id for _ in range(count)]
    assert count <= stage.client.measured_at_once
    assert measured(stage, *posts).numbers.keys() == set(posts)
    assert stage.simulator.received == ["query"]


def test_more_posts_than_tiktok_takes_are_refused_and_not_called_gone(stage: OurStage) -> None:
    posts = [a_post(stage).id for _ in range(stage.client.measured_at_once + 1)]
    with pytest.raises(Unavailable, match="filters"):
        measured(stage, *posts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(value=st.sampled_from([-1, "12", "many", 1.5, 1e300, True, 10**16, [], {}]))
def test_what_is_no_count_is_unknown(stage: OurStage, value: Any) -> None:
    post = a_post(stage)
    stage.simulator.say(post.id, likes=value, comments=None)
    assert measured(stage, post.id).numbers[post.id] == numbers(stage.simulator.grown(post), likes=None, comments=None)
    stage.simulator.say(post.id, views=value)
    assert measured(stage, post.id).numbers[post.id].definition == ""


def test_a_metric_that_is_retired_costs_only_itself(stage: OurStage) -> None:
    post = a_post(stage)
    stage.simulator.retired.add("like_count")
    assert measured(stage, post.id).numbers == {post.id: numbers(stage.simulator.grown(post), likes=None)}


def test_an_account_that_gave_no_list_of_its_videos_still_posts(stage: OurStage) -> None:
    post = a_post(stage)
    stage.simulator.unlisted.add(ADA)
    found = measured(stage, post.id)
    assert not found.numbers
    assert not found.gone
    assert "connect it again" in found.withheld
    stage.open()
    stage.commit()
    assert isinstance(stage.look(), Published)


def test_an_account_that_took_our_access_away_says_so(stage: OurStage) -> None:
    post = a_post(stage)
    stage.simulator.server.fail(stage.simulator.error(401, "auth_removed"))
    with pytest.raises(AccountRevoked):
        measured(stage, post.id)


@pytest.mark.parametrize("fault", FAULTS)
def test_with_every_fault_no_post_is_gone(stage: OurStage, fault: Fault) -> None:
    post = a_post(stage)
    stage.simulator.fault("query", fault)
    if fault != "delivered twice":
        kind = {"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable)
        with pytest.raises(kind):
            measured(stage, post.id)
    assert measured(stage, post.id).numbers == {post.id: numbers(stage.simulator.grown(post))}
