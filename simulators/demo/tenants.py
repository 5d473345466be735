"""The tenants of the demo: who they are, on which plan, and all that Clerk and Stripe say of them until now.

All of it follows from a seed and a moment. Stripe's events are written when a tenant has its id, which only our own
system gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from uuid import UUID

from domain.billing.tiers import PLANS, Tier
from domain.quota.quota import add_months
from simulators.clerk.events import clerk_event, clerk_session, clerk_user
from simulators.personas import Body, Persona, named_persona, random_persona
from simulators.stripe.events import checkout_session, invoice, stripe_event
from simulators.stripe.scenarios import DAY, HOUR, SOON, Scenario

TENANTS = 36
OLDEST, YOUNGEST = 200, 4
"""Days since a tenant signed up."""
LEAST = timedelta(minutes=5)
"""Nothing of the past is younger."""
PLATFORMS = ("tiktok", "youtube-shorts", "instagram-reels")


class Course(StrEnum):
    """How a tenant gets on with paying."""

    FREE = "free"
    PAYS = "pays"
    UPGRADES = "upgrades"
    TRIES = "tries"
    OVERDUE = "overdue"
    LEAVES = "leaves"
    """It has cancelled, and has paid until the end of its month."""
    LEFT = "left"


COURSES: tuple[tuple[Course, Tier, int], ...] = (
    (Course.FREE, Tier.FREE, 10),
    (Course.PAYS, Tier.STARTER, 6),
    (Course.PAYS, Tier.PRO, 6),
    (Course.PAYS, Tier.AGENCY, 3),
    (Course.UPGRADES, Tier.PRO, 2),
    (Course.TRIES, Tier.PRO, 1),
    (Course.OVERDUE, Tier.STARTER, 2),
    (Course.OVERDUE, Tier.PRO, 1),
    (Course.LEAVES, Tier.STARTER, 1),
    (Course.LEAVES, Tier.AGENCY, 1),
    (Course.LEFT, Tier.PRO, 3),
)
"""How many live how, on which plan: all `TENANTS` together."""


@dataclass(frozen=True)
class Tenant:
    """`paying_since` is when the first month was bought; None for one that never bought any. `platforms` are those on
    which it has an account. `who` has the tenant's id when our system has given it one."""

    number: int
    who: Persona
    name: str
    course: Course
    tier: Tier
    born: datetime
    paying_since: datetime | None
    platforms: tuple[str, ...]

    @property
    def handle(self) -> str:
        """The name of its accounts."""
        return self.who.email.partition("@")[2].partition(".")[0]

    def with_id(self, tenant_id: UUID) -> "Tenant":
        return replace(self, who=replace(self.who, tenant_id=tenant_id))

    def tier_at(self, moment: datetime) -> Tier:
        """Return the plan that it had then, by what it paid for."""
        if self.paying_since is None or moment < self.paying_since:
            return Tier.FREE
        if self.course is Course.UPGRADES and moment < add_months(self.paying_since, 1) + 10 * DAY:
            return Tier.STARTER
        if self.course is Course.LEFT and moment >= add_months(self.paying_since, MONTHS_OF_LEFT):
            return Tier.FREE
        return self.tier


MONTHS_OF_LEFT = 2


def tenants(seed: int, now: datetime) -> list[Tenant]:
    """Return the demo's tenants, oldest first."""
    rng = Random(seed)  # noqa: S311 - made-up people
    courses = [(course, tier) for course, tier, count in COURSES for _ in range(count)]
    rng.shuffle(courses)
    taken: set[str] = set()
    found = []
    for number, (course, tier) in enumerate(courses):
        who, name = named_persona(rng, taken)
        age = YOUNGEST + (OLDEST - YOUNGEST) * (1 - (number + rng.random()) / len(courses)) ** 1.4
        born = whole(now - timedelta(days=age))
        since = _paying_since(course, born, now, rng)
        if since is not None:
            born = min(born, whole(since - HOUR * rng.randint(1, 90)))
        count = 0 if course is Course.FREE and rng.random() < 0.4 else rng.randint(1, 3)
        platforms = tuple(sorted(rng.sample(PLATFORMS, count), key=PLATFORMS.index))
        found.append(Tenant(number, who, name, course, tier, born, since, platforms))
    return sorted(found, key=lambda each: each.born)


