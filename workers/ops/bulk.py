"""Actions on many things: a preview chooses them, once and exactly; a job acts on them; a report says how far it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, Rejected
from domain.ops.action_list import action as action_of
from domain.ops.actions import (
    MOST_ITEMS,
    Action,
    Arguments,
    Kind,
    Target,
    bulk_line,
    check_reason,
    read_arguments,
    target,
)
from domain.ops.many import ManyFilter, check_choice
from domain.posting.validation import time_faults
from domain.text.filters import moment_of
from domain.videos.profiles import NAMES
from workers.app import App
from workers.jobs.bulk import act_on_many
from workers.ops.actions import METRIC
from workers.runtime import work
from workers.runtime.work import working

Row = dict[str, Any]

PREVIEW_KEPT = timedelta(hours=1)
"""A preview that is older cannot be begun: who looked at it has seen something else."""

LONGEST_CHOICE = timedelta(seconds=20)
SHOWN = 10


@dataclass(frozen=True)
class Bulk:
    """A bulk action at one moment. `chosen` is the filter, or the number of things that were named; `more`: others fit
    too, and are not among its `items`. `counts` are the items by outcome, and those that are `left`; `first` the first
    ones of a preview, each with what it is (else empty); `refused` some of those that were refused or failed
    (`position`, `target`, `outcome`, `says`). `shell` is the line that begins the same, where it has a filter."""

    id: UUID
    at: datetime
    who: str
    action: Action
    chosen: Row
    arguments: Row
    reason: str | None
    state: str
    items: int
    more: bool
    counts: dict[str, int]
    first: list[tuple[str, str]]
    refused: list[Row]
    shell: str | None
    job_id: UUID | None
    started_at: datetime | None
    ended_at: datetime | None
    cancelled_by: str | None

    @property
    def left(self) -> int:
        return self.counts.get("left", 0)

    @property
    def over(self) -> bool:
        return self.state in ("completed", "cancelled")


class NoSuchBulk(Rejected):
    """No bulk action has this id; a preview is kept for an hour."""


def preview(
    app: App,
    name: str,
    arguments: Arguments | None = None,
    *,
    who: str,
    wanted: ManyFilter | None = None,
    targets: Sequence[Target] = (),
) -> Bulk:
    """Choose what an action would be performed on, and keep exactly that: what a filter finds, or what is named.
    `begin` acts on these, whatever fits by then.

    Raises:
        Rejected: the action cannot be done to many, or to these, or at this time; or choosing them takes too long.
    """
    action = action_of(name)
    values = read_arguments(action.of_many(), arguments or {})
    _check(action, wanted, targets)
    with app.db.transaction(SYSTEM, timeout=LONGEST_CHOICE) as tx:
        bulk_id, now, more = tx.new_id(), tx.now(), False
        # Here, once: each of them would be refused for it.
        for fault in time_faults(values.get("at"), now):
            raise Rejected(fault)
        if wanted is not None:
            tx.actions.preview(bulk_id, who=who, action=name, chosen=wanted.query(), arguments=values)
            since, until = moment_of(wanted.since, now), moment_of(wanted.until, now)
            _, more = tx.actions.choose(bulk_id, replace(wanted, since=since, until=until, after=None))
        else:
            tx.actions.preview(bulk_id, who=who, action=name, chosen={"named": len(targets)}, arguments=values)
            tx.actions.name_items(bulk_id, sorted({str(each) for each in targets}))
        return replace(_read(tx, bulk_id), more=more)


def _check(action: Action, wanted: ManyFilter | None, targets: Sequence[Target]) -> None:
    if not action.bulk:
        raise Rejected(f"{action.name} is done to one thing at a time")
    if (wanted is not None) == bool(targets):
        raise Rejected("name things, or a filter: one of them")
    if len(targets) > MOST_ITEMS:
        raise Rejected(f"at most {MOST_ITEMS:,} things can be named")
    if any(each.kind is not action.kind for each in targets):
        raise Rejected(f"{action.name} is done to a {action.kind}")
    if wanted is not None:
        check_choice(action, wanted)


def begin(app: App, bulk_id: UUID, *, who: str, reason: str | None) -> Bulk:
    """Have a job act on what a preview has chosen. Of many who begin it, one does.

    Raises:
        Rejected: no reason is said.
        NoSuchBulk: there is no such preview.
        Conflict: it has begun already, is too old, or has nothing to act on.
    """
    kept = check_reason(reason, needed=True)
    with working(work.current.get()._replace(cause=who)), app.db.transaction(SYSTEM) as tx:
        bulk = _read(tx, bulk_id)
        job_id = act_on_many.enqueue(tx, bulk_id=bulk_id)
        if not tx.actions.start(bulk_id, job_id, kept or "", PREVIEW_KEPT):
            why = "nothing is chosen" if not bulk.items else "it has begun, was cancelled, or is older than an hour"
            raise Conflict("NOT_A_PREVIEW", f"{why}: preview it again")
        tx.actions.begin(
            tx.new_id(),
            who=who,
            action=bulk.action.name,
            target=f"bulk:{bulk_id}",
            arguments=bulk.arguments,
            reason=kept,
            bulk_id=bulk_id,
        )
        tx.notifications.count(METRIC, bulk.action.name)
        return _read(tx, bulk_id)


def cancel_bulk(app: App, bulk_id: UUID, *, who: str) -> Bulk:
    """Stop a bulk action before its next items; what was done stays done.

    Raises:
        NoSuchBulk: there is none of this id.
        Conflict: it has ended.
    """
    with app.db.transaction(SYSTEM) as tx:
        bulk = _read(tx, bulk_id)
        if not tx.actions.cancel(bulk_id, who):
            raise Conflict("HAS_ENDED", f"it is {bulk.state}")
        job = None if bulk.job_id is None else tx.jobs.get(bulk.job_id)
        if bulk.state == "running" and (job is None or job["status"] not in ("pending", "running")):
            tx.actions.end_bulk(bulk_id, "done", "cancelled; nobody worked on it any more")
        return _read(tx, bulk_id)


def bulk(app: App, bulk_id: UUID, *, after_position: int = 0, most: int = 100) -> Bulk:
    """Return how far a bulk action is, with so many of those that were refused behind that position.

    Raises:
        NoSuchBulk: there is none of this id.
    """
    with app.db.transaction(SYSTEM) as tx:
        return _read(tx, bulk_id, after_position=after_position, most=most)


def bulks(app: App, *, limit: int = 50) -> list[Row]:
    """Return the rows of the newest bulk actions that were begun."""
    with app.db.transaction(SYSTEM) as tx:
        return tx.actions.bulks(limit)


def _read(tx: Tx, bulk_id: UUID, *, after_position: int = 0, most: int = 100) -> Bulk:
    row = tx.actions.bulk(bulk_id)
    if row is None:
        raise NoSuchBulk(f"there is no bulk action {bulk_id}; a preview is kept for an hour")
    action, chosen, previewed = action_of(row["action"]), row["chosen"], row["state"] == "previewed"
    options = {
        f"--{name}": value for name, value in sorted(chosen.items(), key=lambda each: (each[0] != "status", each[0]))
    }
    return Bulk(
        id=bulk_id,
        at=row["at"],
        who=row["who"],
        action=action,
        chosen=chosen,
        arguments=row["arguments"],
        reason=row["reason"],
        state=row["state"],
        items=row["items"],
        more=False,
        counts=tx.actions.counts(bulk_id),
        first=[(each, _what(tx, target(each))) for each in tx.actions.first_items(bulk_id, SHOWN)] if previewed else [],
        refused=tx.actions.refused_items(bulk_id, after_position=after_position, limit=most),
        shell=None if "named" in chosen else bulk_line(action, row["arguments"], options, row["reason"]),
        job_id=row["job_id"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancelled_by=row["cancelled_by"],
    )


def _what(tx: Tx, of: Target) -> str:
    """Say what a thing is, for who is about to act on it; it may have texts from outside."""
    tx.work_as(SYSTEM)
    match of.kind:
        case Kind.JOB:
            row = tx.jobs.get(of.uuid)
            words = None if row is None else (row["job_type"], row["status"], row["error_message"])
        case Kind.EVENT:
            row = tx.events.find(of.id)
            words = None if row is None else (row["type"], row["status"], None)
        case Kind.POST:
            owner = tx.planned_posts.owner(of.uuid)
            row = None if owner is None else tx.planned_posts.get(owner, of.uuid)
            who = None if row is None else f"{NAMES[row['platform']]}, {row['username']}"
            words = None if row is None else (who, row["status"], row["error_message"])
        case _:
            owner = tx.videos.owner(of.uuid)
            row = None if owner is None else tx.videos.get(owner, of.uuid)
            words = None if row is None else (row["title"] or "a video", row["status"], row["error_message"])
    if words is None:
        return "it is not there"
    what, status, why = words
    return f"{what}: {status}{f' ({why})' if why else ''}"
