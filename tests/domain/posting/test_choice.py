"""Which account is chosen, why, and that it is always the same one."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.concepts.categories import categories
from domain.posting.accounts import AccountStatus
from domain.posting.choice import SIMILAR_NICHES, Candidate, choose

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def an_account(number: int = 1, **values: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "name": f"account {number}",
        "status": "active",
        "niche": "food",
        "since": NOW - timedelta(days=60),
        "used": 0,
        "a_day": 10,
        "waiting": 0,
    }
    return Candidate(UUID(int=number), **{**defaults, **values})


def the_points(asked: str | None, **values: Any) -> float:
    return choose([an_account(**values)], asked, NOW).ranked[0].points


@pytest.mark.parametrize(
    ("values", "niche", "points"),
    [
        pytest.param({}, "food", 100, id="best"),
        pytest.param({"used": 5}, "food", 80, id="half-of-the-day-used"),
        pytest.param({"a_day": None, "used": 50}, "food", 100, id="no-limit"),
        pytest.param({}, "Food ", 100, id="as-it-is-written"),
        pytest.param({"niche": "fitness"}, "food", 85, id="similar"),
        pytest.param({"niche": "gaming"}, "food", 70, id="another"),
        pytest.param({"niche": None}, "food", 70, id="no-niche"),
        pytest.param({}, None, 70, id="nothing-asked"),
        pytest.param({"since": NOW - timedelta(days=15)}, "food", 90, id="half-as-old"),
        pytest.param({"since": NOW + timedelta(days=1)}, "food", 80, id="new"),
        pytest.param({"waiting": 3}, "food", 90, id="all-that-waits"),
    ],
)
def test_points(values: dict[str, Any], niche: str | None, points: float) -> None:
    assert the_points(niche, **values) == pytest.approx(points)


def test_the_reasons_are_words_and_add_up() -> None:
    (scored,) = choose([an_account(used=5, waiting=2)], "fitness", NOW).ranked
    assert scored.why == (
        "account 1: 55 of 100 points (5 of 10 left: 20; its niche food is similar to fitness: 15; "
        "connected for 60 days: 20; 2 posts waiting: 0)"
    )


def test_what_cannot_take_it_is_left_out_with_the_reason() -> None:
    choice = choose(
        [
            an_account(1, status=AccountStatus.NEEDS_RECONNECT),
            an_account(2, status=AccountStatus.DISCONNECTED),
            an_account(3, used=10),
            an_account(4, a_day=0),
        ],
        "food",
        NOW,
    )
    assert choice.account_id is None
    assert choice.left_out == (
        "account 1: it has to be connected again",
        "account 2: it is not connected any more",
        "account 3: all of its 10 posts in 24 hours are taken",
        "account 4: all of its 0 posts in 24 hours are taken",
    )


def test_the_less_busy_of_two_equal_ones_is_chosen_and_then_the_smaller_id() -> None:
    assert choose([an_account(1, waiting=2), an_account(2, waiting=1)], "food", NOW).account_id == UUID(int=2)
    assert choose([an_account(2), an_account(1)], "food", NOW).account_id == UUID(int=1)


CANDIDATES = st.lists(
    st.builds(
        an_account,
        st.integers(1, 6),
        status=st.sampled_from(list(AccountStatus)),
        niche=st.sampled_from([None, "food", "fitness", "gaming"]),
        used=st.integers(0, 12),
        a_day=st.sampled_from([None, 0, 5, 10]),
        waiting=st.integers(0, 5),
        since=st.integers(0, 60).map(lambda days: NOW - timedelta(days=days)),
    ),
    max_size=6,
    unique_by=lambda each: each.account_id,
)


@settings(max_examples=80)
@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_choice_is_the_same_in_any_order_and_within_the_limits(candidates: list[Candidate], rng: Any) -> None:
    choice = choose(candidates, "food", NOW)
    assert choice.ranked == choose(rng.sample(candidates, len(candidates)), "food", NOW).ranked
    assert len(choice.ranked) + len(choice.left_out) == len(candidates)
    for scored in choice.ranked:
        assert 0 <= scored.points <= 100
        assert scored.candidate.status == AccountStatus.ACTIVE
        assert scored.candidate.a_day is None or scored.candidate.used < scored.candidate.a_day


def test_every_category_has_a_similar_one() -> None:
    assert set().union(*SIMILAR_NICHES) == set(categories())
