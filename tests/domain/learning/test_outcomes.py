from datetime import date
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.learner import LearnerKey
from domain.learning.metrics import DEFINITIONS, asked
from domain.learning.numbers import Horizon, Numbers
from domain.learning.outcomes import LEAST_VIEWS, PARTS, Features, Prior, definition_on, judge

counts = st.one_of(st.none(), st.integers(0, 10**9))


def numbers(**given: int | None) -> Numbers:
    return Numbers(definition="tiktok-views", **given)  # type: ignore[arg-type]


def test_an_outcome_is_the_engagement_of_what_is_counted_for_each_view() -> None:
    judged = judge(numbers(views=1000, likes=60, comments=7, shares=3))
    assert judged.value == pytest.approx(log(8))
    assert judged.definition == "tiktok-views/likes+comments+shares"


def test_what_is_unknown_is_no_zero_but_another_definition() -> None:
    judged = judge(numbers(views=1000, likes=60, comments=7))
    assert judged.value == pytest.approx(log(7.7))
    assert judged.definition == "tiktok-views/likes+comments"


@pytest.mark.parametrize(
    ("post", "removed", "reason"),
    [
        (numbers(likes=5), False, "the platform counts no views"),
        (numbers(views=1000, comments=5), False, "likes are unknown"),
        (numbers(views=1000, likes=5), True, "the post was removed"),
        (numbers(views=LEAST_VIEWS - 1, likes=5), False, "fewer than 100 views"),
        (numbers(views=1000, likes=601), False, "engagement of more than 60 %"),
    ],
    ids=["no-views", "no-likes", "removed", "few-views", "too-much"],
)
def test_what_would_teach_something_wrong_is_set_aside_with_a_reason(post: Numbers, removed: bool, reason: str) -> None:
    judged = judge(post, removed=removed)
    assert (judged.value, judged.reason) == (None, reason)


@given(counts, counts, counts, counts, st.booleans())
def test_every_post_has_an_outcome_or_a_reason(
    views: int | None, likes: int | None, comments: int | None, shares: int | None, removed: bool
) -> None:
    judged = judge(numbers(views=views, likes=likes, comments=comments, shares=shares), removed=removed)
    assert (judged.value is None) == bool(judged.reason)
    if judged.value is not None:
        assert 0 <= judged.value <= log(61) + 1e-9
        assert judged.definition


def test_a_platform_that_counts_no_views_has_no_definition() -> None:
    assert [definition_on(platform, date(2026, 11, 22)) for platform in ("bluesky", "mastodon")] == ["", ""]


@pytest.mark.parametrize("each", DEFINITIONS, ids=lambda each: each.name)
def test_a_prediction_of_the_day_has_the_definition_of_the_outcome(each: object) -> None:
    platform, since = each.platform, max(each.since, date(2025, 1, 1))  # type: ignore[attr-defined]
    kept = {metric.kept for metric in asked(platform, since)}
    full = Numbers(definition=each.name, views=1000, **dict.fromkeys(kept & set(PARTS), 5))  # type: ignore[attr-defined]
    assert each.name not in definition_on(platform, since) or judge(full).definition == definition_on(platform, since)  # type: ignore[attr-defined]


def test_definitions_and_horizons_never_meet_in_one_learner() -> None:
    before, after = (definition_on("youtube-shorts", date(2026, 8, day)) for day in (23, 24))
    assert before == "youtube-starts/likes+comments"
    assert after == "youtube-starts-all/likes+comments"
    keys = {
        LearnerKey("youtube-shorts", horizon, name) for horizon in (Horizon.H24, Horizon.D7) for name in (before, after)
    }
    assert len(keys) == 4


def test_features_come_back_from_their_row_and_unknown_ones_take_no_room() -> None:
    features = Features("a", "food", hour=0, has_question=False)
    assert features.row() == {"account": "a", "category": "food", "hour": 0, "has_question": False}
    assert Features(**features.row()) == features


def test_a_prior_without_the_category_is_that_of_the_platform() -> None:
    prior = Prior(1.9, {"food": 2.2, "": 2.0})
    assert [prior.of(each) for each in ("food", "news", None)] == [2.2, 1.9, 2.0]
