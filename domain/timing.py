"""When to post: an instant in UTC, chosen by the clock of the account's own time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LATE = timedelta(hours=3)
"""A daily fire that comes later than this after its hour is left out: tomorrow's is closer."""
SPREAD = timedelta(minutes=40)
LEAD = timedelta(hours=2)
"""A concept has to be filmed first."""

HOURS = {
    # Monday is 0. Off work and off school: before, at noon, after, and late.
    0: (time(7), time(12), time(17), time(20)),
    1: (time(7), time(12), time(17), time(20)),
    2: (time(7), time(12), time(17), time(20)),
    3: (time(7), time(12), time(17), time(20)),
    4: (time(7), time(12), time(16), time(21)),
    5: (time(10), time(13), time(17), time(21)),
    6: (time(10), time(13), time(17), time(20)),
}
"""Usual hours, the same for every account until its own outcomes say more. Not measured."""


@dataclass(frozen=True, slots=True)
class PostTime:
    """An instant, and how it reads on the account's clock."""

    at: datetime
    zone: str
    reason: str


def zone_of(name: str | None) -> ZoneInfo:
    """The zone of this IANA name; UTC for a name that nobody knows."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def post_times(zone: ZoneInfo, now: datetime, count: int) -> list[PostTime]:
    """The next `count` slots on the zone's clock, each once, earliest first."""
    slots = _slots(zone, now + LEAD)
    return [next(slots) for _ in range(count)]


def due_day(zone: ZoneInfo, hour: int, last_on: date | None, now: datetime) -> date | None:
    """The day (there) whose daily concepts are due now; None if it is too early, too late, or done.

    It is due from the hour on, for `LATE`: an hour that the change to summer time skips is served by the next one, and
    one that comes twice is served once.
    """
    local = now.astimezone(zone)
    since = timedelta(hours=local.hour - hour, minutes=local.minute)
    return local.date() if timedelta(0) <= since < LATE and last_on != local.date() else None


def spread(tenant_id: UUID, within: timedelta) -> timedelta:
    """A tenant's own delay, always the same, so that not everybody's nine o'clock is the same second."""
    return within * (tenant_id.int % 9973 / 9973)


def _slots(zone: ZoneInfo, after: datetime) -> Iterator[PostTime]:
    day = after.astimezone(zone).date()
    while True:
        for hour in HOURS[day.weekday()]:
            # A wall time that a change to summer time skips is read as the moment that the clock then shows.
            at = datetime.combine(day, hour, zone).astimezone(UTC)
            if at >= after:
                shown = at.astimezone(zone)
                yield PostTime(at, zone.key, f"{shown:%A %H:%M} in {zone.key}: a usual hour off work")
        day += timedelta(days=1)
