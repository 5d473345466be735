"""The rules alone, over many random lives: each ends as the account at Stripe says that it should, in any order of
delivery, and told in time no month that has begun is taken back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, further
from domain.billing.plan import TenantBilling, change_plan
from domain.billing.subscriptions import STATUSES, Subscription, certain, newer
from domain.billing.tiers import Tier
from domain.quota.quota import carry_over, first_period, reset
from simulators.personas import Body
from tests.converge import oracle
from tests.converge.random_scenarios import CREATED, SOLD, RandomScenario, random_scenario

USED = 3


class Mirror:
    """What the database would keep of one customer, and the tenant that is derived from it."""

    def __init__(self) -> None:
        self.rows: dict[str, Subscription] = {}
        self.bills: dict[str, Invoice] = {}
        quota = replace(first_period(10, CREATED), used=USED)
        self.tenant = TenantBilling(Tier.FREE, "none", "cus_1", None, quota, CREATED)

    def tell(self, body: Body) -> None:
        match read(body):
            case SubscriptionChanged(row) if row.status in STATUSES:
                self.rows[row.id] = newer(self.rows.get(row.id), row)
            case InvoiceChanged(bill):
                self.bills[bill.id] = further(self.bills.get(bill.id), bill)

    def derive(self, now: datetime) -> TenantBilling:
        """As of now, a month that is due begun."""
        before = self.tenant
        after = change_plan(before, self.rows.values(), self.bills.values(), SOLD, now)
        after = replace(after, quota=reset(after.quota, now))
        if after.quota.counts_from != before.quota.counts_from:
            taken = USED if after.quota.counts_from <= CREATED else 0
            after = replace(after, quota=carry_over(after.quota, taken))
        self.tenant = after
        return after


def outcome_of(events: Sequence[Body], now: datetime) -> tuple[TenantBilling, bool]:
    """The tenant, and whether its events say which of them are the latest."""
    mirror = Mirror()
    for body in events:
        mirror.tell(body)
        mirror.derive(now)
    return mirror.derive(now), all(map(certain, mirror.rows.values()))


def outcome(tenant: TenantBilling, now: datetime) -> oracle.Expected:
    quota = tenant.quota
    blocked = quota.remaining > 0 and quota.available(now) == 0
    return oracle.Expected(tenant.tier, tenant.status, tenant.subscription_id, quota.limit, quota.period_start, blocked)


def taken_back(scenario: RandomScenario) -> list[str]:
    """The events, told in time, with which a month of a plan that goes on begins earlier than it had begun."""
    found, mirror, events = [], Mirror(), scenario.account.events
    for body, then in zip(events, [*(body["created"] for body in events[1:]), None], strict=True):
        now = datetime.fromtimestamp(body["created"], UTC)
        before = mirror.derive(now)
        mirror.tell(body)
        if then is not None and then <= body["created"] + 1:
            continue  # what belongs together is not told yet
        after = mirror.derive(now)
        goes_on = after.subscription_id == before.subscription_id and after.tier <= before.tier
        if goes_on and after.quota.period_start < before.quota.period_start:
            found.append(body["id"])
    return found


@pytest.mark.parametrize("tens", range(10))
def test_scenarios_end_as_their_account_says_in_any_order(tens: int) -> None:
    for seed in range(tens * 10, tens * 10 + 10):
        scenario, rng = random_scenario(seed), Random(seed)
        tenant, sure = outcome_of(scenario.account.events, scenario.now)
        assert outcome(tenant, scenario.now) == oracle.expect(scenario) or not sure, (seed, scenario.acts)
        for _ in range(2):
            order = scenario.account.events * 2
            rng.shuffle(order)
            assert outcome_of(order, scenario.now) == (tenant, sure), (seed, scenario.acts)
        assert not taken_back(scenario), (seed, scenario.acts)
