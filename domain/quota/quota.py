"""A tenant's monthly quota: how many concepts are left, and when a new month of them begins.

Periods are half-open, `[start, end)`, and their boundaries are *anchor + n months*, never *previous + 1 month* and
never *+ 30 days*: an anchor on 31 January gives 28 February, then 31 March. This is how Stripe bills ("a subscription
starting on January 31st will bill on February 28th, then March 31st"), so a paid period and a quota period agree.
Everything is UTC, so daylight saving never matters.

`used` is a fold over the ledger: what was taken at `counts_from` or later, less what of it was given back. So it does
not matter when we learn that a period has begun: what was consumed since its start, before its invoice was known,
counts in it (`carry_over`), and a hold is given back only into the count in which it was taken.
"""

from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from domain.concepts.wording import counted
from domain.errors import QuotaExceeded, Rejected

MOST_GRANTED = 100_000
"""Concepts in one period: more is a slip of the keyboard."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Concepts of the running period. All times are aware.

    `paid_until` is None for a tenant who does not pay; otherwise the first moment that no paid invoice (or trial)
    covers, at which a new period waits for the next `invoice.paid`. `drawn_until`: when nothing can be drawn any more,
    although something may be left, because nothing follows the period that has ended; None: no such end.
    `restarted_at`: when a person (or another program) last gave a fresh count. `granted`: what support gave for this
    period, on top of the plan's; negative where it took some of those.
    """

    limit: int
    used: int
    anchor: datetime
    period_start: datetime
    resets_at: datetime
    paid_until: datetime | None = None
    restarted_at: datetime | None = None
    drawn_until: datetime | None = None
    granted: int = 0

    @property
    def allowance(self) -> int:
        """Return how many concepts this period has: the plan's, and what support granted on top, or took."""
        return max(0, self.limit + self.granted)

    @property
    def counts_from(self) -> datetime:
        """Return the period's start, or a later restart."""
        return self.period_start if self.restarted_at is None else max(self.period_start, self.restarted_at)

    @property
    def remaining(self) -> int:
        """Never negative: a plan that shrinks below what was used leaves nothing, and owes nothing."""
        return max(0, self.allowance - self.used)

    @property
    def next_is_covered(self) -> bool:
        """Whether the next period may begin by the clock: the tenant does not pay, or has paid beyond its beginning."""
        return self.paid_until is None or self.resets_at < self.paid_until

    def is_over(self, now: datetime) -> bool:
        """Return whether nothing can be drawn any more, whatever is left."""
        return self.drawn_until is not None and self.drawn_until <= now

    def available(self, now: datetime) -> int:
        """Return how much of `remaining` can be drawn at this moment."""
        return 0 if self.is_over(now) else self.remaining

    def lasts_until(self, now: datetime) -> datetime | None:
        """Return until when the period is drawn from, as far as anybody knows; None: until an invoice is paid whose day
        has passed."""
        if not self.next_is_covered and self.drawn_until is not None:
            return self.drawn_until
        return self.resets_at if self.next_is_covered or now < self.resets_at else None


@dataclass(frozen=True, slots=True)
class Hold:
    """Concepts reserved by one job until it settles or releases them, once; the caller's row says whether it has."""

    count: int
    taken_at: datetime


def first_period(limit: int, at: datetime) -> Quota:
    """Return the first period of a tenant created at this moment."""
    return Quota(limit, 0, anchor=at, period_start=at, resets_at=next_reset(at, at))


def is_due(quota: Quota, now: datetime) -> bool:
    """Return whether `reset` would begin a new period.

    A paying tenant's period that begins when nothing is paid for waits for `invoice.paid`; within an annual (or
    otherwise longer) paid stretch the anchor's months begin by themselves. The same stands in SQL, in
    `db.tenants.quota.is_due`; tests/db/tenants/test_quota.py compares the two.
    """
    return quota.resets_at <= now and quota.next_is_covered


