"""Scenarios of a customer at Stripe, event by event, in the order in which it happens.

`SCENARIOS` are those that billing has to get right in any order of delivery; see tests/converge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from domain.billing.tiers import PLANS, Tier
from domain.quota.quota import add_months
from simulators.personas import BEFORE_BASIL, Body, Persona
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription

SOON, HOUR, DAY = timedelta(seconds=3), timedelta(hours=1), timedelta(days=1)


Events = Callable[[Persona, datetime, Mapping[Tier, str]], list[Body]]

SCENARIOS: dict[str, Events] = {}
"""By name: the events of this person from this moment on, at these prices."""


@dataclass
class Scenario:
    """The events of one customer from `start` on; `n` months later is `month(n)`."""

    who: Persona
    start: datetime
    prices: Mapping[Tier, str]
    events: list[Body] = field(default_factory=list)

    def month(self, n: int) -> datetime:
        return add_months(self.start, n)

    def on(self, tier: Tier, **changes: Any) -> Persona:
        return replace(self.who, price_id=self.prices[tier], unit_amount=PLANS[tier].usd_per_month * 100, **changes)

    def add(self, kind: str, about: Body, at: datetime, previous: Body | None = None) -> None:
        self.events.append(stripe_event(kind, about, at=at, shape=self.who.shape, previous=previous))

    def changes(
        self, who: Persona, at: datetime, period: tuple[datetime, datetime], kind: str = "updated", **row: Any
    ) -> None:
        """The subscription is like this since `at`; `was` is its status before, where that changed, and `previous` the
        fields that changed, if more than that is to be said."""
        was, started, previous = row.pop("was", None), row.pop("started_at", self.start), row.pop("previous", None)
        if previous is None and kind not in ("created", "deleted"):
            previous = {"status": was} if was else {}
        self.add(f"customer.subscription.{kind}", subscription(who, started, period, **row), at, previous)

    def pays(
        self, who: Persona, period: tuple[datetime, datetime], reason: str = "subscription_cycle", **bill: Any
    ) -> None:
        at = bill.pop("at", period[0] + HOUR)
        self.add("invoice.paid", invoice(who, period, at=at, billing_reason=reason, **bill), at)

    def buys(self, who: Persona, period: tuple[datetime, datetime], **row: Any) -> None:
        """Checkout in the events of this shape of the API; paid at once."""
        at = period[0]
        if who.shape in BEFORE_BASIL:
            self.changes(who, at, period, "created", status="incomplete", started_at=at, **row)
            self.changes(who, at, period, was="incomplete", started_at=at, **row)
        else:
            self.changes(who, at, period, "created", started_at=at, **row)
        self.add("checkout.session.completed", checkout_session(who, at=at), at + SOON)
        self.pays(who, period, "subscription_create", at=at + SOON)

    def fails(self, who: Persona, period: tuple[datetime, datetime], at: datetime) -> None:
        bill = invoice(who, period, at=at, billing_reason="subscription_cycle", status="open")
        self.add("invoice.payment_failed", bill, at)

    def span(self, n: int, months: int = 1) -> tuple[datetime, datetime]:
        return self.month(n), self.month(n + months)


def recorded(write: Callable[[Scenario], None]) -> Events:
    """Make `write` a scenario, which is called with a person, a moment and prices, and returns its events."""

    def events(who: Persona, start: datetime, prices: Mapping[Tier, str]) -> list[Body]:
        scenario = Scenario(who, start, prices)
        write(scenario)
        return scenario.events

    SCENARIOS[write.__name__] = events
    return events


@recorded
def lifecycle(scenario: Scenario) -> None:
    """Checkout, STARTER, a renewal, an upgrade to PRO with its proration, a cancellation at the period's end. Ends two
    months after `start`."""
    starter, pro = scenario.on(Tier.STARTER), scenario.on(Tier.PRO)
    start, renewal, end = (scenario.month(n) for n in range(3))
    upgrade, notice = renewal + 10 * DAY, renewal + 12 * DAY
    first, second = scenario.span(0), scenario.span(1)
    # Before basil, Checkout made the subscription first and paid it within the second; since, it is made after payment.
    made = "incomplete" if scenario.who.shape in BEFORE_BASIL else "active"
    scenario.changes(starter, start, first, "created", status=made)
    scenario.changes(starter, start, first, was="incomplete")
    scenario.add("checkout.session.completed", checkout_session(starter, at=start), start + SOON)
    scenario.pays(starter, first, "subscription_create", at=start + SOON)
    scenario.changes(starter, renewal, second, previous={"latest_invoice": "in_before"})
    scenario.pays(starter, second)
    was_starter = {"items": subscription(starter, start, second)["items"]}
    scenario.changes(pro, upgrade, second, previous=was_starter)
    scenario.pays(pro, (upgrade, end), "subscription_update", at=upgrade + SOON, proration=True)
    before = {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None}
    scenario.changes(pro, notice, second, cancel_at=end, asked_to_end_at=notice, previous=before)
    scenario.changes(pro, end, second, "deleted", status="canceled", asked_to_end_at=notice, ended_at=end)


@recorded
def a_checkout(scenario: Scenario) -> None:
    scenario.buys(scenario.on(Tier.PRO), scenario.span(0))


@recorded
def renewals(scenario: Scenario) -> None:
    """From the 31st over a February to the next 31st."""
    who = scenario.on(Tier.STARTER)
    scenario.buys(who, scenario.span(0))
    for n in (1, 2, 3):
        scenario.changes(who, scenario.month(n), scenario.span(n))
        scenario.pays(who, scenario.span(n))


@recorded
def changes_mid_period(scenario: Scenario) -> None:
    """Up on the tenth day, down on the twentieth; each with its proration."""
    starter, agency, pro = scenario.on(Tier.STARTER), scenario.on(Tier.AGENCY), scenario.on(Tier.PRO)
    scenario.buys(starter, scenario.span(0))
    for who, days in ((agency, 10), (pro, 20)):
        at = scenario.start + days * DAY
        scenario.changes(who, at, scenario.span(0))
        scenario.pays(who, (at, scenario.month(1)), "subscription_update", at=at + SOON, proration=True)


@recorded
def upgrade_at_period_end(scenario: Scenario) -> None:
    _changes_at_period_end(scenario, scenario.on(Tier.STARTER), scenario.on(Tier.AGENCY))


@recorded
def downgrade_at_period_end(scenario: Scenario) -> None:
    _changes_at_period_end(scenario, scenario.on(Tier.AGENCY), scenario.on(Tier.STARTER))


def _changes_at_period_end(scenario: Scenario, before: Persona, after: Persona) -> None:
    scenario.buys(before, scenario.span(0))
    scenario.changes(before, scenario.start + 9 * DAY, scenario.span(0))  # its schedule is attached
    scenario.changes(after, scenario.month(1), scenario.span(1))
    scenario.pays(after, scenario.span(1))


def _overdue(scenario: Scenario) -> Persona:
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0))
    scenario.changes(who, scenario.month(1), scenario.span(1))
    scenario.fails(who, scenario.span(1), scenario.month(1) + HOUR)
    scenario.changes(who, scenario.month(1) + HOUR, scenario.span(1), status="past_due", was="active")
    return who


@recorded
def dunning_to_cancellation(scenario: Scenario) -> None:
    who = _overdue(scenario)
    scenario.changes(who, scenario.month(1) + 14 * DAY, scenario.span(1), status="unpaid", was="past_due")
    ended = scenario.month(1) + 21 * DAY
    scenario.changes(who, ended, scenario.span(1), "deleted", status="canceled", asked_to_end_at=ended, ended_at=ended)


@recorded
def dunning_and_recovery(scenario: Scenario) -> None:
    who = _overdue(scenario)
    scenario.fails(who, scenario.span(1), scenario.month(1) + 3 * DAY)
    scenario.pays(who, scenario.span(1), at=scenario.month(1) + 5 * DAY)
    scenario.changes(who, scenario.month(1) + 5 * DAY, scenario.span(1), was="past_due")


def _tries(scenario: Scenario) -> tuple[Persona, datetime, dict[str, Any]]:
    who, end = scenario.on(Tier.PRO), scenario.start + 14 * DAY
    terms = {"trial_end": end, "status": "trialing"}
    scenario.changes(who, scenario.start, (scenario.start, end), "created", **terms)
    scenario.add("checkout.session.completed", checkout_session(who, at=scenario.start), scenario.start + SOON)
    scenario.pays(who, (scenario.start, end), "subscription_create", amount=0, at=scenario.start + SOON)
    scenario.changes(who, end - 3 * DAY, (scenario.start, end), "trial_will_end", **terms)
    return who, end, {"trial_end": end}


@recorded
def trial_with_card(scenario: Scenario) -> None:
    who, end, terms = _tries(scenario)
    period = (end, add_months(end, 1))
    scenario.changes(who, end, period, was="trialing", **terms)
    scenario.pays(who, period)


@recorded
def trial_without_card(scenario: Scenario) -> None:
    """Paused when the trial ends, resumed with a card six days later."""
    who, end, terms = _tries(scenario)
    scenario.changes(who, end, (scenario.start, end), status="paused", was="trialing", **terms)
    scenario.changes(who, end, (scenario.start, end), "paused", status="paused", **terms)
    back = end + 6 * DAY
    period = (back, add_months(back, 1))
    scenario.changes(who, back, period, was="paused", anchor=back, **terms)
    scenario.changes(who, back, period, "resumed", anchor=back, **terms)
    scenario.pays(who, period)


@recorded
def portal_cancellation(scenario: Scenario) -> None:
    """In flexible billing (`endive`) the portal says `cancel_at` and leaves `cancel_at_period_end` false."""
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0))
    asked, end = scenario.start + 12 * DAY, scenario.month(1)
    scenario.changes(who, asked, scenario.span(0), cancel_at=end, asked_to_end_at=asked)
    scenario.changes(who, asked + DAY, scenario.span(0))  # thought better of it
    scenario.changes(who, asked + 2 * DAY, scenario.span(0), cancel_at=end, asked_to_end_at=asked + 2 * DAY)
    scenario.changes(who, end, scenario.span(0), "deleted", status="canceled", asked_to_end_at=asked, ended_at=end)


@recorded
def incomplete_expired(scenario: Scenario) -> None:
    who = scenario.on(Tier.PRO)
    scenario.changes(who, scenario.start, scenario.span(0), "created", status="incomplete")
    scenario.fails(who, scenario.span(0), scenario.start + SOON)
    gone = scenario.start + 23 * HOUR
    scenario.changes(who, gone, scenario.span(0), status="incomplete_expired", was="incomplete", ended_at=gone)


@recorded
def several_items(scenario: Scenario) -> None:
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0), beside=("price_seats", "price_addon"))
    scenario.changes(who, scenario.month(1), scenario.span(1), beside=("price_seats",))
    scenario.pays(who, scenario.span(1))


@recorded
def resubscribes(scenario: Scenario) -> None:
    """The `deleted` of the old subscription comes after the new one has begun."""
    old, new = scenario.on(Tier.PRO), scenario.on(Tier.AGENCY, subscription_id=f"{scenario.who.subscription_id}_2")
    scenario.buys(old, scenario.span(0))
    again = scenario.month(1)
    scenario.buys(new, (again, scenario.month(2)))
    scenario.changes(old, again + DAY, scenario.span(0), "deleted", status="canceled", ended_at=again)


@recorded
def two_at_once(scenario: Scenario) -> None:
    """The lesser of two live subscriptions ends; the better one goes on."""
    pro, agency = scenario.on(Tier.PRO), scenario.on(Tier.AGENCY, subscription_id=f"{scenario.who.subscription_id}_2")
    scenario.buys(pro, scenario.span(0))
    later = scenario.start + 5 * DAY
    scenario.buys(agency, (later, add_months(later, 1)))
    ended = later + 5 * DAY
    scenario.changes(pro, ended, scenario.span(0), "deleted", status="canceled", ended_at=ended)


@recorded
def customer_deleted(scenario: Scenario) -> None:
    """No event says that the subscription ended; then the tenant buys again, as a new customer."""
    old = scenario.on(Tier.PRO)
    scenario.add("customer.created", customer(old, created_at=scenario.start - DAY), scenario.start - DAY)
    scenario.buys(old, scenario.span(0))
    gone = scenario.start + 10 * DAY
    scenario.add("customer.deleted", customer(old, created_at=scenario.start - DAY), gone)
    again = gone + 2 * DAY
    new = scenario.on(Tier.STARTER, customer_id=f"{old.customer_id}_2", subscription_id=f"{old.subscription_id}_2")
    scenario.buys(new, (again, add_months(again, 1)))


@recorded
def customer_deleted_for_good(scenario: Scenario) -> None:
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0))
    gone = scenario.start + 10 * DAY
    scenario.changes(who, gone, scenario.span(0), "deleted", status="canceled", ended_at=gone)
    scenario.add("customer.deleted", customer(who, created_at=scenario.start), gone)


@recorded
def collection_paused(scenario: Scenario) -> None:
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0))
    paused: Body = {"behavior": "void", "resumes_at": None}
    scenario.changes(who, scenario.start + 4 * DAY, scenario.span(0), pause_collection=paused)
    scenario.changes(who, scenario.month(1), scenario.span(1), pause_collection=paused)
    scenario.changes(who, scenario.month(1) + 4 * DAY, scenario.span(1))


@recorded
def annual(scenario: Scenario) -> None:
    who = scenario.on(Tier.PRO)
    scenario.buys(who, scenario.span(0, 12), interval="year")
    scenario.changes(who, scenario.month(12), scenario.span(12, 12), interval="year")
    scenario.pays(who, scenario.span(12, 12))
