"""Which model scores: shadow first, a backtest before a promotion, and back by itself if it was a mistake.

A learner is looked at after each `EACH` outcomes. What is compared are the gaps of predictions that were written down
before the posts were out, on the same outcomes. The margins are wide enough that noise alone hardly ever changes a
champion (`tests/domain/learning/test_promotion.py` counts how often).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from domain.learning.learner import CHAMPION, MODELS, YARDSTICK, Learner
from domain.learning.models.model import Model
from domain.learning.outcomes import Outcome
from domain.learning.scale import score_of

EACH = 10
LEAST = 20
"""Outcomes that both models had predicted, at least."""
BETTER, WORSE, NOT_WORSE = 0.97, 1.05, 1.02
"""Gaps as shares of the other model's: of a candidate, of a champion that goes back, of a candidate on the panel."""
ONE_SIDED = 1.645
"""Standard errors by which a candidate is better in the backtest: the trailing gaps alone are of so few outcomes that
one of eight challengers which are no better would be promoted within 300."""
PAUSE = 100
"""Outcomes for which a model is not proposed again that was found no better, or went back."""
BACKTESTED, WARM_UP = 200, 150
"""A backtest is on the last outcomes, after others by which both models begin to learn; a challenger needs those."""
PANEL_TENANTS, LEAST_PANEL = 20, 5
"""Other tenants that a backtest is on too, and how many there have to be for them to count."""


