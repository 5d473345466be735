"""The beginnings of a tenant's quota periods, as far as Stripe decides them: a pure function of intervals.

It looks at the whole past, so what came by the clock in between (a month of the free plan, begun because no event had
ended it yet) leaves no trace, and every order of delivery ends in the same period.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from domain.quota.quota import boundary_before


@dataclass(frozen=True, slots=True)
class Stretch:
    """While a subscription entitles its customer to a plan: `[begins, ends)`; no `ends`: it does still.

    Months of its `anchor` begin after `cycle_start` and before `paid_until`. Of several at once, the one of the
    greatest `rank` counts.
    """

    rank: Any
    begins: datetime
    ends: datetime | None
    anchor: datetime
    cycle_start: datetime
    paid_until: datetime

    def covers(self, start: datetime, end: datetime) -> bool:
        return self.begins <= start and (self.ends is None or self.ends >= end)


def latest_start(created_at: datetime, stretches: Sequence[Stretch], paid: Iterable[datetime]) -> datetime:
    """Return when the period began from which the tenant's present terms go on: at a paid period's start, at a month of
    terms that are over, or with the tenant.

    Where no plan was in force, months count from the end of the last one (or from the creation).
    """
    changes = {moment for each in stretches for moment in (each.begins, each.ends) if moment and moment > created_at}
    moments = [created_at, *sorted(changes)]
    months = [_last_month(stretches, *between) for between in pairwise(moments)]
    return max([created_at, *paid, *(month for month in months if month is not None)])


def _last_month(stretches: Iterable[Stretch], start: datetime, end: datetime) -> datetime | None:
    """Return the last month that began within `[start, end)`, in which no plan begins or ends."""
    at_once = [each for each in stretches if each.covers(start, end)]
    if at_once:
        best = max(at_once, key=lambda each: each.rank)
        anchor, after, before = best.anchor, max(start, best.cycle_start), min(end, best.paid_until)
    else:
        anchor, after, before = start, start, end
    last = boundary_before(anchor, before)
    return last if last > after else None
