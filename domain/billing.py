"""What a tenant is entitled to: a pure function of what Stripe told us, whatever the order it was told in.

Three steps, none of which asks Stripe anything. Every subscription event becomes a mirror row, and `newer` merges
rows of one subscription so that any permutation and repetition of its events ends in the same row. Every paid
invoice becomes a `PaidPeriod`, kept as a set. `change_plan` derives the tenant from all mirror rows and paid
periods of its customer. A late `deleted` of an old subscription can then not take a newer one's plan away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from domain.periods import Stretch, latest_start
from domain.quota import Quota, next_reset, recount, reset


class Tier(StrEnum):
    """Ordered by what they give, not by their letters."""

    FREE = "FREE"
    STARTER = "STARTER"
    PRO = "PRO"
    AGENCY = "AGENCY"

    @property
    def rank(self) -> int:
        return list(Tier).index(self)

    # `str` brings an order of its own, by which STARTER would be above PRO: all four have to be replaced.
    def __lt__(self, other: str) -> bool:
        return self.rank < Tier(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Tier(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Tier(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Tier(other).rank


@dataclass(frozen=True, slots=True)
class Plan:
    """`weight`: its tenants' share of the workers, when there is more to do than they manage."""

    tier: Tier
    monthly_quota: int
    usd_per_month: int
    weight: int


PLANS: Mapping[Tier, Plan] = MappingProxyType(
    {
        Tier.FREE: Plan(Tier.FREE, 10, 0, 1),
        Tier.STARTER: Plan(Tier.STARTER, 10, 49, 2),
        Tier.PRO: Plan(Tier.PRO, 50, 149, 4),
        Tier.AGENCY: Plan(Tier.AGENCY, 500, 499, 8),
    }
)

PriceBook = Mapping[str, Tier]
"""Which tier a Stripe price id sells; monthly, yearly and other currencies are prices of their own."""

ENTITLED = frozenset({"active", "trialing", "past_due"})
"""`past_due` is grace: the tier and the period already begun stay, a new period waits for its invoice."""

TERMINAL = frozenset({"canceled", "incomplete_expired"})
"""Stripe: a subscription never leaves these; its customer needs a new one."""

