"""The log of outcomes: one row of `performance_feedback` with what its post's predictions said, as it is learned.

What is read is judged once, when it is learned, and the row keeps the judgement. So a post that its owner removes later
stays learned: the numbers were true at their horizon, and a fold anew must come to what was shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any
from uuid import UUID

from domain.concepts.categories import categories
from domain.learning.learner import LearnerKey
from domain.learning.metrics import definition_of
from domain.learning.numbers import Horizon, Numbers
from domain.learning.outcomes import Features, Outcome, Prior, judge
from domain.learning.pool import built_in

FARTHEST = 20.0
"""Log engagement beyond which a figure is none: e to the 20 percent."""
WHOLE = {"hour": (0, 23), "weekday": (0, 6), "text_len": (0, 2**31), "n_hashtags": (0, 2**31), "followers": (0, 2**63)}
TRUTHS = ("has_question", "original_sound")
NAMES = {each.name for each in fields(Features)}


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the log. `numbers.definition` is what its views count. What was predicted is one entry a model in
    `models`, `definitions`, `values` and `prior_ids`; `features` are those of the predictions, None if there are none.
    `removed` is asked only of a row that was not learned yet."""

    id: UUID
    platform: str
    horizon: Horizon
    observed_at: datetime
    numbers: Numbers
    removed: bool
    account: str
    category: str | None
    learned: bool = False
    models: Sequence[str] = ()
    definitions: Sequence[str] = ()
    values: Sequence[float] = ()
    prior_ids: Sequence[int | None] = ()
    features: Any = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of an outcome: learned under `definition` as `score` points, or set aside because of `reason`."""

    id: UUID
    definition: str
    score: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What is learned of a row, and by which learner; or nothing, because of `reason`."""

    logged: Logged
    definition: str = ""
    outcome: Outcome | None = None
    reason: str = ""

    @property
    def key(self) -> LearnerKey:
        return LearnerKey(self.logged.platform, self.logged.horizon, self.definition)


def read(logged: Logged, priors: Mapping[int, Prior]) -> Read:
    """Return what is learned of a row. `priors` has the pooled prior of each of its `prior_ids`.

    A post without predictions (of a release before, or made by others) is learned with what is known of it. One whose
    row holds what cannot be is set aside, so that it does not stop those after it.
    """
    numbers = logged.numbers
    if numbers.views is not None and not numbers.definition:
        numbers = replace(numbers, definition=definition_of(logged.platform, logged.observed_at.date()))
    judged = judge(numbers, removed=logged.removed)
    if judged.value is None:
        return Read(logged, judged.definition, reason=judged.reason)
    try:
        features = _features(logged)
        prior, predicted = _predicted(logged, judged.definition, priors)
    except ValueError as error:
        return Read(logged, judged.definition, reason=f"its prediction cannot be read: {error}")
    at = logged.observed_at.astimezone(UTC)
    outcome = Outcome(str(logged.id), at, features, judged.value, prior, predicted)
    return Read(logged, judged.definition, outcome)


def _features(logged: Logged) -> Features:
    row = logged.features
    if row is None:
        # A concept of others may have any word in this place.
        return Features(logged.account, logged.category if logged.category in categories() else None)
    if not isinstance(row, dict):
        raise ValueError("its features are no object")
    # A later release may know more of them, and be rolled back.
    row = {name: value for name, value in row.items() if name in NAMES}
    for name, value in row.items():
        if name in ("account", "category"):
            fits = isinstance(value, str)
        elif name in TRUTHS:
            fits = isinstance(value, bool)
        elif name in WHOLE:
            least, most = WHOLE[name]
            fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31
        if not fits:
            raise ValueError(f"its {name} is {str(value)[:40]!r}")
    return Features(**{"account": logged.account} | row)


def _predicted(logged: Logged, definition: str, priors: Mapping[int, Prior]) -> tuple[Prior, Mapping[str, float]]:
    """Return the prior, and each model's value, of what was predicted under this definition. What was predicted under
    another one was of something else."""
    rows = zip(logged.models, logged.definitions, logged.values, logged.prior_ids, strict=True)
    of_this = [(model, value, prior_id) for model, of, value, prior_id in rows if of == definition]
    predicted = {model: value for model, value, _ in of_this}
    for model, value in predicted.items():
        if not isfinite(value) or abs(value) > FARTHEST:
            raise ValueError(f"{model} says {value}")
    prior_id = of_this[0][2] if of_this else None
    if prior_id is None:
        return built_in(logged.platform), predicted
    if prior_id not in priors:
        raise ValueError(f"the prior {prior_id} is not there")
    return priors[prior_id], predicted
