"""Which model scores: a better one is promoted, a bad one is not and goes back, and noise changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.learner import CHAMPION, MODELS, YARDSTICK, Learner
from domain.learning.models.model import Estimate, Model
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import Features, Outcome, Prior
from domain.learning.promotion import (
    BETTER,
    EACH,
    LEAST,
    PAUSE,
    Office,
    Step,
    Verdict,
    after,
    backtest,
    compared,
    decide,
    is_due,
)

PRIOR = Prior(1.6)
START = datetime(2026, 11, 1, tzinfo=UTC)


class Bad:
    """A set of parameters that somebody got wrong: it expects far too much."""

    def predict(self, features: Features, prior: Prior) -> Estimate:
        return Estimate(prior.platform + 1.0)

    def learn(self, features: Features, value: float, prior: Prior, *, drifting: bool) -> None: ...

    def row(self) -> dict[str, Any]:
        return {}

    def load(self, row: Mapping[str, Any]) -> None: ...


class Hours(Bad):
    """A set that knows what makes these posts differ."""

    def predict(self, features: Features, prior: Prior) -> Estimate:
        return Estimate(1.0 + 0.05 * (features.hour or 0))


def posts(count: int, *, seed: int = 1, noise: float = 0.3, by_hour: bool = False) -> list[tuple[Features, float]]:
    rng = Random(seed)
    found = []
    for _ in range(count):
        hour = rng.randrange(24)
        mean = 1.0 + 0.05 * hour if by_hour else 1.6
        found.append((Features(str(rng.randrange(3)), "food", hour=hour), max(0.0, rng.gauss(mean, noise))))
    return found


def lived(
    models: Mapping[str, Callable[[], Model]], seen: list[tuple[Features, float]], office: Office | None = None
) -> tuple[Office, list[tuple[int, Verdict, bool]]]:
    """Let a learner learn as the job does, and return who scores in the end and each verdict, with its time and whether
    it was carried out."""
    learner, office = Learner(models={name: make() for name, make in models.items()}), office or Office()
    log: list[Outcome] = []
    done: list[tuple[int, Verdict, bool]] = []
    for number, (features, value) in enumerate(seen):
        predicted = {name: each.value for name, each in learner.predict(features, PRIOR).items()}
        outcome = Outcome(f"{number:06}", START + timedelta(minutes=number), features, value, PRIOR, predicted)
        learner.learn(outcome)
        log.append(outcome)
        office = replace(office, resolved=office.resolved + 1)
        if not is_due(learner.count, office.checked):
            continue
        verdict = decide(learner, office, models)
        passed = verdict is not None
        if verdict is not None and verdict.step == Step.PROMOTION:
            passed = backtest(log[-350:], [], verdict.champion, verdict.model, models).passed
        if verdict is not None:
            done.append((learner.count, verdict, passed))
            office = after(office, verdict, learner.count, passed=passed)
        office = replace(office, checked=learner.count)
    return office, done


def with_model(name: str, make: Callable[[], Model]) -> dict[str, Callable[[], Model]]:
    return {**MODELS, name: make}


def test_a_planted_bad_set_is_never_promoted() -> None:
    office, done = lived(with_model("bad/v1", Bad), posts(400))
    assert office.champion == CHAMPION
    assert not any(verdict.model == "bad/v1" for _, verdict, _ in done)


def test_a_bad_set_that_is_forced_goes_back_by_itself_and_is_not_tried_again_soon() -> None:
    forced = Office("bad/v1", CHAMPION, 0)
    office, done = lived(with_model("bad/v1", Bad), posts(150), forced)
    assert [(count, verdict.step, verdict.model) for count, verdict, _ in done][:1] == [
        (LEAST, Step.ROLLBACK, CHAMPION)
    ]
    assert (office.champion, office.paused) == (CHAMPION, {"bad/v1": LEAST + PAUSE})
    assert done[0][1].reason.startswith("over the last 20 outcomes bad/v1 missed by ")


def test_a_better_set_is_promoted_after_its_backtest_and_stays() -> None:
    office, done = lived(with_model("hours/v1", Hours), posts(400, by_hour=True))
    assert office.champion == "hours/v1"
    assert [(verdict.step, verdict.model, passed) for _, verdict, passed in done] == [
        (Step.PROMOTION, "hours/v1", True)
    ]
    assert done[0][0] <= 60


def test_what_is_looked_at_does_not_depend_on_how_many_come_together() -> None:
    assert [count for count in range(1, 40) if is_due(count, count - 1)] == [10, 20, 30]
    assert is_due(15, 9)
    assert not is_due(19, 10)
    assert EACH == 10


def test_too_few_outcomes_or_no_prediction_say_nothing() -> None:
    learner = Learner()
    learner.count, learner.trailing = 190, [{CHAMPION: 20.0, YARDSTICK: 1.0} for _ in range(60)]
    assert decide(learner, Office()) is None  # the yardstick never scores, and the other model has said nothing
    learner.trailing = [{CHAMPION: 20.0, "ridge/v1": 1.0} for _ in range(LEAST - 1)]
    assert decide(learner, Office()) is None
    learner.trailing += [{CHAMPION: 20.0, "ridge/v1": 1.0}]
    verdict = decide(learner, Office())
    assert verdict is not None
    assert (verdict.step, verdict.model, verdict.compared.outcomes) == (Step.PROMOTION, "ridge/v1", LEAST)
    assert decide(learner, Office(paused={"ridge/v1": 191})) is None
    assert decide(learner, Office(paused={"ridge/v1": 190})) is not None


@given(st.lists(st.floats(-90, 90), min_size=LEAST, max_size=60))
def test_equals_change_nothing(gaps: list[float]) -> None:
    learner = Learner()
    learner.count, learner.trailing = 200, [{CHAMPION: gap, "ridge/v1": gap} for gap in gaps]
    assert decide(learner, Office()) is None
    assert decide(learner, Office("ridge/v1", CHAMPION, 100)) is None


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-90, 90)), min_size=1, max_size=60))
def test_a_step_is_only_taken_to_who_was_better(gaps: list[tuple[float, float]]) -> None:
    learner = Learner()
    learner.count, learner.trailing = 500, [{CHAMPION: one, "ridge/v1": two} for one, two in gaps]
    for office in (Office(), Office("ridge/v1"), Office("ridge/v1", CHAMPION, 100), Office(CHAMPION, "ridge/v1", 30)):
        verdict = decide(learner, office)
        if verdict is not None:
            since = learner.trailing if verdict.step == Step.PROMOTION else learner.trailing[-office.resolved :]
            found = compared(since, verdict.champion, verdict.model)
            assert verdict.champion == office.champion
            assert found.outcomes >= LEAST
            assert found.candidate < found.champion


def test_noise_hardly_ever_changes_who_scores() -> None:
    """Of 40 tenants whose posts differ by nothing that could be learned, with 300 outcomes each: the challenger is
    promoted for 2 at most, and nobody goes there and back twice."""
    promoted = back = 0
    for seed in range(40):
        _, done = lived({name: MODELS[name] for name in (CHAMPION, "ridge/v1")}, posts(300, seed=seed))
        steps = [verdict.step for _, verdict, passed in done if passed]
        promoted += Step.PROMOTION in steps
        back += steps.count(Step.ROLLBACK) > 1
    assert (promoted <= 2, back) == (True, 0), promoted


@pytest.mark.parametrize(("tenants", "panel"), [(4, False), (5, True)])
def test_a_backtest_is_on_others_too_if_there_are_enough(tenants: int, panel: bool) -> None:
    def outcomes(seed: int, *, by_hour: bool) -> list[Outcome]:
        seen = posts(300, seed=seed, by_hour=by_hour)
        return [Outcome(str(n), START + timedelta(minutes=n), *each, PRIOR) for n, each in enumerate(seen)]

    models = with_model("hours/v1", Hours)
    others = [outcomes(seed, by_hour=False) for seed in range(tenants)]
    found = backtest(outcomes(99, by_hour=True), others, CHAMPION, "hours/v1", models)
    assert (found.panel is not None, found.passed, found.own.ratio < BETTER) == (panel, not panel, True)
    assert found.reason.endswith("other tenants' outcomes" if panel else "the tenant's own outcomes")
    assert found.row()["panel_tenants"] == tenants
    alike = [outcomes(seed, by_hour=True) for seed in range(tenants)]
    assert backtest(outcomes(99, by_hour=True), alike, CHAMPION, "hours/v1", models).passed
    assert not backtest(others[0], alike, CHAMPION, "hours/v1", models).passed


def test_a_backtest_begins_from_nothing_and_comes_out_the_same() -> None:
    seen = posts(200)
    log = [Outcome(str(n), START + timedelta(minutes=n), *each, PRIOR) for n, each in enumerate(seen)]
    models: dict[str, Callable[[], Model]] = {CHAMPION: Shrinkage, "bad/v1": Bad}
    one, two = (backtest(log, [], CHAMPION, "bad/v1", models) for _ in range(2))
    assert one == two
    assert (one.passed, one.own.outcomes) == (False, 200)
