"""The pooled prior: what tenants together have seen, of which no tenant can be read.

A figure is of at least `LEAST_TENANTS` tenants and `LEAST_POSTS` posts, no tenant counts for more than `MOST_OF_ONE`
posts, and figures are rounded. Where there are fewer, the platform's stands in; where that has too few, the built-in
one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum

from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import Prior

LEAST_TENANTS = 5
LEAST_POSTS = 50
MOST_OF_ONE = 20.0
"""Posts that one tenant counts for in a cell, at most."""
PSEUDO_POSTS = 20.0
"""So much does the platform's figure count in each category's."""
DIGITS = 2

BUILT_IN: Mapping[str, float] = {
    "tiktok": 1.9,
    "youtube-shorts": 1.5,
    "instagram-reels": 1.6,
}
"""Log engagement where no pool says anything."""
BUILT_IN_ELSEWHERE = 1.6


def built_in(platform: str) -> Prior:
    return Prior(BUILT_IN.get(platform, BUILT_IN_ELSEWHERE))


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one tenant has seen in one category: how many posts, and their discounted mean."""

    category: str
    posts: int
    mean: float


def contributions(model: Shrinkage) -> list[Contribution]:
    """Return what one tenant's learner adds to the pool."""
    return [
        Contribution(category, model.posts[category], sums.total / sums.weights[category])
        for category, sums in model.categories.items()
        if sums.weights[category] > 0
    ]


def pooled(platform: str, tenants: Iterable[Iterable[Contribution]]) -> Prior:
    """Return the prior of all tenants' contributions on a platform."""
    cells: dict[str, list[Contribution]] = {}
    everything: list[Contribution] = []
    of_platform = 0
    for tenant in tenants:
        found = list(tenant)
        of_platform += bool(found)
        everything += found
        for each in found:
            cells.setdefault(each.category, []).append(each)
    if of_platform < LEAST_TENANTS or sum(each.posts for each in everything) < LEAST_POSTS:
        return built_in(platform)
    weight, total = _weighed(everything)
    mean = total / weight
    values = {}
    for category, found in cells.items():
        if len(found) >= LEAST_TENANTS and sum(each.posts for each in found) >= LEAST_POSTS:
            weight, total = _weighed(found)
            values[category] = round((total + PSEUDO_POSTS * mean) / (weight + PSEUDO_POSTS), DIGITS)
    return Prior(round(mean, DIGITS), values)


def _weighed(found: list[Contribution]) -> tuple[float, float]:
    weights = [min(float(each.posts), MOST_OF_ONE) for each in found]
    return fsum(weights), fsum(weight * each.mean for weight, each in zip(weights, found, strict=True))
