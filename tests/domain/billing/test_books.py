"""The books say the same whenever they are opened anew: rows, plans, outcomes and the entries of the ledger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.billing.books import Books, Entry, Mirror
from domain.billing.events import CustomerDeleted, CustomerNamed, InvoiceChanged, OfCustomer, read
from domain.billing.invoices import PaidPeriod, longer, periods_paid
from domain.billing.plan import Customer, TenantBilling
from domain.billing.tiers import Tier
from domain.events.outcomes import Outcome
from domain.quota.quota import first_period
from tests.converge.random_scenarios import CREATED, SOLD, TENANT, random_scenario

OTHER = UUID(int=99)
AFTER = CREATED + timedelta(days=400)


@dataclass
class Stored:
    """What a database keeps between one opening of the books and the next."""

    customers: dict[str, Customer] = field(default_factory=dict)
    subscriptions: dict[str, Any] = field(default_factory=dict)
    invoices: dict[str, Any] = field(default_factory=dict)
    periods: dict[Any, PaidPeriod] = field(default_factory=dict)
    tenants: dict[UUID, TenantBilling] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def apply(self, facts: Sequence[tuple[str, OfCustomer]]) -> None:
        older = {key: each for key, each in self.periods.items() if each.invoice_id not in self.invoices}
        mirror = Mirror(self.customers, self.subscriptions, self.invoices, older)
        books = Books(mirror, self.tenants, prices=SOLD, now=AFTER, can_ask=False)
        self.outcomes += [books.apply(fact, cause) for cause, fact in facts]
        self.customers |= books.customers
        self.subscriptions |= books.subscriptions
        self.invoices |= books.invoices
        for key, period in books.periods.items():
            self.periods[key] = longer(self.periods.get(key), period)
        plans, entries = books.close({moment: taken_since(moment[1]) for moment in books.counted_from})
        self.tenants |= plans
        self.entries += entries


def taken_since(moment: datetime) -> int:
    """One concept a day was taken, for half a year."""
    return max(0, min(180, 180 - (moment - CREATED).days))


def a_tenant() -> TenantBilling:
    quota = replace(first_period(10, CREATED), used=7)
    return TenantBilling(Tier.FREE, "none", None, None, quota, CREATED)


def stored(facts: Iterable[tuple[str, OfCustomer]]) -> Stored:
    """Two tenants on the free plan, and of each paid period a row that only the release before received."""
    paid = [each for _, fact in facts if isinstance(fact, InvoiceChanged) for each in periods_paid(fact.invoice)]
    older = [replace(each, invoice_id="in_0", period_end=each.period_end + timedelta(days=9)) for each in paid]
    periods = {(each.subscription_id, each.period_start): each for each in older}
    return Stored(periods=periods, tenants={TENANT: a_tenant(), OTHER: a_tenant()})


def facts_of(seed: int) -> list[tuple[str, OfCustomer]]:
    """All that is said of one customer, shuffled, some of it twice; of another, a part, until it is deleted; and whose
    they are."""
    rng = Random(seed)
    found: list[OfCustomer] = []
    for customer_id, scenario in (("cus_1", random_scenario(seed, 6)), ("cus_2", random_scenario(seed + 1, 6))):
        for body in scenario.account.events:
            about = body["data"]["object"]
            fact = read({**body, "data": body["data"] | {"object": about | {"customer": customer_id, "metadata": {}}}})
            if isinstance(fact, OfCustomer):
                found.append(fact)
        found.append(CustomerNamed(customer_id, rng.choice([TENANT, TENANT, OTHER, UUID(int=1)])))
    found += [CustomerDeleted("cus_2", CREATED + timedelta(days=rng.randint(0, 90)), None), *rng.choices(found, k=3)]
    rng.shuffle(found)
    return [(f"event:{n}", fact) for n, fact in enumerate(found)]


def parts(facts: Sequence[Any], cuts: Iterable[int]) -> list[Sequence[Any]]:
    return [
        facts[start:end] for start, end in pairwise(sorted({0, len(facts), *(cut % (len(facts) + 1) for cut in cuts)}))
    ]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 200), max_size=6))
def test_facts_change_the_same_however_they_are_parted(seed: int, cuts: list[int]) -> None:
    facts = facts_of(seed)
    one_by_one, in_parts = stored(facts), stored(facts)
    for fact in facts:
        one_by_one.apply([fact])
    for part in parts(facts, cuts):
        in_parts.apply(part)
    assert in_parts == one_by_one


def test_the_property_is_about_plans_that_change() -> None:
    changed = stored([])
    changed.apply(facts_of(3))
    assert {entry.kind for entry in changed.entries} == {"grant", "reset"}
