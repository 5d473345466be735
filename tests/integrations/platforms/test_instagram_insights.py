"""Instagram's numbers of a reel: around what it has retired, without what is no count, as far as its owner allows."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, product
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from facebook_business.adobjects.igmediaforigonlyapi import IGMediaForIGOnlyAPI
from facebook_business.adobjects.instagraminsightsresult import InstagramInsightsResult
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Unavailable
from domain.learning.counts import count
from domain.learning.numbers import Measured, Numbers
from domain.posting.limits import Act, draws
from domain.posting.publishing import HeldOff, Published, TokenExpired
from integrations.platforms.instagram import SCOPES
from integrations.platforms.instagram_insights import SOURCE
from simulators.platforms.growth import Grown, numbers_at
from simulators.platforms.instagram import METRICS, NO_LONGER
from simulators.platforms.platform import FAULTS, Fault
from tests.instagram_stage import ADA, Stage, instagram_stage, verdict

DAY_OLD = 86_430
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with instagram_stage() as found:
        yield found


def a_reel(stage: Stage, *, age: float = DAY_OLD) -> str:
    return stage.simulator.foreign_post(ADA, "A reel", before=age).id


def measured(stage: Stage, *ids: str, now: datetime = NOW) -> Measured:
    """Return what the numbers are, and which of the reels are gone for certain."""
    found = stage.client.measure(stage.credential, ids, now)
    gone = stage.client.gone(stage.credential, sorted(found.missing)) if found.missing else found.gone
    return replace(found, gone=gone, missing=frozenset())


def as_grown(grown: Grown, without: tuple[str, ...] = ()) -> Numbers:
    """Return the numbers that have grown; `without` are Instagram's names of those that it does not say."""
    shown = {kept: getattr(grown, kept) for name, kept in METRICS.items() if kept != "reach" and name not in without}
    details = {"saves": shown["saves"]} if "saves" in shown else {}
    details |= {} if "reach" in without else {"reach": grown.views * 4 // 5}
    definition = "instagram-views" if "views" in shown else ""
    columns = {name: shown.get(name) for name in ("views", "likes", "comments", "shares")}
    return Numbers(**columns, details=details, definition=definition)


def test_numbers_are_what_has_grown_and_one_request_brings_them(stage: Stage) -> None:
    ours = a_reel(stage)
    stage.simulator.received.clear()
    found = measured(stage, ours)
    assert found == Measured(SOURCE, {ours: as_grown(numbers_at(ours, DAY_OLD))})
    assert (found.numbers[ours].views or 0) > 0
    assert stage.simulator.received == ["insights"]


@pytest.mark.parametrize(("how", "metric"), list(product(NO_LONGER, ("views", "saved"))), ids=str)
def test_a_retired_metric_costs_only_itself_and_one_request_more_an_hour(stage: Stage, how: str, metric: str) -> None:
    """trypost#319, #362: no numbers of reels at all."""
    ours = a_reel(stage)
    stage.simulator.retired = {metric: how}
    without = {ours: as_grown(numbers_at(ours, DAY_OLD), (metric,))}
    assert measured(stage, ours).numbers == without
    stage.simulator.received.clear()
    assert measured(stage, ours, now=NOW + timedelta(minutes=59)).numbers == without
    assert stage.simulator.received == ["insights"]
    stage.simulator.retired = {}
    assert measured(stage, ours, now=NOW + timedelta(hours=1)).numbers == {ours: as_grown(numbers_at(ours, DAY_OLD))}


def test_of_any_metrics_that_are_retired_the_others_come(stage: Stage) -> None:
    ours = a_reel(stage)
    for number, gone in enumerate(each for n in range(1, 6) for each in combinations(METRICS, n)):
        hows = list(NO_LONGER)
        stage.simulator.retired = {name: hows[(number + place) % len(hows)] for place, name in enumerate(gone)}
        at = NOW + number * timedelta(hours=2)
        assert measured(stage, ours, now=at).numbers == {ours: as_grown(numbers_at(ours, DAY_OLD), gone)}, gone


@pytest.mark.parametrize("how", NO_LONGER)
def test_each_request_after_the_first_is_drawn_for_and_who_has_to_wait_goes_on(stage: Stage, how: str) -> None:
    ours = a_reel(stage)
    stage.simulator.retired = dict.fromkeys(("views", "saved"), how)

    class Wait(Exception):
        pass

    drawn: list[int] = []

    def more(count: int) -> None:
        if count > left:
            raise Wait
        drawn.append(count)

    tries, found = 0, None
    while found is None:
        tries += 1
        left = 0 if tries < 3 else len(METRICS)
        with suppress(Wait):
            found = stage.client.measure(stage.credential, [ours], NOW, more)
    assert found.numbers == {ours: as_grown(numbers_at(ours, DAY_OLD), ("views", "saved"))}
    assert len(stage.simulator.received) <= tries + sum(drawn)
    assert tries <= 3


def test_what_one_account_is_not_told_another_is_asked_for(stage: Stage) -> None:
    ours = a_reel(stage)
    stage.simulator.retired = {"views": "media"}
    measured(stage, ours)
    stage.simulator.retired = {}
    stage.simulator.add_account("17841400000000002", "bob")
    bobs = stage.simulator.foreign_post("17841400000000002", "Bob's", before=DAY_OLD).id
    token = stage.simulator.token_of("17841400000000002")
    credential = replace(stage.credential, external_id="17841400000000002", access_token=token)
    found = stage.client.measure(credential, [bobs], NOW)
    assert found.numbers == {bobs: as_grown(numbers_at(bobs, DAY_OLD))}


@pytest.mark.parametrize("how", NO_LONGER)
def test_without_any_metric_nothing_is_known_now(stage: Stage, how: str) -> None:
    ours = a_reel(stage)
    stage.simulator.retired = dict.fromkeys(METRICS, how)
    for _ in range(2):
        with pytest.raises(Unavailable, match="none of the metrics"):
            measured(stage, ours)


def test_a_number_that_instagram_does_not_have_is_none_and_zero_is_a_number(stage: Stage) -> None:
    ours = a_reel(stage, age=0)
    stage.simulator.empty = {"views", "saved"}
    assert measured(stage, ours).numbers[ours] == Numbers(likes=0, comments=0, shares=0, details={"reach": 0})
    stage.simulator.empty = set(METRICS)
    assert measured(stage, ours) == Measured(SOURCE), "it has nothing yet, and is asked again"


NO_COUNTS = (-1, 1.5, 2.0, "12", "", True, [3], {"value": 3}, 10**15 + 1)


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_what_is_no_count_is_unknown(stage: Stage, value: Any) -> None:
    ours = a_reel(stage)
    stage.simulator.say(ours, views=value, saves=value)
    assert measured(stage, ours).numbers[ours] == as_grown(numbers_at(ours, DAY_OLD), ("views", "saved"))


@given(st.integers())
def test_a_count_is_itself(value: int) -> None:
    assert count(value) == (value if 0 <= value <= 10**15 else None)


def test_an_account_that_was_connected_without_insights_posts_and_says_how_to_be_measured(stage: Stage) -> None:
    stage.simulator.scopes = SCOPES[:3]
    stage.credential = replace(stage.credential, access_token=stage.simulator.token_of(ADA))
    ours = stage.published()
    found = measured(stage, ours)
    assert (found.numbers, found.gone) == ({}, frozenset())
    assert "connect it again" in found.withheld
    stage.open()
    assert isinstance(stage.commit(), Published)
    stage.simulator.scopes = SCOPES
    grant = stage.connected()
    assert grant.scopes == SCOPES
    stage.credential = replace(stage.credential, access_token=grant.access_token)
    found = measured(stage, ours)
    assert (list(found.numbers), found.withheld) == ([ours], "")


def test_only_a_reel_that_the_whole_list_is_without_is_gone(stage: Stage) -> None:
    ours, other = a_reel(stage), a_reel(stage)
    stage.simulator.misbehave("insights", 100, 33)
    assert measured(stage, ours) == Measured(SOURCE), "Instagram has it, and says for a moment that it has not"
    stage.simulator.remove(ours)
    assert measured(stage, ours) == Measured(SOURCE, gone=frozenset([ours]))
    for minutes in range(30):
        stage.simulator.foreign_post(ADA, "Another", before=minutes)
    stage.simulator.page = 1
    stage.simulator.received.clear()
    assert measured(stage, ours) == Measured(SOURCE), "the list is longer than is read"
    [drawn] = draws("instagram-reels", Act.GONE, uuid4())
    assert stage.simulator.received.count("list") == len(stage.simulator.received) - 1 == drawn.cost
    assert list(measured(stage, other).numbers) == [other]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_says_nothing_of_the_reel(stage: Stage, fault: Fault) -> None:
    ours = a_reel(stage)
    stage.simulator.fault("insights", fault)
    found = verdict(lambda: measured(stage, ours))
    if fault == "delivered twice":
        assert isinstance(found, Measured)
    else:
        assert isinstance(found, {"429": HeldOff, "expired": TokenExpired}.get(fault, Unavailable))
    assert measured(stage, ours).numbers == {ours: as_grown(numbers_at(ours, DAY_OLD))}


def test_the_request_is_one_of_metas_own_tables(stage: Stage) -> None:
    ours = a_reel(stage)
    measured(stage, ours)
    [request] = [each for each in stage.simulator.server.requests if each.path.endswith("/insights")]
    assert request.path == f"/v26.0/{ours}/insights"
    sent = parse_qs(request.query)
    assert sent.keys() == {"metric"}
    listed = set(vars(InstagramInsightsResult.Metric).values())
    assert set(sent["metric"][0].split(",")) <= listed
    assert METRICS.keys() <= listed
    assert hasattr(IGMediaForIGOnlyAPI, "get_insights")
