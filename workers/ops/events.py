"""Stored events as an operator sees them, and how they are applied again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.events.store import Replayable
from db.transaction import SYSTEM, Tx
from domain.errors import EventDropped, UnknownEvent
from domain.events.outcomes import Ignored, Status
from domain.events.triage import TRIAGE
from domain.ops.causes import Cause, CauseKind
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime import work
from workers.runtime.work import working

APPLIED_BY = {"stripe": apply_stripe_event, "clerk": apply_clerk_event}


@dataclass(frozen=True)
class Replayed:
    """An event and the job that applies it again."""

    event_id: UUID
    source: str
    job_id: UUID


def find(tx: Tx, name: str) -> dict[str, Any]:
    """Return the event of our id or the sender's. Why its type is ignored is added where the row does not say it.

    Raises:
        UnknownEvent: there is none.
    """
    row = tx.events.find(name)
    if row is None:
        raise UnknownEvent(f"no event has the id {name}; `viral events list` shows the newest")
    if row["status"] == Status.IGNORED_TYPE and row["detail"] is None and row["source"] in TRIAGE:
        found = TRIAGE[row["source"]](row["type"])
        row["detail"] = found.detail if isinstance(found, Ignored) else None
    return row


def replay(
    app: App,
    event_ids: Sequence[str] = (),
    *,
    parked: str | None = None,
    ignored: str | None = None,
    limit: int,
) -> list[Replayed]:
    """Apply these events again; with `parked`, the oldest of those whose reason begins with it; with `ignored`, the
    oldest of those that were ignored for this type.

    Raises:
        UnknownEvent, EventDropped: of one of `event_ids`; none is replayed.
    """
    with app.db.transaction(SYSTEM) as tx:
        if parked is not None:
            events = tx.events.parked(parked, limit)
        elif ignored is not None:
            events = tx.events.ignored(ignored, limit)
        else:
            events = sorted({_replayable(tx, name) for name in event_ids})  # in the order in which all enqueue them
        return [_enqueue(tx, event) for event in events]


def _replayable(tx: Tx, name: str) -> Replayable:
    row = tx.events.find(name)
    if row is None:
        raise UnknownEvent(f"no event has the id {name}; nothing was replayed")
    if row["dropped_at"] is not None:
        raise EventDropped(name, row["dropped_at"])
    return Replayable(row["id"], row["source"], row["type"])


def _enqueue(tx: Tx, event: Replayable) -> Replayed:
    job, priority = APPLIED_BY[event.source], TRIAGE[event.source](event.type)
    job = job if isinstance(priority, Ignored) else job.with_options(priority=priority)
    with working(work.current.get()._replace(cause=str(Cause(CauseKind.EVENT, str(event.id))), event_id=event.id)):
        job_id = job.enqueue(tx, event_id=event.id)
    tx.events.assign(event.id, job_id)
    return Replayed(event.id, event.source, job_id)
