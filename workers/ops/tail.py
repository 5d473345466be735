"""What jobs begin and end, live: looked for again and again, with no gaps and nothing twice (`db/queue/tail.py`)."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from db.queue.tail import AT_ONCE, OVERLAP, Position
from db.transaction import NO_ANSWER, SYSTEM
from workers.app import App

Row = Mapping[str, Any]

SHORTEST, LONGEST = 0.5, 2.0
"""Seconds between two looks, while something happens and on a quiet system: three short queries each."""

BEGAN: Final = "running"
AGAIN: Final = "pending"
BROKE: Final = ("failed", "lost", "rejected")


@dataclass(frozen=True)
class JobEvent:
    """One job began (`running`), ended (`completed`, `failed`, `cancelled`), or is `pending` again: it failed and is
    tried again, was put off, or was given back. `waited` is since it was due, `took` how long the attempt ran; neither
    is ever below zero, and None is not known."""

    at: datetime
    status: str
    id: UUID
    job_type: str
    queue: str
    tenant_id: UUID | None
    attempt: int
    waited: timedelta | None
    took: timedelta | None
    outcome: str | None
    error: str | None


@dataclass(frozen=True)
class TailFilter:
    """Which events are shown; None is no filter. `failed`: what failed, whether or not it is tried again."""

    status: str | None = None
    job_type: str | None = None
    queue: str | None = None
    tenant_id: UUID | None = None
    failed: bool = False

    def fits(self, event: JobEvent) -> bool:
        return (
            self.status in (None, event.status)
            and self.job_type in (None, event.job_type)
            and self.queue in (None, event.queue)
            and self.tenant_id in (None, event.tenant_id)
            and (not self.failed or event.status == "failed" or event.outcome in BROKE)
        )


class Tail:
    """Looks at what happened since its last look; the first look shows nothing, and says from where on.

    A job that begins and ends between two looks is shown once, at its end. `behind`: there is more already.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._since: datetime | None = None
        self._positions: dict[str, Position] = {}
        self._running: dict[UUID, Row] = {}
        self._shown: dict[tuple[UUID, datetime], None] = {}
        self.behind = False

    def look(self) -> list[JobEvent]:
        """Return what happened since the last look, in the order of the times at which it did.

        Raises:
            DatabaseUnavailable: nothing was seen, and nothing is lost: the next look sees it.
        """
        with self._app.db.transaction(SYSTEM) as tx:
            tx.explain.use_one_snapshot()
            now = tx.now()  # not after the snapshot, which the first query takes
            running: dict[UUID, Row] = {row["id"]: row for row in tx.job_tail.running()}
            positions = self._positions or {status: Position(now) for status in OVERLAP}
            ended = tx.job_tail.ended(positions)
            gone = [
                job_id
                for job_id, row in self._running.items()
                if job_id not in running or running[job_id]["lease_token"] != row["lease_token"]
            ]
            named = tx.job_tail.named(gone) if gone else []
        self._since = self._since or now
        lately = [row for rows in ended.values() for row in rows if row["completed_at"] >= self._since]
        events = [*self._ends([*lately, *named])]
        events += [_again(row, self._running[row["id"]]) for row in named if row["completed_at"] is None]
        if self._positions:
            begun = (row for row in running.values() if self._begins(row))
            events += [_event(row, BEGAN, row["started_at"] or now) for row in begun]
        self._running = running
        self.behind = any(len(rows) == AT_ONCE for rows in ended.values())
        self._positions = {
            status: Position(rows[-1]["completed_at"], rows[-1]["id"])
            if len(rows) == AT_ONCE
            else Position(now - overlap)
            for (status, overlap), rows in zip(OVERLAP.items(), ended.values(), strict=True)
        }
        oldest = min(each.ended for each in self._positions.values())
        self._shown = {key: None for key in self._shown if key[1] >= oldest}
        return sorted(events, key=lambda event: (event.at, event.status != BEGAN, event.id))

    def _begins(self, row: Row) -> bool:
        before = self._running.get(row["id"])
        return before is None or before["lease_token"] != row["lease_token"]

    def _ends(self, rows: Iterable[Row]) -> Iterable[JobEvent]:
        for row in rows:
            key = (row["id"], row["completed_at"])
            if row["completed_at"] is not None and key not in self._shown:
                self._shown[key] = None
                yield _event(row, row["status"], row["completed_at"])


def follow(
    tail: Tail,
    show: Callable[[list[JobEvent]], object],
    *,
    pause: Callable[[float], object],
    say: Callable[[str], object],
    lasting: timedelta | None = None,
) -> None:
    """Show what happens until `pause` raises, or for so long. While Postgres is away, that is said once.

    Raises:
        DatabaseUnavailable: it does not answer at the first look.
    """
    until, between, looked, away = None, SHORTEST, False, False
    if lasting is not None:
        until = time.monotonic() + lasting.total_seconds()
    while True:
        try:
            events = tail.look()
        except NO_ANSWER as error:
            if not looked:
                raise
            if not away:
                say(f"{error}: waiting for it")
            away, between = True, LONGEST
        else:
            if away:
                say("Postgres answers again")
            looked, away = True, False
            show(events)
            between = SHORTEST if events else min(between * 1.5, LONGEST)
        if until is not None and time.monotonic() >= until:
            return
        if not tail.behind or away:
            pause(between)


def _event(row: Row, status: str, at: datetime, **changed: Any) -> JobEvent:
    started, ended = row["started_at"], row["completed_at"]
    return JobEvent(
        **{
            "at": at,
            "status": status,
            "id": row["id"],
            "job_type": row["job_type"],
            "queue": row["queue"],
            "tenant_id": row["tenant_id"],
            "attempt": row["attempts"],
            "waited": length(row["scheduled_for"], started),
            "took": length(started, ended),
            "outcome": None,
            "error": None if status in (BEGAN, "completed") else row["error_message"],
        }
        | changed
    )


def _again(row: Row, before: Row) -> JobEvent:
    """The end of an attempt whose job is pending again, or runs again; `before` is the row while it ran."""
    recorded = row.get("ended_at") is not None and row["began"] == before["started_at"]
    return _event(
        row,
        AGAIN,
        row["ended_at"] if recorded else row["started_at"] or before["started_at"],
        attempt=before["attempts"],
        waited=length(before["scheduled_for"], before["started_at"]),
        took=length(before["started_at"], row["ended_at"]) if recorded else None,
        outcome=row["outcome"] if recorded else "returned",
        error=row["error_message"] if recorded else None,
    )


def length(since: datetime | None, until: datetime | None) -> timedelta | None:
    """How long from one moment to the other, never below zero: clocks are set back, and other programs write times."""
    return None if since is None or until is None else max(until - since, timedelta(0))
