"""Notices: of what people of the operator are notified, and when. (A *notice* is a person's; a *notification* is the
queue's own, of a job.)

A cause is what stands as harm on the operator's first look: "posts failed", whosoever. Its notice is sent once, however
many it hurts; again only if it grew, if a day has passed and it still stands, or if it ended and came back; and once
that it is over. All notices of one look are one message.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

GROWN: Final = 10
"""So many times more than were notified of are notified of at once."""
REMINDED_AFTER: Final = timedelta(days=1)
URGENT_AGAIN: Final = timedelta(hours=1)
"""What is urgent and became more is sent again so long after it was sent, outside quiet hours."""
ENDS_AFTER: Final = timedelta(minutes=10)
"""What is not seen for so long is over: a queue that is late every other minute is one trouble."""
MOST_TEXT: Final = 3_500
"""Characters of a message: of the usual channels the shortest takes 4,096."""
MOST_SENTENCE: Final = 300


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of cause. `urgent` breaks the silence of quiet hours: money, effects outside of which nobody knows, and a
    system that stands still. `holds` is how long it must stand before it is sent, since it often mends itself. Of what
    `lapses` by itself after some days nobody is reminded: there is nothing to resolve."""

    title: str
    urgent: bool = False
    holds: timedelta = timedelta(0)
    lapses: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "failed_jobs": Kind("Jobs have failed"),
    "failed_posts": Kind("Posts have failed", lapses=True),
    "needs_reconnect": Kind("Accounts have to be connected again"),
    "deserted": Kind("A tenant pays, and nobody can sign in", urgent=True),
    "parked_money": Kind("Money is parked", urgent=True, holds=timedelta(minutes=15)),
    "parked_identity": Kind("Events of Clerk are parked", holds=timedelta(minutes=15)),
    "flagged": Kind("Events about money are flagged", urgent=True, lapses=True),
    "unconfirmed_clips": Kind("Clips may have been bought or not", urgent=True),
    "unconfirmed_posts": Kind("Posts may be live without our knowing", urgent=True),
    "queue_paused": Kind("A paused queue has due jobs", holds=timedelta(minutes=15)),
    "queue_unserved": Kind("No worker serves a queue", urgent=True, holds=timedelta(minutes=3)),
    "queue_late": Kind("A queue is late", holds=timedelta(minutes=5)),
    "no_scheduler": Kind("No scheduler works", urgent=True),
    "redis_deaf": Kind("Redis takes nothing", holds=timedelta(minutes=3)),
}
"""By the part of a cause before its colon. A test holds it against what the first look can say."""


class Why(StrEnum):
    """Why a notice is sent now."""

    NEW = "new"
    GREW = "grew"
    STILL = "still"
    OVER = "over"


