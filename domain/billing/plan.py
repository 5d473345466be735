"""What a tenant is entitled to: a pure function of what Stripe told us, whatever the order it was told in.

Three steps, none of which asks Stripe anything. Every subscription event becomes a mirror row, and `newer` merges
rows of one subscription so that any permutation and repetition of its events ends in the same row. Every invoice of a
subscription becomes a row too (`domain/billing/invoices.py`). `change_plan` derives the tenant from all mirror rows
of its
customer. A late `deleted` of an old subscription can then not take a newer one's plan away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from domain.billing.invoices import OPEN as OPEN_INVOICE
from domain.billing.invoices import (
    PAID,
    UNCOLLECTIBLE,
    VOID,
    Invoice,
    Line,
    Trial,
    charges,
    due,
    plan_lines,
    stretches,
    switches,
)
from domain.events.ties import last_values
from domain.quota.periods import Stretch, latest_start
from domain.quota.quota import Quota, add_months, next_reset, recount, reset


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

TENANT_WEIGHTS: Mapping[str, float] = {tier.value: float(plan.weight) for tier, plan in PLANS.items()}
"""Shares of the workers that tenants with waiting jobs get beside each other, by the name of their tier."""

PriceBook = Mapping[str, Tier]
"""Which tier a Stripe price id sells; monthly, yearly and other currencies are prices of their own."""

ENTITLED = frozenset({"active", "trialing", "past_due"})
"""`past_due` is grace: what was last paid for and the period already begun stay, a new period waits for its invoice."""

TERMINAL = frozenset({"canceled", "incomplete_expired"})
"""Stripe: a subscription never leaves these; its customer needs a new one."""

_NEVER_ENTITLED = frozenset({"incomplete", "incomplete_expired"})
LIFE = ("incomplete", "trialing", "active", "past_due", "paused", "unpaid", "incomplete_expired", "canceled")
"""The statuses that we know. A subscription in another one leaves the mirror, and so the plan, as they were."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item that sells something (its quantity is not 0), and the stretch for which Stripe bills it now."""

    price_id: str
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        return f"{self.price_id} until {self.end:%Y-%m-%d %H:%M:%SZ}" if self.end else self.price_id


@dataclass(frozen=True, slots=True)
class Subscription:
    """One mirror row: a Stripe subscription as the newest event about it says.

    `cancel_at` is when it is scheduled to end, however that was scheduled. `event_rank` orders events of one second:
    created 0, any other 1, deleted 2. `before` is the row with the values that the event changed, if it names them.

    Four are merged by themselves, because later events do not repeat them. `ended_at` is the latest moment at which an
    event said that its entitlement ended; a subscription that recovered from `unpaid` keeps it. `left_at` is the latest
    at which it went into a status that gives nothing and that it may come back from. `paused_at` is the latest at which
    its collection was paused. `active` is the newest row with that status. `recent` are the rows of the newest second
    and of the one before, from which a tie is decided.
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
    items: tuple[Item, ...] = ()
    trial_start: datetime | None = None
    sends_invoices: bool = False
    days_until_due: int | None = None
    collection_paused: bool = False
    paused_at: datetime | None = None
    before: "Subscription | None" = None
    active: "Subscription | None" = None
    left_at: datetime | None = None
    recent: "tuple[Subscription, ...]" = field(default=(), compare=False)

    @property
    def entitled(self) -> bool:
        return self.status in ENTITLED

    @property
    def cycle_start(self) -> datetime:
        """From when the anchor's boundaries count: the anchor itself, or, while the anchor lies ahead (a trial), the
        period that leads up to it."""
        return min(self.billing_cycle_anchor, self.period_start or self.started_at)

    @property
    def trial(self) -> Trial | None:
        return None if self.trial_end is None else Trial(self.trial_start, self.trial_end)

    @property
    def paused_since(self) -> datetime | None:
        """Since when collection is paused, as far as events tell; None if it is not."""
        return (self.paused_at or self.event_created) if self.collection_paused else None


_ISSUED_WITHIN = timedelta(days=1)
"""How long after a period's start its invoice is issued, at most; its net term begins then."""

