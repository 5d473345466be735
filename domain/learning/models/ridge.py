"""`ridge/v1`, the challenger: ridge regression of the residual from the prior on a few features, and what is left of it
by account, shrunk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import cos, log1p, pi, sin
from typing import Any

from domain.learning.models.model import Estimate
from domain.learning.outcomes import Features, Prior

LEAST_OUTCOMES = 150
"""With fewer it predicts nothing."""
PENALTY = 10.0
KEEP = 0.995
ACCOUNT = 5.0
"""Pseudo-posts of an account's residual."""
SOLVED_EACH = 10
"""The weights are solved for once in so many outcomes."""
CATEGORIES = (
    *("news", "absurd", "luxury", "emotional", "tech", "cartoon"),
    *("gaming", "fitness", "food", "finance", "music", "relationships"),
)
SIZE = 11 + len(CATEGORIES)


def vector(features: Features) -> list[float]:
    """Return the features as numbers of about the same size. What is unknown is where it is harmless: in the middle."""
    hour = None if features.hour is None else 2 * pi * features.hour / 24
    weekend = None if features.weekday is None else features.weekday >= 5
    return [
        1.0,
        0.0 if features.followers is None else log1p(features.followers) / 5 - 2,
        float(features.followers is not None),
        0.0 if features.duration_s is None else log1p(features.duration_s) - 3.5,
        0.0 if features.text_len is None else log1p(features.text_len) / 2 - 2,
        0.0 if features.n_hashtags is None else log1p(features.n_hashtags) - 1.5,
        _truth(features.has_question),
        _truth(features.original_sound),
        0.0 if hour is None else sin(hour),
        0.0 if hour is None else cos(hour),
        _truth(weekend),
        *(float(features.category == each) for each in CATEGORIES),
    ]


def _truth(value: bool | None) -> float:
    return 0.0 if value is None else 0.5 if value else -0.5


@dataclass(slots=True)
class Ridge:
    """`matrix` (its lower triangle, row by row) and `right` are the normal equations; `weights` their last solution."""

    matrix: list[float] = field(default_factory=lambda: [0.0] * (SIZE * (SIZE + 1) // 2))
    right: list[float] = field(default_factory=lambda: [0.0] * SIZE)
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
        left = residual - self._of_features(numbers)
        place = 0
        for row, number in enumerate(numbers):
            for other in numbers[: row + 1]:
                self.matrix[place] = self.matrix[place] * KEEP + number * other
                place += 1
            self.right[row] = self.right[row] * KEEP + number * residual
        weight, total = self.accounts.get(features.account, (0.0, 0.0))
        self.accounts[features.account] = [weight * KEEP + 1.0, total * KEEP + left]
        self.count += 1
        if self.count % SOLVED_EACH == 0:
            self.weights = _solved(self.matrix, self.right)

    def _of_features(self, numbers: list[float]) -> float:
        return sum(weight * number for weight, number in zip(self.weights, numbers, strict=True))

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def load(self, row: Mapping[str, Any]) -> None:
        self.matrix, self.right, self.weights = list(row["matrix"]), list(row["right"]), list(row["weights"])
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
