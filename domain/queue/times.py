"""For when a job can be asked for."""

from datetime import UTC, datetime, timedelta

from domain.errors import Rejected

PAST = timedelta(minutes=5)
"""A time that has passed by less counts as now, as that of a post does."""
AHEAD = timedelta(days=3650)


def check_time(at: datetime, now: datetime) -> None:
    """Check the time before which a job that people ask for does not begin.

    Raises:
        Rejected: it has passed, which is a slip, since the job would begin at once; or it is too far away.
    """
    if at < now - PAST:
        raise Rejected(
            f"the time {_minute(at)} has passed (it is {_minute(now)}): choose a later one, or none to begin at once"
        )
    if at > now + AHEAD:
        raise Rejected(f"the time {_minute(at)} is too far away: at most {AHEAD.days} days ahead")


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
