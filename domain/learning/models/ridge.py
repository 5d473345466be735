"""`ridge/v1`, the challenger: ridge regression of the residual from the prior on a few features, and what is left of it
by account, shrunk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import cos, log1p, pi, sin
from typing import Any

from domain.learning.models.model import FADED, Estimate
from domain.learning.models.shrinkage import MOST_STEP
from domain.learning.outcomes import Features, Prior

LEAST_OUTCOMES = 150
"""With fewer it predicts nothing."""
PENALTY = 10.0
"""In outcomes: so many hold each weight at 0."""
KEEP, KEEP_AFTER_DRIFT = 0.995, 0.98
"""By how much an outcome counts less for each later one."""
ACCOUNT = 5.0
"""Pseudo-posts of an account's residual."""
SOLVED_EACH = 10
"""The weights are solved for once in so many outcomes."""
FURTHEST = 2.0
"""No feature is further from its middle."""
LARGEST = 1e12
"""Of followers, characters and seconds; what is larger is taken for it."""
OF_ACCOUNT = 0.75
"""The share of the clamp's step that the account's residual may take; the weights have what is left of it."""
CATEGORIES = (
    *("news", "absurd", "luxury", "emotional", "tech", "cartoon"),
    *("gaming", "fitness", "food", "finance", "music", "relationships"),
)
BEFORE = 11
"""So many numbers stand before the categories."""
SIZE = BEFORE + len(CATEGORIES)
REACHES = (1.0, FURTHEST, 1.0, FURTHEST, FURTHEST, FURTHEST, 0.5, 0.5, 1.0, 1.0, 0.5)
"""How far from 0 each of these can be."""


def vector(features: Features) -> list[float]:
    """Return the features as numbers of about the same size. What is unknown is where it is harmless: in the middle."""
    hour = None if features.hour is None else 2 * pi * (features.hour % 24) / 24
    weekend = None if features.weekday is None else features.weekday >= 5
    return [
        1.0,
        _size(features.followers, 0.2, 2.0),
        float(features.followers is not None),
        _size(features.duration_s, 1.0, 3.5),
        _size(features.text_len, 0.5, 2.0),
        _size(features.n_hashtags, 1.0, 1.5),
        _truth(features.has_question),
        _truth(features.original_sound),
        0.0 if hour is None else sin(hour),
        0.0 if hour is None else cos(hour),
        _truth(weekend),
        *(float(features.category == each) for each in CATEGORIES),
    ]


def _size(value: float | None, scale: float, middle: float) -> float:
    # In this order of arguments, `max` and `min` turn a NaN into a number.
    if value is None:
        return 0.0
    return max(-FURTHEST, min(FURTHEST, log1p(max(0.0, min(LARGEST, value))) * scale - middle))


def _truth(value: bool | None) -> float:
    return 0.0 if value is None else 0.5 if value else -0.5


@dataclass(slots=True)
class Ridge:
    """`matrix` (its lower triangle, row by row) and `right` are the normal equations, and `target` their last solution.
    `weights` go there as fast as the clamp lets them: no outcome moves a prediction by more than `MOST_STEP`."""

    matrix: list[float] = field(default_factory=lambda: [0.0] * (SIZE * (SIZE + 1) // 2))
    right: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    target: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    weights: list[float] = field(default_factory=lambda: [0.0] * SIZE)
    accounts: dict[str, list[float]] = field(default_factory=dict)
    count: int = 0

    def predict(self, features: Features, prior: Prior) -> Estimate | None:
        if self.count < LEAST_OUTCOMES:
            return None
        base, of_features = prior.of(features.category), self._of_features(vector(features))
        weight, total = self.accounts.get(features.account, (0.0, 0.0))
        account = total / (weight + ACCOUNT)
        parts = {"prior": base, "features": of_features, "account": account}
        return Estimate(base + of_features + account, parts)

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None:
        numbers, residual = vector(features), value - prior.of(features.category)
        keep = KEEP_AFTER_DRIFT if drifting else KEEP
        moved = self._learn_account(features.account, residual - self._of_features(numbers), keep)
        products = (number * other for row, number in enumerate(numbers) for other in numbers[: row + 1])
        self.matrix = [kept * keep + new for kept, new in zip(self.matrix, products, strict=True)]
        self.right = [kept * keep + number * residual for kept, number in zip(self.right, numbers, strict=True)]
        self.count += 1
        if self.count % SOLVED_EACH == 0:
            self.matrix = [kept if abs(kept) >= FADED else 0.0 for kept in self.matrix]
            self.right = [kept if abs(kept) >= FADED else 0.0 for kept in self.right]
            self.target = _solved(self.matrix, self.right)
        self._approach(MOST_STEP - moved)

    def _learn_account(self, account: str, left: float, keep: float) -> float:
        """Return by how much the account's residual has moved, as far as it may."""
        weight, total = self.accounts.get(account, (0.0, 0.0))
        before, weights = total / (weight + ACCOUNT), weight * keep + 1.0
        most = OF_ACCOUNT * MOST_STEP
        after = min(before + most, max(before - most, (total * keep + left) / (weights + ACCOUNT)))
        self.accounts[account] = [weights, after * (weights + ACCOUNT)]
        return abs(after - before)

    def _approach(self, allowed: float) -> None:
        """Move the weights towards their target so far that no post's prediction moves by more than is allowed."""
        steps = [target - weight for target, weight in zip(self.target, self.weights, strict=True)]
        # A post has one category at most.
        most = sum(abs(step) * reach for step, reach in zip(steps, REACHES, strict=False))
        most += max(abs(step) for step in steps[BEFORE:])
        share = min(1.0, allowed / most) if most > 0 else 0.0
        self.weights = [weight + share * step for weight, step in zip(self.weights, steps, strict=True)]

    def _of_features(self, numbers: list[float]) -> float:
        return sum(weight * number for weight, number in zip(self.weights, numbers, strict=True))

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def load(self, row: Mapping[str, Any]) -> None:
        self.matrix, self.right, self.weights = list(row["matrix"]), list(row["right"]), list(row["weights"])
        self.target = list(row["target"])
        self.accounts, self.count = {name: list(each) for name, each in row["accounts"].items()}, row["count"]


def _solved(matrix: list[float], right: list[float]) -> list[float]:
    """Solve (matrix + penalty) x = right by Cholesky's decomposition."""
    lower: list[list[float]] = []
    place = 0
    for row in range(SIZE):
        line: list[float] = []
        for column in range(row):
            other = lower[column]
            done = sum(a * b for a, b in zip(line, other[:column], strict=True))
            line.append((matrix[place] - done) / other[column])
            place += 1
        left = matrix[place] + PENALTY - sum(each * each for each in line)
        place += 1
        line.append(max(left, 1e-9) ** 0.5)
        lower.append(line)
    forward: list[float] = []
    for row in range(SIZE):
        done = sum(a * b for a, b in zip(lower[row][:row], forward, strict=True))
        forward.append((right[row] - done) / lower[row][row])
    solution = [0.0] * SIZE
    for row in reversed(range(SIZE)):
        done = sum(lower[below][row] * solution[below] for below in range(row + 1, SIZE))
        solution[row] = (forward[row] - done) / lower[row][row]
    return solution
