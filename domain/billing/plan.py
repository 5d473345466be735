"""The plan of a tenant: a pure function of everything that is mirrored of its customers.

Nothing here asks Stripe, and nothing depends on the order in which events came. Each subscription of the tenant's
customers gives something (`standing`), and the best of them makes the plan. So a late `deleted` of an old subscription
does not take the plan of a newer one away.

A tenant pays as one customer at a time. What a deleted customer had bought still counts as the tenant's past, so it
does not matter whether events of the deleted one come before or after those of the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.billing.invoices import PAID, Invoice
from domain.billing.standing import Standing, standing, tier_of
from domain.billing.subscriptions import TERMINAL, Subscription
from domain.billing.tiers import PLANS, PriceBook, Tier
from domain.events.outcomes import Concern, Flag
from domain.quota.periods import Stretch, latest_start
from domain.quota.quota import Quota, add_months, next_reset, recount, reset


@dataclass(frozen=True, slots=True)
class TenantBilling:
    """What billing may change in a tenant's row. `status` is Stripe's word, or "none" before any subscription. A tenant
    with `deleted_at` is never changed again."""

    tier: Tier
    status: str
    customer_id: str | None
    subscription_id: str | None
    quota: Quota
    created_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Customer:
    """A Stripe customer, the tenant that events say it pays for, and when it was deleted."""

    id: str
    tenant_id: UUID | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Past:
    """The past that a period goes on from: the latest beginning of one that Stripe tells of; and the present moment."""

    start: datetime
    now: datetime


def change_plan(
    tenant: TenantBilling,
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    prices: PriceBook,
    now: datetime,
) -> TenantBilling:
    """Return the tenant as all subscriptions and invoices of its customers make it, at this moment.

    The best subscription that gives something counts: tier, then newest start, then id; quantity does not multiply.
    Without one, FREE limits hold at once and what was used stays used. Where only unmapped prices are entitled, tier
    and quota stay as they were, the subscription is linked, and `unknown_prices` says what to park the event for.
    A tenant without any subscription is left alone, and so is a deleted one, whatever is paid for it.

    The quota's period follows from the same rows and from `now`, not from the period that the tenant is in. One that
    counts from elsewhere has nothing used: `domain.quota.quota.carry_over`.
    """
    if tenant.deleted_at is not None:
        return tenant
    bills = list(invoices)
    standings = [standing(row, bills, prices) for row in subscriptions]
    past = _Past(_started(tenant, standings, prices), now)
    giving = [each for each in standings if each.gives]
    if mapped := [each for each in giving if each.tier is not None]:
        best = max(mapped, key=_rank)
        tier, row = best.tier or Tier.FREE, best.row
        return replace(
            tenant, tier=tier, status=row.status, subscription_id=row.id, quota=_derive(tenant.quota, tier, past, best)
        )
    if giving:
        return _link_unmapped(tenant, standings, [each.row for each in giving], past)
    return _without_plan(tenant, standings, past) if standings else tenant


def pay_as(tenant: TenantBilling, customer: Customer) -> TenantBilling | None:
    """Return the tenant linked to this customer of theirs; or linked to it no more, if it is deleted.

    It is None if the tenant pays as another, living customer: that link is stronger than what events say. A deleted
    tenant is linked to nobody.
    """
    if tenant.deleted_at is not None:
        return tenant
    if customer.deleted_at is not None:
        return replace(tenant, customer_id=None) if tenant.customer_id == customer.id else tenant
    return replace(tenant, customer_id=customer.id) if tenant.customer_id in (None, customer.id) else None


def money_for_deleted(
    tenant: TenantBilling, customer: Customer, subscriptions: Iterable[Subscription], invoices: Iterable[Invoice]
) -> tuple[Concern, ...]:
    """Return why a person should end a subscription, or give money back: what of this customer's runs at Stripe for a
    deleted tenant, and what was paid since its deletion."""
    if tenant.deleted_at is None:
        return ()
    running = [] if customer.deleted_at else [row.id for row in subscriptions if row.status not in TERMINAL]
    paid = [
        each.id
        for each in invoices
        if each.status == PAID
        and each.event_created > tenant.deleted_at
        and any(line.amount != 0 for line in each.lines)
    ]
    if not running and not paid:
        return ()
    says = f"money for a tenant that was deleted on {tenant.deleted_at:%Y-%m-%d}: {', '.join(sorted(running + paid))}"
    return (Concern(Flag.DELETED_TENANT, says),)


def unknown_prices(subscriptions: Iterable[Subscription], prices: PriceBook) -> tuple[str, ...]:
    """Return the price ids, sorted, of entitled subscriptions that have no mapped price: they are worth parking for."""
    lost = [row for row in subscriptions if row.entitled and tier_of(row, prices) is None]
    return tuple(sorted({price_id for row in lost for price_id in row.price_ids}))


def concerns(
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    prices: PriceBook,
    tenant_id: UUID,
    named: UUID | None,
) -> tuple[Concern, ...]:
    """Return why a person should look at the tenant. `named` is the tenant that the event's metadata name."""
    rows, bills = list(subscriptions), list(invoices)
    found = []
    if named is not None and named != tenant_id:
        found.append(Concern(Flag.OTHER_TENANT_NAMED, "metadata names another tenant"))
    if sum(row.entitled for row in rows) > 1:
        found.append(Concern(Flag.SEVERAL_SUBSCRIPTIONS, "several subscriptions at once"))
    for each in (standing(row, bills, prices) for row in rows):
        if each.held_back:
            has = f"has {each.tier}, which was" if each.tier else "has no plan: nothing was"
            says = f"a change to {each.held_back} is not paid: the tenant {has} last paid for"
            found.append(Concern(Flag.UNPAID_CHANGE, says))
    return tuple(found)


