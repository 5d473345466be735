"""Invoices of subscriptions: which stretches they bill, for which prices, and whether they are paid.

An invoice is mirrored whole, with every line that is of its subscription. Which line sells the plan is asked when the
tenant is derived, because the settings that map prices may change later.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

PAID, OPEN, VOID, UNCOLLECTIBLE = "paid", "open", "void", "uncollectible"
STATUSES = ("draft", OPEN, UNCOLLECTIBLE, VOID, PAID)
"""An invoice moves along these, and never back."""

BEGINS_A_PERIOD = ("subscription_create", "subscription_cycle")
_CHANGES = "subscription_update"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a subscription's item that sells something: its quantity is not 0. `amount` is in the currency's
    smallest unit. `price_id` is None where the body names none, and in what the release before mirrored."""

    price_id: str | None
    start: datetime
    end: datetime
    amount: int | None = None
    proration: bool = False

    def __str__(self) -> str:
        what = f"{'proration of ' if self.proration else ''}{self.price_id}"
        return f"{what} {self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%SZ}, {self.amount}"


@dataclass(frozen=True, slots=True)
class Invoice:
    """One mirror row: an invoice of a subscription, as far along as any event says. `due_at` is the end of the net
    term that a customer has to pay by themselves."""

    id: str
    subscription_id: str
    customer_id: str
    status: str
    reason: str | None
    issued_at: datetime
    due_at: datetime | None
    lines: tuple[Line, ...]
    event_created: datetime

    @property
    def begins_periods(self) -> bool:
        """Not one over prorations between two periods, nor one that a person wrote."""
        return self.reason in BEGINS_A_PERIOD


@dataclass(frozen=True, slots=True)
class PaidPeriod:
    """A stretch of a subscription that a paid invoice covers."""

    subscription_id: str
    period_start: datetime
    period_end: datetime
    customer_id: str
    invoice_id: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial: when it ends, and when it began where that is known. A line of nothing that begins within it is the
    trial's own, and begins no paid period; any other line of nothing is what a plan costs."""

    start: datetime | None
    end: datetime

    def has(self, line: Line) -> bool:
        return line.amount == 0 and line.start < self.end and (self.start is None or line.start >= self.start)


def further(stored: Invoice | None, incoming: Invoice) -> Invoice:
    """Merge two rows of one invoice: commutative, associative and idempotent. What is further along wins, then the
    later event, then the greater of the remaining fields."""
    return incoming if stored is None else max(stored, incoming, key=_age)


def plan_lines(invoice: Invoice, prices: Mapping[str, T]) -> tuple[Line, ...]:
    """Return the lines whose price sells a plan. Where no line names a price, all of them: nothing tells them apart."""
    sold = tuple(line for line in invoice.lines if line.price_id in prices)
    return sold or tuple(line for line in invoice.lines if line.price_id is None)


def stretches(invoice: Invoice, trial: Trial | None) -> tuple[Line, ...]:
    """Return the lines for which a period begins once they are paid."""
    return _whole_periods(invoice, trial) if invoice.begins_periods else ()


def switches(invoice: Invoice, trial: Trial | None) -> tuple[Line, ...]:
    """Return the lines that bill a cycle which a change began (another interval, a trial cut short)."""
    return _whole_periods(invoice, trial) if invoice.reason == _CHANGES else ()


def _whole_periods(invoice: Invoice, trial: Trial | None) -> tuple[Line, ...]:
    return tuple(
        line for line in invoice.lines if not line.proration and line.end > line.start and not _of(trial, line)
    )


def charges(invoice: Invoice, trial: Trial | None) -> tuple[Line, ...]:
    """Return the lines that somebody pays for, without credits and the trial."""
    return tuple(line for line in invoice.lines if (line.amount is None or line.amount >= 0) and not _of(trial, line))


def periods_paid(invoice: Invoice) -> tuple[PaidPeriod, ...]:
    """Return the rows of `stripe_paid_periods` as the release before makes them, which may run beside this one."""
    if invoice.status != PAID:
        return ()
    ends: dict[datetime, datetime] = {}
    for line in stretches(invoice, None):
        if line.amount is None or line.amount > 0:
            ends[line.start] = min(line.end, ends.get(line.start, line.end))
    return tuple(
        PaidPeriod(invoice.subscription_id, start, ends[start], invoice.customer_id, invoice.id)
        for start in sorted(ends)
    )


def longer(stored: PaidPeriod | None, incoming: PaidPeriod) -> PaidPeriod:
    """Merge two rows of one period: it is paid once, by its start; should two invoices disagree on its end, the later
    one counts. The same stands in SQL, in `db/billing.py`."""
    if stored is None:
        return incoming
    end = max(stored.period_end, incoming.period_end)
    return replace(stored, period_end=end, invoice_id=max(stored.invoice_id, incoming.invoice_id))


def from_paid_periods(periods: Iterable[PaidPeriod]) -> list[Invoice]:
    """Return an invoice for each paid period that only the release before received: none is mirrored."""
    return [
        Invoice(
            id=period.invoice_id,
            subscription_id=period.subscription_id,
            customer_id=period.customer_id,
            status=PAID,
            reason=BEGINS_A_PERIOD[1],
            issued_at=period.period_start,
            due_at=None,
            lines=(Line(None, period.period_start, period.period_end),),
            event_created=period.period_start,
        )
        for period in periods
    ]


def due(invoice: Invoice, net: timedelta) -> datetime:
    return invoice.due_at or invoice.issued_at + net


def _of(trial: Trial | None, line: Line) -> bool:
    return trial is not None and trial.has(line)


def _age(invoice: Invoice) -> tuple[int, datetime, str]:
    far = STATUSES.index(invoice.status) if invoice.status in STATUSES else -1
    return far, invoice.event_created, repr(invoice)
