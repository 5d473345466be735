"""`shrinkage/v1`: the pooled prior, and in three steps the tenant's own residual from it, each shrunk towards nothing
while there is little of it: on the platform, in the category, of the account.

An estimate with pseudo-posts is the posterior mean of a normal mean (James-Stein shrinkage with a fixed ratio of
variances); newer posts count more. What is kept are sums of outcomes, not of residuals, so that a new prior, or a
better estimate of the step above, holds for all posts of before too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from domain.learning.models.model import Estimate
from domain.learning.outcomes import Features, Prior
from domain.learning.scale import STEEPEST

CLAMP = 5.0
"""Points by which one outcome may move a displayed score, at most."""
MOST_STEP = CLAMP / STEEPEST


@dataclass(frozen=True, slots=True)
class Parameters:
    """Pseudo-posts of each step, and by how much a post counts less for each later one in its cell: as a rule, and
    after an alarm of drift."""

    platform: float = 5.0
    category: float = 10.0
    account: float = 5.0
    keep: float = 0.99
    keep_after_drift: float = 0.97


@dataclass(slots=True)
class Sums:
    """Discounted: how many posts of each category, and the sum of their outcomes."""

    weights: dict[str, float] = field(default_factory=dict)
    total: float = 0.0

    def learn(self, category: str, value: float, keep: float) -> None:
        for each in self.weights:
            self.weights[each] *= keep
        self.weights[category] = self.weights.get(category, 0.0) + 1.0
        self.total = self.total * keep + value

    def row(self) -> list[Any]:
        return [self.weights, self.total]


@dataclass(slots=True)
class Shrinkage:
    """The state of the model for one learner."""

    parameters: Parameters = Parameters()
    level: Sums = field(default_factory=Sums)
    categories: dict[str, Sums] = field(default_factory=dict)
    accounts: dict[str, Sums] = field(default_factory=dict)
    posts: dict[str, int] = field(default_factory=dict)
    """By category, undiscounted."""

    def predict(self, features: Features, prior: Prior) -> Estimate:
        """Return the estimate as its four parts."""
        category = features.category or ""
        level = self._level(prior)
        own = self._category(category, prior, level)
        account = self._account(features.account, prior, level)
        base = prior.of(category)
        return Estimate(
            base + level + own + account,
            {"prior": base, "platform": level, "category": own, "account": account},
        )

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None:
        """Take in an outcome, as far as the clamp lets it count."""
        category, keep = features.category or "", self.parameters.keep_after_drift if drifting else self.parameters.keep
        before = self._parts(category, features.account, prior)
        expected = prior.of(category) + sum(before)
        saved = self._copy(category, features.account)
        self._add(category, features.account, value, keep)
        moved = self._moved(before, category, features.account, prior)
        if moved > MOST_STEP:
            # What moves is linear in the outcome; one that is as expected moves hardly anything.
            self._restore(saved, category, features.account)
            self._add(category, features.account, expected, keep)
            least = self._moved(before, category, features.account, prior)
            share = max(0.0, (MOST_STEP - least) / (moved - least)) if moved > least else 0.0
            self._restore(saved, category, features.account)
            self._add(category, features.account, expected + share * (value - expected), keep)
        self.posts[category] = self.posts.get(category, 0) + 1

    # --- the three steps ---------------------------------------------------------------------------------------------

    def _level(self, prior: Prior) -> float:
        # Sums of floats depend on their order, which a row does not keep; `fsum` is exact.
        weight = fsum(self.level.weights.values())
        expected = fsum(count * prior.of(category) for category, count in self.level.weights.items())
        return (self.level.total - expected) / (weight + self.parameters.platform)

    def _category(self, category: str, prior: Prior, level: float) -> float:
        sums = self.categories.get(category)
        if sums is None:
            return 0.0
        weight = sums.weights[category]
        return (sums.total - weight * (prior.of(category) + level)) / (weight + self.parameters.category)

    def _account(self, account: str, prior: Prior, level: float) -> float:
        sums = self.accounts.get(account)
        if sums is None:
            return 0.0
        weight = fsum(sums.weights.values())
        expected = fsum(
            count * (prior.of(category) + level + self._category(category, prior, level))
            for category, count in sums.weights.items()
        )
        return (sums.total - expected) / (weight + self.parameters.account)

    # --- the clamp ---------------------------------------------------------------------------------------------------

    def _parts(self, category: str, account: str, prior: Prior) -> tuple[float, float, float]:
        level = self._level(prior)
        return level, self._category(category, prior, level), self._account(account, prior, level)

    def _moved(self, before: tuple[float, float, float], category: str, account: str, prior: Prior) -> float:
        """Return by how much any estimate has moved, at most: no other one moves by more than the steps together."""
        return sum(abs(a - b) for a, b in zip(self._parts(category, account, prior), before, strict=True))

    def _add(self, category: str, account: str, value: float, keep: float) -> None:
        self.level.learn(category, value, keep)
        self.categories.setdefault(category, Sums()).learn(category, value, keep)
        self.accounts.setdefault(account, Sums()).learn(category, value, keep)

    def _copy(self, category: str, account: str) -> tuple[Sums | None, ...]:
        found = (self.level, self.categories.get(category), self.accounts.get(account))
        return tuple(None if each is None else Sums(dict(each.weights), each.total) for each in found)

    def _restore(self, saved: tuple[Sums | None, ...], category: str, account: str) -> None:
        level, own, of_account = (None if each is None else Sums(dict(each.weights), each.total) for each in saved)
        self.level = level or Sums()
        for table, key, sums in ((self.categories, category, own), (self.accounts, account, of_account)):
            if sums is None:
                table.pop(key, None)
            else:
                table[key] = sums

    # --- as JSON -----------------------------------------------------------------------------------------------------

    def row(self) -> dict[str, Any]:
        return {
            "level": self.level.row(),
            "categories": {name: sums.row() for name, sums in self.categories.items()},
            "accounts": {name: sums.row() for name, sums in self.accounts.items()},
            "posts": self.posts,
        }

    def load(self, row: Mapping[str, Any]) -> None:
        self.level = Sums(*row["level"])
        self.categories = {name: Sums(*sums) for name, sums in row["categories"].items()}
        self.accounts = {name: Sums(*sums) for name, sums in row["accounts"].items()}
        self.posts = dict(row["posts"])
