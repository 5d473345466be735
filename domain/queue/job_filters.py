"""The filters of a list of jobs, as they stand in a URL or on a command line (`domain/text/filters.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.text.filters import (
    Cursor,
    SenselessFilter,
    check_range,
    check_text,
    cursor_of,
    id_of,
    one_of,
    shortly,
    time_of,
    written,
)

ENDED: Final = ("completed", "failed", "cancelled")
WAITING: Final = ("waiting", "scheduled", "backoff")
"""Parts of `pending`: due; due later; due later after an attempt that failed or was lost."""

STATES: Final = ("pending", "running", *ENDED, *WAITING)

LONGEST: Final = {"type": 200, "queue": 200, "cause": 300, "text": 200, "since": 40, "until": 40, "after": 80}
"""Characters of a filter. Names of job types and queues are other programs' too."""

MOST_LISTED: Final = 10_000


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
    after: Cursor | None = None

    def __post_init__(self) -> None:
        """Raise SenselessFilter: filters contradict each other."""
        if self.archived and self.state is not None and self.state not in ENDED:
            raise SenselessFilter(f"status: the archive has only what has ended, and {self.state} has not")
        if self.after is not None and self.by_end != (self.after.at is not None):
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
            raise SenselessFilter(f"{shortly(name)}: there is no such filter; there are {', '.join(QUERY[:-1])}")
        check_text(name, value, LONGEST.get(name, 80), "job")
    since, until = time_of("since", texts.get("since")), time_of("until", texts.get("until"))
    check_range(since, until)
    return JobFilter(
        state=one_of("status", texts.get("status"), STATES),
        job_type=texts.get("type"),
        queue=texts.get("queue"),
        tenant_id=id_of("tenant", texts.get("tenant")),
        cause=texts.get("cause"),
        text=texts.get("text"),
        since=since,
        until=until,
        archived=one_of("archive", texts.get("archive"), ("yes",)) is not None,
        after=cursor_of(texts.get("after")),
    )
