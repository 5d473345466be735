"""Events as an operator looks for them and reads one: what became of it, what it changed, what happened around it. The
shell and the page show the same."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from db.ops.events import MOST_COUNTED
from db.transaction import SYSTEM, Tx
from domain.events.explain import became
from domain.events.outcomes import Status
from domain.ops.event_filters import EventFilter
from domain.ops.masking import masked_event, masked_text
from domain.text.filters import moment_of
from workers.app import App
from workers.ops import events
from workers.ops.lineage import Lineage, lineage
from workers.ops.reveals import note_reveal

PAGE = 50
Row = dict[str, Any]


@dataclass(frozen=True)
class EventList:
    """Events at one moment, newest first. `count` is a number or words such as "more than 10,000"; `notes` are
    sentences on what was looked at; `further` is the filter of the next page."""

    at: datetime
    wanted: EventFilter
    rows: list[Row]
    further: EventFilter | None
    count: str
    notes: list[str]


@dataclass(frozen=True)
class EventReport:
    """One event. `event` is its row without what it said; `payload` that, masked unless it was asked for as it stands
    (None: not kept); `body_bytes` the size of what was signed.

    `became` are sentences. `job` is the row of the job that applied it last, live or archived, with `archived`.
    `ledger` are the quota's entries that it caused, `related` the events of the same subject around it in the order in
    which they occurred, each with `became`, `same_object` and `this`.
    """

    at: datetime
    event: Row
    became: list[str]
    payload: Any
    body_bytes: int | None
    tenant_id: UUID | None
    tenant_name: str | None
    job: Row | None
    ledger: list[Row]
    related: list[Row]
    lineage: Lineage


def event_list(app: App, wanted: EventFilter, *, limit: int = PAGE) -> EventList:
    """Return the events that match, `limit` at most, from the place `wanted.after` on."""
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        since, until = moment_of(wanted.since, now), moment_of(wanted.until, now)
        found = tx.event_views.page(replace(wanted, since=since, until=until), limit=limit)
        rows = _with_outcomes(tx, found.rows)
    further = None if found.further is None else replace(wanted, after=found.further)
    count = f"{found.count:,}" if found.counted_all else f"at least {found.count:,}"
    if found.count > MOST_COUNTED:
        count = f"more than {MOST_COUNTED:,}"
    notes = []
    if wanted.text is not None and found.exact:
        notes.append("The text is an id or a subject: these are its events, of any age.")
    elif wanted.text is not None:
        notes.append("The text is looked for in the sender's id and in the subject; not in what the events said.")
    if found.looked_at is not None:
        looked_at = f"{found.looked_at:,}"
        these = f"next {looked_at}" if wanted.after else f"newest {looked_at}"
        notes.append(f"Only the {these} events were looked at; what matches among older ones is on the further pages.")
    return EventList(now, wanted, rows, further, count, notes)


def event_report(app: App, name: str, *, unmasked: bool = False) -> EventReport:
    """Return the event of our id or the sender's.

    Raises:
        UnknownEvent: there is none.
    """
    with app.db.transaction(SYSTEM) as tx:
        row = events.find(tx, name)
        if unmasked:
            note_reveal(tx, f"event:{row['id']}")
        body, payload = row.pop("body"), row.pop("payload")
        job = _job(tx, row["job_id"])
        tenant_id = tx.event_views.tenant_of(row["source"], row["subject"])
        causes = [f"event:{row['external_id']}", f"event:{row['id']}"]
        causes += [f"job:{row['job_id']}"] if row["job_id"] else []
        return EventReport(
            at=tx.now(),
            event=row | {"detail": masked_text(row["detail"])},
            became=became(row, None if job is None else job["status"]),
            payload=None if row["dropped_at"] else payload if unmasked else masked_event(row["source"], payload),
            body_bytes=None if body is None else len(body),
            tenant_id=tenant_id,
            tenant_name=None if tenant_id is None else tx.tenants.seen(tenant_id)["name"],
            job=job,
            ledger=[] if tenant_id is None else tx.event_views.ledger_of(tenant_id, causes),
            related=_related(tx, row),
            lineage=lineage(tx, "event", row["id"]),
        )


def _job(tx: Tx, job_id: UUID | None) -> Row | None:
    if job_id is None:
        return None
    row = tx.jobs.get(job_id)
    return row | {"archived": False} if row is not None else tx.archive.get(job_id)


def _related(tx: Tx, row: Row) -> list[Row]:
    around = _with_outcomes(tx, tx.event_views.related(row))
    mine = next((each["object_id"] for each in around if each["id"] == row["id"]), None)
    return [
        each | {"this": each["id"] == row["id"], "same_object": mine is not None and each["object_id"] == mine}
        for each in around
    ]


def _with_outcomes(tx: Tx, rows: list[Row]) -> list[Row]:
    """Return the rows with what `became` of each, in one sentence or more. Of the jobs only those that are not in the
    archive are asked: what is there has left an outcome."""
    received = [row["job_id"] for row in rows if row["status"] == Status.RECEIVED and row["job_id"]]
    jobs = tx.event_views.jobs_of(received) if received else {}
    return [
        row | {"became": became(row, jobs.get(row["job_id"])), "detail": masked_text(row["detail"])} for row in rows
    ]
