from random import Random

import pytest

from domain.learning.models.residuals import Drift, Residuals


@pytest.mark.parametrize("spread", [0.3, 0.6, 0.9])
def test_the_interval_holds_8_of_10_residuals_once_it_has_seen_some(spread: float) -> None:
    rng, residuals, within = Random(17), Residuals(), []
    for _ in range(1500):
        residual = rng.gauss(0, spread)
        low, high = residuals.interval()
        within.append(low <= residual <= high)
        residuals.learn(residual)
    assert 0.76 <= sum(within[100:]) / 1400 <= 0.84


def test_the_interval_of_a_learner_without_residuals_has_both_sides() -> None:
    low, high = Residuals().interval()
    assert low < 0 < high


def test_where_the_interval_reaches_the_end_of_the_scale_all_that_it_misses_is_below() -> None:
    rng, residuals = Random(17), Residuals()
    for _ in range(1000):
        residuals.learn(rng.gauss(0, 0.5))
    low, high = residuals.interval()
    assert residuals.interval(high + 0.1) == (low, high)
    higher, same = residuals.interval(high)
    assert same == high
    assert -0.52 < higher < -0.32  # a fifth of them is below -0.42


def noises() -> dict[str, list[float]]:
    rng = Random(17)
    return {
        "normal": [rng.gauss(0, 0.6) for _ in range(20_000)],
        "quiet": [rng.gauss(0, 0.1) for _ in range(20_000)],
        "heavy-tails": [rng.gauss(0, 0.45) if rng.random() < 0.9 else rng.gauss(-0.3, 1.5) for _ in range(20_000)],
        "skewed": [rng.expovariate(1.6) - 0.625 for _ in range(20_000)],
    }


@pytest.mark.parametrize("name", noises())
def test_a_stationary_stream_raises_a_false_alarm_in_two_thousand_outcomes_at_most(name: str) -> None:
    drift = Drift()
    assert sum(drift.learn(residual) for residual in noises()[name]) <= 10


@pytest.mark.parametrize("shift", [-0.9, 0.9])
def test_a_shift_of_nearly_two_spreads_raises_the_alarm_within_thirty_outcomes(shift: float) -> None:
    within = 0
    for seed in range(50):
        rng, drift = Random(seed), Drift()
        for _ in range(200):
            drift.learn(rng.gauss(0, 0.6))
        # A learner follows: what it is off by becomes smaller with each outcome.
        within += any(drift.learn(rng.gauss(0, 0.6) + shift * 0.98**each) for each in range(30))
    assert within >= 45


def test_an_alarm_lasts_and_ends() -> None:
    drift = Drift()
    while not drift.learn(2.0 if drift.count > 100 else 0.1):
        assert drift.count < 200
    lasted = 0
    while drift.alarmed:
        drift.learn(0.0)
        lasted += 1
    assert lasted == Drift.LASTS
