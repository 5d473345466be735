"""What a prediction has to beat: the original's weights, its rule that changes them, and a running median.

The original's score of a topic is the mean of its three marks, by the category's weight, recency and hook, cut at 100
(`src/lib/virality.ts`); of a past post only the category is left, so its category's marks stand in, the topic is of
today, and there is a hook, as it always found one. Its rule multiplies a factor for each category and platform after a
miss (`src/lib/learning/reflexion.ts`).
"""

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from domain.concepts.categories import categories

TODAY = 1.3
HOOK: Mapping[str, float] = {"tiktok": 1.1}
MOST = 100.0
LARGE = 20.0
"""Points: smaller misses change no factor."""
STEPS = ((40.0, 0.20), (25.0, 0.15), (15.0, 0.10))
"""From more than so many percent of the prediction on, the factor changes by so much."""
FACTORS = (0.5, 2.0)


def original_weights(category: str | None, platform: str, factor: float = 1.0) -> float:
    """Return the original's score."""
    return min(MOST, round(_base(category, platform) * factor * TODAY * HOOK.get(platform, 1.0)))


@cache
def _base(category: str | None, platform: str) -> float:
    found = categories().get(category or "")
    if found is None:
        marks = [mark for each in categories().values() for mark in each.marks]
        return sum(marks) / len(marks)
    tiktok, shorts = found.weights
    # The original had no weight for Reels.
    weight = {"tiktok": tiktok, "youtube-shorts": shorts}.get(platform, (tiktok + shorts) / 2)
    return sum(found.marks) / len(found.marks) * weight


@dataclass(slots=True)
class OriginalRule:
    """The original's weights with its learned factors."""

    factors: dict[tuple[str | None, str], float] = field(default_factory=dict)

    def predict(self, category: str | None, platform: str) -> float:
        return original_weights(category, platform, self.factors.get((category, platform), 1.0))

    def learn(self, category: str | None, platform: str, predicted: float, actual: float) -> None:
        """Change the factor after a miss, down if too much was predicted."""
        gap = predicted - actual
        percent = 100 * abs(gap) / predicted
        step = next((step for most, step in STEPS if percent > most), 0.0)
        if abs(gap) <= LARGE or not step:
            return
        factor = self.factors.get((category, platform), 1.0)
        factor = factor / (1 + step) if gap > 0 else factor * (1 + step)
        self.factors[category, platform] = min(FACTORS[1], max(FACTORS[0], factor))


@dataclass(slots=True)
class Median:
    """The median of the scores so far; `start` before there is one."""

    start: float
    scores: list[float] = field(default_factory=list)

    def predict(self) -> float:
        if not self.scores:
            return self.start
        half = len(self.scores) // 2
        return self.scores[half] if len(self.scores) % 2 else (self.scores[half - 1] + self.scores[half]) / 2

    def learn(self, score: float) -> None:
        insort(self.scores, score)
