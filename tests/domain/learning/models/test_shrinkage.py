from collections.abc import Callable
from itertools import product

from hypothesis import example, given, settings, target
from hypothesis import strategies as st

from domain.learning.models.shrinkage import CLAMP, LARGEST, PRIOR_MOVES, Parameters, Shrinkage
from domain.learning.outcomes import Features, Prior
from domain.learning.scale import score_of

CATEGORIES = ("news", "food", "tech", None)
ACCOUNTS = ("one", "two", "three")
SHOWN = tuple(Features(account, category) for account, category in product((*ACCOUNTS, "new"), (*CATEGORIES, "music")))
"""All that can be scored, accounts and categories that were never seen too."""
MOST = 4.1  # ln(1 + 60 %)

values = st.one_of(st.floats(0, MOST), st.sampled_from((0.0, MOST)))
figures = st.dictionaries(st.sampled_from(("news", "food", "tech")), st.floats(0, MOST))
priors = st.builds(Prior, st.floats(0, MOST), figures)
posts = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(CATEGORIES), values, st.integers(1, 40), st.booleans())
shifts = st.lists(st.sampled_from((-PRIOR_MOVES, 0.0, PRIOR_MOVES)), min_size=4, max_size=4)


def furthest(model: Shrinkage, prior: Prior, learn: Callable[[], None]) -> float:
    """Return the most points that a score has moved by."""
    before = [score_of(max(0.0, model.predict(each, prior).value)) for each in SHOWN]
    learn()
    after = [score_of(max(0.0, model.predict(each, prior).value)) for each in SHOWN]
    return max(abs(a - b) for a, b in zip(after, before, strict=True))


@settings(max_examples=40)
@given(st.lists(posts, min_size=1, max_size=6), priors, shifts)
@example(
    [("one", "news", MOST, 60, False), ("two", "food", 0.0, 60, False), ("one", "food", MOST, 1, False)],
    Prior(1.9),
    [0.0] * 4,
)
@example([("one", "news", MOST, 1, False)], Prior(1.6), [-PRIOR_MOVES] * 4)
@example([("one", "news", 3.0, 40, True), ("one", "food", 3.0, 1, True)], Prior(0.0), [0.0] * 4)
def test_no_outcome_moves_any_score_by_more_than_the_clamp(
    stream: list[tuple[str, str | None, float, int, bool]], prior: Prior, shift: list[float]
) -> None:
    """With the prior of now, which may have moved since the post was predicted."""
    by = dict(zip(("news", "food", "tech"), shift[1:], strict=True))
    now = Prior(prior.platform + shift[0], {name: value + by[name] for name, value in prior.categories.items()})
    model, most = Shrinkage(), 0.0
    for account, category, value, times, drifting in stream:
        for _ in range(times):
            features = Features(account, category)
            moved = furthest(model, now, lambda: model.learn(features, value, prior, drifting=drifting))  # noqa: B023
            assert moved <= CLAMP
            most = max(most, moved)
    target(most)


def test_the_clamp_is_reached_and_no_smaller_than_it_has_to_be() -> None:
    model, prior = Shrinkage(), Prior(1.75)  # just below 5 %, where the scale is steepest
    moved = furthest(model, prior, lambda: model.learn(Features("one", "news"), 0.0, prior, drifting=False))
    assert 0.7 * CLAMP < moved <= CLAMP


def test_an_outcome_that_moves_less_counts_as_a_whole_post() -> None:
    model, prior = Shrinkage(), Prior(1.95)
    for _ in range(10):
        model.learn(Features("one", "news"), 1.95, prior, drifting=False)
    before = model.level.weights["news"]
    model.learn(Features("one", "news"), 2.2, prior, drifting=False)
    assert model.level.weights["news"] == before * Parameters().keep + 1.0


def test_each_step_is_shrunk_by_its_pseudo_posts() -> None:
    model, prior, steps = Shrinkage(), Prior(2.0), Parameters()
    model.learn(Features("one", "news"), 2.1, prior, drifting=False)
    parts, weight = model.predict(Features("one", "news"), prior).parts, model.level.weights["news"]
    level = weight * 0.1 / (weight + steps.platform)
    category = weight * (0.1 - level) / (weight + steps.category)
    account = weight * (0.1 - level - category) / (weight + steps.account)
    expected = {"prior": 2.0, "platform": level, "category": category, "account": account}
    assert {name: round(part, 12) for name, part in parts.items()} == {
        n: round(each, 12) for n, each in expected.items()
    }


def test_a_new_prior_holds_for_the_posts_of_before_too() -> None:
    """What many posts have shown stays as it was, whatever is expected of a new tenant now."""
    model, prior = Shrinkage(), Prior(2.0)
    for _ in range(300):
        model.learn(Features("one", "news"), 2.4, prior, drifting=False)
    found = [
        model.predict(Features("one", "news"), each).value for each in (prior, Prior(1.5), Prior(2.0, {"news": 2.6}))
    ]
    assert all(abs(each - 2.4) < 0.01 for each in found)


def test_beyond_the_end_of_the_scale_all_outcomes_are_alike() -> None:
    one, other, prior = Shrinkage(), Shrinkage(), Prior(2.5)
    one.learn(Features("one"), LARGEST, prior, drifting=False)
    other.learn(Features("one"), MOST, prior, drifting=False)
    assert one.row() == other.row()


def test_after_an_alarm_everything_of_the_tenant_moves_with_what_comes() -> None:
    model, prior = Shrinkage(), Prior(2.0)
    for number in range(200):
        model.learn(Features("one", ("news", "food")[number % 2]), 2.0, prior, drifting=False)
    for _ in range(40):
        model.learn(Features("one", "news"), 1.4, prior, drifting=True)
    assert model.predict(Features("one", "food"), prior).value < 1.65
