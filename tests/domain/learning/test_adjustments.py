"""A displayed score that has moved is news from two points on, and says why."""

from datetime import UTC, datetime, timedelta

from domain.learning.adjustments import Recorded, categories, scores_moved
from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Features, Outcome, Prior
from domain.learning.pool import built_in
from domain.learning.scale import score_of
from domain.learning.scoring import Standing

KEY = LearnerKey("tiktok", Horizon.H24, "tiktok-views/likes+comments+shares")
PRIOR = built_in("tiktok")


def a_learner(*learned: tuple[str | None, float]) -> Learner:
    learner = Learner()
    for number, (category, value) in enumerate(learned):
        at = datetime(2026, 11, 27, tzinfo=UTC) + timedelta(minutes=number)
        learner.learn(Outcome(str(number), at, Features("a", category), value, PRIOR))
    return learner


def test_nothing_has_moved_while_outcomes_are_as_the_prior_says() -> None:
    learner = a_learner(*[("tech", PRIOR.platform)] * 9)
    assert scores_moved(KEY, Standing(learner), PRIOR, {}, {}) == []


def test_each_category_that_has_moved_is_a_row_and_what_has_none_is_no_row() -> None:
    learner = a_learner(*[("tech", 1.0), ("news", 3.5), (None, 1.9)] * 15)
    assert categories(learner) == ["news", "tech"]
    liked, tech = scores_moved(KEY, Standing(learner), PRIOR, {}, {"tech": [-12.5, -7.5], "news": [3.25]})
    assert (liked.old, tech.old) == (round(score_of(PRIOR.platform)), round(score_of(PRIOR.platform)))
    assert liked.new > liked.old
    assert tech.new < tech.old
    assert (tech.posts, tech.model) == (15, CHAMPION)
    assert tech.reason == (
        "15 outcomes of the category; the last 2 of them came 10.0 points below the prediction on average"
    )
    assert liked.reason == "15 outcomes of the category; the last of them came 3.2 points above the prediction"
    assert sum(tech.report["after"].values()) == learner.predict(Features("", "tech"), PRIOR)[CHAMPION].value


def test_a_score_is_compared_with_the_one_that_was_recorded() -> None:
    learner = a_learner(*[("tech", 1.0)] * 15)
    [moved] = scores_moved(KEY, Standing(learner), PRIOR, {}, {})
    near, far = Recorded(moved.new + 1, {"prior": 1.0}), Recorded(moved.new + 2, {"prior": 1.0})
    assert scores_moved(KEY, Standing(learner), PRIOR, {"tech": near}, {}) == []
    [again] = scores_moved(KEY, Standing(learner), PRIOR, {"tech": far}, {})
    assert (again.old, again.report["before"]) == (far.score, {"prior": 1.0})


def test_a_score_that_the_pool_has_moved_says_so() -> None:
    learner = a_learner(("tech", PRIOR.platform))
    [moved] = scores_moved(KEY, Standing(learner), Prior(3.2, id=7), {}, {"tech": [15.2]})
    assert moved.reason == (
        "1 outcome of the category; the last of them came 15.2 points above the prediction; what others' posts showed "
        "has moved up since, too"
    )


def test_a_champion_that_says_nothing_yet_is_stood_in_for() -> None:
    [moved] = scores_moved(KEY, Standing(a_learner(*[("tech", 1.0)] * 15), "ridge/v1"), PRIOR, {}, {})
    assert moved.model == CHAMPION


def test_nothing_is_displayed_at_the_other_horizon() -> None:
    learner = a_learner(*[("tech", 1.0)] * 15)
    assert scores_moved(LearnerKey("tiktok", Horizon.D7, KEY.definition), Standing(learner), PRIOR, {}, {}) == []
