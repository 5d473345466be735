"""What a model is: a state that learns outcomes one after another, and says what it expects of the next post."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from domain.learning.outcomes import Features, Prior

FADED = 1e-12
"""A discounted sum that has come below this is nothing: as a number of Postgres it would take hundreds of digits."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A log engagement, and the parts that it is the sum of, by their names."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Model(Protocol):
    """A set of parameters of one learner. Its state is the same for the same outcomes in the same order, to the bit,
    whether it was kept as a row (`row`, `load`) in between or not."""

    def predict(self, features: Features, prior: Prior) -> Estimate | None:
        """Return what is expected; None while the model has not seen enough."""

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None: ...

    def row(self) -> dict[str, Any]:
        """Return JSON values; floats keep all of their digits."""

    def load(self, row: Mapping[str, Any]) -> None: ...