def reset(quota: Quota, now: datetime) -> Quota:
    """Begin the period that contains `now`, or the last one that is paid for; a period already begun is left alone.

    However long nobody asked, this is one step to the right dates; asked again, it changes nothing.
    """
    if not is_due(quota, now):
        return quota
    paid_for = now if quota.paid_until is None else min(now, quota.paid_until - datetime.resolution)
    n = _first_boundary_after(quota.anchor, paid_for)
    # A row written by another program may say a `resets_at` that is no boundary of its anchor. The period then
    # begins there: time that has been counted once must not be counted again.
    start = max(add_months(quota.anchor, n - 1), quota.resets_at)
    return recount(quota, replace(quota, period_start=start, resets_at=add_months(quota.anchor, n)))


def recount(before: Quota, after: Quota) -> Quota:
    """`after`, with nothing used if it does not count from where `before` did, and nothing granted in a new period."""
    return replace(
        after,
        used=before.used if after.counts_from == before.counts_from else 0,
        granted=before.granted if after.period_start == before.period_start else 0,
    )


def restart(quota: Quota, now: datetime, *, last_taken: datetime | None = None) -> Quota:
    """A person gives the tenant a fresh count for what is left of the running period; the next reset stays.

    Later than anything that has been consumed, by whichever clock (`last_taken`): of one moment, what came first is not
    counted.

    Raises:
        Rejected: nothing can be drawn any more.
    """
    _check_open(quota, now)
    latest = max(now, quota.counts_from, last_taken or now)
    return replace(quota, used=0, restarted_at=latest + datetime.resolution)


def grant(quota: Quota, count: int, now: datetime) -> Quota:
    """Support gives concepts on top of the plan's, for what is left of the period.

    Raises:
        Rejected: nobody means so many, or nobody could use one of them.
    """
    if not 1 <= count <= MOST_GRANTED or quota.granted + count > MOST_GRANTED:
        raise Rejected(f"between 1 and {MOST_GRANTED:,} concepts can be granted in a period, all grants together")
    _check_open(quota, now)
    missing = quota.used - quota.limit - quota.granted
    if count <= missing:
        taken = f", and {-quota.granted} were taken" if quota.granted < 0 else ""
        raise Rejected(
            f"{counted(count, 'concept')} more would leave none to use: {quota.used} of {quota.allowance} "
            f"{'is' if quota.used == 1 else 'are'} used{taken}; grant at least {missing + 1}"
        )
    return replace(quota, granted=quota.granted + count)


def take(quota: Quota, count: int, now: datetime) -> Quota:
    """Support takes concepts that are left, granted ones or the plan's, for what is left of the period.

    Raises:
        Rejected: fewer are left, or nothing can be drawn any more; what is used or held is not taken.
    """
    if count < 1:
        raise Rejected("take at least 1 concept")
    _check_open(quota, now)
    if count > quota.remaining:
        left = f"{quota.remaining} of {quota.allowance} {'is' if quota.remaining == 1 else 'are'} left"
        raise Rejected(f"{left}, so that {counted(count, 'concept')} cannot be taken: what is used or held stays")
    return replace(quota, granted=quota.granted - count)


