"""Decides whether a job runs again after an attempt that did not succeed, and when."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from domain.errors import Rejected, Unavailable

CRASHES_BEFORE_QUARANTINE = 2
"""A job during which the process died this often is held for the cause, and is kept away from the fleet: the first time
it may have been any of those that ran there, the second time it was alone (docs/decisions/0013)."""


LONGEST_RETRY_AFTER = timedelta(days=30)
"""The other side may ask for centuries, which are no time that Postgres could hold."""

OUTAGES_FORGIVEN = 10
"""Attempts of a job that do not count because the database went away meanwhile. One more, and the job itself may be
what breaks its connections: from then on they count."""


@dataclass(frozen=True)
class Backoff:
    """Waits between attempts: full jitter over an exponential ceiling."""

    base: timedelta = timedelta(seconds=15)
    cap: timedelta = timedelta(hours=1)

    def ceiling(self, attempt: int) -> timedelta:
        """The longest wait after attempt n (counted from 1): base · 2ⁿ⁻¹, at most `cap`."""
        factor: int = 2 ** min(attempt - 1, 64)
        # Compared as floats: a product of durations may be longer than a duration can be.
        return self.cap if self.base.total_seconds() * factor >= self.cap.total_seconds() else self.base * factor

    def wait(self, attempt: int, rng: Random) -> timedelta:
        """A random wait between nothing and the ceiling, so that jobs that failed together do not return together.

        Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
        """
        return timedelta(seconds=rng.uniform(0, self.ceiling(attempt).total_seconds()))


@dataclass(frozen=True)
class Retry:
    """Run it again, no earlier than `after` from now."""

    after: timedelta


@dataclass(frozen=True)
class GiveUp:
    """Never run it again; `reason` is for the person who reads the dead letter."""

    reason: str


def after_failure(
    error: BaseException, *, attempt: int, max_attempts: int, backoff: Backoff, rng: Random
) -> Retry | GiveUp:
    """Decide after an attempt that ended in `error`.

    A `retry_after` given by the other side, up to `LONGEST_RETRY_AFTER`, is a floor under our own wait.
    """
    if isinstance(error, Rejected):
        return GiveUp("rejected: trying again cannot help")
    if attempt >= max_attempts:
        return GiveUp(f"failed {attempt} of {max_attempts} attempts")
    wait = backoff.wait(attempt, rng)
    if isinstance(error, Unavailable) and error.retry_after is not None:
        wait = max(wait, min(error.retry_after, LONGEST_RETRY_AFTER))
    return Retry(wait)


def after_outage(forgiven: int) -> Retry | None:
    """Decide after an attempt during which the database went away: it is not counted, or None if it is.

    `forgiven` is how often that has happened to the job before.
    """
    return Retry(timedelta(seconds=min(2**forgiven, 60))) if forgiven < OUTAGES_FORGIVEN else None


def after_overrun(*, attempt: int, max_attempts: int) -> Retry | GiveUp:
    """Decide about a job that its live process still runs long after its deadline."""
    if attempt >= max_attempts:
        return GiveUp(f"it ran past its deadline in attempt {attempt} of {max_attempts}")
    return Retry(timedelta(0))


def after_abandonment(*, attempt: int, max_attempts: int) -> Retry | GiveUp:
    """Decide about a job that no process runs any more, and of whose attempt no end was recorded."""
    if attempt >= max_attempts:
        return GiveUp(f"how attempt {attempt} of {max_attempts} ended could not be recorded")
    return Retry(timedelta(0))


def after_crash(*, attempt: int, max_attempts: int, crashes: int) -> Retry | GiveUp:
    """Decide about a job whose worker process died; `crashes` counts this one."""
    if crashes >= CRASHES_BEFORE_QUARANTINE:
        return GiveUp(f"quarantined: its worker process died {crashes} times while running it")
    if attempt >= max_attempts:
        return GiveUp(f"its worker process died during attempt {attempt} of {max_attempts}")
    return Retry(timedelta(0))
