"""Predictions tell concepts apart, unlike the original's, of which three in four were exactly 100."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.concepts.categories import categories
from domain.concepts.trends import Sighting, Trend
from domain.concepts.virality import PLATFORMS, predict


def a_trend(marks: int, recency: str = "today") -> Trend:
    return Trend("x", "news", "US", (Sighting("reddit", "x", 1),), recency, marks, marks, marks, marks)


@given(
    st.integers(0, 100),
    st.sampled_from(["today", "yesterday", "older"]),
    st.sampled_from([*categories()]),
    st.floats(0.5, 2),
)
def test_a_prediction_is_a_score_within_its_interval(marks: int, recency: str, category: str, factor: float) -> None:
    made = predict(a_trend(marks, recency), category, {(category, "tiktok"): factor})
    assert [each.platform for each in made] == list(PLATFORMS)
    for each in made:
        assert 0 < each.low <= each.score <= each.high < 100
        assert each.label


def test_better_marks_and_newer_trends_score_better_up_to_the_top() -> None:
    """100 marks in the best category, today: the original had long been at its cap."""
    scores = [predict(a_trend(marks), "music")[0].score for marks in range(40, 101, 10)]
    assert all(a < b for a, b in pairwise(scores))
    ages = [predict(a_trend(60, recency), "music")[0].score for recency in ("older", "yesterday", "today")]
    assert ages == sorted(set(ages))


def test_a_usual_trend_scores_in_the_middle_and_says_how_unsure_that_is() -> None:
    [tiktok, *_] = predict(a_trend(60), "food")
    assert 50 < tiktok.score < 80
    assert tiktok.high - tiktok.low > 40
