"""What one subscription gives: its tier, until when that is paid for, and until when it may be drawn from.

It follows from what Stripe says of the subscription and of its invoices. Of `active` alone it does not follow: Stripe
says so before a net term is over, and after a change that nobody has paid.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.billing.invoices import (
    OPEN,
    PAID,
    UNCOLLECTIBLE,
    VOID,
    Invoice,
    Line,
    charges,
    due,
    plan_lines,
    stretches,
    switches,
)
from domain.billing.subscriptions import Subscription
from domain.billing.tiers import PriceBook, Tier

_NEVER_ENTITLED = frozenset({"incomplete", "incomplete_expired"})

_ISSUED_WITHIN = timedelta(days=1)
"""How long after a period's start its invoice is issued, at most; its net term begins then."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one subscription gives.

    `tier` is None where none of its prices is mapped, and where nothing of what it sells now was ever paid for.
    `held_back` is the dearer plan of a change that is not paid. `ends` is when it stopped giving anything; None: it
    does still. Months count by `anchor` after `cycle_start` and before `paid_until`. After `drawn_until` nothing is
    given out any more; None: no such end. `paid` are the stretches of the plan that are paid for, and `begun` those of
    them with which a period began.
    """

    row: Subscription
    tier: Tier | None
    held_back: Tier | None
    ends: datetime | None
    anchor: datetime
    cycle_start: datetime
    paid_until: datetime
    drawn_until: datetime | None
    paid: tuple[Line, ...] = ()
    begun: tuple[Line, ...] = ()

    @property
    def gives(self) -> bool:
        return self.ends is None

    @property
    def began(self) -> bool:
        return self.row.status not in _NEVER_ENTITLED


def standing(row: Subscription, invoices: Iterable[Invoice], prices: PriceBook) -> Standing:
    """Return what the subscription gives, of all `invoices` by its own.

    `active` and `trialing` give what is bought. `past_due` gives what was last paid for: a dearer price counts from its
    paid invoice. Nothing is given for a quantity of 0, nor in `past_due` for what nobody ever paid.
    """
    own = [invoice for invoice in invoices if invoice.subscription_id == row.id and plan_lines(invoice, prices)]
    paid, begun = _paid_periods(row, own, prices)
    sold = tier_of(row, prices)
    tier, gives, terms = sold, row.entitled and bool(row.price_ids), row
    if row.status == "past_due" and sold is not None:
        paid_for = _last_paid(row, own, prices)
        gives = gives and paid_for is not None
        tier = None if paid_for is None else min(sold, paid_for)
        moved = not any(line.start >= row.billing_cycle_anchor for line in paid)
        terms = row.active if row.active and moved and not row.trial else row
    paid_until = _paid_until(row, terms, own, paid, prices)
    return Standing(
        row=row,
        tier=tier,
        held_back=sold if sold != tier else None,
        ends=None if gives else _ended_at(row, own, prices),
        anchor=terms.billing_cycle_anchor,
        cycle_start=terms.cycle_start,
        paid_until=paid_until,
        drawn_until=_drawn_until(row, own, paid_until, prices),
        paid=paid,
        begun=begun,
    )


def tier_of(subscription: Subscription, prices: PriceBook) -> Tier | None:
    """Return the best tier that any of its items' prices sells; None if none is mapped."""
    return max((prices[price_id] for price_id in subscription.price_ids if price_id in prices), default=None)


def _last_paid(row: Subscription, own: list[Invoice], prices: PriceBook) -> Tier | None:
    """Return the tier of the newest paid invoice; where there is none, of what Stripe last called `active`.

    It is None if nothing can have been paid: the first charge after a trial, or an invoice that a customer has to pay
    themselves.
    """
    for invoice in sorted(own, key=lambda each: (each.issued_at, each.id), reverse=True):
        sold = set(plan_lines(invoice, prices)) & set(charges(invoice, row.trial))
        if invoice.status == PAID and sold:
            named = [prices[line.price_id] for line in sold if line.price_id]
            return max(named) if named else tier_of(row.active or row, prices)
    paying = _last_paying(row)
    if _only_tried(row, prices) or (row.sends_invoices and paying is None):
        return None
    return tier_of(paying or row, prices) or tier_of(row, prices)


def _only_tried(row: Subscription, prices: PriceBook) -> bool:
    """Return whether Stripe last called it `active` in no later period than the first after its trial."""
    started, _ = plan_period(_last_paying(row) or row, prices)
    return row.trial_end is not None and (started is None or started <= row.trial_end)


def plan_period(row: Subscription, prices: PriceBook) -> tuple[datetime | None, datetime | None]:
    """Return the running period of the item that sells the plan; where items have none, that of the subscription."""
    best = tier_of(row, prices)
    own = [(each.start, each.end) for each in row.items if each.end and prices.get(each.price_id) == best]
    return min(own, key=lambda period: (period[1], period[0])) if own else (row.period_start, row.period_end)


