"""Lists of jobs by filter, as the operator's page and the shell show them, and what they say of themselves."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from db.queue.job_lists import TEXT_FIELDS, Found
from db.transaction import SYSTEM
from domain.queue.job_filters import JobFilter
from domain.text.filters import SenselessFilter, moment_of, uuid_of
from workers.app import App
from workers.ops.filter_names import check_names
from workers.ops.job_reports import masked_job
from workers.ops.reveals import note_reveal

PAGE = 50


@dataclass(frozen=True)
class JobList:
    """A page of jobs at one moment. `notes` are sentences: in which order they are, and what was looked at.

    `further` is the filter of the next page, None if all that fits has been shown. `looked_at`: how many jobs were
    looked at, if the page ended for that and not because it was full.
    """

    at: datetime
    wanted: JobFilter
    rows: list[dict[str, Any]]
    further: JobFilter | None
    looked_at: int | None
    notes: list[str]


def job_list(app: App, wanted: JobFilter, *, limit: int = PAGE, whole: bool = False, unmasked: bool = False) -> JobList:
    """Return the jobs that fit, up to `limit`; `whole`: with payload and result, masked unless asked for otherwise."""
    named = None if wanted.text is None else uuid_of(wanted.text)
    with app.db.transaction(SYSTEM) as tx:
        tx.explain.use_one_snapshot()
        now = tx.now()
        asked = replace(wanted, since=moment_of(wanted.since, now), until=moment_of(wanted.until, now))
        if named is not None:
            asked = replace(asked, text=None)
        found = tx.job_lists.page(asked, limit=limit, ids=None if named is None else [named], whole=whole)
    further = None if found.further is None else replace(wanted, after=found.further)
    if unmasked:
        with app.db.transaction(SYSTEM) as tx:
            note_reveal(tx, "jobs")
    notes = _notes(wanted, found, named)
    if not found.rows and further is None:
        try:
            check_names(app, wanted)
        except SenselessFilter as error:
            notes.append(f"{error}.")
    rows = found.rows if unmasked else [masked_job(row) for row in found.rows]
    return JobList(now, wanted, rows, further, found.looked_at, notes)


def _notes(wanted: JobFilter, found: Found, named: UUID | None) -> list[str]:
    notes = ["In the order in which they ended, the last first." if wanted.by_end else "The newest first."]
    if named is not None:
        notes.append("The text is an id: the job of this id.")
    elif wanted.text is not None:
        fields = ", ".join(TEXT_FIELDS)
        notes.append(f"The text is looked for in {fields}; not in payloads and results.")
    if found.looked_at is not None:
        order = "that ended last" if wanted.by_end else "that are newest"
        these = f"{found.looked_at:,} jobs {order}" if wanted.after is None else f"next {found.looked_at:,} jobs"
        notes.append(f"Only the {these} were looked at: what fits among older ones is on the further pages.")
    return notes
