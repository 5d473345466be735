"""Random scenarios of Stripe customers end as their account says, however their events are delivered; many more by
`make converge ARGS="--random 200"`."""

from random import Random

import pytest

from simulators.stripe.api import StripeSimulator
from tests.converge.random_runs import Apps, run
from tests.converge.random_scenarios import random_scenario
from tests.converge.runs import Diverged
from workers.app import App

SHOWN_BY_AN_UNKNOWN_STATUS_ALONE = 20261197
"""Only an event of a status that nobody knows names the tenant; no other carries all that it is about."""


@pytest.mark.proof(but=["0"])
@pytest.mark.parametrize("seed", [*range(4), SHOWN_BY_AN_UNKNOWN_STATUS_ALONE])
def test_a_scenario_has_one_outcome(app: App, selling: App, stripe: StripeSimulator, seed: int) -> None:
    """The same again: make converge ARGS="--random 1 --seed SEED"."""
    run(Apps(app, selling, stripe), random_scenario(seed), Random(seed))


def test_the_harness_sees_that_an_event_is_missing(app: App, selling: App, stripe: StripeSimulator) -> None:
    scenario = random_scenario(20)
    scenario.account.events[:] = [body for body in scenario.account.events if body["type"] != "invoice.paid"]
    with pytest.raises(Diverged, match="without a key"):
        run(Apps(app, selling, stripe), scenario, Random(0))
