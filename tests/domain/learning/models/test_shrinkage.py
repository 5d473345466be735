from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.learning.models.shrinkage import CLAMP, Shrinkage
from domain.learning.outcomes import Features, Prior
from domain.learning.scale import score_of

CATEGORIES = ("news", "food", "tech", None)
ACCOUNTS = ("one", "two", "three", "four")
MOST = 4.1  # ln(1 + 60 %)

values = st.one_of(st.floats(0, MOST), st.sampled_from((0.0, MOST)))
priors = st.builds(
    Prior, st.floats(0, MOST), st.dictionaries(st.sampled_from(("news", "food", "tech")), st.floats(0, MOST))
)
posts = st.tuples(st.sampled_from(ACCOUNTS[:3]), st.sampled_from(CATEGORIES), values, st.integers(1, 40))


def scores(model: Shrinkage, prior: Prior) -> list[float]:
    """Return all scores that can be shown, of accounts and categories that were never seen too."""
    return [
        score_of(model.predict(Features(account, category), prior).value)
        for account, category in product(ACCOUNTS, (*CATEGORIES, "music"))
    ]


def furthest(model: Shrinkage, prior: Prior, features: Features, value: float, *, drifting: bool) -> float:
    before = scores(model, prior)
    model.learn(features, value, prior, drifting=drifting)
    return max(abs(after - one) for one, after in zip(before, scores(model, prior), strict=True))


@settings(max_examples=60)
@given(st.lists(posts, min_size=1, max_size=8), priors, st.booleans())
@example([("one", "news", MOST, 60), ("two", "food", 0.0, 60), ("one", "food", MOST, 1)], Prior(1.9), False)
@example([("one", "news", MOST, 60), ("one", "food", MOST, 1)], Prior(0.0), True)
def test_no_outcome_moves_any_score_by_more_than_the_clamp(
    stream: list[tuple[str, str | None, float, int]], prior: Prior, drifting: bool
) -> None:
    model = Shrinkage()
    for account, category, value, times in stream:
        for _ in range(times):
            moved = furthest(model, prior, Features(account, category), value, drifting=drifting)
            assert moved <= CLAMP
