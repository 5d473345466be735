"""The filters of a list of events, as they stand in a URL or on a command line (`domain/text/filters.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.events.outcomes import Flag, Status
from domain.text.filters import Cursor, check_range, check_text, cursor_of, id_of, one_of, time_of, written

SOURCES: Final = ("stripe", "clerk")
FAILED: Final = "failed"
"""The status of events whose job has failed: they are `received`, or `applied` before."""
KINDS: Final = tuple(dict.fromkeys(status.kind for status in Status))
STATUSES: Final = tuple(dict.fromkeys((FAILED, *KINDS, *Status)))
FLAGS: Final = ("any", *Flag)

NAMES: Final = ("source", "type", "status", "flag", "subject", "tenant", "since", "until", "text", "after")
LONGEST: Final = 200


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
    after: Cursor | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Return the outcomes that are asked for; none: any."""
        return tuple(each for each in Status if self.status in (each, each.kind))

    def query(self, **changes: Any) -> dict[str, str]:
        """Return the filters as a URL has them, with `changes` of the fields; without the place, unless that is one."""
        values = {name: getattr(self, name) for name in NAMES} | {"after": None} | changes
        return {name: written(value) for name, value in values.items() if value is not None}


def event_filter(query: Mapping[str, str]) -> EventFilter:
    """Read the filters of a URL or a command line; an empty one is none, and other names are not looked at.

    Raises:
        SenselessFilter: one is too long, or cannot be.
    """
    filled = {name: query[name].strip() for name in NAMES if query.get(name, "").strip()}
    for name, value in filled.items():
        check_text(name, value, LONGEST, "event")
    since, until = time_of("since", filled.get("since")), time_of("until", filled.get("until"))
    check_range(since, until)
    return EventFilter(
        source=one_of("source", filled.get("source"), SOURCES),
        type=filled.get("type"),
        status=one_of("status", filled.get("status"), STATUSES),
        flag=one_of("flag", filled.get("flag"), FLAGS),
        subject=filled.get("subject"),
        tenant=id_of("tenant", filled.get("tenant")),
        since=since,
        until=until,
        text=filled.get("text"),
        after=cursor_of(filled.get("after"), with_time=True),
    )
