"""Times that people name for what is to happen."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

PAST = timedelta(minutes=5)
"""A time that has passed by less counts as now."""


def time_faults(at: datetime, now: datetime, *, ahead: timedelta) -> Iterator[str]:
    """Say what is wrong with a time for which something is asked: what it was to wait for has passed, so that it would
    begin at once, or it lies further ahead than that."""
    if at.tzinfo is None:
        yield "the time has no zone: end it with Z, or an offset such as +01:00"
    elif at < now - PAST:
        yield f"the time {_minute(at)} has passed (it is {_minute(now)}): choose a later one"
    elif at > now + ahead:
        yield f"the time {_minute(at)} is too far away: at most {ahead.days} days ahead, {_minute(now + ahead)}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