def _paid_periods(
    row: Subscription, own: list[Invoice], prices: PriceBook
) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """Return the stretches of the plan that are paid for, and those of them with which a period began.

    A cycle that began with a change begins a period only where nothing else that is paid for covers its beginning: else
    changing to and fro would give quota away.
    """
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
    """Return the lines that are the plan's, one for each beginning: of the best plan, and with the first end, which is
    what all lines of that plan cover."""
    sold = set(plan_lines(invoice, prices))
    found: dict[datetime, Line] = {}
    for line in lines:
        if line in sold:
            rank = prices.get(line.price_id or "", Tier.FREE)
            other = found.get(line.start)
            if other is None or (rank, other.end) > (prices.get(other.price_id or "", Tier.FREE), line.end):
                found[line.start] = line
    return list(found.values())


def _last_paying(row: Subscription) -> Subscription | None:
    """Return the row as Stripe last called it `active`, where that means that somebody pays. Of a subscription whose
    customer pays invoices by themselves, it means so once the net term is over."""
    active = row.active or (row if row.status == "active" else None)
    if active is None or not active.sends_invoices:
        return active
    net_end = (active.period_start or active.started_at) + timedelta(days=active.days_until_due or 0)
    return active if active.event_created > net_end + _ISSUED_WITHIN else None


def _paid_until(
    row: Subscription, terms: Subscription, own: list[Invoice], paid: tuple[Line, ...], prices: PriceBook
) -> datetime:
    """Return the first moment that nothing covers: the latest end of a paid period or of the trial. With neither, it is
    the cycle's own start, before which no boundary counts: no period begins unpaid.

    Before the first invoice that we know of, a period of which Stripe says `active` is covered; from there on, invoices
    decide. Where a change began a new cycle, `active` covers that until an invoice of it is known.
    """
    covered = [line.end for line in paid] + ([row.trial_end] if row.trial_end else [])
    paying = _last_paying(row)
    if paying is not None and (end := _active_until(paying, row, prices)):
        first = [line.start for invoice in own for line in _billed(invoice, row, prices)]
        covered.append(min([end, *first]))
    start, _ = plan_period(row, prices)
    anew = start == row.billing_cycle_anchor and all(line.start < start != line.end for line in paid)
    billed = any(not line.proration and line.start >= row.billing_cycle_anchor for bill in own for line in bill.lines)
    if paying is not None and row.status == "active" and paid and anew and not billed:
        covered += filter(None, [_active_until(row, row, prices)])
    return max(covered, default=terms.cycle_start)


def _active_until(active: Subscription, row: Subscription, prices: PriceBook) -> datetime | None:
    """Return the end of the period in which Stripe says `active`; its start, where collection was paused already."""
    start, end = plan_period(active, prices)
    if active.collection_paused and not (row.paused_at and start and row.paused_at >= start):
        return start
    return end


def _billed(invoice: Invoice, row: Subscription, prices: PriceBook) -> list[Line]:
    """Return the lines with which the invoice bills the plan, paid or not, a trial's line included."""
    sold = set(plan_lines(invoice, prices))
    return [line for line in stretches(invoice, None) if line in sold]


def _drawn_until(row: Subscription, own: list[Invoice], paid_until: datetime, prices: PriceBook) -> datetime | None:
    """Return when an ended period can be drawn from no longer, because nothing follows: collection is paused, or the
    invoice was given up; or the net term of the first invoice that its customer has to pay is over.

    It is None while Stripe goes on charging: what is left of the last period may be drawn until it says `unpaid` or
    `canceled`.
    """
    if row.collection_paused:
        return paid_until
    after = [invoice for invoice in own if any(line.end > paid_until for line in _billed(invoice, row, prices))]
    if row.sends_invoices:
        net = timedelta(days=row.days_until_due or 0)
        waiting = [due(invoice, net) for invoice in own if invoice.status == OPEN]
        start, _ = plan_period(row, prices)
        if not waiting and not after and start is not None and start >= paid_until:
            waiting = [start + net]
        return max([paid_until, *([min(waiting)] if waiting else [])])
    given_up = bool(after) and all(invoice.status in (VOID, UNCOLLECTIBLE) for invoice in after)
    return paid_until if given_up and row.status == "active" else None


def _ended_at(row: Subscription, own: list[Invoice], prices: PriceBook) -> datetime:
    """Return when the entitlement ended; where no event says it, the months go on by its own anchor.

    What nobody ever paid for ended with its trial. What was not paid any more ended when Stripe gave up, and not when
    it was canceled afterwards.
    """
    if tier_of(row, prices) and _last_paid(row, own, prices) is None:
        tried_until = row.trial_end or row.billing_cycle_anchor
        return tried_until if row.entitled else min(tried_until, row.ended_at or tried_until)
    recovered = row.left_at and row.active and row.active.event_created > row.left_at
    ends = [row.ended_at, None if recovered else row.left_at]
    return min(filter(None, ends), default=row.billing_cycle_anchor)
