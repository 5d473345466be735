"""Random lives of Stripe customers end as their account says, however their events are delivered; many more of them by
`make converge ARGS="--random 200"`."""

from random import Random

import pytest

from simulators.stripe.api import FakeStripe
from tests.converge.course import Diverged
from tests.converge.random_course import House, run
from tests.converge.random_lives import live
from workers.app import App

TOLD_BY_AN_UNKNOWN_STATUS_ALONE = 20261197
"""Only an event of a status that nobody knows names the tenant; no other carries all that it is about."""


@pytest.mark.parametrize("seed", [*range(4), TOLD_BY_AN_UNKNOWN_STATUS_ALONE])
def test_a_life_has_one_outcome(app: App, selling: App, stripe: FakeStripe, seed: int) -> None:
    """The same again: make converge ARGS="--random 1 --seed SEED"."""
    run(House(app, selling, stripe), live(seed), Random(seed))


def test_the_harness_sees_that_an_event_is_missing(app: App, selling: App, stripe: FakeStripe) -> None:
    life = live(20)
    life.account.told[:] = [body for body in life.account.told if body["type"] != "invoice.paid"]
    with pytest.raises(Diverged, match="without a key"):
        run(House(app, selling, stripe), life, Random(0))
