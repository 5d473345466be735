"""When a post is made: the suggested time, what is too late, and the turns of an account's posts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import count
from zoneinfo import ZoneInfo

from domain.concepts.timing import slots
from domain.concepts.wording import counted

SPACING = timedelta(hours=1)
"""The least time between two posts of an account that we choose the time of."""
TURN = timedelta(minutes=2)
"""The least time between the beginnings of two posts of an account: after an outage, too, nobody has a burst."""
LEAD = timedelta(minutes=5)
"""A suggested time is at least so far away: a person can still change it."""
AHEAD = timedelta(days=180)
"""Nothing is scheduled further ahead."""
SEARCHED = 400
"""Usual hours that are tried: about a hundred days."""
LATE_AFTER = timedelta(hours=2)
"""How late a post may begin, where the tenant has not said it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A time for a post, in UTC, and why, in words and on the clock of the zone."""

    at: datetime
    reason: str


def suggested(
    concept_time: datetime | None,
    zone: ZoneInfo,
    taken: Sequence[datetime],
    now: datetime,
    *,
    a_day: int | None = None,
    spacing: timedelta = SPACING,
    times: Sequence[time] = (),
) -> Suggestion | None:
    """Return the concept's posting time, or else the next usual hour in the tenant's zone, at which the account is
    free: no other post (`taken` are their times) nearer than `spacing`, and not more than `a_day` in any 24 hours.

    A concept's time that has passed counts as that time of day: by the zone's clock, whatever summer time does. With
    `times` of that clock only these are tried. None if the account has no free place for a long time.
    """
    tried = _at_times(times, zone, now + LEAD) if times else _candidates(concept_time, zone, now + LEAD)
    for at, reason in tried:
        if at - now > AHEAD:
            return None
        if is_free(at, taken, a_day=a_day, spacing=spacing):
            return Suggestion(at, reason)
    return None


def is_free(at: datetime, taken: Sequence[datetime], *, a_day: int | None, spacing: timedelta = SPACING) -> bool:
    """Whether the account can take one more post at this moment."""
    if any(abs(at - each) < spacing for each in taken):
        return False
    if a_day is None:
        return True
    near = sorted([at, *(each for each in taken if abs(each - at) < timedelta(hours=24))])
    begins = [each for each in near if each <= at]
    return all(sum(begin <= each < begin + timedelta(hours=24) for each in near) <= a_day for begin in begins)


def is_late(scheduled_for: datetime, now: datetime, late_after: timedelta = LATE_AFTER) -> bool:
    """Whether a post that has not begun is missed: a person is asked before it is still made."""
    return now - scheduled_for > late_after


def in_words(length: timedelta) -> str:
    """Return a length of whole minutes: "2 hours", "90 minutes"."""
    minutes = round(length / timedelta(minutes=1))
    return counted(minutes, "minute") if minutes % 60 else counted(minutes // 60, "hour")


def _candidates(concept_time: datetime | None, zone: ZoneInfo, after: datetime) -> Iterator[tuple[datetime, str]]:
    """Yield the times to try, best first; the concept's own, then usual hours from there on."""
    if concept_time is not None:
        preferred = _next_at(concept_time, zone, after)
        why = "the concept's posting time" if preferred == concept_time else "the concept's time of day"
        yield preferred, f"{_shown(preferred, zone)}: {why}"
        after = preferred
    for _, slot in zip(range(SEARCHED), slots(zone, after), strict=False):
        yield slot.at, slot.reason


def _at_times(times: Sequence[time], zone: ZoneInfo, after: datetime) -> Iterator[tuple[datetime, str]]:
    """Yield the moments at which the zone's clock shows one of these times, without end."""
    first = after.astimezone(zone).date()
    for number in count():
        day = first + timedelta(days=number)
        # A change of summer time may turn two of them around.
        for at in sorted({datetime.combine(day, each, zone).astimezone(UTC) for each in times}):
            if at >= after:
                yield at, f"{_shown(at, zone)}: a chosen time"


def _next_at(moment: datetime, zone: ZoneInfo, after: datetime) -> datetime:
    """Return the moment; if it has passed, the next one at which the zone's clock shows the same time of day."""
    if moment >= after:
        return moment.astimezone(UTC)
    clock = moment.astimezone(zone).time()
    day = after.astimezone(zone).date()
    while True:
        at = datetime.combine(day, clock, zone).astimezone(UTC)
        if at >= after:
            return at
        day += timedelta(days=1)


def _shown(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%A %H:%M} in {zone.key}"
