"""A short slice of `make converge`, and the proof that its comparisons are not of empty tables."""

from random import Random
from typing import Any

import pytest

from simulators.personas import SHAPES
from simulators.stripe.scenarios import SCENARIOS
from tests.converge import late_runs
from tests.converge.runs import ORDERS, Diverged, State, compare, deliver, events_of, run
from tests.seeds import seeded
from workers.app import App

# (tier, status, customer, subscription, limit, used) when all has been delivered, in order.
ENDS = {
    "lifecycle": ("FREE", "canceled", "cus_1", None, 10, 0),
    "a_checkout": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "renewals": ("STARTER", "active", "cus_1", "sub_1", 10, 0),
    "changes_mid_period": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "upgrade_at_period_end": ("AGENCY", "active", "cus_1", "sub_1", 500, 0),
    "downgrade_at_period_end": ("STARTER", "active", "cus_1", "sub_1", 10, 0),
    "dunning_to_cancellation": ("FREE", "canceled", "cus_1", None, 10, 0),
    "dunning_and_recovery": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "trial_with_card": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "trial_without_card": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "portal_cancellation": ("FREE", "canceled", "cus_1", None, 10, 0),
    "incomplete_expired": ("FREE", "incomplete_expired", "cus_1", None, 10, 7),
    "several_items": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "resubscribes": ("AGENCY", "active", "cus_1", "sub_1_2", 500, 0),
    "two_at_once": ("AGENCY", "active", "cus_1", "sub_1_2", 500, 0),
    "customer_deleted": ("STARTER", "active", "cus_1_2", "sub_1_2", 10, 0),
    "customer_deleted_for_good": ("FREE", "canceled", None, None, 10, 0),
    "collection_paused": ("PRO", "active", "cus_1", "sub_1", 50, 0),
    "annual": ("PRO", "active", "cus_1", "sub_1", 50, 0),
}
COLUMNS = ("subscription_tier", "subscription_status", "stripe_customer_id", "stripe_subscription_id")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    return seeded(request.node.name)


@pytest.mark.proof(but=["a_checkout", "annual", "dunning_and_recovery", "lifecycle", "several_items", "two_at_once"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_ends_as_it_should_and_the_same_in_any_order(app: App, name: str, rng: Random) -> None:
    shape = rng.choice(SHAPES)
    scenario = events_of(name, shape)
    in_order = deliver(app, scenario)
    [tenant] = in_order["tenants"]
    ended = tuple(tenant[column] for column in (*COLUMNS, "monthly_quota", "used_quota"))
    assert ended == ENDS[name], shape
    expected: dict[Any, State] = {(name, shape, len(scenario)): in_order}
    # One way for each; `make converge` goes both.
    run(app, name, shape, rng.choice(ORDERS[1:]), rng, expected, ways=[rng.random() < 0.5])


@pytest.mark.proof(but=["a_checkout", "annual", "dunning_and_recovery", "lifecycle", "several_items", "two_at_once"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_whenever_it_is_delivered_and_whenever_the_reset_runs_one_quota_comes_of_it(
    app: App, name: str, rng: Random
) -> None:
    late_runs.run(app, name, rng.choice(SHAPES), rng, late=[rng.choice((late_runs.A_DAY, late_runs.MONTHS))])


def test_the_harness_sees_that_an_event_is_missing(app: App) -> None:
    scenario = events_of("dunning_to_cancellation", "basil")
    with pytest.raises(Diverged):
        compare(deliver(app, scenario), deliver(app, scenario[:-1]), scenario)