_NOT_CONTENT = ("id", "ended_at", "left_at", "event_created", "event_rank", "paused_at", "before", "active", "recent")
CONTENT = tuple(each.name for each in fields(Subscription) if each.name not in _NOT_CONTENT)
"""What an event says of the subscription itself: not when it was told, nor what is merged by itself."""


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


@dataclass(frozen=True, slots=True)
class Standing:
    """What one subscription gives, from what Stripe says of it and of its invoices.

    `tier` is None where none of its prices is mapped, and where `lapsed`: nothing of what it sells now was ever paid
    for. `held_back` is the dearer plan of a change that is not paid. `over` is when it stopped giving anything, if it
    did. Months count by `anchor` after `cycle_start` and before `paid_until`. After `drawn_until` nothing is given out
    any more; None: no such end. `paid` are the stretches of the plan that are paid for, and `begun` those of them with
    which a period began.
    """

    row: Subscription
    tier: Tier | None
    held_back: Tier | None
    lapsed: bool
    over: datetime
    anchor: datetime
    cycle_start: datetime
    paid_until: datetime
    drawn_until: datetime | None
    paid: tuple[Line, ...] = ()
    begun: tuple[Line, ...] = ()

    @property
    def gives(self) -> bool:
        return self.row.entitled and not self.lapsed

    @property
    def ends(self) -> datetime | None:
        """When it stopped giving anything; None: it does still."""
        return None if self.gives else self.over

    @property
    def began(self) -> bool:
        return self.row.status not in _NEVER_ENTITLED


def newer(stored: Subscription | None, incoming: Subscription) -> Subscription:
    """Merge two rows of one subscription: commutative, associative and idempotent, so order and repeats do not matter.

    The row of the later event wins, by (event_created, event_rank); a terminal status wins over any other. Stripe's
    clock has whole seconds: of two equal pairs, the one wins to which the other led (`domain/events/ties.py`). Where
    nothing
    says which that is, the status further along its life, then the later period, then the greater of the remaining
    fields: arbitrary, but the same everywhere, and `certain` says so.
    """
    both = (incoming,) if stored is None else (stored, incoming)
    recent = {each for row in both for each in (row.recent or (_bare(row),))}
    over = {row for row in recent if row.status in TERMINAL}
    seconds = sorted({row.event_created for row in over or recent})[-2:]
    kept = tuple(sorted((row for row in over or recent if row.event_created in seconds), key=_age))
    latest, _ = _latest(kept)
    return replace(
        latest,
        before=None,
        ended_at=max((row.ended_at for row in both if row.ended_at), default=None),
        left_at=max((row.left_at for row in both if row.left_at), default=None),
        paused_at=max((row.paused_at for row in both if row.paused_at), default=None),
        active=max((row.active for row in both if row.active), key=_age, default=None),
        recent=kept,
    )


def certain(row: Subscription) -> bool:
    """Whether its events say which of them is the latest."""
    return not row.recent or _latest(row.recent)[1]


def includes(row: Subscription, telling: Subscription) -> bool:
    """Whether just this was told before."""
    return _bare(telling) in (row.recent or (_bare(row),))


def change_plan(
    tenant: TenantBilling,
    subscriptions: Iterable[Subscription],
    invoices: Iterable[Invoice],
    prices: PriceBook,
    now: datetime,
) -> TenantBilling:
    """The tenant as all of its customer's subscriptions and invoices say, at this moment.

    The best subscription that gives something counts: tier, then newest start, then id; quantity does not multiply.
    Without one, FREE limits hold at once and what was used stays used. Where only unmapped prices are entitled, tier
    and quota stay as they were, the subscription is linked, and `unknown_prices` says what to park the event for.
    A tenant without any subscription is left alone.

    The quota's period follows from the same rows and from `now`, not from the period that the tenant is in. One that
    counts from elsewhere has nothing used: `domain.quota.quota.carry_over`.
    """
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


def unknown_prices(subscriptions: Iterable[Subscription], prices: PriceBook) -> tuple[str, ...]:
    """The price ids of entitled subscriptions that have no mapped price, sorted; empty when nothing is to be parked."""
    lost = [row for row in subscriptions if row.entitled and tier_of(row, prices) is None]
    return tuple(sorted({price_id for row in lost for price_id in row.price_ids}))


