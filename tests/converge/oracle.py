"""The oracle says what a tenant should have after a scenario, from the account at Stripe itself: no event is read, and
none of the rules under test is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.quota.quota import add_months
from tests.converge.account import Account, Invoice, Line, Subscription
from tests.converge.random_scenarios import CREATED, UNKNOWN, RandomScenario

LIMITS = {"FREE": 10, "STARTER": 10, "PRO": 50, "AGENCY": 500}
ORDER = list(LIMITS)
MONTHS = 40
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Expected:
    """`began` is when the running month began; `blocked`: nothing that is left of it can be drawn now."""

    tier: str
    status: str
    subscription: str | None
    limit: int
    began: datetime
    blocked: bool


def expect(scenario: RandomScenario) -> Expected:
    account, now = scenario.account, scenario.now
    rows = [_last_valid(account, name) for name in account.rows]
    best = max((row for row in rows if row and _tier(account, row)), key=lambda row: _rank(account, row), default=None)
    last = max((row for row in rows if row), key=lambda row: (row.started, row.id), default=None)
    began = max(moment for moment in _beginnings(account, now) if moment <= now)
    if best is None:
        return Expected("FREE", last.status if last else "none", None, LIMITS["FREE"], began, False)
    tier = _tier(account, best) or "FREE"
    return Expected(tier, best.status, best.id, LIMITS[tier], began, _is_blocked(account, best, now))


def _last_valid(account: Account, name: str) -> Subscription | None:
    """As it was last in a status that we know."""
    return next((row for _, row in reversed(account.history) if row.id == name and row.status != UNKNOWN), None)


def _rank(account: Account, row: Subscription) -> tuple[int, datetime]:
    return ORDER.index(_tier(account, row) or "FREE"), row.started


def _tier(account: Account, row: Subscription) -> str | None:
    """What it gives: what is ordered; while it is overdue, no more than what the last paid invoice was for."""
    ordered = row.plan.price.tier or "FREE"
    if row.status in ("active", "trialing"):
        return ordered
    if row.status != "past_due":
        return None
    bought = [
        _bought(row, bill) for bill in account.invoices if bill.subscription_id == row.id and bill.status == "paid"
    ]
    last = next((tier for tier in reversed(bought) if tier), None)
    return last and min(last, ordered, key=ORDER.index)


def _bought(row: Subscription, bill: Invoice) -> str | None:
    sold = [each.price.tier for each in bill.lines if each.price.tier and each.cents >= 0 and not _of_trial(row, each)]
    return max(sold, key=ORDER.index, default=None)


def _of_trial(row: Subscription, line: Line) -> bool:
    return row.trial is not None and line.cents == 0 and row.trial[0] <= line.period[0] < row.trial[1]


def _paid_stretches(account: Account, row: Subscription) -> list[tuple[datetime, datetime, bool]]:
    """Of the plan: from, until, and whether it is a cycle that began with a switch."""
    return [
        (*line.period, bill.reason == "subscription_update")
        for bill in account.invoices
        if bill.subscription_id == row.id and bill.status == "paid"
        for line in bill.lines
        if line.price.tier and not line.proration and not _of_trial(row, line)
    ]


def _paid_until(account: Account, row: Subscription) -> datetime:
    ends = [end for _, end, _ in _paid_stretches(account, row)]
    return max([row.started, *ends, *([row.trial[1]] if row.trial else [])])


def _beginnings(account: Account, now: datetime) -> Iterator[datetime]:
    """Every moment at which a month may have begun: with a paid stretch of the plan; within it, by the month; and while
    there is no plan, by the month from when there was none."""
    yield CREATED
    without: datetime | None = CREATED
    for name in account.rows:
        valid = [(at, row) for at, row in account.history if row.id == name and row.status != UNKNOWN]
        for (at, row), then in zip(valid, [*(at for at, _ in valid[1:]), now + _MOMENT], strict=True):
            if row.status in ("incomplete", "incomplete_expired"):
                continue
            recovers = any(later.status == "active" for since, later in valid if since > at)
            if _tier(account, row) or (recovers and row.status != "past_due"):
                if without is not None:
                    yield from _months(without, without, at)
                without = None
                paid_until = _paid_until(account, row)
                yield from _months(row.anchor, at - _MOMENT, min(then, paid_until), cycle=row.plan.period[0])
            elif without is None:
                without = at
            if not _tier(account, row) and not _paid_stretches(account, row):
                # Nothing was ever paid: it was a trial, or nothing at all.
                tried_until = row.trial[1] if row.trial else row.anchor
                without = min(tried_until, row.ended) if row.ended else tried_until
        paid = _paid_stretches(account, account.rows[name])
        for start, _, switched in paid:
            if not (switched and any(since < start < until for since, until, _ in paid)):
                yield start
    if without is not None:
        yield from _months(without, without, now + _MOMENT)


def _months(anchor: datetime, after: datetime, before: datetime, cycle: datetime | None = None) -> Iterator[datetime]:
    """The boundaries in between. A cycle's own start is none: that is begun by what is paid."""
    start = min(anchor, cycle or anchor)
    return (each for n in range(-2, MONTHS) if after < (each := add_months(anchor, n)) < before and each > start)


def _is_blocked(account: Account, row: Subscription, now: datetime) -> bool:
    """Whether what is left of an ended period is nobody's to draw: nothing follows it."""
    paid_until = _paid_until(account, row)
    if now < paid_until:
        return False
    own = [bill for bill in account.invoices if bill.subscription_id == row.id and bill.status != "draft"]
    if row.paused:
        return True
    if row.net_days is not None:
        waiting = [bill.due for bill in own if bill.status == "open" and bill.due]
        return not waiting or min(waiting) <= now
    after = [bill for bill in own if any(_follows(line, paid_until) for line in bill.lines)]
    return row.status == "active" and bool(after) and all(bill.status in ("void", "uncollectible") for bill in after)


def _follows(line: Line, paid_until: datetime) -> bool:
    return line.price.tier is not None and not line.proration and line.period[1] > paid_until
