from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.horizons import JOINS_AT_MOST, TRIES, first_look, joins, plan, try_again_at
from domain.learning.numbers import Horizon

PUBLISHED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

ages = st.timedeltas(timedelta(0), timedelta(days=12))


def test_windows_do_not_overlap() -> None:
    assert all(one.closes < two.opens for one, two in pairwise(Horizon))
    assert [each.opens < each.age < each.closes for each in Horizon] == [True] * 5


@pytest.mark.parametrize("horizon", Horizon)
def test_numbers_meet_a_horizon_within_a_tenth_of_its_age_and_not_a_second_beyond(horizon: Horizon) -> None:
    settled = {each for each in Horizon if each.age < horizon.age}
    meets = {
        age: plan(PUBLISHED, PUBLISHED + age, settled).meets
        for age in (horizon.opens - SECOND, horizon.opens, horizon.age, horizon.closes, horizon.closes + SECOND)
    }
    assert list(meets.values()) == [None, horizon, horizon, horizon, None]


def test_a_horizon_that_has_closed_is_missed_and_the_next_one_is_waited_for() -> None:
    found = plan(PUBLISHED, PUBLISHED + timedelta(hours=3), ())
    assert (found.meets, found.missed) == (None, (Horizon.H1,))
    assert found.next_at == PUBLISHED + timedelta(hours=6)


def test_after_the_last_horizon_nothing_is_waited_for() -> None:
    assert plan(PUBLISHED, PUBLISHED + Horizon.D7.age, set(Horizon) - {Horizon.D7}).next_at is None
    assert plan(PUBLISHED, PUBLISHED + timedelta(days=30), ()).missed == tuple(Horizon)


@given(st.lists(st.tuples(ages, st.booleans()), max_size=40))
def test_any_sequence_of_looks_meets_or_misses_each_horizon_once_and_never_both(
    looks: list[tuple[timedelta, bool]],
) -> None:
    met: dict[Horizon, timedelta] = {}
    missed: list[Horizon] = []
    for age, answered in sorted(looks):
        found = plan(PUBLISHED, PUBLISHED + age, {*met, *missed})
        missed += found.missed
        if answered and found.meets is not None:
            assert found.meets not in met
            met[found.meets] = age
    missed += plan(PUBLISHED, PUBLISHED + timedelta(days=30), {*met, *missed}).missed
    assert sorted([*met, *missed]) == sorted(Horizon)
    assert all(abs(age - horizon.age) <= horizon.age / 10 for horizon, age in met.items())


@given(st.integers(0, 59), st.sets(st.sampled_from(Horizon)))
def test_who_looks_whenever_it_is_due_and_is_answered_misses_nothing(lag: int, unanswered: set[Horizon]) -> None:
    """A minute's schedule, `lag` seconds late; platforms that are silent for all of some horizons."""
    met: set[Horizon] = set()
    missed: set[Horizon] = set()
    at: datetime | None = first_look(PUBLISHED)
    looks = 0
    while at is not None:
        now, looks = at + timedelta(seconds=lag), looks + 1
        found = plan(PUBLISHED, now, met | missed)
        missed |= set(found.missed)
        if found.meets is not None and found.meets not in unanswered:
            met.add(found.meets)
            again = found.next_at
        else:
            again = try_again_at(PUBLISHED, now, found)
        assert again is None or again > at
        at = again
    assert (met, missed) == (set(Horizon) - unanswered, unanswered)
    assert looks <= len(Horizon) + (TRIES + 1) * len(unanswered)


@given(st.sampled_from(Horizon), st.floats(0, 1))
def test_another_try_is_within_the_horizon_or_when_it_has_closed(horizon: Horizon, share: float) -> None:
    age = horizon.opens + (horizon.closes - horizon.opens) * share
    settled = {each for each in Horizon if each.age < horizon.age}
    now = PUBLISHED + age
    again = try_again_at(PUBLISHED, now, plan(PUBLISHED, now, settled))
    assert again is not None
    assert now < again <= PUBLISHED + horizon.closes + SECOND


@given(ages, st.sets(st.sampled_from(Horizon)))
def test_a_post_is_taken_along_for_a_horizon_that_it_meets_and_not_too_early(
    age: timedelta, settled: set[Horizon]
) -> None:
    now = PUBLISHED + age
    meets = plan(PUBLISHED, now, settled).meets
    if joins(PUBLISHED, now, settled):
        assert meets is not None
        assert meets.age - age <= min(meets.age / 20, JOINS_AT_MOST)
    else:
        assert meets is None or meets.age - age > meets.age / 20


def test_a_post_of_the_future_waits() -> None:
    found = plan(PUBLISHED, PUBLISHED - timedelta(hours=1), ())
    assert (found.meets, found.missed, found.next_at) == (None, (), first_look(PUBLISHED))