def _paying_since(course: Course, born: datetime, now: datetime, rng: Random) -> datetime | None:
    """The day of the month on which a tenant pays decides where in its month it is now."""
    ago = max(1, (now - born).days // 31)
    match course:
        case Course.FREE:
            return None
        case Course.TRIES:
            return whole(now - timedelta(days=rng.uniform(3, 9)))
        case Course.OVERDUE:  # the month that is not paid began some days ago
            return whole(add_months(now - timedelta(days=rng.uniform(3, 9)), -max(1, ago)))
        case Course.UPGRADES:
            return whole(add_months(now, -max(2, ago)) - timedelta(days=rng.uniform(1, 9)))
        case Course.LEFT:
            return whole(add_months(now, -max(MONTHS_OF_LEFT + 1, ago)) - timedelta(days=rng.uniform(1, 25)))
        case _:
            return whole(born + timedelta(days=rng.uniform(0.1, 3)))


def whole(moment: datetime) -> datetime:
    """Return the moment without what Stripe's and Clerk's times lack."""
    return moment.replace(microsecond=0)


# --- what Clerk and Stripe say of it ------------------------------------------------------------------------------


def clerk_events(each: Tenant, now: datetime) -> list[Body]:
    """Return its sign-up, and some of its sign-ins, oldest first."""
    rng = Random(each.number)  # noqa: S311
    first, last = each.name.split(" ", 1)
    user = clerk_user(each.who, created_at=each.born, first_name=first, last_name=last)
    signed_in = sorted(each.born + (now - LEAST - each.born) * rng.random() for _ in range(2))
    return [
        clerk_event("user.created", user, at=each.born),
        *(
            clerk_event("session.created", clerk_session(each.who, created_at=whole(at)), at=whole(at))
            for at in signed_in
        ),
    ]


def stripe_events(each: Tenant, now: datetime, prices: Mapping[Tier, str]) -> list[Body]:
    """Return all that Stripe has expected of its subscription until now, oldest first."""
    if each.paying_since is None:
        return []
    scenario = Scenario(each.who, each.paying_since, prices)
    who = scenario.on(each.tier)
    if each.course is Course.TRIES:
        _tries(scenario, who)
    else:
        _pays(each, scenario, now)
    return [event for event in scenario.events if event["created"] <= (now - LEAST).timestamp()]


def _tries(scenario: Scenario, who: Persona) -> None:
    period = (scenario.start, scenario.start + 14 * DAY)
    terms = {"trial_end": period[1], "status": "trialing"}
    scenario.changes(who, scenario.start, period, "created", **terms)
    scenario.add("checkout.session.completed", checkout_session(who, at=scenario.start), scenario.start + SOON)
    scenario.pays(who, period, "subscription_create", amount=0, at=scenario.start + SOON)


def _pays(each: Tenant, scenario: Scenario, now: datetime) -> None:
    first = Tier.STARTER if each.course is Course.UPGRADES else each.tier
    scenario.buys(scenario.on(first), scenario.span(0))
    month = 1
    while scenario.month(month) <= now - LEAST - HOUR:
        at, period = scenario.month(month), scenario.span(month)
        if each.course is Course.LEFT and month == MONTHS_OF_LEFT:
            who, last = scenario.on(each.tier), scenario.span(month - 1)
            scenario.changes(who, at, last, "deleted", status="canceled", asked_to_end_at=at - 5 * DAY, ended_at=at)
            return
        who = scenario.on(each.tier_at(at))
        scenario.changes(who, at, period)
        if each.course is Course.OVERDUE and scenario.month(month + 1) > now:
            scenario.fails(who, period, at + HOUR)
            scenario.changes(who, at + HOUR, period, status="past_due", was="active")
            return
        scenario.pays(who, period)
        if each.course is Course.UPGRADES and month == 1:
            _upgrades(scenario, scenario.on(each.tier), at + 10 * DAY)
        month += 1
    if each.course is Course.LEAVES:
        asked, end = max(scenario.month(month - 1) + HOUR * 2, now - 3 * DAY), scenario.month(month)
        who = scenario.on(each.tier)
        scenario.changes(who, whole(asked), scenario.span(month - 1), cancel_at=end, asked_to_end_at=whole(asked))


def _upgrades(scenario: Scenario, who: Persona, at: datetime) -> None:
    scenario.changes(who, at, scenario.span(1))
    scenario.pays(who, (at, scenario.month(2)), "subscription_update", at=at + SOON, proration=True)


def stranger_pays(rng: Random, at: datetime, price: str) -> Body:
    """Return a payment of a customer whom no tenant is: the event is parked."""
    who = replace(random_persona(rng), price_id=price, unit_amount=PLANS[Tier.PRO].usd_per_month * 100)
    period = (at, add_months(at, 1))
    return stripe_event("invoice.paid", invoice(who, period, at=at, billing_reason="subscription_create"), at=at)