_NEVER_ENTITLED = frozenset({"incomplete", "incomplete_expired"})
LIFE = ("incomplete", "trialing", "active", "past_due", "paused", "unpaid", "incomplete_expired", "canceled")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One mirror row: a Stripe subscription as the newest event about it says.

    `cancel_at` is when it is scheduled to end, however that was scheduled. `ended_at` is the latest moment at which
    an event said that its entitlement ended; a subscription that recovered from `unpaid` keeps it.
    `event_rank` orders events of one second: created 0, any other 1, deleted 2.
    """

    id: str
    customer_id: str
    status: str
    price_ids: tuple[str, ...]
    started_at: datetime
    billing_cycle_anchor: datetime
    period_start: datetime | None
    period_end: datetime | None
    trial_end: datetime | None
    cancel_at: datetime | None
    ended_at: datetime | None
    event_created: datetime
    event_rank: int

    @property
    def entitled(self) -> bool:
        return self.status in ENTITLED

    @property
    def cycle_start(self) -> datetime:
        """From when the anchor's boundaries count: the anchor itself, or, while the anchor lies ahead (a trial), the
        period that leads up to it."""
        return min(self.billing_cycle_anchor, self.period_start or self.started_at)


@dataclass(frozen=True, slots=True)
class PaidPeriod:
    """A stretch of a subscription that an `invoice.paid` covers; its identity is (subscription_id, period_start)."""

    subscription_id: str
    period_start: datetime
    period_end: datetime
    customer_id: str
    invoice_id: str


@dataclass(frozen=True, slots=True)
class TenantBilling:
    """What billing may change in a tenant's row. `status` is Stripe's word, or "none" before any subscription."""

    tier: Tier
    status: str
    customer_id: str | None
    subscription_id: str | None
    quota: Quota
    created_at: datetime


@dataclass(frozen=True, slots=True)
class _Past:
    """What a period is derived from besides its terms: the latest beginning that Stripe tells of, and the clock."""

    start: datetime
    now: datetime


def newer(stored: Subscription | None, incoming: Subscription) -> Subscription:
    """Merge two rows of one subscription: commutative, associative and idempotent, so order and repeats do not matter.

    The row of the later event wins, by (event_created, event_rank); a terminal status wins over any other. Stripe's
    clock has whole seconds: of two equal pairs, the status further along its life wins, then the later period, then
    the greater of the remaining fields, which is arbitrary but the same everywhere. `ended_at` is merged by itself
    (the latest known), because only the event that tells of the end carries it.
    """
    if stored is None:
        return incoming
    ends = [row.ended_at for row in (stored, incoming) if row.ended_at]
    return replace(max(stored, incoming, key=_age), ended_at=max(ends, default=None))


def change_plan(
    tenant: TenantBilling,
    subscriptions: Iterable[Subscription],
    paid_periods: Iterable[PaidPeriod],
    prices: PriceBook,
    now: datetime,
) -> TenantBilling:
    """The tenant as all of its customer's subscriptions and paid periods say, at this moment.

    The best entitled subscription counts: tier, then newest start, then id; quantity does not multiply. Without
    one, FREE limits hold at once and what was used stays used. Where only unmapped prices are entitled, tier and
    quota stay as they were, the subscription is linked, and `unknown_prices` says what to park the event for.
    A tenant without any subscription is left alone.

    The quota's period follows from the same rows and from `now`, not from the period that the tenant is in. One that
    counts from elsewhere has nothing used: `domain.quota.carry_over`.
    """
    rows, paid = list(subscriptions), list(paid_periods)
    tiers = {row.id: tier for row in rows if (tier := tier_of(row, prices))}
    past = _Past(_started(tenant, rows, tiers, paid), now)
    entitled = [row for row in rows if row.entitled]
    if mapped := [row for row in entitled if row.id in tiers]:
        best = max(mapped, key=lambda row: (tiers[row.id], row.started_at, row.id))
        quota = _derive(
            tenant.quota,
            tiers[best.id],
            past,
            anchor=best.billing_cycle_anchor,
            cycle_start=best.cycle_start,
            paid_until=_paid_until(best, paid),
        )
        return replace(tenant, tier=tiers[best.id], status=best.status, subscription_id=best.id, quota=quota)
    if entitled:
        return _link_unmapped(tenant, rows, entitled, past)
    return _without_plan(tenant, rows, past) if rows else tenant


def unknown_prices(subscriptions: Iterable[Subscription], prices: PriceBook) -> tuple[str, ...]:
    """The price ids of entitled subscriptions that have no mapped price, sorted; empty when nothing is to be parked."""
    lost = [row for row in subscriptions if row.entitled and tier_of(row, prices) is None]
    return tuple(sorted({price_id for row in lost for price_id in row.price_ids}))


def tier_of(subscription: Subscription, prices: PriceBook) -> Tier | None:
    """The best tier that any of its items' prices sells; None if none is mapped."""
    return max((prices[price_id] for price_id in subscription.price_ids if price_id in prices), default=None)


def _without_plan(tenant: TenantBilling, rows: list[Subscription], past: _Past) -> TenantBilling:
    """FREE, its months counted from the newest end that the events tell.

    A subscription whose end no event told goes on by its own anchor; one that never began changes no anchor.
    """
    over = [row for row in rows if not row.entitled and row.status not in _NEVER_ENTITLED]
    anchor = max((_over(row) for row in over), default=tenant.quota.anchor)
    quota = _derive(tenant.quota, Tier.FREE, past, anchor=anchor, cycle_start=anchor, paid_until=None)
    latest = max(rows, key=_start)
    return replace(tenant, tier=Tier.FREE, status=latest.status, subscription_id=None, quota=quota)