def tier_of(subscription: Subscription, prices: PriceBook) -> Tier | None:
    """The best tier that any of its items' prices sells; None if none is mapped."""
    return max((prices[price_id] for price_id in subscription.price_ids if price_id in prices), default=None)


def standing(row: Subscription, invoices: Iterable[Invoice], prices: PriceBook) -> Standing:
    """`active` and `trialing` give what is bought. `past_due` gives what was last paid for: a dearer price counts from
    its paid invoice. Nothing is given for a quantity of 0, nor in `past_due` for what nobody ever paid."""
    own = [invoice for invoice in invoices if invoice.subscription_id == row.id and plan_lines(invoice, prices)]
    paid, begun = _paid_periods(row, own, prices)
    sold = tier_of(row, prices)
    tier, lapsed, terms = sold, row.entitled and not row.price_ids, row
    if row.status == "past_due" and sold is not None:
        paid_for = _last_paid(row, own, prices)
        lapsed = lapsed or paid_for is None
        tier = None if paid_for is None else min(sold, paid_for)
        moved = not any(line.start >= row.billing_cycle_anchor for line in paid)
        terms = row.active if row.active and moved and not row.trial else row
    paid_until = _paid_until(row, terms, own, paid, prices)
    return Standing(
        row=row,
        tier=tier,
        held_back=sold if sold != tier else None,
        lapsed=lapsed,
        over=_over(row, own, prices),
        anchor=terms.billing_cycle_anchor,
        cycle_start=terms.cycle_start,
        paid_until=paid_until,
        drawn_until=_drawn_until(row, own, paid_until, prices),
        paid=paid,
        begun=begun,
    )


def _last_paid(row: Subscription, own: list[Invoice], prices: PriceBook) -> Tier | None:
    """The tier of the newest invoice that was paid; where none is known, of what Stripe last called `active`; None if
    nothing can have been paid: the first charge after a trial, or an invoice that a customer has to pay themselves."""
    for invoice in sorted(own, key=lambda each: (each.issued_at, each.id), reverse=True):
        sold = set(plan_lines(invoice, prices)) & set(charges(invoice, row.trial))
        if invoice.status == PAID and sold:
            named = [prices[line.price_id] for line in sold if line.price_id]
            return max(named) if named else tier_of(row.active or row, prices)
    word = _word(row)
    if _only_tried(row, prices) or (row.sends_invoices and word is None):
        return None
    return tier_of(word or row, prices) or tier_of(row, prices)


def _only_tried(row: Subscription, prices: PriceBook) -> bool:
    """Whether Stripe last called it `active` in no later period than the first after its trial."""
    started, _ = plan_period(_word(row) or row, prices)
    return row.trial_end is not None and (started is None or started <= row.trial_end)


def plan_period(row: Subscription, prices: PriceBook) -> tuple[datetime | None, datetime | None]:
    """The running period of the item that sells the plan; where items do not say, that of the subscription."""
    best = tier_of(row, prices)
    own = [(each.start, each.end) for each in row.items if each.end and prices.get(each.price_id) == best]
    return min(own, key=lambda period: (period[1], period[0])) if own else (row.period_start, row.period_end)