class Seen(NamedTuple):
    """A cause as it is now: `number` of all that it hurts, `page` below `/ops`, and what to type."""

    cause: str
    says: tuple[str, ...]
    page: str
    shell: str
    number: int
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One stretch of a cause, from when it was first seen until it ended."""

    id: UUID
    cause: str
    says: tuple[str, ...]
    page: str
    shell: str
    number: int
    first_at: datetime
    last_at: datetime
    sent_at: datetime | None = None
    sent_number: int = 0
    ended_at: datetime | None = None
    over_sent_at: datetime | None = None

    @property
    def kind(self) -> Kind:
        return KINDS.get(self.cause.partition(":")[0], Kind(self.cause.replace("_", " ")))


class Entry(NamedTuple):
    why: Why
    notice: Notice


class Message(NamedTuple):
    """What all channels are sent."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` of each day in `zone`, over midnight if `end` is the earlier.

    Where an hour comes twice, they last from its first `start` to its second `end`, in one stretch; where one is left
    out, a time within it is the moment of the change.
    """

    start: time
    end: time
    zone: str

    def at(self, now: datetime) -> bool:
        """Return whether `now` lies within."""
        here = now.astimezone(ZoneInfo(self.zone))
        return self._by_clock(here.time()) or any(self._of(here.date() - timedelta(days=n), now) for n in (0, 1))

    def _by_clock(self, clock: time) -> bool:
        if self.start <= self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def _of(self, day: date, now: datetime) -> bool:
        """Return whether `now` lies between the first `start` of this day and the last `end` that follows."""
        over = timedelta(days=0 if self.start <= self.end else 1)
        begins = datetime.combine(day, self.start, ZoneInfo(self.zone)).replace(fold=0)
        ends = datetime.combine(day + over, self.end, ZoneInfo(self.zone)).replace(fold=1)
        return begins.astimezone(UTC) <= now < ends.astimezone(UTC)


def parse_quiet_hours(text: str) -> tuple[time, time] | None:
    """Read `22:00-07:00`; None of nothing.

    Raises:
        ValueError: it is something else, or no time at all.
    """
    if not text:
        return None
    start, dash, end = text.partition("-")
    begins, ends = time.fromisoformat(start.strip()), time.fromisoformat(end.strip())
    if not dash or begins == ends or begins.tzinfo or ends.tzinfo:
        raise ValueError("not two times of a day")
    return begins, ends


def look(
    before: Sequence[Notice],
    seen: Iterable[Seen],
    now: datetime,
    *,
    quiet: bool,
    new_id: Callable[[], UUID],
) -> tuple[list[Notice], list[Entry]]:
    """Bring the notices to what is seen now. Returns all of them as they are then (`before` are those that have not
    ended, or of whose end nobody was notified), and the entries of the message that is due."""
    causes = {each.cause: each for each in seen}
    standing = {each.cause: each for each in before if each.ended_at is None}
    # Of one that is there again, nobody is notified that it was over.
    found = [
        replace(each, over_sent_at=now) if each.cause in causes else each
        for each in before
        if each.ended_at is not None
    ]
    for cause, notice in standing.items():
        if (now_seen := causes.get(cause)) is not None:
            found.append(_still(notice, now_seen, now))
        else:
            found.append(replace(notice, ended_at=now) if now - notice.last_at >= ENDS_AFTER else notice)
    found += [_begun(each, now, new_id()) for cause, each in causes.items() if cause not in standing]
    entries = [
        Entry(why, notice)
        for notice in found
        if (notice.ended_at is not None or notice.cause in causes) and (why := _why(notice, now, quiet=quiet))
    ]
    after = {entry.notice.id: _sent(entry, now) for entry in entries}
    return [after.get(each.id, each) for each in found], sorted(entries, key=_order)


def _begun(seen: Seen, now: datetime, notice_id: UUID) -> Notice:
    since = now if seen.since is None else min(seen.since, now)
    return Notice(notice_id, seen.cause, seen.says, seen.page, seen.shell, seen.number, since, now)


def _still(notice: Notice, seen: Seen, now: datetime) -> Notice:
    return replace(notice, says=seen.says, page=seen.page, shell=seen.shell, number=seen.number, last_at=now)


def _why(notice: Notice, now: datetime, *, quiet: bool) -> Why | None:
    kind = notice.kind
    if notice.ended_at is not None:
        due = notice.sent_at is not None and notice.over_sent_at is None and not quiet
        return Why.OVER if due else None
    if quiet and not kind.urgent:
        return None
    if notice.sent_at is None:
        return Why.NEW if now - notice.first_at >= kind.holds else None
    ago, more = now - notice.sent_at, notice.number > notice.sent_number
    if notice.number >= GROWN * max(notice.sent_number, 1):
        return Why.GREW
    if quiet:
        return None
    if kind.urgent and more and ago >= URGENT_AGAIN:
        return Why.GREW
    return Why.STILL if ago >= REMINDED_AFTER and (more or not kind.lapses) else None


def _sent(entry: Entry, now: datetime) -> Notice:
    if entry.why is Why.OVER:
        return replace(entry.notice, over_sent_at=now)
    return replace(entry.notice, sent_at=now, sent_number=entry.notice.number)


def _order(entry: Entry) -> tuple[bool, bool, str]:
    return entry.why is Why.OVER, not entry.notice.kind.urgent, entry.notice.cause


# --- words ------------------------------------------------------------------------------------------------------

NAMES: Final = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'"})
"""Names are others' text, and a channel may read markup or call everybody (`<!channel>`, `@everyone`)."""

HEADS: Final = {
    Why.NEW: "New",
    Why.GREW: "More than before",
    Why.STILL: "Still so after a day",
    Why.OVER: "Over",
}


def message(entries: Sequence[Entry], *, base: str) -> Message:
    """Write the message of one look. `base` is the address of `/ops`, without a slash at its end."""
    first, others = entries[0], len(entries) - 1
    title = f"{HEADS[first.why]}: {first.notice.kind.title}"
    if others:
        title += f" (and {others} more)"
    parts = [_part(each, base) for each in entries]
    text, left = parts[0], len(parts) - 1
    for part in parts[1:]:
        if len(text) + len(part) > MOST_TEXT:
            break
        text, left = f"{text}\n\n{part}", left - 1
    if left:
        text += f"\n\n{left} more: {base}/notices\n    viral notices list"
    return Message(title.translate(NAMES), text.translate(NAMES))


def content(entries: Sequence[Entry], *, base: str) -> list[dict[str, object]]:
    """Return the same for programs: JSON values."""
    return [
        {
            "id": str(notice.id),
            "cause": notice.cause,
            "why": str(why),
            "title": notice.kind.title,
            "says": list(notice.says),
            "number": notice.number,
            "urgent": notice.kind.urgent,
            "since": notice.first_at.isoformat(),
            "page": f"{base}/{notice.page}",
            "shell": notice.shell,
        }
        for why, notice in entries
    ]


def _part(entry: Entry, base: str) -> str:
    why, notice = entry
    if why is Why.OVER:
        ended = notice.ended_at or notice.last_at
        return f"{HEADS[why]}: {notice.kind.title}. It stood from {_when(notice.first_at)} to {_when(ended)}."
    lines = [f"{HEADS[why]}: {notice.kind.title}, since {_when(notice.first_at)}"]
    lines += [f"- {says[:MOST_SENTENCE]}" for says in notice.says]
    return "\n".join([*lines, f"    {base}/{notice.page}", f"    {notice.shell}"])


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- when a channel fails ---------------------------------------------------------------------------------------

WAITS: Final = tuple(timedelta(seconds=each) for each in (15, 60, 300, 900, 3600, 3600, 3600, 3600, 7200, 7200))
"""After each attempt that a channel did not take. After the last the message is given up: what still stands is sent
again the next day anyway."""


def next_try(attempts: int) -> timedelta | None:
    """Return the wait after so many attempts; None: no more."""
    return WAITS[attempts - 1] if attempts <= len(WAITS) else None
