"""Stored events as an operator sees them, and how they are applied again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db.events.store import Replayable
from db.transaction import SYSTEM, Tx
from domain.errors import UnknownEvent
from domain.events.outcomes import Ignored, Status
from domain.events.triage import TRIAGE
from workers.app import App
from workers.ops.acting import apply_again, replayable


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


def to_replay(
    app: App,
    event_ids: Sequence[str] = (),
    *,
    parked: str | None = None,
    ignored: str | None = None,
    limit: int,
) -> list[Replayable]:
    """Return these events; with `parked`, the oldest of those whose reason begins with it; with `ignored`, the oldest
    of those that were ignored for this type.

    Raises:
        UnknownEvent, EventDropped: of one of `event_ids`.
    """
    with app.db.transaction(SYSTEM) as tx:
        return _to_replay(tx, event_ids, parked, ignored, limit)


def _to_replay(
    tx: Tx, event_ids: Sequence[str], parked: str | None, ignored: str | None, limit: int
) -> list[Replayable]:
    if parked is not None:
        return tx.events.parked(parked, limit)
    if ignored is not None:
        return tx.events.ignored(ignored, limit)
    return sorted({replayable(tx, name) for name in event_ids})  # in the order in which all enqueue them


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
        return [
            Replayed(each.id, each.source, apply_again(tx, each))
            for each in _to_replay(tx, event_ids, parked, ignored, limit)
        ]
