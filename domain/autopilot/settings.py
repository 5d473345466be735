"""What a tenant lets the autopilot do, as a person sets it."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise

from domain.autopilot.chains import Mode
from domain.errors import Rejected
from domain.posting.schedule import SPACING, in_words
from domain.videos.plan import AUTO, STORYBOARD

MOST_VIDEOS_A_DAY = 10
MOST_CONCEPTS_A_DAY = 20
MOST_TIMES = 24
MOST_USD = Decimal(1_000_000)
CENT = Decimal("0.01")
PUT_BACK = "the database was put back: switch it to auto again"
"""Why an autopilot that nobody was asked by asks first since a restore."""
RESTORED_BY = "viral:restore"
"""Who has changed such a one."""
CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields are the columns of `autopilots`; without a row they are these. `times` are by the clock of each
    account, as "18:30"; `budget_usd` are dollars a month for clips. The default `least_score` stops no day of the
    offline grammar: the best of its five concepts has at least 47."""

    mode: Mode = Mode.OFF
    least_score: int = 30
    videos_a_day: int = 1
    concepts_a_day: int = 5
    times: tuple[str, ...] = ()
    provider: str = STORYBOARD
    budget_usd: Decimal = Decimal(0)
    changed_by: str | None = None
    changed_at: datetime | None = None


def check(settings: Settings, providers: Collection[str]) -> None:
    """Check settings before they are saved. `providers` are the names of the providers of clips that there are.

    Raises:
        Rejected: something in them is wrong; the text says all of it.
    """
    if faults := list(_faults(settings, providers)):
        raise Rejected("; ".join(faults))


def clock_times(settings: Settings) -> tuple[time, ...]:
    """Return the times of posts, by the clock, earliest first."""
    return tuple(sorted({time.fromisoformat(each) for each in settings.times}))


def _too_near(times: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two times between which no account keeps its distance, the last of a day and the first of the
    next one, too; None if all are far enough from each other, or something else is wrong with them."""
    if len(times) < 2 or not all(CLOCK.fullmatch(each) for each in times):
        return None
    ordered = sorted(times)
    at = [datetime.combine(date.min, time.fromisoformat(each)) for each in ordered]
    at.append(at[0] + timedelta(days=1))
    names = pairwise([*ordered, ordered[0]])
    return next((two for (one, other), two in zip(pairwise(at), names, strict=True) if other - one < SPACING), None)


def _faults(settings: Settings, providers: Collection[str]) -> Iterator[str]:
    if settings.mode not in tuple(Mode):
        yield f"the mode is {', '.join(Mode)}, not {settings.mode!r}"
    if not 0 <= settings.least_score <= 100:
        yield f"the least score is 0 to 100, not {settings.least_score}"
    if not 1 <= settings.videos_a_day <= MOST_VIDEOS_A_DAY:
        yield f"1 to {MOST_VIDEOS_A_DAY} videos a day are made, not {settings.videos_a_day}"
    if not 1 <= settings.concepts_a_day <= MOST_CONCEPTS_A_DAY:
        yield f"1 to {MOST_CONCEPTS_A_DAY} concepts a day are made, not {settings.concepts_a_day}"
    elif settings.videos_a_day > settings.concepts_a_day:
        yield f"{settings.videos_a_day} videos a day need as many concepts a day, not {settings.concepts_a_day}"
    if len(settings.times) > MOST_TIMES or len(set(settings.times)) != len(settings.times):
        yield f"at most {MOST_TIMES} times are named, each once"
    elif near := _too_near(settings.times):
        apart = f"posts of an account are at least {in_words(SPACING)} apart"
        yield f"{near[0]} and {near[1]} are too near to each other: {apart}"
    if 0 < len(settings.times) < settings.videos_a_day:
        yield f"{settings.videos_a_day} videos a day need as many times a day, or none"
    for each in settings.times:
        if not CLOCK.fullmatch(each):
            yield f'a time is written as "18:30", from 00:00 to 23:59, not {each!r}'
    names = (STORYBOARD, AUTO, *sorted(providers))
    if settings.provider not in names:
        yield f"the provider is one of {', '.join(names)}, not {settings.provider!r}"
    usd = settings.budget_usd
    if not usd.is_finite() or not 0 <= usd < MOST_USD or usd != usd.quantize(CENT):
        yield f"the budget is 0 to {MOST_USD:,} US dollars a month, with cents at most, not {usd}"
