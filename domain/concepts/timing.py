"""The time to post is an instant in UTC, chosen by the clock of the account's own time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAY = timedelta(days=1)
LATE = timedelta(hours=3)
"""A day is served until so long after its hour, also past midnight; later, it is left out."""
SPREAD = timedelta(minutes=40)
LEAD = timedelta(hours=2)
"""The time before the first post: a concept has to be filmed first."""

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
"""The usual hours are the same for every account until its own outcomes say more. They are not measured."""


@dataclass(frozen=True, slots=True)
class PostTime:
    """An instant, and the zone and reason of its choice."""

    at: datetime
    zone: str
    reason: str


def zone_of(name: str | None) -> ZoneInfo:
    """Return the zone of this IANA name; UTC for a name that nobody knows (`is_zone`)."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def is_zone(name: str) -> bool:
    """Whether this is the name of a zone that this system knows."""
    return zone_of(name).key == name


def post_times(zone: ZoneInfo, now: datetime, count: int) -> list[PostTime]:
    """Return the next `count` slots on the zone's clock, each once, earliest first."""
    found = slots(zone, now + LEAD)
    return [next(found) for _ in range(count)]


def due_day(zone: ZoneInfo, hour: int, last_on: date | None, now: datetime) -> date | None:
    """Return the day (there) whose daily concepts are due now; None if it is too early, too late, or done.

    A day is due from its hour on, for `LATE`, past midnight too. An hour that the change to summer time skips begins
    when the clock has skipped it; of one that comes twice the first counts. A day that was served (`last_on`) is never
    served again, nor is the day before it, which a move to a zone further west brings back.
    """
    today = now.astimezone(zone).date()
    for day in (today - DAY, today):
        since = now - _begins(zone, day, hour)
        served = last_on is not None and day <= last_on <= day + DAY
        if timedelta(0) <= since < LATE and _exists(zone, day) and not served:
            return day
    return None


def day_key(day: date) -> str:
    """Return the unique key of the job that makes a tenant's concepts of a day, whoever enqueues it."""
    return f"day/{day}"


def spread(tenant_id: UUID, within: timedelta) -> timedelta:
    """Return a tenant's own delay, always the same, so that not everybody's nine o'clock is the same second."""
    return within * (tenant_id.int % 9973 / 9973)


def _begins(zone: ZoneInfo, day: date, hour: int) -> datetime:
    """Return the first moment at which the clock has reached this hour of the day."""
    return datetime.combine(day, time(hour), zone).astimezone(UTC)


def _exists(zone: ZoneInfo, day: date) -> bool:
    """Whether the zone has this day: where the date line was moved, one was skipped."""
    return _begins(zone, day, 0) < _begins(zone, day + DAY, 0)


def slots(zone: ZoneInfo, after: datetime) -> Iterator[PostTime]:
    """Yield the usual hours from then on, without end, on the clock of the zone."""
    day = after.astimezone(zone).date()
    while True:
        for hour in HOURS[day.weekday()]:
            # A wall time that a change to summer time skips is read as the moment that the clock then shows.
            at = datetime.combine(day, hour, zone).astimezone(UTC)
            if at >= after:
                shown = at.astimezone(zone)
                yield PostTime(at, zone.key, f"{shown:%A %H:%M} in {zone.key}: a usual hour off work")
        day += timedelta(days=1)
