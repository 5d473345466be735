"""What Stripe would tell of a customer's life, event by event, in the order in which it happens.

`LIVES` are the lives that billing has to get right in any order of delivery; see tests/converge.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from domain.billing.tiers import PLANS, Tier
from domain.quota.quota import add_months
from simulators.personas import BEFORE_BASIL, Body, Persona
from simulators.stripe.events import checkout_session, customer, invoice, stripe_event, subscription

SOON, HOUR, DAY = timedelta(seconds=3), timedelta(hours=1), timedelta(days=1)


def lifecycle(who: Persona, start: datetime, prices: Mapping[Tier, str]) -> list[Body]:
    """Checkout, STARTER, a renewal, an upgrade to PRO with its proration, a cancellation at the period's end: in the
    order in which it happens. Ends two months after `start`."""
    renewal, end = add_months(start, 1), add_months(start, 2)
    upgrade, notice = renewal + timedelta(days=10), renewal + timedelta(days=12)
    usd = {tier: plan.usd_per_month * 100 for tier, plan in PLANS.items()}
    starter = replace(who, price_id=prices[Tier.STARTER], unit_amount=usd[Tier.STARTER])
    pro = replace(who, price_id=prices[Tier.PRO], unit_amount=usd[Tier.PRO])
    first, second = (start, renewal), (renewal, end)
    # Before basil, Checkout made the subscription first and paid it within the second; since, it is made after payment.
    made = "incomplete" if who.shape in BEFORE_BASIL else "active"
    soon, hour = timedelta(seconds=3), timedelta(hours=1)

    def told(kind: str, row: Body, at: datetime, previous: Body | None = None) -> Body:
        return stripe_event(f"customer.subscription.{kind}", row, at=at, shape=who.shape, previous=previous)

    def paid(payer: Persona, period: tuple[datetime, datetime], at: datetime, reason: str) -> Body:
        bill = invoice(payer, period, at=at, billing_reason=reason, proration=reason == "subscription_update")
        return stripe_event("invoice.paid", bill, at=at, shape=who.shape)

    session = checkout_session(starter, at=start)
    was_starter = {"items": subscription(starter, start, second)["items"]}
    return [
        told("created", subscription(starter, start, first, status=made), start),
        told("updated", subscription(starter, start, first), start, {"status": "incomplete"}),
        stripe_event("checkout.session.completed", session, at=start + soon, shape=who.shape),
        paid(starter, first, start + soon, "subscription_create"),
        told("updated", subscription(starter, start, second), renewal, {"latest_invoice": "in_before"}),
        paid(starter, second, renewal + hour, "subscription_cycle"),
        told("updated", subscription(pro, start, second), upgrade, was_starter),
        paid(pro, (upgrade, end), upgrade + soon, "subscription_update"),
        told(
            "updated",
            subscription(pro, start, second, cancel_at=end, asked_to_end_at=notice),
            notice,
            {"cancel_at": None, "cancel_at_period_end": False, "canceled_at": None},
        ),
        told(
            "deleted",
            subscription(pro, start, second, status="canceled", asked_to_end_at=notice, ended_at=end),
            end,
        ),
    ]


@dataclass
class Story:
    """Tells of one customer from `start` on; `n` months later is `month(n)`."""

    who: Persona
    start: datetime
    prices: Mapping[Tier, str]
    events: list[Body] = field(default_factory=list)

    def month(self, n: int) -> datetime:
        return add_months(self.start, n)

    def on(self, tier: Tier, **known: Any) -> Persona:
        return replace(self.who, price_id=self.prices[tier], unit_amount=PLANS[tier].usd_per_month * 100, **known)

    def tell(self, kind: str, about: Body, at: datetime, previous: Body | None = None) -> None:
        self.events.append(stripe_event(kind, about, at=at, shape=self.who.shape, previous=previous))

    def is_(
        self, who: Persona, at: datetime, period: tuple[datetime, datetime], kind: str = "updated", **row: Any
    ) -> None:
        """The subscription is so since `at`; `was` is its status before, where that changed."""
        was, started = row.pop("was", None), row.pop("started_at", self.start)
        previous = None if kind in ("created", "deleted") else ({"status": was} if was else {})
        self.tell(f"customer.subscription.{kind}", subscription(who, started, period, **row), at, previous)

    def pays(
        self, who: Persona, period: tuple[datetime, datetime], reason: str = "subscription_cycle", **bill: Any
    ) -> None:
        at = bill.pop("at", period[0] + HOUR)
        self.tell("invoice.paid", invoice(who, period, at=at, billing_reason=reason, **bill), at)

    def buys(self, who: Persona, period: tuple[datetime, datetime], **row: Any) -> None:
        """Checkout, the way this shape of the API tells it; paid at once."""
        at = period[0]
        if who.shape in BEFORE_BASIL:
            self.is_(who, at, period, "created", status="incomplete", started_at=at, **row)
            self.is_(who, at, period, was="incomplete", started_at=at, **row)
        else:
            self.is_(who, at, period, "created", started_at=at, **row)
        self.tell("checkout.session.completed", checkout_session(who, at=at), at + SOON)
        self.pays(who, period, "subscription_create", at=at + SOON)

    def fails(self, who: Persona, period: tuple[datetime, datetime], at: datetime) -> None:
        bill = invoice(who, period, at=at, billing_reason="subscription_cycle", status="open")
        self.tell("invoice.payment_failed", bill, at)

    def span(self, n: int, months: int = 1) -> tuple[datetime, datetime]:
        return self.month(n), self.month(n + months)


def a_checkout(told: Story) -> None:
    told.buys(told.on(Tier.PRO), told.span(0))


def renewals(told: Story) -> None:
    """From the 31st over a February to the next 31st."""
    who = told.on(Tier.STARTER)
    told.buys(who, told.span(0))
    for n in (1, 2, 3):
        told.is_(who, told.month(n), told.span(n))
        told.pays(who, told.span(n))


def changes_mid_period(told: Story) -> None:
    """Up on the tenth day, down on the twentieth; each with its proration."""
    starter, agency, pro = told.on(Tier.STARTER), told.on(Tier.AGENCY), told.on(Tier.PRO)
    told.buys(starter, told.span(0))
    for who, days in ((agency, 10), (pro, 20)):
        at = told.start + days * DAY
        told.is_(who, at, told.span(0))
        told.pays(who, (at, told.month(1)), "subscription_update", at=at + SOON, proration=True)


def upgrade_at_period_end(told: Story) -> None:
    _changes_at_period_end(told, told.on(Tier.STARTER), told.on(Tier.AGENCY))


def downgrade_at_period_end(told: Story) -> None:
    _changes_at_period_end(told, told.on(Tier.AGENCY), told.on(Tier.STARTER))


def _changes_at_period_end(told: Story, before: Persona, after: Persona) -> None:
    told.buys(before, told.span(0))
    told.is_(before, told.start + 9 * DAY, told.span(0))  # its schedule is attached
    told.is_(after, told.month(1), told.span(1))
    told.pays(after, told.span(1))


def _overdue(told: Story) -> Persona:
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0))
    told.is_(who, told.month(1), told.span(1))
    told.fails(who, told.span(1), told.month(1) + HOUR)
    told.is_(who, told.month(1) + HOUR, told.span(1), status="past_due", was="active")
    return who


def dunning_to_cancellation(told: Story) -> None:
    who = _overdue(told)
    told.is_(who, told.month(1) + 14 * DAY, told.span(1), status="unpaid", was="past_due")
    ended = told.month(1) + 21 * DAY
    told.is_(who, ended, told.span(1), "deleted", status="canceled", asked_to_end_at=ended, ended_at=ended)


def dunning_and_recovery(told: Story) -> None:
    who = _overdue(told)
    told.fails(who, told.span(1), told.month(1) + 3 * DAY)
    told.pays(who, told.span(1), at=told.month(1) + 5 * DAY)
    told.is_(who, told.month(1) + 5 * DAY, told.span(1), was="past_due")


def _tries(told: Story) -> tuple[Persona, datetime, dict[str, Any]]:
    who, end = told.on(Tier.PRO), told.start + 14 * DAY
    terms = {"trial_end": end, "status": "trialing"}
    told.is_(who, told.start, (told.start, end), "created", **terms)
    told.tell("checkout.session.completed", checkout_session(who, at=told.start), told.start + SOON)
    told.pays(who, (told.start, end), "subscription_create", amount=0, at=told.start + SOON)
    told.is_(who, end - 3 * DAY, (told.start, end), "trial_will_end", **terms)
    return who, end, {"trial_end": end}


def trial_with_card(told: Story) -> None:
    who, end, terms = _tries(told)
    period = (end, add_months(end, 1))
    told.is_(who, end, period, was="trialing", **terms)
    told.pays(who, period)


def trial_without_card(told: Story) -> None:
    """Paused when the trial ends, resumed with a card six days later."""
    who, end, terms = _tries(told)
    told.is_(who, end, (told.start, end), status="paused", was="trialing", **terms)
    told.is_(who, end, (told.start, end), "paused", status="paused", **terms)
    back = end + 6 * DAY
    period = (back, add_months(back, 1))
    told.is_(who, back, period, was="paused", anchor=back, **terms)
    told.is_(who, back, period, "resumed", anchor=back, **terms)
    told.pays(who, period)


def portal_cancellation(told: Story) -> None:
    """In flexible billing (`endive`) the portal says `cancel_at` and leaves `cancel_at_period_end` false."""
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0))
    asked, end = told.start + 12 * DAY, told.month(1)
    told.is_(who, asked, told.span(0), cancel_at=end, asked_to_end_at=asked)
    told.is_(who, asked + DAY, told.span(0))  # thought better of it
    told.is_(who, asked + 2 * DAY, told.span(0), cancel_at=end, asked_to_end_at=asked + 2 * DAY)
    told.is_(who, end, told.span(0), "deleted", status="canceled", asked_to_end_at=asked, ended_at=end)


def incomplete_expired(told: Story) -> None:
    who = told.on(Tier.PRO)
    told.is_(who, told.start, told.span(0), "created", status="incomplete")
    told.fails(who, told.span(0), told.start + SOON)
    gone = told.start + 23 * HOUR
    told.is_(who, gone, told.span(0), status="incomplete_expired", was="incomplete", ended_at=gone)


def several_items(told: Story) -> None:
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0), beside=("price_seats", "price_addon"))
    told.is_(who, told.month(1), told.span(1), beside=("price_seats",))
    told.pays(who, told.span(1))


def resubscribes(told: Story) -> None:
    """The `deleted` of the old subscription is told after the new one has begun."""
    old, new = told.on(Tier.PRO), told.on(Tier.AGENCY, subscription_id=f"{told.who.subscription_id}_2")
    told.buys(old, told.span(0))
    again = told.month(1)
    told.buys(new, (again, told.month(2)))
    told.is_(old, again + DAY, told.span(0), "deleted", status="canceled", ended_at=again)


def two_at_once(told: Story) -> None:
    """The lesser of two live subscriptions ends; the better one goes on."""
    pro, agency = told.on(Tier.PRO), told.on(Tier.AGENCY, subscription_id=f"{told.who.subscription_id}_2")
    told.buys(pro, told.span(0))
    later = told.start + 5 * DAY
    told.buys(agency, (later, add_months(later, 1)))
    ended = later + 5 * DAY
    told.is_(pro, ended, told.span(0), "deleted", status="canceled", ended_at=ended)


def customer_deleted(told: Story) -> None:
    """No event tells that the subscription ended; then the tenant buys again, as a new customer."""
    old = told.on(Tier.PRO)
    told.tell("customer.created", customer(old, created_at=told.start - DAY), told.start - DAY)
    told.buys(old, told.span(0))
    gone = told.start + 10 * DAY
    told.tell("customer.deleted", customer(old, created_at=told.start - DAY), gone)
    again = gone + 2 * DAY
    new = told.on(Tier.STARTER, customer_id=f"{old.customer_id}_2", subscription_id=f"{old.subscription_id}_2")
    told.buys(new, (again, add_months(again, 1)))


def customer_deleted_for_good(told: Story) -> None:
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0))
    gone = told.start + 10 * DAY
    told.is_(who, gone, told.span(0), "deleted", status="canceled", ended_at=gone)
    told.tell("customer.deleted", customer(who, created_at=told.start), gone)


def collection_paused(told: Story) -> None:
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0))
    paused: Body = {"behavior": "void", "resumes_at": None}
    told.is_(who, told.start + 4 * DAY, told.span(0), pause_collection=paused)
    told.is_(who, told.month(1), told.span(1), pause_collection=paused)
    told.is_(who, told.month(1) + 4 * DAY, told.span(1))


def annual(told: Story) -> None:
    who = told.on(Tier.PRO)
    told.buys(who, told.span(0, 12), interval="year")
    told.is_(who, told.month(12), told.span(12, 12), interval="year")
    told.pays(who, told.span(12, 12))


TELLERS: tuple[Callable[[Story], None], ...] = (
    a_checkout,
    renewals,
    changes_mid_period,
    upgrade_at_period_end,
    downgrade_at_period_end,
    dunning_to_cancellation,
    dunning_and_recovery,
    trial_with_card,
    trial_without_card,
    portal_cancellation,
    incomplete_expired,
    several_items,
    resubscribes,
    two_at_once,
    customer_deleted,
    customer_deleted_for_good,
    collection_paused,
    annual,
)


def _told(tell: Callable[[Story], None]) -> Callable[[Persona, datetime, Mapping[Tier, str]], list[Body]]:
    def scenario(who: Persona, start: datetime, prices: Mapping[Tier, str]) -> list[Body]:
        story = Story(who, start, prices)
        tell(story)
        return story.events

    return scenario


SCENARIOS: Mapping[str, Callable[[Persona, datetime, Mapping[Tier, str]], list[Body]]] = MappingProxyType(
    {"lifecycle": lifecycle, **{tell.__name__: _told(tell) for tell in TELLERS}}
)
"""By name: what is told of this person from this moment on, at these prices."""
