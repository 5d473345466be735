from math import inf, isfinite, nan

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.learning.models import ridge
from domain.learning.models.ridge import BEFORE, CATEGORIES, LEAST_OUTCOMES, REACHES, Ridge, vector
from domain.learning.models.shrinkage import MOST_STEP
from domain.learning.outcomes import Features, Prior

MOST = 4.1  # ln(1 + 60 %)

counts = st.one_of(st.none(), st.integers(0, 10**9), st.sampled_from((-1, 10**400)))
features = st.builds(
    Features,
    account=st.sampled_from(("one", "two")),
    category=st.sampled_from((None, "news", "food", "of another app")),
    hour=st.one_of(st.none(), st.integers(0, 23)),
    weekday=st.one_of(st.none(), st.integers(0, 6)),
    text_len=counts,
    n_hashtags=counts,
    has_question=st.one_of(st.none(), st.booleans()),
    original_sound=st.one_of(st.none(), st.booleans()),
    followers=counts,
    duration_s=st.one_of(st.none(), st.floats(0, 1e9), st.sampled_from((nan, inf, -inf, -1.0))),
)
outcomes = st.tuples(features, st.floats(0, MOST), st.integers(1, 30), st.booleans())


def value(model: Ridge, of: Features, prior: Prior) -> float:
    estimate = model.predict(of, prior)
    assert estimate is not None
    return estimate.value


@given(features)
def test_every_number_is_within_its_reach(of: Features) -> None:
    numbers = vector(of)
    assert all(abs(number) <= reach for number, reach in zip(numbers, REACHES, strict=False))
    assert len(REACHES) == BEFORE
    assert sorted(numbers[BEFORE:])[:-1] == [0.0] * (len(CATEGORIES) - 1)


@settings(max_examples=40)
@given(st.lists(outcomes, min_size=1, max_size=10), st.lists(features, min_size=1, max_size=5))
def test_no_outcome_moves_any_prediction_by_more_than_the_clamp_and_all_are_numbers(
    stream: list[tuple[Features, float, int, bool]], others: list[Features]
) -> None:
    prior, model = Prior(1.9, {"food": 2.4}), Ridge(count=LEAST_OUTCOMES)
    before = [value(model, each, prior) for each in others]
    for of, outcome, times, drifting in stream:
        for _ in range(times):
            model.learn(of, outcome, prior, drifting=drifting)
            after = [value(model, each, prior) for each in others]
            assert all(isfinite(each) for each in after)
            assert max(abs(a - b) for a, b in zip(after, before, strict=True)) <= MOST_STEP + 1e-9
            before = after


def test_it_finds_the_features_that_an_outcome_depends_on() -> None:
    model, prior = Ridge(), Prior(1.9)
    for number in range(400):
        question, followers = number % 2 == 0, 10 ** (3 + number % 4)
        expected = 1.9 + (0.2 if question else -0.2) - 0.1 * (number % 4 - 1.5)
        model.learn(Features("one", has_question=question, followers=followers), expected, prior, drifting=False)
    asked, large = Features("one", has_question=True, followers=1000), Features("one", followers=10**6)
    assert abs(value(model, asked, prior) - 2.25) < 0.05
    assert value(model, large, prior) < 1.9


def test_it_says_nothing_before_it_has_seen_enough() -> None:
    model, prior = Ridge(), Prior(1.9)
    for number in range(LEAST_OUTCOMES):
        assert model.predict(Features("one"), prior) is None, number
        model.learn(Features("one"), 2.0, prior, drifting=False)
    assert model.predict(Features("one"), prior) is not None
    assert ridge.LEAST_OUTCOMES == 150