def _paid_periods(
    row: Subscription, own: list[Invoice], prices: PriceBook
) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The stretches of the plan that are paid for, and those of them with which a period began: of a cycle that began
    with a change, only where nothing else that is paid for covers its beginning. Else changing to and fro would give
    quota away."""
    paid = [invoice for invoice in own if invoice.status == PAID]
    regular = [line for each in paid for line in _best(stretches(each, row.trial), each, prices)]
    switched = [line for each in paid for line in _best(switches(each, row.trial), each, prices)]

    def is_covered(start: datetime) -> bool:
        return any(line.start <= start < line.end for line in regular) or any(
            line.start < start < line.end for line in switched
        )

    begun = (*regular, *(line for line in switched if not is_covered(line.start)))
    return (*regular, *switched), begun


def _best(lines: Iterable[Line], invoice: Invoice, prices: PriceBook) -> list[Line]:
    """Those of the lines that are the plan's. Of lines that begin together those of the best plan count, and of these
    the first end, which is what all of them cover."""
    sold = set(plan_lines(invoice, prices))
    found: dict[datetime, Line] = {}
    for line in lines:
        if line in sold:
            rank = prices.get(line.price_id or "", Tier.FREE)
            other = found.get(line.start)
            if other is None or (rank, other.end) > (prices.get(other.price_id or "", Tier.FREE), line.end):
                found[line.start] = line
    return list(found.values())


def _word(row: Subscription) -> Subscription | None:
    """Stripe's last `active`, where it says that somebody pays. Of a subscription whose customer pays by themselves it
    says so once the net term is over."""
    said = row.active or (row if row.status == "active" else None)
    if said is None or not said.sends_invoices:
        return said
    net_end = (said.period_start or said.started_at) + timedelta(days=said.days_until_due or 0)
    return said if said.event_created > net_end + _ISSUED_WITHIN else None


def _paid_until(
    row: Subscription, terms: Subscription, own: list[Invoice], paid: tuple[Line, ...], prices: PriceBook
) -> datetime:
    """The first moment that nothing covers: the latest end of a paid period or of the trial. With neither, the cycle's
    own start, before which no boundary counts: no period begins unpaid.

    Before the first invoice that we know of, Stripe's own word `active` covers; from there on, invoices decide. Where a
    change began a new cycle, `active` covers that until an invoice of it is known.
    """
    covered = [line.end for line in paid] + ([row.trial_end] if row.trial_end else [])
    word = _word(row)
    if word is not None and (end := _said_until(word, row, prices)):
        first = [line.start for invoice in own for line in _billed(invoice, row, prices)]
        covered.append(min([end, *first]))
    start, _ = plan_period(row, prices)
    anew = start == row.billing_cycle_anchor and all(line.start < start != line.end for line in paid)
    billed = any(not line.proration and line.start >= row.billing_cycle_anchor for bill in own for line in bill.lines)
    if word is not None and row.status == "active" and paid and anew and not billed:
        covered += filter(None, [_said_until(row, row, prices)])
    return max(covered, default=terms.cycle_start)


def _said_until(word: Subscription, row: Subscription, prices: PriceBook) -> datetime | None:
    """The end of the period of which Stripe says `active`; its start, where its collection was paused already."""
    start, end = plan_period(word, prices)
    if word.collection_paused and not (row.paused_at and start and row.paused_at >= start):
        return start
    return end


def _billed(invoice: Invoice, row: Subscription, prices: PriceBook) -> list[Line]:
    """What the invoice bills for the plan, paid or not, a trial's line included."""
    sold = set(plan_lines(invoice, prices))
    return [line for line in stretches(invoice, None) if line in sold]


def _drawn_until(row: Subscription, own: list[Invoice], paid_until: datetime, prices: PriceBook) -> datetime | None:
    """When an ended period can be drawn from no longer, because nothing follows: its collection is paused, or its
    invoice was given up; or the net term of the first invoice that its customer has to pay is over. None while Stripe
    goes on charging: what is left of the last period may be drawn until it says `unpaid` or `canceled`."""
    if row.collection_paused:
        return paid_until
    after = [invoice for invoice in own if any(line.end > paid_until for line in _billed(invoice, row, prices))]
    if row.sends_invoices:
        net = timedelta(days=row.days_until_due or 0)
        waiting = [due(invoice, net) for invoice in own if invoice.status == OPEN_INVOICE]
        start, _ = plan_period(row, prices)
        if not waiting and not after and start is not None and start >= paid_until:
            waiting = [start + net]
        return max([paid_until, *([min(waiting)] if waiting else [])])
    given_up = bool(after) and all(invoice.status in (VOID, UNCOLLECTIBLE) for invoice in after)
    return paid_until if given_up and row.status == "active" else None


def _without_plan(tenant: TenantBilling, standings: list[Standing], past: _Past) -> TenantBilling:
    """FREE, its months counted from the newest end that the events tell.

    A subscription whose end no event told goes on by its own anchor; one that never began changes no anchor.
    """
    over = [each.ends for each in standings if each.ends and each.began]
    anchor = max(over, default=tenant.quota.anchor)
    quota = _derive(tenant.quota, Tier.FREE, past, None, anchor=anchor)
    latest = max((each.row for each in standings), key=_start)
    return replace(tenant, tier=Tier.FREE, status=latest.status, subscription_id=None, quota=quota)


