"""The numbers of simulated posts grow, and come back exactly for an age."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.platforms.growth import STEP_SECONDS, Grown, numbers_at
from simulators.platforms.tiktok import tiktok_simulator

NOW = Grown(views=152, likes=10, comments=1, shares=1, saves=3)
ages = st.floats(-1e6, 1e12)


@given(st.text(max_size=30), ages, ages)
def test_no_number_falls_and_none_exceeds_the_views(seed: str, one: float, other: float) -> None:
    younger, older = (astuple(numbers_at(seed, age)) for age in sorted((one, other)))
    assert all(before <= after for before, after in zip(younger, older, strict=True))
    assert 0 <= max(older[1:]) <= older[0] <= 50_000


@given(st.text(max_size=30), st.integers(0, 10_000), st.floats(0, STEP_SECONDS - 0.001))
def test_an_age_counts_in_whole_minutes(seed: str, minutes: int, more: float) -> None:
    assert numbers_at(seed, minutes * STEP_SECONDS + more) == numbers_at(seed, minutes * STEP_SECONDS)


def test_the_numbers_of_an_id_are_the_same_on_every_machine() -> None:
    assert numbers_at("7400000000000000003", 59) == Grown(0, 0, 0, 0, 0)
    assert numbers_at("7400000000000000003", 3600) == NOW
    assert numbers_at("7400000000000000010", 3600) != NOW


def test_a_post_grows_by_the_clock_and_is_made_older() -> None:
    with tiktok_simulator() as tiktok:
        tiktok.add_account("ada")
        post = tiktok.post_elsewhere("ada", "A fox", before=30)
        post.private = True
        assert tiktok.grown(post) == numbers_at(post.id, 0)
        tiktok.backdate(post.id, 3600)
        assert tiktok.grown(post) == numbers_at(post.id, 3630)
        tiktok.later(86_400)
        assert tiktok.grown(post) == numbers_at(post.id, 90_030)
        tiktok.say(post.id, likes=None, shares="many")
        grown = numbers_at(post.id, 90_030)
        assert tiktok.counts(post) == {
            "views": grown.views,
            "comments": grown.comments,
            "shares": "many",
            "saves": grown.saves,
        }
        tiktok.remove(post.id)
        assert post.removed
        with pytest.raises(ValueError, match="no post 'x'"):
            tiktok.remove("x")