def _without_plan(tenant: TenantBilling, standings: list[Standing], past: _Past) -> TenantBilling:
    """Return the tenant on FREE, its months counted from the newest end of a subscription.

    A subscription that never began changes no anchor.
    """
    over = [each.ends for each in standings if each.ends and each.began]
    anchor = max(over, default=tenant.quota.anchor)
    quota = _derive(tenant.quota, Tier.FREE, past, None, anchor=anchor)
    latest = max((each.row for each in standings), key=_start)
    return replace(tenant, tier=Tier.FREE, status=latest.status, subscription_id=None, quota=quota)


def _link_unmapped(
    tenant: TenantBilling, standings: list[Standing], unmapped: list[Subscription], past: _Past
) -> TenantBilling:
    """Link the tenant to a subscription of which we do not know what it sells.

    Tier and quota stay, if nothing else has ended or if they came from this very subscription. Otherwise the unmapped
    purchase would keep the tier of a plan that is over.
    """
    linked = next((row for row in unmapped if row.id == tenant.subscription_id), max(unmapped, key=_start))
    came_from_it = linked.id == tenant.subscription_id and tenant.tier != Tier.FREE
    stands = came_from_it or len(unmapped) == len(standings)
    terms = tenant if stands else _without_plan(tenant, standings, past)
    return replace(terms, status=linked.status, subscription_id=linked.id)


def _derive(quota: Quota, tier: Tier, past: _Past, of: Standing | None, *, anchor: datetime | None = None) -> Quota:
    """Return the quota under the terms of a subscription; of none, by this anchor.

    Terms begin no month before their cycle's start: moving the anchor (a trial, a change from monthly to yearly, the
    end of a subscription) gives no period away.
    """
    by = of.anchor if of else anchor or quota.anchor
    terms = replace(
        quota,
        limit=PLANS[tier].monthly_quota,
        anchor=by,
        period_start=past.start,
        resets_at=next_reset(by, max(past.start, of.cycle_start if of else by)),
        paid_until=of.paid_until if of else None,
        drawn_until=of.drawn_until if of else None,
    )
    return recount(quota, reset(terms, past.now))


def _started(tenant: TenantBilling, standings: Iterable[Standing], prices: PriceBook) -> datetime:
    """Return when the period began that the present terms go on from.

    Paid periods of all subscriptions count, since one that was once the best cannot be taken back.
    """
    sold = [(each, tier_of(each.row, prices) is not None) for each in standings]
    stretches = [stretch for each, mapped in sold if mapped and each.began for stretch in _stretches(each)]
    begun = [line.start for each, mapped in sold for line in each.begun if line.price_id or mapped]
    return latest_start(tenant.created_at, stretches, begun)


def _stretches(each: Standing) -> list[Stretch]:
    """Return the present cycle, and those before it that were longer than a month: a trial, and years that a change
    ended. The months that began in them stay begun."""
    present = Stretch(
        rank=(_rank(each), False),
        begins=each.row.started_at,
        ends=each.ends,
        anchor=each.anchor,
        cycle_start=each.cycle_start,
        paid_until=each.paid_until,
    )
    before = [(line.start, line.end) for line in each.paid]
    if each.row.trial_end:
        before.append((each.row.trial_start or each.row.started_at, each.row.trial_end))
    cycles = [each.cycle_start, *(start for start, _ in before)]
    over = [
        Stretch(
            rank=(_rank(each), True),
            begins=start,
            ends=min(filter(None, [end, each.ends, *(moment for moment in cycles if moment > start)])),
            anchor=_anchor(start, end),
            cycle_start=start,
            paid_until=end,
        )
        for start, end in before
        if start < each.cycle_start and add_months(start, 1) < end
    ]
    return [present, *over]


def _anchor(start: datetime, end: datetime) -> datetime:
    """Return the moment by which the months of a stretch count: its start, if it lasts whole months from there; else
    its end, because such a stretch leads up to an anchor."""
    months = (end.year - start.year) * 12 + end.month - start.month
    return start if add_months(start, months) == end else end


def _rank(each: Standing) -> tuple[Tier, datetime, str]:
    return each.tier or Tier.FREE, each.row.started_at, each.row.id


def _start(subscription: Subscription) -> tuple[datetime, str]:
    return subscription.started_at, subscription.id