def _link_unmapped(
    tenant: TenantBilling, standings: list[Standing], unmapped: list[Subscription], past: _Past
) -> TenantBilling:
    """Tier and quota as they were, if nothing else has ended or if they came from this very subscription.

    Otherwise the customer's other, unmapped purchase would keep the tier of a plan that is over.
    """
    linked = next((row for row in unmapped if row.id == tenant.subscription_id), max(unmapped, key=_start))
    came_from_it = linked.id == tenant.subscription_id and tenant.tier != Tier.FREE
    stands = came_from_it or len(unmapped) == len(standings)
    terms = tenant if stands else _without_plan(tenant, standings, past)
    return replace(terms, status=linked.status, subscription_id=linked.id)


def _derive(quota: Quota, tier: Tier, past: _Past, of: Standing | None, *, anchor: datetime | None = None) -> Quota:
    """The quota under these terms (or, of no subscription, by this anchor), which begin no month before their cycle's
    start: moving the anchor (a trial, a change from monthly to yearly, the end of a subscription) gives no period
    away."""
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
    """When the period began that the present terms go on from. Paid periods of all the customer's subscriptions
    count, since one that was once the best cannot be taken back."""
    rows = list(standings)
    spans = [span for each in rows if tier_of(each.row, prices) and each.began for span in _spans(each)]
    begun = [line.start for each in rows for line in each.begun if line.price_id or tier_of(each.row, prices)]
    return latest_start(tenant.created_at, spans, begun)


def _spans(each: Standing) -> list[Stretch]:
    """The present cycle, and those before it that were longer than a month: a trial, and years that a change ended.
    The months that began in them stay begun."""
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
    """By which the months of a stretch count: its start, if it lasts whole months from there; otherwise it is one that
    leads up to an anchor."""
    months = (end.year - start.year) * 12 + end.month - start.month
    return start if add_months(start, months) == end else end


def _over(row: Subscription, own: list[Invoice], prices: PriceBook) -> datetime:
    """When its entitlement ended; where no event told, its own anchor goes on. What nobody ever paid for ended with its
    trial; what was not paid any more, when Stripe gave up, and not when it was canceled afterwards."""
    if tier_of(row, prices) and _last_paid(row, own, prices) is None:
        tried_until = row.trial_end or row.billing_cycle_anchor
        return tried_until if row.entitled else min(tried_until, row.ended_at or tried_until)
    recovered = row.left_at and row.active and row.active.event_created > row.left_at
    ends = [row.ended_at, None if recovered else row.left_at]
    return min(filter(None, ends), default=row.billing_cycle_anchor)


def _rank(each: Standing) -> tuple[Tier, datetime, str]:
    return each.tier or Tier.FREE, each.row.started_at, each.row.id


def _start(subscription: Subscription) -> tuple[datetime, str]:
    return subscription.started_at, subscription.id


def _bare(row: Subscription) -> Subscription:
    return replace(row, ended_at=None, left_at=None, paused_at=None, active=None, recent=())


def _latest(recent: tuple[Subscription, ...]) -> tuple[Subscription, bool]:
    """The row as of the newest second, and whether that is certain."""
    second = max(row.event_created for row in recent)
    rank = max(row.event_rank for row in recent if row.event_created == second)
    rivals = [row for row in recent if (row.event_created, row.event_rank) == (second, rank)]
    best = max(rivals, key=_age)
    if len(rivals) == 1 or best.status in TERMINAL:
        return best, True
    earlier = tuple(row for row in recent if row not in rivals)
    start = _latest(earlier)[0] if earlier else None
    values = last_values(rivals, start, CONTENT)
    return (best, False) if values is None else (replace(best, **values), True)


def _age(row: Subscription) -> tuple[Any, ...]:
    """A total order over all fields but those that are merged by themselves."""
    life = LIFE.index(row.status) if row.status in LIFE else -1
    times = (row.period_start, row.period_end, row.trial_end, row.cancel_at, row.started_at, row.billing_cycle_anchor)
    numbers = tuple(float("-inf") if time is None else time.timestamp() for time in times)
    order = (row.status in TERMINAL, row.event_created, row.event_rank, life)
    return (*order, *numbers, row.status, row.price_ids, row.customer_id, repr(_bare(row)))
