from hypothesis import given
from hypothesis import strategies as st

from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import Features, Prior
from domain.learning.pool import (
    LEAST_POSTS,
    LEAST_TENANTS,
    MOST_OF_ONE,
    PSEUDO_POSTS,
    STEP,
    Contribution,
    built_in,
    contributions,
    pooled,
)

MOST = 4.1  # ln(1 + 60 %)
PLATFORM = "tiktok"

cells = st.builds(Contribution, st.sampled_from(("food", "news", "tech", "")), st.integers(1, 200), st.floats(0, MOST))
tenants = st.lists(st.lists(cells, max_size=4, unique_by=lambda each: each.category), max_size=12)


def alike(count: int, posts: int, mean: float = 2.5, category: str = "food") -> list[list[Contribution]]:
    return [[Contribution(category, posts, mean)] for _ in range(count)]


def test_below_five_tenants_or_fifty_posts_nothing_of_them_shows() -> None:
    assert pooled(PLATFORM, alike(4, 500)) == built_in(PLATFORM)
    assert pooled(PLATFORM, alike(7, 7)) == built_in(PLATFORM)
    found = pooled(PLATFORM, alike(5, 10))
    assert (found.platform, found.of("food"), found.id) == (2.5, 2.5, None)


def test_a_category_of_too_few_has_the_figure_of_the_platform() -> None:
    few = [*alike(6, 20), *alike(4, 500, 1.0, "news")]
    found = pooled(PLATFORM, few)
    assert "news" not in found.categories
    assert found.of("news") == found.platform


@given(tenants)
def test_every_figure_is_of_five_tenants_and_fifty_posts_that_count(them: list[list[Contribution]]) -> None:
    found = pooled(PLATFORM, them)
    for category in found.categories:
        posts = [each.posts for tenant in them for each in tenant if each.category == category]
        assert len(posts) >= LEAST_TENANTS
        assert sum(min(each, MOST_OF_ONE) for each in posts) >= LEAST_POSTS
    if len([tenant for tenant in them if tenant]) < LEAST_TENANTS:
        assert found == built_in(PLATFORM)


@given(tenants, st.randoms(use_true_random=False))
def test_figures_are_the_same_in_whatever_order_tenants_come(them: list[list[Contribution]], rng: object) -> None:
    mixed = [list(tenant) for tenant in them]
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert pooled(PLATFORM, mixed) == pooled(PLATFORM, them)


@given(
    st.lists(st.tuples(st.integers(10, 200), st.floats(1, 3)), min_size=5, max_size=12),
    st.integers(1, 10**6),
    st.floats(0, MOST),
)
def test_a_tenant_moves_no_figure_beyond_what_the_others_have_seen(
    others: list[tuple[int, float]], posts: int, mean: float
) -> None:
    """However many posts it has, and whatever they are: it has a fifth at most, and the middle half leaves it out."""
    them = [[Contribution("food", count, of)] for count, of in others]
    found = pooled(PLATFORM, [*them, [Contribution("food", posts, mean)]])
    means = [of for _, of in others]
    for figure in (found.platform, found.of("food")):
        assert min(means) - STEP / 2 <= figure <= max(means) + STEP / 2


@given(
    st.lists(st.tuples(st.integers(10, 40), st.floats(1, 3)), min_size=5, max_size=10),
    st.floats(-1, 1),
    st.data(),
)
def test_one_post_moves_a_figure_by_two_steps_at_most(
    others: list[tuple[int, float]], by: float, data: st.DataObject
) -> None:
    """A post that is `by` higher, as usual ones differ: most of the time it moves nothing that is shown."""
    place = data.draw(st.integers(0, len(others) - 1))
    count, mean = others[place]
    moved = [*others[:place], (count, mean + by / count), *others[place + 1 :]]
    before, after = (
        pooled(PLATFORM, [[Contribution("food", *each)] for each in them]).of("food") for them in (others, moved)
    )
    assert abs(before - after) <= 2 * STEP + 1e-9


def test_usual_posts_rarely_show() -> None:
    """Of fifty posts one is another one, 0.3 higher: the figure, which is a multiple of the step, mostly stays."""
    changed = 0
    for number in range(100):
        base = 2.0 + number / 1000
        before = [[Contribution("food", 10, base + each / 50)] for each in range(5)]
        after = [[Contribution("food", 10, base + 0.04 + 0.3 / 10)], *before[:2], *before[3:]]
        changed += pooled(PLATFORM, before) != pooled(PLATFORM, after)
    assert changed <= 35


def test_a_figure_of_few_posts_leans_on_that_of_the_platform() -> None:
    found = pooled(PLATFORM, [*alike(5, 10, 3.0), *alike(20, 20, 2.0, "news")])
    assert found.platform == 2.0
    assert found.of("food") == round((50 * 3.0 + PSEUDO_POSTS * 2.0) / (50 + PSEUDO_POSTS) / STEP) * STEP


def test_a_learner_adds_its_posts_and_their_mean_by_category() -> None:
    model, prior = Shrinkage(), Prior(2.0)
    for category, value in (("food", 2.0), ("food", 2.1), ("news", 1.9), (None, 2.0)):
        model.learn(Features("a", category), value, prior, drifting=False)
    found = {each.category: each for each in contributions(model)}
    assert {name: each.posts for name, each in found.items()} == {"food": 2, "news": 1, "": 1}
    assert abs(found["food"].mean - 2.05) < 0.001
    assert abs(found["news"].mean - 1.9) < 1e-9
