"""A learner: all models of one tenant, platform, horizon and definition of the outcome, which learn the same outcomes.

Its state is a fold over its outcomes in the order of their positions, (`at`, `id`), and this is what the fold promises:

- The state is a function of the ordered outcomes alone, to the bit: in whatever batches they come, and whether it was
  kept as a row in between or not, with its keys in any order (jsonb gives them back in another one).
- What follows the last position is taken in; what comes before it means that the fold begins anew from the log; what
  was learned already does not follow, so a repetition changes nothing (`Learner.follows`).
- No outcome moves a score of any account and category by more than `CLAMP` points (`models/shrinkage.py`), whichever of
  the models that score is the champion.
- A state that another release made is not read (`VERSION`): it is folded anew.

Which model is the champion is no part of it: that is decided by `domain/learning/promotion.py` and kept beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.learning.models.median import RunningMedian
from domain.learning.models.model import Model
from domain.learning.models.residuals import Drift, Residuals
from domain.learning.models.ridge import Ridge
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.numbers import Horizon
from domain.learning.outcomes import Features, Outcome, Prior
from domain.learning.scale import END, score_of

CHAMPION = "shrinkage/v1"
"""The model that scores until another one is promoted."""
YARDSTICK = "running-median/v1"
"""The model that never scores; the others are compared with it."""
MODELS: Mapping[str, Callable[[], Model]] = {CHAMPION: Shrinkage, "ridge/v1": Ridge, YARDSTICK: RunningMedian}
VERSION = 2
"""Of the state. One of another version is folded anew from the outcomes."""
TRAILING, DIGITS = 60, 3
"""Of how many outcomes the gaps are kept, and with how many digits."""


@dataclass(frozen=True, slots=True)
class LearnerKey:
    """Which learner of a tenant it is. Outcomes of two definitions never meet in one."""

    platform: str
    horizon: Horizon
    definition: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model expects: log engagement, the interval that 8 of 10 outcomes should fall into, and the parts that
    `value` is the sum of."""

    model: str
    value: float
    low: float
    high: float
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        return score_of(self.value)


@dataclass(slots=True)
class Learner:
    """`trailing` has, for each of the last outcomes, the gap of every model that had predicted it: outcome minus
    prediction, in points."""

    models: dict[str, Model] = field(default_factory=lambda: {name: make() for name, make in MODELS.items()})
    residuals: dict[str, Residuals] = field(default_factory=dict)
    trailing: list[dict[str, float]] = field(default_factory=list)
    drift: Drift = field(default_factory=Drift)
    count: int = 0
    position: tuple[datetime, str] | None = None

    def follows(self, outcome: Outcome) -> bool:
        """Return whether the outcome comes after all that were learned."""
        return self.position is None or outcome.position > self.position

    def learn(self, outcome: Outcome) -> None:
        """Take in an outcome that `follows`."""
        predicted = {name: value for name, value in outcome.predicted.items() if name in self.models}
        for name, expected in predicted.items():
            self.residuals.setdefault(name, Residuals()).learn(outcome.value - expected)
        if predicted:
            actual = score_of(outcome.value)
            gaps = {name: round(actual - score_of(expected), DIGITS) for name, expected in predicted.items()}
            self.trailing.append(gaps)
            del self.trailing[:-TRAILING]
        if CHAMPION in outcome.predicted:
            self.drift.learn(outcome.value - outcome.predicted[CHAMPION])
        for model in self.models.values():
            model.learn(outcome.features, outcome.value, outcome.prior, drifting=self.drift.alarmed > 0)
        self.count += 1
        self.position = outcome.position

    def predict(self, features: Features, prior: Prior) -> dict[str, Forecast]:
        """Return the forecast of each model that has seen enough."""
        found = {}
        for name, model in self.models.items():
            estimate = model.predict(features, prior)
            if estimate is not None:
                value = max(estimate.value, 0.0)
                low, high = self.residuals.get(name, Residuals()).interval(END - value)
                found[name] = Forecast(name, value, value + min(low, 0.0), value + max(high, 0.0), estimate.parts)
        return found

    def row(self) -> dict[str, Any]:
        """Return JSON values, which `learner_of` reads."""
        return {
            "version": VERSION,
            "models": {name: model.row() for name, model in self.models.items()},
            "residuals": {name: each.row() for name, each in self.residuals.items()},
            "trailing": self.trailing,
            "drift": self.drift.row(),
            "count": self.count,
            "position": None if self.position is None else [self.position[0].isoformat(), self.position[1]],
        }


def learner_of(row: Mapping[str, Any]) -> Learner | None:
    """Return the learner of these JSON values; None if another release made them, so that it has to be folded anew."""
    if row.get("version") != VERSION or set(row["models"]) != set(MODELS):
        return None
    learner = Learner()
    for name, model in learner.models.items():
        model.load(row["models"][name])
    learner.residuals = {name: Residuals.of(each) for name, each in row["residuals"].items()}
    learner.trailing = [dict(gaps) for gaps in row["trailing"]]
    learner.drift = Drift(*row["drift"])
    learner.count = row["count"]
    if row["position"] is not None:
        at, outcome_id = row["position"]
        learner.position = (datetime.fromisoformat(at), outcome_id)
    return learner