class Step(StrEnum):
    """What `decide` says is to be done. The words are those of `scoring_adjustments.adjustment_type`."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Office:
    """Which model scores for a learner, and the one before it (None: it was the first). `resolved`: how many of the
    last outcomes that were predicted came since; posts without a prediction, or that come late, are none of them. A
    model in `paused` is not proposed before that many outcomes. `checked`: at how many outcomes it was looked at."""

    champion: str = CHAMPION
    previous: str | None = None
    resolved: int = 0
    checked: int = 0
    paused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """The mean distances of two models on the `outcomes` that both had predicted, and the standard error of their
    difference, in points."""

    outcomes: int
    champion: float
    candidate: float
    error: float = 0.0

    @property
    def ratio(self) -> float:
        """The candidate's gap as a share of the champion's; of two that miss by nothing, 1."""
        if self.champion == 0:
            return 1.0 if self.candidate == 0 else float("inf")
        return self.candidate / self.champion

    @property
    def certain(self) -> bool:
        """Whether the candidate is better by more than the difference would be by luck, nineteen times of twenty."""
        return self.champion - self.candidate > ONE_SIDED * self.error

    def row(self) -> dict[str, Any]:
        figures = {name: round(getattr(self, name), 3) for name in ("champion", "candidate", "error")}
        return {"outcomes": self.outcomes} | figures


@dataclass(frozen=True, slots=True)
class Verdict:
    """A step that the trailing gaps ask for: to `model`, from the champion. A promotion takes a backtest too."""

    step: Step
    model: str
    champion: str
    compared: Compared
    reason: str


@dataclass(frozen=True, slots=True)
class Backtest:
    """Both models from nothing over the tenant's own last outcomes, and over those of each tenant of the panel; None if
    there were too few tenants. `passed` says whether the candidate may score, `reason` why (not)."""

    own: Compared
    panel: Compared | None
    tenants: int
    passed: bool
    reason: str

    def row(self) -> dict[str, Any]:
        panel = None if self.panel is None else self.panel.row()
        return {"own": self.own.row(), "panel": panel, "panel_tenants": self.tenants, "passed": self.passed}


def is_due(count: int, checked: int) -> bool:
    """Whether a learner of so many outcomes is to be looked at, which was last at `checked`."""
    return count // EACH > checked // EACH


def after(office: Office, verdict: Verdict, count: int, *, passed: bool) -> Office:
    """Return the office once a verdict was acted upon, at so many outcomes: who does not score then rests."""
    if verdict.step == Step.PROMOTION and passed:
        return replace(office, champion=verdict.model, previous=verdict.champion, resolved=0, checked=count)
    lost = verdict.model if verdict.step == Step.PROMOTION else verdict.champion
    paused = {**office.paused, lost: count + PAUSE}
    if verdict.step == Step.PROMOTION:
        return replace(office, paused=paused, checked=count)
    return replace(office, champion=verdict.model, previous=None, resolved=0, checked=count, paused=paused)


def decide(learner: Learner, office: Office, models: Mapping[str, object] = MODELS) -> Verdict | None:
    """Return what the trailing gaps ask for; None: the champion stays."""
    if office.previous is not None and office.previous in models:
        since = learner.trailing[-office.resolved :] if office.resolved > 0 else ()
        back = compared(since, office.champion, office.previous)
        if back.outcomes >= LEAST and back.champion > WORSE * back.candidate:
            return Verdict(
                *(Step.ROLLBACK, office.previous, office.champion, back),
                reason=_words(office.champion, back.champion, office.previous, back.candidate, back.outcomes),
            )
    best: Verdict | None = None
    for name in models:
        # The one before is judged by what came since, or whoever was made the champion by hand would be so until the
        # next look only.
        if name in (office.champion, office.previous, YARDSTICK) or learner.count < office.paused.get(name, 0):
            continue
        found = compared(learner.trailing, office.champion, name)
        if found.outcomes < LEAST or found.ratio > BETTER:
            continue
        if best is None or found.ratio < best.compared.ratio:
            reason = _words(name, found.candidate, office.champion, found.champion, found.outcomes)
            best = Verdict(Step.PROMOTION, name, office.champion, found, reason)
    return best


def compared(trailing: Sequence[Mapping[str, float]], champion: str, candidate: str) -> Compared:
    """Return the mean distances of two models on the outcomes that both had predicted."""
    both = [(abs(gaps[champion]), abs(gaps[candidate])) for gaps in trailing if champion in gaps and candidate in gaps]
    if not both:
        return Compared(0, 0.0, 0.0)
    count = len(both)
    champion_gap, candidate_gap = fmean(one for one, _ in both), fmean(two for _, two in both)
    error = stdev(one - two for one, two in both) / sqrt(count) if count > 1 else 0.0
    return Compared(count, champion_gap, candidate_gap, error)


def backtest(
    own: Iterable[Outcome],
    panel: Sequence[Sequence[Outcome]],
    champion: str,
    candidate: str,
    models: Mapping[str, Callable[[], Model]] = MODELS,
) -> Backtest:
    """Play the last outcomes of a tenant, and of each of the panel's, through both models, in their order."""
    found = _played(own, champion, candidate, models)
    others = [each for outcomes in panel if (each := _played(outcomes, champion, candidate, models)).outcomes >= LEAST]
    joined = _joined(others) if len(others) >= LEAST_PANEL else None
    passed, reason = True, "it is better on the tenant's own outcomes"
    if found.outcomes < LEAST or found.ratio > BETTER or not found.certain:
        passed, reason = False, "a backtest on the tenant's own outcomes does not say so"
    elif joined is not None and joined.ratio > NOT_WORSE:
        passed, reason = False, "it is worse on other tenants' outcomes"
    elif joined is not None:
        reason += " and no worse on other tenants'"
    return Backtest(found, joined, len(others), passed, reason)


def _played(
    outcomes: Iterable[Outcome], champion: str, candidate: str, models: Mapping[str, Callable[[], Model]]
) -> Compared:
    """Return how both models do on the last `BACKTESTED` outcomes, each predicted from those before it."""
    learner = Learner(models={name: models[name]() for name in (champion, candidate)})
    gaps: list[dict[str, float]] = []
    for outcome in outcomes:
        forecasts = learner.predict(outcome.features, outcome.prior)
        actual = score_of(outcome.value)
        gaps.append({name: actual - forecast.score for name, forecast in forecasts.items()})
        learner.learn(outcome)
    return compared(gaps[-BACKTESTED:], champion, candidate)


def _joined(found: Sequence[Compared]) -> Compared:
    """Return the mean over tenants, each of which counts once."""
    count = len(found)
    champion = sum(each.champion for each in found) / count
    return Compared(sum(each.outcomes for each in found), champion, sum(each.candidate for each in found) / count)


def _words(one: str, gap: float, other: str, other_gap: float, outcomes: int) -> str:
    return f"over the last {outcomes} outcomes {one} missed by {gap:.1f} points and {other} by {other_gap:.1f}"