def reserve(quota: Quota, count: int, now: datetime) -> tuple[Quota, Hold]:
    """Take concepts out of the period that contains `now`, beginning it first if it is due.

    Raises QuotaExceeded, with figures, if fewer remain than are asked for.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    quota = reset(quota, now)
    if count > quota.available(now):
        raise QuotaExceeded(
            f"{counted(count, 'concept')} asked for, {quota.available(now)} of {quota.allowance} left "
            f"({quota.used} used since {quota.period_start:%Y-%m-%d}); {_more(quota, now)}",
            details(quota, now),
        )
    # Never before the count that it is in, whatever the clocks say.
    return replace(quota, used=quota.used + count), Hold(count, max(now, quota.counts_from))


def lasting(quota: Quota, now: datetime) -> str:
    """Say until when what support grants or takes holds."""
    until = quota.lasts_until(now)
    if quota.next_is_covered:
        return f"until {_minute(quota.resets_at)}, when the period ends"
    if until is not None and until == quota.drawn_until:
        return f"until {_minute(until)}, when what is paid for ends"
    return f"until the invoice that {'was' if until is None else 'is'} due on {_minute(quota.resets_at)} is paid"


def details(quota: Quota, now: datetime) -> dict[str, int | str]:
    """Return the figures that the error response names."""
    return {
        "limit": quota.allowance,
        "used": quota.used,
        "remaining": quota.available(now),
        "resets_at": _utc(quota.resets_at).isoformat().replace("+00:00", "Z"),
    }


def carry_over(quota: Quota, taken: int) -> Quota:
    """A count that has just begun, with what was `taken` since the moment from which it counts."""
    return replace(quota, used=max(0, taken))


def settle(quota: Quota, hold: Hold, actual: int) -> Quota:
    """Close a hold of which `actual` concepts were made; the rest is given back."""
    if not 0 <= actual <= hold.count:
        raise ValueError(f"actual must be between 0 and the {hold.count} held, not {actual}")
    return _give_back(quota, hold, hold.count - actual)


def release(quota: Quota, hold: Hold) -> Quota:
    """Close a hold of which nothing was made."""
    return _give_back(quota, hold, hold.count)


def next_reset(anchor: datetime, after: datetime) -> datetime:
    """Return the first boundary strictly later than `after`.

    Counted backwards too: an anchor in the future (the end of a trial, say) has monthly boundaries before it.
    """
    return add_months(anchor, _first_boundary_after(anchor, after))


def boundary_before(anchor: datetime, moment: datetime) -> datetime:
    """Return the last boundary strictly earlier than `moment`."""
    return add_months(anchor, _first_boundary_after(anchor, moment - datetime.resolution) - 1)


def add_months(anchor: datetime, n: int) -> datetime:
    """Return the anchor's day and time n calendar months later (earlier if negative), in UTC; the last day of a month
    that has no such day."""
    anchor = _utc(anchor)
    month = anchor.year * 12 + anchor.month - 1 + n
    year, month = month // 12, month % 12 + 1
    return anchor.replace(year=year, month=month, day=min(anchor.day, monthrange(year, month)[1]))


def _first_boundary_after(anchor: datetime, after: datetime) -> int:
    """Return the smallest n whose boundary is later than `after`: each calendar month holds exactly one boundary."""
    anchor, after = _utc(anchor), _utc(after)
    n = (after.year - anchor.year) * 12 + after.month - anchor.month
    return n if add_months(anchor, n) > after else n + 1


def _give_back(quota: Quota, hold: Hold, count: int) -> Quota:
    if hold.taken_at < quota.counts_from:
        return quota
    return replace(quota, used=max(0, quota.used - count))


def _more(quota: Quota, now: datetime) -> str:
    if now < quota.resets_at and quota.next_is_covered:
        return f"more on {_minute(quota.resets_at)}"
    if quota.drawn_until is not None and quota.is_over(now) and quota.remaining:
        return f"what was paid for could be drawn until {_minute(quota.drawn_until)}, " + _ON_PAYMENT
    return _ON_PAYMENT


_ON_PAYMENT = "more when the next invoice is paid"


def _check_open(quota: Quota, now: datetime) -> None:
    """Raise Rejected: whatever support did to this period, nobody would have anything of it."""
    if quota.drawn_until is not None and quota.is_over(now):
        raise Rejected(
            f"nothing can be drawn since {_minute(quota.drawn_until)}, whatever is left: nothing is paid for after; "
            "try again when the next invoice is paid"
        )


def _minute(moment: datetime) -> str:
    return f"{_utc(moment):%Y-%m-%d %H:%M} UTC"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC)
