"""What the fold promises: the same state for the same outcomes, however they come."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.learning.learner import CHAMPION, MODELS, TRAILING, VERSION, YARDSTICK, Learner, learner_of
from domain.learning.outcomes import Features, Outcome, Prior
from domain.learning.scale import score_of

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
PRIOR = Prior(1.9, {"food": 2.2})


def outcomes(seed: int, count: int) -> list[Outcome]:
    """Make outcomes in the order of their positions, some at the same moment; most were predicted."""
    rng, found = Random(seed), []
    for number in range(count):
        features = Features(
            account=rng.choice("abc"),
            category=rng.choice(("food", "news", "tech", None)),
            hour=rng.randrange(24),
            text_len=rng.randrange(300),
            followers=rng.choice((None, 100, 10**6)),
            has_question=rng.random() < 0.3,
        )
        predicted = {name: rng.gauss(2, 0.1) for name in MODELS if rng.random() < 0.9}
        at = BEGAN + timedelta(minutes=number // 3)
        prior = PRIOR if rng.random() < 0.5 else Prior(2.0, {"news": 1.7}, 7)
        value = max(0.0, rng.gauss(2, 0.6))
        found.append(Outcome(f"{number:05}", at, features, value, prior, predicted))
    return found


def folded(stream: list[Outcome]) -> Learner:
    learner = Learner()
    for outcome in stream:
        if learner.follows(outcome):
            learner.learn(outcome)
    return learner


def stored(learner: Learner, rng: Random) -> Learner:
    """Keep the state as jsonb does, which gives keys back in another order."""
    found = learner_of(shuffled(json.loads(json.dumps(learner.row())), rng))
    assert found is not None
    return found


def shuffled(value: Any, rng: Random) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(each, rng) for key, each in items}
    return [shuffled(each, rng) for each in value] if isinstance(value, list) else value


def text(learner: Learner) -> str:
    return json.dumps(learner.row(), sort_keys=True)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 200), st.lists(st.integers(0, 200), max_size=6))
def test_the_state_is_the_same_to_the_bit_in_any_batches(seed: int, count: int, cuts: list[int]) -> None:
    stream, rng = outcomes(seed, count), Random(seed)
    whole, kept = folded(stream), Learner()
    edges = [0, *sorted(cuts), count]
    for start, end in pairwise(edges):
        for outcome in stream[start:end]:
            kept.learn(outcome)
        kept = stored(kept, rng)
    assert text(kept) == text(whole)
    asked = stream[-1].features
    assert kept.predict(asked, PRIOR) == whole.predict(asked, PRIOR)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 40), st.data())
def test_a_repeated_outcome_changes_nothing(seed: int, count: int, data: st.DataObject) -> None:
    stream = outcomes(seed, count)
    again = data.draw(st.lists(st.sampled_from(stream), max_size=10))
    learner = folded(stream)
    assert not any(learner.follows(outcome) for outcome in again)
    assert text(folded([*stream, *again])) == text(learner)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 40), st.data())
def test_outcomes_that_arrive_in_any_order_lead_to_the_state_of_the_ordered_ones(
    seed: int, count: int, data: st.DataObject
) -> None:
    stream = outcomes(seed, count)
    arrived: list[Outcome] = []
    learner = Learner()
    for outcome in data.draw(st.permutations(stream)):
        arrived.append(outcome)
        if learner.follows(outcome):
            learner.learn(outcome)
        else:
            learner = folded(sorted(arrived, key=lambda each: each.position))
    assert text(learner) == text(folded(stream))


def test_a_state_of_another_release_is_folded_anew() -> None:
    row = folded(outcomes(1, 5)).row()
    assert learner_of(row) is not None
    assert learner_of({**row, "version": VERSION - 1}) is None
    models = {name: each for name, each in row["models"].items() if name != YARDSTICK}
    assert learner_of({**row, "models": models}) is None


def test_the_trailing_gaps_are_of_the_last_outcomes_in_points_and_signed() -> None:
    stream = outcomes(2, 100)
    learner = folded(stream)
    assert len(learner.trailing) == TRAILING
    last = stream[-1]
    assert set(learner.trailing[-1]) == set(last.predicted)
    for name, expected in last.predicted.items():
        assert abs(learner.trailing[-1][name] - (score_of(last.value) - score_of(expected))) < 0.001


def test_an_outcome_that_nobody_predicted_is_learned_and_measures_no_model() -> None:
    learner = Learner()
    learner.learn(Outcome("1", BEGAN, Features("a"), 2.5, PRIOR))
    assert (learner.count, learner.trailing, learner.residuals) == (1, [], {})
    assert learner.predict(Features("a"), PRIOR)[CHAMPION].value > PRIOR.platform


def test_an_estimate_is_the_sum_of_its_parts_and_within_its_interval() -> None:
    learner = folded(outcomes(3, 300))
    for outcome in outcomes(4, 50):
        for name, forecast in learner.predict(outcome.features, PRIOR).items():
            assert forecast.low <= forecast.value <= forecast.high
            if name != YARDSTICK:
                assert abs(sum(forecast.parts.values()) - forecast.value) < 1e-9


def test_a_state_is_small() -> None:
    assert len(json.dumps(folded(outcomes(5, 2000)).row())) <= 20_000


def test_what_has_faded_is_no_number_of_hundreds_of_digits() -> None:
    """Postgres writes 1e-300 out. A category, a feature and a residual of long ago leave nothing."""
    learner, prior = Learner(), Prior(1.9)
    for number in range(9_000):
        category, followers = ("news", 10**6) if number < 20 else ("food", None)
        features = Features("a", category, followers=followers, has_question=number < 20)
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        value = 3.5 if number < 20 else 1.5
        learner.learn(Outcome(f"{number:06}", at, features, value, prior, {CHAMPION: 1.5}))
    numbers = re.findall(r"-?[0-9.]+e-[0-9]+", json.dumps(learner.row()))
    assert all(abs(float(each)) >= 1e-20 for each in numbers), numbers
