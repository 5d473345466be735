"""The filters of a list of events, as they stand in a URL or on a command line, and the place in a list to go on from.

Each is bounded before anything is asked of the database. What makes no sense is refused with a sentence, never ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID

from domain.errors import ViralError
from domain.events.outcomes import Flag, Status
from domain.text.storable import is_storable

SOURCES: Final = ("stripe", "clerk")
FAILED: Final = "failed"
"""The status of events whose job has failed: they are `received`, or `applied` before."""
KINDS: Final = tuple(dict.fromkeys(status.kind for status in Status))
STATUSES: Final = tuple(dict.fromkeys((FAILED, *KINDS, *Status)))
FLAGS: Final = ("any", *Flag)

NAMES: Final = ("source", "type", "status", "flag", "subject", "tenant", "since", "until", "text", "after")
LONGEST: Final = 200
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
MOST_AGO: Final = 3_650 * 86_400
"""Seconds. What is longer ago counts as this."""


class SenselessEventFilter(ViralError):
    """A filter asks for what cannot be; its text says which one, and how it would make sense."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: the event that was looked at last."""

    received_at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{self.received_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}~{self.id}"

    @classmethod
    def read(cls, text: str) -> Self:
        moment, _, event_id = text.partition("~")
        try:
            return cls(datetime.strptime(moment, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), UUID(event_id))
        except ValueError:
            raise SenselessEventFilter("after: it is no place in this list; begin at the first page") from None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """All that are filled apply together. `status` is one of `STATUSES`, `subject` a customer, user or organization of
    the sender. `since` and `until` are about the receipt; a span of time is so long ago. `text` is part of the sender's
    id or of the subject, in any case of letters."""

    source: str | None = None
    type: str | None = None
    status: str | None = None
    flag: str | None = None
    subject: str | None = None
    tenant: UUID | None = None
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    text: str | None = None
    after: Place | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Return the outcomes that are asked for; none: any."""
        return tuple(each for each in Status if self.status in (each, each.kind))


def event_filter(query: Mapping[str, str]) -> EventFilter:
    """Read the filters of a URL or a command line; an empty one is none, and other names are not looked at.

    Raises:
        SenselessEventFilter: one is too long, or cannot be.
    """
    filled = {name: query[name].strip() for name in NAMES if query.get(name, "").strip()}
    for name, value in filled.items():
        if len(value) > LONGEST:
            raise SenselessEventFilter(f"{name}: it is longer than {LONGEST} characters")
        if not is_storable(value):
            raise SenselessEventFilter(f"{name}: it has characters that no event has")
    after = filled.get("after")
    return EventFilter(
        source=_one_of("source", filled.get("source"), SOURCES),
        type=filled.get("type"),
        status=_one_of("status", filled.get("status"), STATUSES),
        flag=_one_of("flag", filled.get("flag"), FLAGS),
        subject=filled.get("subject"),
        tenant=_id("tenant", filled.get("tenant")),
        since=_time("since", filled.get("since")),
        until=_time("until", filled.get("until")),
        text=filled.get("text"),
        after=None if after is None else Place.read(after),
    )


def _one_of(name: str, value: str | None, words: tuple[str, ...]) -> str | None:
    if value is not None and value not in words:
        raise SenselessEventFilter(f"{name}: there is no {value[:40]}; there are {', '.join(words)}")
    return value


def _id(name: str, value: str | None) -> UUID | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise SenselessEventFilter(f"{name}: {value[:40]} is no id; it is like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    return UUID(value)


def _time(name: str, value: str | None) -> datetime | timedelta | None:
    if value is None:
        return None
    if ago := re.fullmatch(r"([0-9]{1,9})([smhdw])", value):
        found_ago = int(ago[1]) * SECONDS[ago[2]]
        return timedelta(seconds=min(found_ago, MOST_AGO))
    try:
        parsed = datetime.fromisoformat(value)
        found = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SenselessEventFilter(
            f"{name}: {value[:40]} is no time; write 2026-12-01T09:00Z, 2026-12-01, or how long ago: 2h, 1d"
        ) from None
    if not FIRST <= found < LAST:
        raise SenselessEventFilter(f"{name}: {value[:40]} is not between {FIRST.year} and {LAST.year}")
    return found


def query_of(wanted: EventFilter) -> dict[str, str]:
    """Return the filters as `event_filter` reads them."""
    values = {name: getattr(wanted, name) for name in NAMES}
    return {name: _written(value) for name, value in values.items() if value is not None}


def _written(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{int(value.total_seconds())}s"
    return str(value)
