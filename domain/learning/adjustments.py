"""Displayed scores that have moved, each with its evidence: rows of `scoring_adjustments`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import SHOWN, Features, Prior
from domain.learning.pool import STEP, built_in
from domain.learning.scale import score_of
from domain.learning.scoring import Standing

SCORE = "score"
"""The `adjustment_type`."""
MOVED = 2
"""A displayed score that has moved by less, in points, since the last row is no news."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The score that the last row of a category has, and the parts that it was made of."""

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreMoved:
    """`posts` is how many outcomes of the category the score rests on."""

    category: str
    old: float
    new: float
    model: str
    posts: int
    reason: str
    report: Mapping[str, Any]


def categories(learner: Learner) -> list[str]:
    """Return the categories that the learner has seen, but for that of posts which have none."""
    model = learner.models[CHAMPION]
    return sorted(filter(None, model.posts)) if isinstance(model, Shrinkage) else []


def scores_moved(
    key: LearnerKey,
    standing: Standing,
    prior: Prior,
    recorded: Mapping[str, Recorded],
    gaps: Mapping[str, Sequence[float]],
) -> list[ScoreMoved]:
    """Return the categories whose displayed score has moved since it was last recorded, or from the built-in prior.

    `gaps` are outcome minus prediction, in points, of the outcomes that were taken in just now, by category. Nothing is
    displayed at the other horizons.
    """
    if key.horizon != SHOWN:
        return []
    learner, found = standing.learner, []
    for category in categories(learner):
        forecasts = learner.predict(Features("", category), prior)
        forecast = forecasts.get(standing.champion) or forecasts[CHAMPION]
        start = built_in(key.platform).of(category)
        before = recorded.get(category) or Recorded(round(score_of(start)), {"prior": start})
        after = round(forecast.score)
        if abs(after - before.score) < MOVED:
            continue
        posts = _posts(learner, category)
        reason = _reason(posts, gaps.get(category, ()))
        drawn = forecast.parts.get("prior", start) - before.parts.get("prior", start)
        if abs(drawn) >= STEP / 2:
            reason += f"; what others' posts showed has moved {'up' if drawn > 0 else 'down'} since, too"
        report = {"before": dict(before.parts), "after": dict(forecast.parts), "outcomes": learner.count}
        found.append(ScoreMoved(category, before.score, after, forecast.model, posts, reason, report))
    return found


def _posts(learner: Learner, category: str) -> int:
    model = learner.models[CHAMPION]
    return model.posts.get(category, 0) if isinstance(model, Shrinkage) else 0


def _reason(posts: int, gaps: Sequence[float]) -> str:
    outcomes = f"{posts} outcome{'' if posts == 1 else 's'} of the category"
    if not gaps:
        return f"{outcomes}; what was taken in last had no predictions of its own, or is of other categories"
    mean = fmean(gaps)
    where = f"{abs(mean):.1f} points {'above' if mean >= 0 else 'below'} the prediction"
    if len(gaps) == 1:
        return f"{outcomes}; the last of them came {where}"
    return f"{outcomes}; the last {len(gaps)} of them came {where} on average"
