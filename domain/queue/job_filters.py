"""The filters of a list of jobs, as they stand in a URL or on a command line, and the place in a list to go on from.

Each is bounded before anything is asked of the database: a text has a most length, a time a range, and a word is one
of a list. What makes no sense is refused with a sentence; it is never ignored, since a list without its filter would
answer another question than the one that was asked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.errors import ViralError
from domain.text.storable import is_storable

ENDED: Final = ("completed", "failed", "cancelled")
WAITING: Final = ("waiting", "scheduled", "backoff")
"""Parts of `pending`: due; due later; due later after an attempt that failed or was lost."""

STATES: Final = ("pending", "running", *ENDED, *WAITING)

LONGEST: Final = {"type": 200, "queue": 200, "cause": 300, "text": 200, "since": 40, "until": 40, "after": 80}
"""Characters of a filter. Names of job types and queues are other programs' too."""

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
MOST_LISTED: Final = 10_000
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST_AGO: Final = timedelta(days=3650)


class SenselessFilter(ViralError):
    """A filter asks for what cannot be; its text says which one, and how it would make sense."""


@dataclass(frozen=True)
class After:
    """A place in a list: the row that was looked at last. `ended` is None in lists that are in order of their ids."""

    id: UUID
    ended: datetime | None = None

    def __str__(self) -> str:
        if self.ended is None:
            return str(self.id)
        return f"{self.ended.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}~{self.id}"


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are asked for; None is no filter.

    `state` is one of `STATES`. `since` and `until` are about the end of jobs that have ended, if `state` says that they
    have, and otherwise about when they were enqueued; a span of time is so long ago. `text` is looked for in the fields
    that `db/queue/job_lists.py` names. `archived`: the archive's jobs and not the queue's.
    """

    state: str | None = None
    job_type: str | None = None
    queue: str | None = None
    tenant_id: UUID | None = None
    cause: str | None = None
    text: str | None = None
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    archived: bool = False
    after: After | None = None

    def __post_init__(self) -> None:
        """Raise SenselessFilter: filters contradict each other."""
        if self.archived and self.state is not None and self.state not in ENDED:
            raise SenselessFilter(f"status: the archive has only what has ended, and {self.state} has not")
        if self.after is not None and self.by_end != (self.after.ended is not None):
            raise SenselessFilter("after: it is a place in another list; begin at the first page")

    @property
    def by_end(self) -> bool:
        """Whether the list is in the order in which the jobs ended, the last first; otherwise it is in that of their
        ids, which is the order in which they were enqueued. The archive has the first order for what is rare there."""
        return self.state in (ENDED if not self.archived else ("failed", "cancelled"))

    def query(self, **changes: Any) -> dict[str, str]:
        """Return the filters as a URL has them, with `changes` of the fields; without the place, unless that is one."""
        values = {each.name: getattr(self, each.name) for each in fields(self)} | {"after": None} | changes
        return {NAMES.get(name, name): written(value) for name, value in values.items() if value not in (None, False)}


NAMES: Final = {"state": "status", "job_type": "type", "tenant_id": "tenant", "archived": "archive"}
"""What the fields are called in URLs, where it is another name."""

QUERY: Final = tuple(NAMES.get(each.name, each.name) for each in fields(JobFilter))
"""Every filter's name in a URL."""


def job_filter(query: Mapping[str, str]) -> JobFilter:
    """Read the filters of a URL; an empty one is none.

    Raises:
        SenselessFilter: one is unknown, too long, or cannot be.
    """
    texts = {name: value.strip() for name, value in query.items() if value.strip()}
    for name, value in texts.items():
        if name not in QUERY:
            raise SenselessFilter(f"{_shown(name)}: there is no such filter; there are {', '.join(QUERY[:-1])}")
        if len(value) > LONGEST.get(name, 80):
            raise SenselessFilter(f"{name}: it is longer than {LONGEST.get(name, 80)} characters")
        if not is_storable(value):
            raise SenselessFilter(f"{name}: it has characters that no job has")
    return JobFilter(
        state=_one_of("status", texts.get("status"), STATES),
        job_type=texts.get("type"),
        queue=texts.get("queue"),
        tenant_id=_id("tenant", texts.get("tenant")),
        cause=texts.get("cause"),
        text=texts.get("text"),
        since=_time("since", texts.get("since")),
        until=_time("until", texts.get("until")),
        archived=_one_of("archive", texts.get("archive"), ("yes",)) is not None,
        after=_after(texts.get("after")),
    )


def span_of_time(text: str) -> timedelta | None:
    """Read `90s`, `10m`, `2h`, `1d`, `1w`, or several of them: `1h30m`. None: it is none, or more than ten years."""
    if not re.fullmatch(r"([0-9]{1,6}[smhdw]){1,5}", text):
        return None
    parts = re.findall(r"([0-9]+)([smhdw])", text)
    total = sum((timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts), timedelta(0))
    return total if total <= LONGEST_AGO else None


def written(value: object) -> str:
    """Write a filter as `job_filter` reads it."""
    match value:
        case True:
            return "yes"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            parts = {
                "d": value.days,
                "h": value.seconds // 3600,
                "m": value.seconds // 60 % 60,
                "s": value.seconds % 60,
            }
            return "".join(f"{count}{unit}" for unit, count in parts.items() if count) or "0s"
    return str(value)


def _shown(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}…"


def _one_of(name: str, value: str | None, words: tuple[str, ...]) -> str | None:
    if value is not None and value not in words:
        raise SenselessFilter(f"{name}: there is no {_shown(value)}; there are {', '.join(words)}")
    return value


def _id(name: str, value: str | None) -> UUID | None:
    found = None if value is None else uuid_of(value)
    if value is not None and found is None:
        raise SenselessFilter(f"{name}: {_shown(value)} is no id; it looks like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    return found


def uuid_of(text: str) -> UUID | None:
    """Read an id as it is shown, with its four hyphens; None: it is none."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return None
    return UUID(text)


def _time(name: str, value: str | None) -> datetime | timedelta | None:
    if value is None:
        return None
    if (ago := span_of_time(value)) is not None:
        return ago
    try:
        parsed = datetime.fromisoformat(value)
        found = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise SenselessFilter(
            f"{name}: {_shown(value)} is no time; write 2026-12-01T09:00Z, 2026-12-01, or how long ago: 2h, 1d"
        ) from None
    if not FIRST <= found < LAST:
        raise SenselessFilter(f"{name}: {_shown(value)} is not between {FIRST.year} and {LAST.year}")
    return found


def _after(value: str | None) -> After | None:
    if value is None:
        return None
    moment, tilde, text = value.rpartition("~")
    job_id = uuid_of(text)
    try:
        ended = datetime.strptime(moment, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC) if tilde else None
    except ValueError:
        job_id = None
        ended = None
    if job_id is None:
        raise SenselessFilter("after: it is no place in this list; begin at the first page")
    return After(job_id, ended)
