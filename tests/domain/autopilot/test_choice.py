"""The best concept is the one whose weakest platform is the strongest; and other programs' concepts break nothing."""

from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.autopilot.choice import Scored, ranked, why_not
from domain.autopilot.settings import Settings
from domain.concepts.generation import ConceptRequest, compose
from domain.concepts.grammar import LocalGrammar
from domain.concepts.trends import fill
from domain.learning.scoring import Scoring

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def a_concept(name, **scores):
    return {"id": name, "title": name, "platformVirality": {key: {"score": value} for key, value in scores.items()}}


def names(concepts, *platforms):
    return [(each.concept_id, each.score) for each in ranked(concepts, platforms)]


def test_the_weakest_of_the_accounts_platforms_counts():
    concepts = [a_concept("a", tiktok=90, youtubeShorts=40), a_concept("b", tiktok=60, youtubeShorts=55)]

    assert names(concepts, "tiktok", "youtube-shorts") == [("b", 55), ("a", 40)]
    assert names(concepts, "tiktok", "bluesky") == [("a", 90), ("b", 60)]


def test_where_nothing_is_predicted_for_any_platform_all_predictions_count():
    assert names([a_concept("a", tiktok=90, instagramReels=40)], "bluesky") == [("a", 40)]


def test_one_without_any_number_is_not_chosen_and_equal_ones_keep_their_order():
    odd = [a_concept("a", tiktok=True), a_concept("b", tiktok=10**400), {"id": "c"}, "d", a_concept("e", tiktok="99")]

    assert names([*odd, a_concept("x", tiktok=50), a_concept("y", tiktok=50)], "tiktok") == [("x", 50), ("y", 50)]


def test_what_scores_the_same_is_not_called_worse():
    taken = Scored("a", "A", 55)

    assert why_not(Scored("b", "B", 55), taken) == "an earlier one that scores the same was taken"
    assert why_not(Scored("c", "C", 54), taken) == "a better one was taken"


@given(st.lists(st.dictionaries(st.sampled_from(("id", "title", "platformVirality")), JSON) | JSON, max_size=6))
def test_whatever_is_in_a_generation_it_can_be_ranked(concepts):
    found = ranked(concepts, ("tiktok", "bluesky"))

    assert all(0 <= each.score <= 100 for each in found)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("platforms", [("bluesky",), ("tiktok", "youtube-shorts", "instagram-reels")], ids="/".join)
def test_an_autopilot_as_it_is_at_first_finds_a_concept_each_day_although_no_trend_is_there(platforms):
    defaults, now = Settings(), datetime(2026, 11, 22, 12, tzinfo=UTC)
    for seed in range(50):
        trends = fill([], region="US", rng=Random(seed), now=now)
        request = ConceptRequest(defaults.concepts_a_day, tuple(trends), (), "US", seed, now)
        concepts = compose(LocalGrammar().write(request), request, Scoring(), job_id=UUID(int=seed), timezone="UTC")
        assert ranked(concepts, platforms)[0].score >= defaults.least_score