def _link_unmapped(
    tenant: TenantBilling, rows: list[Subscription], unmapped: list[Subscription], past: _Past
) -> TenantBilling:
    """Tier and quota as they were, if nothing else has ended or if they came from this very subscription.

    Otherwise the customer's other, unmapped purchase would keep the tier of a plan that is over.
    """
    linked = next((row for row in unmapped if row.id == tenant.subscription_id), max(unmapped, key=_start))
    came_from_it = linked.id == tenant.subscription_id and tenant.tier != Tier.FREE
    stands = came_from_it or len(unmapped) == len(rows)
    terms = tenant if stands else _without_plan(tenant, rows, past)
    return replace(terms, status=linked.status, subscription_id=linked.id)


def _derive(
    quota: Quota,
    tier: Tier,
    past: _Past,
    *,
    anchor: datetime,
    cycle_start: datetime,
    paid_until: datetime | None,
) -> Quota:
    """The quota under these terms, which begin no month before `cycle_start`: moving the anchor (a trial, a change from
    monthly to yearly, the end of a subscription) gives no period away."""
    terms = replace(
        quota,
        limit=PLANS[tier].monthly_quota,
        anchor=anchor,
        period_start=past.start,
        resets_at=next_reset(anchor, max(past.start, cycle_start)),
        paid_until=paid_until,
    )
    return recount(quota, reset(terms, past.now))


def _started(
    tenant: TenantBilling, rows: Iterable[Subscription], tiers: Mapping[str, Tier], paid: list[PaidPeriod]
) -> datetime:
    """When the period began that the present terms go on from. Paid periods of all the customer's subscriptions
    count, since one that was once the best cannot be taken back."""
    stretches = [
        Stretch(
            rank=(tiers[row.id], row.started_at, row.id),
            begins=row.started_at,
            ends=None if row.entitled else _over(row),
            anchor=row.billing_cycle_anchor,
            cycle_start=row.cycle_start,
            paid_until=_paid_until(row, paid),
        )
        for row in rows
        if row.id in tiers and row.status not in _NEVER_ENTITLED
    ]
    begun = [period.period_start for period in paid if period.subscription_id in tiers]
    return latest_start(tenant.created_at, stretches, begun)


def _over(subscription: Subscription) -> datetime:
    """When its entitlement ended; where no event told, its own anchor goes on."""
    return subscription.ended_at or subscription.billing_cycle_anchor


def _paid_until(subscription: Subscription, paid_periods: list[PaidPeriod]) -> datetime:
    """The first moment that nothing covers: the latest end of a paid period or of the trial.

    With neither, the cycle's own start, before which no boundary counts: no period begins unpaid.

    Stripe moves the anchor when the interval changes or a trial is cut short, and bills the new period with
    `billing_reason: subscription_update`, which is no paid period here (else flipping plans would give quota away).
    An `active` subscription in the first period after such a move is covered to that period's end; its first
    boundary is a month away, so this can only begin later months of an annual one.
    """
    own = [period for period in paid_periods if period.subscription_id == subscription.id]
    covered = [period.period_end for period in own] + ([subscription.trial_end] if subscription.trial_end else [])
    if not covered:
        return subscription.cycle_start
    anchor = subscription.billing_cycle_anchor
    moved = subscription.period_start == anchor and all(period.period_start < anchor for period in own)
    if moved and subscription.status == "active" and subscription.period_end:
        covered.append(subscription.period_end)
    return max(covered)


def _start(subscription: Subscription) -> tuple[datetime, str]:
    return subscription.started_at, subscription.id


def _age(row: Subscription) -> tuple[Any, ...]:
    """A total order over all fields but `ended_at`."""
    life = LIFE.index(row.status) if row.status in LIFE else -1
    times = (row.period_start, row.period_end, row.trial_end, row.cancel_at, row.started_at, row.billing_cycle_anchor)
    numbers = tuple(float("-inf") if time is None else time.timestamp() for time in times)
    order = (row.status in TERMINAL, row.event_created, row.event_rank, life)
    return (*order, *numbers, row.status, row.price_ids, row.customer_id)
