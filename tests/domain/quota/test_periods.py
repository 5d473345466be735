"""Events and consumption, each with its own clock and in any interleaving, end in one quota."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from domain.billing.events import InvoiceChanged, SubscriptionChanged, read
from domain.billing.invoices import Invoice, further
from domain.billing.plan import TenantBilling, change_plan
from domain.billing.subscriptions import Subscription, newer
from domain.billing.tiers import Tier
from domain.errors import QuotaExceeded
from domain.quota.quota import (
    Hold,
    Quota,
    add_months,
    carry_over,
    first_period,
    release,
    reserve,
    reset,
    restart,
    settle,
)
from simulators.personas import Persona
from simulators.stripe.scenarios import SCENARIOS

PRICES = {"price_starter": Tier.STARTER, "price_pro": Tier.PRO, "price_agency": Tier.AGENCY}
SOLD = {tier: price_id for price_id, tier in PRICES.items()}
CREATED = datetime(2026, 1, 10, tzinfo=UTC)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WHO = Persona(UUID(int=1), "cus_1", "sub_1", "user_1", "ada@example.com")
END = add_months(START, 15)
FREE = TenantBilling(Tier.FREE, "none", "cus_1", None, first_period(10, CREATED), CREATED)


@dataclass
class Tenant:
    """What the database keeps of one tenant."""

    mirror: dict[str, Subscription] = field(default_factory=dict)
    bills: dict[str, Invoice] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    row: TenantBilling = FREE

    def consumed(self, since: datetime) -> int:
        return sum(hold.count for hold in self.holds.values() if hold.taken_at >= since)

    def counts(self, quota: Quota) -> Quota:
        """With what was consumed since, if its count begins elsewhere than that of the row."""
        if quota.counts_from == self.row.quota.counts_from:
            return quota
        return carry_over(quota, self.consumed(quota.counts_from))

    def apply(self, body: dict[str, Any], now: datetime) -> None:
        match read(body):
            case SubscriptionChanged(row):
                self.mirror[row.id] = newer(self.mirror.get(row.id), row)
            case InvoiceChanged(bill):
                self.bills[bill.id] = further(self.bills.get(bill.id), bill)
        after = change_plan(self.row, self.mirror.values(), self.bills.values(), PRICES, now)
        self.row = replace(after, quota=self.counts(after.quota))

    def holds_one(self, job: int, now: datetime) -> None:
        try:
            quota, hold = reserve(self.counts(reset(self.row.quota, now)), 1, now)
        except QuotaExceeded:  # an ended period that nothing follows: answered by what is known then
            reject()
        self.holds[job] = hold
        self.row = replace(self.row, quota=quota)

    def closes(self, job: int, *, made: bool) -> None:
        hold = self.holds[job]
        quota = settle(self.row.quota, hold, 1) if made else release(self.row.quota, hold)
        self.holds[job] = replace(hold, count=int(made))
        self.row = replace(self.row, quota=quota)

    def starts_anew(self, now: datetime) -> None:
        self.row = replace(self.row, quota=restart(self.counts(reset(self.row.quota, now)), now))

    def asked_who_is_due(self, now: datetime) -> None:
        self.row = replace(self.row, quota=self.counts(reset(self.row.quota, now)))


seconds = st.integers(0, int((END - CREATED).total_seconds()))
moments = seconds.map(lambda after: CREATED + timedelta(seconds=after))
uses = st.lists(st.tuples(moments, st.integers(0, 40), st.booleans()), max_size=5)
scenario_names = st.sampled_from([name for name in SCENARIOS if not name.startswith("customer_deleted")])


def lived(
    deliveries: Iterable[tuple[datetime, dict[str, Any]]],
    used: Any,
    fresh: Iterable[datetime],
    asked: Iterable[datetime],
) -> Tenant:
    """All of it, by the clock."""
    tenant = Tenant()
    acts: list[tuple[datetime, Any]] = [(at, lambda now, body=body: tenant.apply(body, now)) for at, body in deliveries]
    for job, (at, days, made) in enumerate(used):
        acts.append((at, lambda now, job=job: tenant.holds_one(job, now)))
        closed = at + timedelta(days=days)
        acts.append((closed, lambda now, job=job, made=made: tenant.closes(job, made=made)))
    acts += [(at, tenant.starts_anew) for at in fresh]
    acts += [(at, tenant.asked_who_is_due) for at in asked]
    for at, act in sorted(acts, key=lambda act: act[0]):
        act(at)
        assert tenant.row.quota.used == tenant.consumed(tenant.row.quota.counts_from)
    tenant.asked_who_is_due(END + timedelta(days=365))
    return tenant


@settings(max_examples=300)
@given(scenario_names, uses, st.lists(moments, max_size=1), st.lists(moments, max_size=3), st.data())
def test_whenever_events_come_and_whatever_is_consumed_meanwhile_one_quota_comes_of_it(
    name: str, used: list[Any], fresh: list[datetime], asked: list[datetime], data: st.DataObject
) -> None:
    events = SCENARIOS[name](WHO, START, SOLD)
    in_time = [(datetime.fromtimestamp(body["created"], UTC), body) for body in events]
    late = [(at + timedelta(hours=data.draw(st.integers(0, 24 * 200))), body) for at, body in in_time]
    assert lived(late, used, fresh, asked).row == lived(in_time, used, fresh, []).row


def test_months_of_the_free_plan_before_a_trial_are_not_counted_into_it() -> None:
    trial = SCENARIOS["trial_without_card"](WHO, add_months(START, 3), SOLD)[:1]
    tenant = Tenant()
    tenant.holds_one(1, CREATED)
    tenant.apply(trial[0], add_months(START, 3))
    assert tenant.row.status == "trialing"
    assert (tenant.row.quota.used, tenant.row.quota.period_start) == (0, add_months(CREATED, 3))
