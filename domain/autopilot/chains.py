"""A chain is one concept's way from the day's concepts to its posts, without anybody's help.

    concepts ──▶ video ──▶ posts ──▶ done
        └──────────┴─────────┴─────▶ stopped

Each stage is done by the ordinary jobs; the chain only begins the next one, and says where it stands. A stage that
fails stops its own chain, and no other.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
EXPLAINED_DAYS = 31
"""So many days that nobody began are explained at most; those before them are longer ago than anybody asks."""
DAILY_WITHIN = timedelta(minutes=70)
"""The tenant's daily concepts are waited for so long after the day's hour: they are enqueued once an hour."""


class Mode(StrEnum):
    """What a tenant lets the autopilot do: nothing; prepare everything for a person to approve; post."""

    OFF = "off"
    APPROVE = "approve"
    AUTO = "auto"


class Stage(StrEnum):
    """What a chain waits for; or how it ended."""

    CONCEPTS = "concepts"
    VIDEO = "video"
    POSTS = "posts"
    DONE = "done"
    STOPPED = "stopped"


PATIENCE = {Stage.CONCEPTS: timedelta(hours=6), Stage.VIDEO: timedelta(hours=24), Stage.POSTS: timedelta(days=14)}
"""How long a stage may last: the concepts, and a provider that cannot be asked now; the video; and the posts, from the
last of their times on, where one waits for a person."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A row of `autopilot_chains`. `look_after` is None once nothing is left to be done; a chain that ended while its
    video was being made is looked at until its money is settled."""

    id: UUID
    tenant_id: UUID
    day: date
    place: int
    mode: Mode
    stage: Stage
    reason: str | None
    job_id: UUID | None
    generation_id: UUID | None
    concept_id: str | None
    video_id: UUID | None
    reserved_usd: Decimal
    spent_usd: Decimal
    month: date | None
    since: datetime
    look_after: datetime | None
    created_at: datetime

    @property
    def ended(self) -> bool:
        return self.stage in (Stage.DONE, Stage.STOPPED)

    def is_overdue(self, now: datetime) -> bool:
        """Whether its stage lasts longer than there is patience for."""
        return now - self.since > PATIENCE[self.stage]


@dataclass(frozen=True, slots=True)
class NewDay:
    """A tenant's day whose chains are made: to be looked at from then on, or stopped at once with the reason `why`."""

    tenant_id: UUID
    day: date
    look_after: datetime
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Days:
    """A tenant's day that begins now, by its own clock, when that was, and the days since the last one that nobody
    began."""

    day: date
    began_at: datetime
    skipped: tuple[date, ...] = ()


def due_days(zone: ZoneInfo, hour: int, last_on: date | None, now: datetime) -> Days | None:
    """Return the day whose chains are to be begun: the latest whose hour has come there; None if it was begun already.

    Of one that was just switched on, today's is the first, once its hour has come. Days between the last one begun and
    this one are skipped: nobody worked then. After a move to a zone further west a day that was begun is not begun
    again.
    """
    day = now.astimezone(zone).date()
    if hour_of(zone, day, hour) > now:
        if last_on is None:
            return None
        day -= DAY
    if last_on is not None and day <= last_on:
        return None
    skipped = []
    if last_on is not None:
        first = max(last_on + DAY, day - EXPLAINED_DAYS * DAY)
        skipped = [first + number * DAY for number in range((day - first).days)]
    return Days(day, hour_of(zone, day, hour), tuple(skipped))


def next_begin(zone: ZoneInfo, hour: int, last_on: date | None, now: datetime) -> datetime:
    """Return when the next day's chains are begun; `now` if they are due already."""
    if due_days(zone, hour, last_on, now) is not None:
        return now
    day = now.astimezone(zone).date()
    first = day if last_on is None else max(last_on + DAY, day)
    begins = hour_of(zone, first, hour)
    return begins if begins > now else hour_of(zone, first + DAY, hour)


def lesser(began: Mode, now: Mode) -> Mode:
    """Return what a chain may do that began with one mode, while the tenant's is another now."""
    order = list(Mode)
    return min(began, now, key=order.index)


def hour_of(zone: ZoneInfo, day: date, hour: int) -> datetime:
    """Return the first moment at which the clock has reached this hour of the day."""
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
