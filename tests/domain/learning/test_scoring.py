"""Scores are the champion's, in whole points within their interval, and say what they come from."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.concepts.categories import categories
from domain.learning.learner import CHAMPION, MODELS, YARDSTICK, Forecast, Learner, LearnerKey
from domain.learning.models.ridge import LEAST_OUTCOMES
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, Features, Outcome, Prior, definition_on
from domain.learning.pool import built_in
from domain.learning.scale import LEAST, MOST
from domain.learning.scoring import (
    SCORED,
    Predicted,
    Scoring,
    Standing,
    asks,
    features_of,
    prediction_words,
    shown_of,
    shown_row,
)
from domain.videos.profiles import NAMES

TODAY = date(2026, 11, 28)
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
RIDGE = "ridge/v1"
TIKTOK = LearnerKey("tiktok", Horizon.H24, definition_on("tiktok", TODAY))
BERLIN = ZoneInfo("Europe/Berlin")


def learned(count: int, *, by_hour: bool = False, seed: int = 1) -> Learner:
    """A learner of so many outcomes of one account; with `by_hour` they depend on the hour alone."""
    rng, learner = Random(seed), Learner()
    for number in range(count):
        features = Features("a", "food", hour=rng.choice((6, 18)))
        value = (1.2 if features.hour == 6 else 2.4) if by_hour else rng.gauss(1.2, 0.2)
        at = BEGAN + timedelta(minutes=number)
        learner.learn(Outcome(f"{number:04}", at, features, value, built_in("tiktok")))
    return learner


def scored(learner: Learner, champion: str, features: Features) -> Predicted:
    shown = Scoring({TIKTOK: Standing(learner, champion)}).shown("tiktok", features, TODAY)
    assert shown is not None
    return shown


def test_what_is_shown_is_the_champions_whoever_that_is() -> None:
    learner, features = learned(LEAST_OUTCOMES + 50, by_hour=True), Features("a", "food", hour=18)
    forecasts = learner.predict(features, built_in("tiktok"))
    for model in (CHAMPION, RIDGE):
        shown = scored(learner, model, features)
        assert (shown.forecast.model, shown.forecast.value) == (model, forecasts[model].value)
        assert (shown_row(shown)["model"], shown_row(shown)["score"]) == (model, round(forecasts[model].score))
    assert abs(forecasts[CHAMPION].score - forecasts[RIDGE].score) > 2
    every = Scoring({TIKTOK: Standing(learner, RIDGE)}).predict("tiktok", features, TODAY)
    assert [each.shown for each in every if each.key == TIKTOK] == [name == RIDGE for name in MODELS]
    assert not any(each.shown for each in every if each.key.horizon != Horizon.H24)


def test_a_champion_that_has_not_seen_enough_is_stood_in_for() -> None:
    features = Features("a", "food")
    shown = scored(learned(LEAST_OUTCOMES - 1), RIDGE, features)
    assert shown.forecast.model == CHAMPION
    every = Scoring({TIKTOK: Standing(learned(3), RIDGE)}).predict("tiktok", features, TODAY)
    assert {each.forecast.model for each in every} == {CHAMPION, YARDSTICK}


def test_without_outcomes_the_newest_pool_scores_and_without_a_pool_the_built_in_figure() -> None:
    features = Features("", "food")
    pooled = Scoring(priors={TIKTOK: Prior(1.0, {"food": 2.5}, 7)}).shown("tiktok", features, TODAY)
    usual = Scoring().shown("tiktok", features, TODAY)
    assert pooled is not None
    assert usual is not None
    assert (pooled.forecast.value, pooled.prior.id) == (2.5, 7)
    assert (usual.forecast.value, usual.prior.id) == (built_in("tiktok").platform, None)
    assert shown_row(pooled)["factors"] == ["starts from what others' posts showed", "none of your posts yet"]
    assert shown_row(usual)["factors"] == ["starts from a usual post of this platform", "none of your posts yet"]


def test_an_account_that_nobody_has_seen_adds_nothing() -> None:
    for model in (CHAMPION, RIDGE):
        shown = scored(learned(LEAST_OUTCOMES + 20), model, Features("", "food"))
        assert shown.forecast.parts["account"] == 0.0
        assert not [each for each in shown_row(shown)["factors"] if "this account" in each]


@pytest.mark.parametrize("platform", [each for each in NAMES if each not in SCORED])
def test_where_no_views_are_counted_nothing_is_predicted(platform: str) -> None:
    assert Scoring().predict(platform, Features("a", "food"), TODAY) == []
    assert Scoring().shown(platform, Features("a", "food"), TODAY) is None


def test_every_scored_platform_has_a_prediction_of_each_horizon() -> None:
    for platform in SCORED:
        found = Scoring().predict(platform, Features("a"), TODAY)
        assert {each.key.horizon for each in found} == set(LEARNED)
        assert shown_of(found) == Scoring().shown(platform, Features("a"), TODAY)


def test_a_prediction_has_the_definition_that_will_hold_when_it_is_measured() -> None:
    """YouTube counts views in another way from 24 August 2026 on."""

    def definitions(on: date) -> dict[str, str]:
        found = Scoring().predict("youtube-shorts", Features("a"), on)
        return {each.key.horizon: each.key.definition for each in found}

    before, after = "youtube-starts/likes+comments", "youtube-starts-all/likes+comments"
    assert definitions(date(2026, 8, 16)) == {"24h": before, "7d": before}
    assert definitions(date(2026, 8, 17)) == {"24h": before, "7d": after}
    assert definitions(date(2026, 8, 23)) == {"24h": after, "7d": after}


def test_outcomes_of_another_definition_score_nothing() -> None:
    other = LearnerKey("tiktok", Horizon.H24, "tiktok-views/likes+comments")
    shown = Scoring({other: Standing(learned(50))}).shown("tiktok", Features("a", "food"), TODAY)
    assert shown is not None
    assert (shown.outcomes, shown.forecast.value) == (0, built_in("tiktok").platform)


@given(
    st.integers(0, 60),
    st.integers(0, 5),
    st.sampled_from([None, *categories()]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(SCORED),
)
def test_a_score_is_whole_points_of_the_scale_within_its_interval(
    count: int, seed: int, category: str | None, account: str, platform: str
) -> None:
    key = LearnerKey(platform, Horizon.H24, definition_on(platform, TODAY))
    scoring = Scoring({key: Standing(learned(count, seed=seed))})
    shown = scoring.shown(platform, Features(account, category), TODAY)
    assert shown is not None
    assert LEAST <= shown.low <= shown.score <= shown.high <= MOST
    row = shown_row(shown)
    assert all(isinstance(row[name], int) for name in ("score", "low", "high"))
    assert LEAST <= row["low"] <= row["score"] <= row["high"] <= MOST
    assert row["label"]
    assert row["factors"][-1].startswith(f"{count} post" if count else "none of your posts")


def test_factors_say_the_parts_in_words() -> None:
    parts = {"prior": 1.9, "platform": -0.2, "category": 0.3, "account": -0.1}
    forecast = Forecast(CHAMPION, 1.9, 1.4, 2.4, parts)
    shown = Predicted(TIKTOK, forecast, True, built_in("tiktok"), Features("a", "food"), 12)
    assert shown_row(shown)["factors"] == [
        "starts from a usual post of this platform",
        "your posts do worse than that",
        "food does better than your average here",
        "this account does worse",
        "12 posts of evidence",
    ]


def test_a_prediction_is_one_phrase_whatever_an_older_post_has_in_its_place() -> None:
    shown = Scoring().shown("tiktok", Features("a"), TODAY)
    assert shown is not None
    row = shown_row(shown)
    interval = f"{row['score']} of 100 ({row['low']} to {row['high']})"
    assert prediction_words(row) == f"{interval}, by {CHAMPION}: {'; '.join(row['factors'])}"
    assert prediction_words({"score": 71.5}) == "71.5 of 100"
    for odd in (None, [], {}, {"score": True}, {"score": "71"}, {"score": 10**400}, {"score": float("nan")}):
        assert prediction_words(odd) is None


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Why?", True),
        ("なぜ？", True),
        ("لماذا؟", True),
        ("¿Por qué", True),
        ("Γιατί\u037e", True),
        ("No; never!", False),
    ],
    ids=["latin", "wide", "arabic", "spanish", "greek", "none"],
)
def test_questions_are_found_in_any_script(text: str, asked: bool) -> None:
    assert asks(text) is asked


def test_features_are_on_the_tenants_clock_and_hashtags_count_once() -> None:
    found = features_of(
        account="a",
        category="food",
        at=datetime(2026, 11, 29, 23, 30, tzinfo=UTC),
        zone=BERLIN,
        caption="So #Bread it is",
        hashtags=["#bread", "night", ""],
        seconds=None,
    )
    expected = Features("a", "food", hour=0, weekday=0, text_len=15, n_hashtags=2, has_question=False)
    assert found == expected
