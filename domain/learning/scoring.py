"""What concepts and posts of a tenant are scored with: its learners, their champions, and the pooled priors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from domain.learning.learner import CHAMPION, Forecast, Learner, LearnerKey
from domain.learning.outcomes import LEARNED, SHOWN, Features, Prior, definition_on
from domain.learning.pool import built_in
from domain.learning.scale import score_of


@dataclass(frozen=True, slots=True)
class Standing:
    """A learner and the model that scores for it."""

    learner: Learner
    champion: str = CHAMPION


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction as a row of `post_predictions`: by one model, for one horizon. `shown`: it is the champion's, at the
    horizon that is shown. `score`, `low` and `high` are points; the forecast's own figures are log engagement."""

    key: LearnerKey
    forecast: Forecast
    shown: bool
    prior: Prior
    features: Features

    @property
    def score(self) -> float:
        return score_of(self.forecast.value)

    @property
    def low(self) -> float:
        return score_of(self.forecast.low)

    @property
    def high(self) -> float:
        return score_of(self.forecast.high)


@dataclass(frozen=True, slots=True)
class Scoring:
    """`standings` and `priors` by learner; one that is missing has learned nothing yet, or has no pool."""

    standings: Mapping[LearnerKey, Standing] = field(default_factory=dict)
    priors: Mapping[LearnerKey, Prior] = field(default_factory=dict)

    def predict(self, platform: str, features: Features, on: date) -> list[Predicted]:
        """Return every model's prediction for each learned horizon of a post that is out on that day; none where the
        platform counts no views."""
        definition = definition_on(platform, on)
        if not definition:
            return []
        found = []
        for horizon in LEARNED:
            key = LearnerKey(platform, horizon, definition)
            standing = self.standings.get(key) or Standing(Learner())
            prior = self.priors.get(key) or built_in(platform)
            forecasts = standing.learner.predict(features, prior)
            # A champion that says nothing yet (it was folded anew) is stood in for by the first.
            champion = standing.champion if standing.champion in forecasts else CHAMPION
            for name, forecast in forecasts.items():
                found.append(Predicted(key, forecast, horizon == SHOWN and name == champion, prior, features))
        return found

    def shown(self, platform: str, features: Features, on: date) -> Predicted | None:
        """Return the prediction that is shown; None where the platform counts no views."""
        return next((each for each in self.predict(platform, features, on) if each.shown), None)
