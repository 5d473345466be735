"""When a post is measured, and what becomes of each horizon: it is met once or missed once, and never both.

All times are ages of the post (since `published_at`). A look is due at a horizon's age; one that is made for others
takes a post along a little before. What could not be asked is tried again until the horizon closes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.learning.numbers import TOLERANCE, Horizon
from domain.posting.accounts import AccountStatus

EARLY = 2 * TOLERANCE
"""A post is taken along from a twentieth of the horizon before its age on: half of what the tolerance allows, so that
calls are saved and numbers are not all of the youngest age that still counts."""
TRIES = 6
"""So often a look that nobody answered is repeated between a horizon's age and its close."""
GONE_AGAIN = timedelta(minutes=5)
"""A post counts as removed when its platform says twice that it has it no longer, so far apart: one such answer may be
of a server that lags behind. It is short enough for the second to meet the first horizon, if the post is there."""

NOT_IN_TIME = "nobody measured it in time: no attempt is on record while it could still be met"
NO_ID = "its id at the platform was not known"
HALTED = (
    "the database was put back to an earlier state: what had been measured by then is lost, and nothing was measured "
    "while posting was paused"
)
REMOVED = "the platform has it no longer"
GONE_ONCE = "the platform said that it does not have it"
NOT_IN_ANSWER = "the platform's answer did not have it"
NOT_ASKED = "the platform's answer did not have it, and there was no call left to ask whether it is gone"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a look at a post is for: numbers of now meet the horizon `meets` (None: no horizon is open), and those that
    are `missed` have closed. `next_at` is when it is looked at after numbers have come; None: never again."""

    meets: Horizon | None
    missed: tuple[Horizon, ...]
    next_at: datetime | None


def plan(published_at: datetime, now: datetime, settled: Collection[Horizon]) -> Plan:
    """Say what a look at a post is for of which these horizons are `settled`: met, or missed."""
    age = now - published_at
    open_ = [each for each in Horizon if each not in settled]
    missed = tuple(each for each in open_ if each.closes < age)
    meets = next((each for each in open_ if each.opens <= age <= each.closes), None)
    later = next((each for each in open_ if each.opens > age), None)
    return Plan(meets, missed, None if later is None else published_at + later.age)


def joins(published_at: datetime, now: datetime, settled: Collection[Horizon]) -> bool:
    """Return whether a post whose look is not due yet is taken along when its account is asked now."""
    meets = plan(published_at, now, settled).meets
    return meets is not None and now - published_at >= meets.age - meets.age / EARLY


JOINS_AT_MOST = Horizon.D7.age / EARLY
"""No post is taken along earlier before its look is due."""


def first_look(published_at: datetime) -> datetime:
    """Return when a post is measured first."""
    return published_at + Horizon.H1.age


def try_again_at(published_at: datetime, now: datetime, plan: Plan) -> datetime | None:
    """Return when a post is looked at again that could not be measured now: within the open horizon, and when it has
    closed, so that it is written down; None: never again."""
    if plan.meets is None:
        return plan.next_at
    due, closed = published_at + plan.meets.age, published_at + plan.meets.closes + timedelta(seconds=1)
    return due if now < due else min(now + plan.meets.age / TOLERANCE / TRIES, closed)


def why_missed(
    horizon: Horizon,
    published_at: datetime,
    *,
    account: str | None,
    named: bool,
    halted: tuple[datetime, datetime | None] | None,
) -> str:
    """Say why nobody looked while the horizon was open, as far as the rows still say: `account` is why the account
    cannot be asked now (None: it can), `named` whether its id is known, `halted` from which moment on a restore last
    lost what was measured, and until when posting was paused after it (None: it still is)."""
    opens, closes = published_at + horizon.opens, published_at + horizon.closes
    if halted is not None and halted[0] <= closes and (halted[1] is None or halted[1] >= opens):
        return HALTED
    if account is not None:
        return account
    return NOT_IN_TIME if named else NO_ID


def next_look(post: Mapping[str, Any], now: datetime) -> tuple[str | None, datetime | None]:
    """Say what happens next to a post's numbers by itself, and when, if that is not at once. None: nothing, since all
    horizons are over. `post` is its row with its account's `account_status` and `account_reason`."""
    at: datetime | None = post["measure_at"]
    if at is None:
        return None, None
    why = without_account(post["account_status"], post["account_reason"])
    if why is None and post["external_id"] is None:
        why = NO_ID
    if why is not None:
        return f"no numbers come while this is so: {why}", None
    return ("its numbers are collected", at) if at > now else ("its numbers are collected within a minute or two", None)


def without_account(status: str, reason: str | None) -> str | None:
    """Say why an account cannot be asked; None: it can."""
    if status == AccountStatus.ACTIVE:
        return None
    if status == AccountStatus.DISCONNECTED:
        return "its account was disconnected"
    return f"its account has to be reconnected: {reason}" if reason else "its account has to be reconnected"


def not_answered(error: str) -> str:
    return f"the platform did not answer: {error}"


def held_off(error: str) -> str:
    return f"the platform took no more calls: {error}"
