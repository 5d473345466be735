"""What operators do within one transaction, to one thing or to many: to jobs, and to stored events.

Each function locks its row first, so that of many who do the same at once exactly one does it, and what it reports as
`before` and `after` is what it found and left. Whatever it reports as refused it has not touched.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from db.events.store import Replayable
from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM, Tx
from domain.errors import EventDropped, UnknownEvent, UnknownJob
from domain.events.outcomes import Ignored
from domain.events.triage import TRIAGE
from domain.ops.actions import Arguments, Outcome, Result, Target
from domain.ops.causes import Cause, CauseKind
from workers.engine.job import JobTypes
from workers.engine.outcomes import cancel
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.runtime import work
from workers.runtime.work import working

Row = dict[str, Any]

Change = tuple[Outcome, str]
DONE, UNCHANGED, REFUSED = Outcome.DONE, Outcome.UNCHANGED, Outcome.REFUSED

InTransaction = Callable[[Tx, JobTypes, Target, Arguments], Result]

APPLIED_BY = {"stripe": apply_stripe_event, "clerk": apply_clerk_event}

CANCELLED = {"cancelled": "cancelled", "running": "asked to stop; it does when its handler next looks up"}

JOB_FIELDS = (
    *("status", "priority", "scheduled_for", "attempts", "max_attempts", "completed_at", "crashes"),
    "cancel_requested_at",
)
"""What an action may change of a job; none of it comes from outside."""


def find_job(tx: Tx, job_id: UUID, *, lock: bool = False) -> Row:
    """Return a job of the queue or of the archive; with `lock` nobody else changes it before the transaction ends.

    Raises:
        UnknownJob: there is none.
    """
    row = tx.jobs.get(job_id, lock=lock) or tx.archive.get(job_id)
    if row is None:
        raise UnknownJob(f"no job has the id {job_id}; `viral jobs list` shows the newest")
    return row


def retry_job(tx: Tx, _: JobTypes, target: Target, arguments: Arguments) -> Result:
    def change(row: Row) -> Change:
        try:
            with tx.savepoint(SYSTEM):
                done = tx.transitions.retry(target.uuid)
        except UniqueViolation:
            twin = tx.jobs.live_twin(row["job_type"], row["tenant_id"], row["unique_key"])
            return REFUSED, f"the job {twin} of the same key is live; it does the same work"
        if not done:
            return REFUSED, f"it is {_state(row)}, and only a failed or cancelled job can be"
        return DONE, "; ".join(["due again", *overtaken_words(tx.explain.overtaken_by(row))])

    return _of_job(tx, target, change)


def cancel_job(tx: Tx, job_types: JobTypes, target: Target, arguments: Arguments) -> Result:
    """Raises:
    Contended: what the type does about it waits for somebody else's transaction.
    """

    def change(row: Row) -> Change:
        if row["status"] == "running" and row["cancel_requested_at"] is not None:
            return UNCHANGED, "it has been asked to stop already"
        if row["status"] == "failed" and tx.transitions.give_up(target.uuid):
            return DONE, "given up: it waits for nobody any more; it can be retried for two days"
        result = cancel(tx, job_types, target.uuid)
        if result is None:
            return REFUSED, f"it is {_state(row)}, and only a pending, running or failed job can be"
        return DONE, CANCELLED[result]

    return _of_job(tx, target, change)


def run_job_now(tx: Tx, _: JobTypes, target: Target, arguments: Arguments) -> Result:
    def change(row: Row) -> Change:
        if row["status"] != "pending":
            return REFUSED, f"it is {_state(row)}, and only a pending job can be"
        if not tx.transitions.run_now(target.uuid):
            return UNCHANGED, "it is due already: `viral jobs explain` says what it waits for"
        return DONE, "due now"

    return _of_job(tx, target, change)


def prioritize_job(tx: Tx, _: JobTypes, target: Target, arguments: Arguments) -> Result:
    priority = arguments["priority"]

    def change(row: Row) -> Change:
        if row["status"] != "pending":
            return REFUSED, f"it is {_state(row)}, and only a pending job has a place in its queue"
        if not tx.transitions.prioritize(target.uuid, priority):
            return UNCHANGED, f"its priority is {priority} already"
        return DONE, f"its priority is {priority} and was {row['priority']}"

    return _of_job(tx, target, change)


def _of_job(tx: Tx, target: Target, change: Callable[[Row], Change]) -> Result:
    try:
        row = find_job(tx, target.uuid, lock=True)
    except UnknownJob:
        return Result(REFUSED, "there is no such job")
    before = _shown(row)
    outcome, says = change(row)
    if outcome is not DONE:
        return Result(outcome, says)
    after = _shown(find_job(tx, target.uuid))
    changed = [name for name in before if before[name] != after[name]]
    return Result(outcome, says, {name: before[name] for name in changed}, {name: after[name] for name in changed})


def _shown(row: Mapping[str, Any]) -> Row:
    return {"status": _state(row)} | {name: row.get(name) for name in JOB_FIELDS if name != "status"}


def _state(row: Mapping[str, Any]) -> str:
    return "archived" if "archived" in row else str(row["status"])


def overtaken_words(later: int) -> list[str]:
    """Say how many jobs of a job's ordering key were enqueued after it and completed before it, if any."""
    jobs = "1 later job of its ordering key has" if later == 1 else f"{later} later jobs of its ordering key have"
    return [f"{jobs} run already: a job that failed holds up none of those behind it"] if later else []


# --- events ---------------------------------------------------------------------------------------------------------


def replay_event(tx: Tx, _: JobTypes, target: Target, arguments: Arguments) -> Result:
    """Raises:
    UnknownEvent, EventDropped: it cannot be applied again.
    """
    event = replayable(tx, target.id)
    before = tx.events.find(target.id) or {}
    job_id = apply_again(tx, event)
    unchanged = job_id == before["job_id"]
    says = f"the job {job_id} applies it" + (" already" if unchanged else "")
    return Result(
        UNCHANGED if unchanged else DONE,
        says,
        {"status": before["status"], "job_id": before["job_id"]},
        {"status": before["status"], "job_id": job_id},
    )


def replayable(tx: Tx, name: str) -> Replayable:
    """Return the event of our id or the sender's.

    Raises:
        UnknownEvent, EventDropped: it cannot be applied again.
    """
    row = tx.events.find(name)
    if row is None:
        raise UnknownEvent(f"no event has the id {name}; nothing was replayed")
    if row["dropped_at"] is not None:
        raise EventDropped(name, row["dropped_at"])
    return Replayable(row["id"], row["source"], row["type"])


def apply_again(tx: Tx, event: Replayable) -> UUID:
    """Enqueue the job that applies an event, or find it if it is there already; its cause is the event."""
    job, priority = APPLIED_BY[event.source], TRIAGE[event.source](event.type)
    job = job if isinstance(priority, Ignored) else job.with_options(priority=priority)
    with working(work.current.get()._replace(cause=str(Cause(CauseKind.EVENT, str(event.id))), event_id=event.id)):
        job_id = job.enqueue(tx, event_id=event.id)
    tx.events.assign(event.id, job_id)
    return job_id


IN_TRANSACTION: Mapping[str, InTransaction] = {
    "job.retry": retry_job,
    "job.cancel": cancel_job,
    "job.run_now": run_job_now,
    "job.prioritize": prioritize_job,
    "event.replay": replay_event,
}
"""Actions that one transaction can do to many things."""
