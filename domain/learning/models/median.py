"""`running-median/v1`: the middle of all outcomes so far. It never scores a concept: it is what the others have to
beat, since no scale that saturates helps against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.learning.models.model import Estimate
from domain.learning.outcomes import Features, Prior

BIN = 0.01
"""In log engagement: less than a point."""


@dataclass(slots=True)
class RunningMedian:
    bins: dict[int, int] = field(default_factory=dict)

    def predict(self, features: Features, prior: Prior) -> Estimate:
        """Return the median; the prior of the platform while there is no outcome."""
        half, below = sum(self.bins.values()) / 2, 0
        for place in sorted(self.bins):
            below += self.bins[place]
            if below >= half:
                return Estimate(place * BIN)
        return Estimate(prior.platform)

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None:
        place = round(value / BIN)
        self.bins[place] = self.bins.get(place, 0) + 1

    def row(self) -> dict[str, Any]:
        return {str(place): count for place, count in self.bins.items()}

    def load(self, row: Mapping[str, Any]) -> None:
        self.bins = {int(place): count for place, count in row.items()}
