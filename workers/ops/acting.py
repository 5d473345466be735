"""What operators do within one transaction, to one thing or to many: to jobs, stored events, posts and videos.

Each function locks its row first, so that of many who do the same at once exactly one does it, and what it reports as
`before` and `after` is what it found and left. Whatever it reports as refused it has not touched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from db.events.store import Replayable
from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM, Tx
from domain.errors import EventDropped, Rejected, UnknownEvent, UnknownJob
from domain.events.outcomes import Ignored
from domain.events.triage import TRIAGE
from domain.ops.actions import Arguments, Outcome, Result, Target
from domain.ops.causes import Cause, CauseKind
from domain.text.readable import readable
from domain.videos.profiles import NAMES
from workers.engine.job import JobTypes
from workers.engine.outcomes import cancel
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.jobs.post_requests import shown as shown_post
from workers.jobs.video_requests import shown as shown_video
from workers.ops import post_changes, video_changes
from workers.runtime import work
from workers.runtime.work import working

Row = dict[str, Any]

Change = tuple[Outcome, str]
DONE, UNCHANGED, REFUSED = Outcome.DONE, Outcome.UNCHANGED, Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class Within:
    """What an action is performed with: a transaction in the system scope, and the application's job types and time."""

    tx: Tx
    job_types: JobTypes
    now: datetime


InTransaction = Callable[[Within, Target, Arguments], Result]

APPLIED_BY = {"stripe": apply_stripe_event, "clerk": apply_clerk_event}

CANCELLED = {"cancelled": "cancelled", "running": "asked to stop; it does when its handler next looks up"}

JOB_FIELDS = (
    *("status", "priority", "scheduled_for", "attempts", "max_attempts", "completed_at", "crashes"),
    "cancel_requested_at",
)
"""What an action may change of a job; none of it comes from outside."""

POST_FIELDS = ("platform", "username", "tenant_id", "status", "scheduled_for", "external_id", "error_code")
VIDEO_FIELDS = ("tenant_id", "status", "provider", "reserved_usd", "cost_usd")
"""What operators see of a post and of a video before they act on it, and what an action may change of it."""


def find_job(tx: Tx, job_id: UUID, *, lock: bool = False) -> Row:
    """Return a job of the queue or of the archive; with `lock` nobody else changes it before the transaction ends.

    Raises:
        UnknownJob: there is none.
    """
    row = tx.jobs.get(job_id, lock=lock) or tx.archive.get(job_id)
    if row is None:
        raise UnknownJob(f"no job has the id {job_id}; `viral jobs list` shows the newest")
    return row


def retry_job(within: Within, target: Target, arguments: Arguments) -> Result:
    tx = within.tx

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


def cancel_job(within: Within, target: Target, arguments: Arguments) -> Result:
    """Raises:
    Contended: what the type does about it waits for somebody else's transaction.
    """
    tx = within.tx

    def change(row: Row) -> Change:
        if row["status"] == "running" and row["cancel_requested_at"] is not None:
            return UNCHANGED, "it has been asked to stop already"
        if row["status"] == "failed" and tx.transitions.give_up(target.uuid):
            return DONE, "given up: it waits for nobody any more; it can be retried for two days"
        result = cancel(tx, within.job_types, target.uuid)
        if result is None:
            return REFUSED, f"it is {_state(row)}, and only a pending, running or failed job can be"
        return DONE, CANCELLED[result]

    return _of_job(tx, target, change)


def run_job_now(within: Within, target: Target, arguments: Arguments) -> Result:
    tx = within.tx

    def change(row: Row) -> Change:
        if row["status"] != "pending":
            return REFUSED, f"it is {_state(row)}, and only a pending job can be"
        if not tx.transitions.run_now(target.uuid):
            return UNCHANGED, "it is due already: `viral jobs explain` says what it waits for"
        return DONE, "due now"

    return _of_job(tx, target, change)


def prioritize_job(within: Within, target: Target, arguments: Arguments) -> Result:
    tx, priority = within.tx, arguments["priority"]

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
    return _changed(outcome, says, before, _shown(find_job(tx, target.uuid)))


def _shown(row: Mapping[str, Any]) -> Row:
    return {"status": _state(row)} | {name: row.get(name) for name in JOB_FIELDS if name != "status"}


def _state(row: Mapping[str, Any]) -> str:
    return "archived" if "archived" in row else str(row["status"])


def overtaken_words(later: int) -> list[str]:
    """Say how many jobs of a job's ordering key were enqueued after it and completed before it, if any."""
    jobs = "1 later job of its ordering key has" if later == 1 else f"{later} later jobs of its ordering key have"
    return [f"{jobs} run already: a job that failed holds up none of those behind it"] if later else []


# --- events ---------------------------------------------------------------------------------------------------------


def replay_event(within: Within, target: Target, arguments: Arguments) -> Result:
    """Raises:
    UnknownEvent, EventDropped: it cannot be applied again.
    """
    tx = within.tx
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


# --- posts and videos -----------------------------------------------------------------------------------------------
# What is refused of them is raised, as the API has it too.


def approve_post(within: Within, target: Target, arguments: Arguments) -> Result:
    def change() -> Change:
        return DONE, _posted(post_changes.approve(within.tx, None, target.uuid, within.now))

    return _of_post(within, target, change)


def cancel_post(within: Within, target: Target, arguments: Arguments) -> Result:
    def change() -> Change:
        row, done = post_changes.cancel(within.tx, None, target.uuid, within.now)
        return DONE if done else UNCHANGED, _posted(row)

    return _of_post(within, target, change)


def retry_post(within: Within, target: Target, arguments: Arguments) -> Result:
    def change() -> Change:
        return DONE, _posted(post_changes.retry(within.tx, None, target.uuid, arguments.get("at"), within.now))

    return _of_post(within, target, change)


def reconcile_post(within: Within, target: Target, arguments: Arguments) -> Result:
    return Result(DONE, post_changes.reconcile(within.tx, target.uuid))


def give_up_post(within: Within, target: Target, arguments: Arguments) -> Result:
    """Raises:
    Rejected: it is to be found: that is asked of the platform, of one at a time.
    """
    _check_lost(arguments)
    return _of_post(within, target, lambda: (DONE, post_changes.give_up(within.tx, target.uuid, within.now)))


def _of_post(within: Within, target: Target, change: Callable[[], Change]) -> Result:
    owner, row = post_changes.locked(within.tx, None, target.uuid)
    before = _of(row, POST_FIELDS)
    outcome, says = change()
    within.tx.work_as(owner)
    return _changed(outcome, says, before, _of(shown_post(within.tx, owner, target.uuid), POST_FIELDS))


def _posted(row: Row) -> str:
    where = f"{NAMES[row['platform']]}, {readable(row['username'])}"
    when = f" for {readable(row['scheduled_for'])}" if row["status"] == "scheduled" else ""
    rest = row["permalink"] or row["error_message"]
    return f"{where}: {row['status']}{when}{f': {readable(rest)}' if rest else ''}"


def cancel_video(within: Within, target: Target, arguments: Arguments) -> Result:
    """Raises:
    Contended: its job's end waits for somebody else's transaction.
    """

    def change() -> Change:
        if (refused := video_changes.want_no_more(within.tx, None, target.uuid)) is not None:
            return REFUSED, refused
        return DONE, video_changes.stop(within.tx, within.job_types, target.uuid)

    return _of_video(within, target, change)


def give_up_order(within: Within, target: Target, arguments: Arguments) -> Result:
    """Raises:
    Rejected: it is to be found: that is asked of the provider, of one at a time.
    """
    _check_lost(arguments)
    charged = arguments.get("charged", Decimal(0))
    change = partial(video_changes.give_up_order, within.tx, target.uuid, charged, within.now)
    return _of_video(within, target, lambda: (DONE, change()))


def _check_lost(arguments: Arguments) -> None:
    if arguments["verdict"] != "lost":
        raise Rejected("found is said of one at a time: each has an id of its own")
    if "job" in arguments or "external_id" in arguments:
        raise Rejected("the id of what is there goes with found")


def _of_video(within: Within, target: Target, change: Callable[[], Change]) -> Result:
    before = video_state(within.tx, target.uuid)
    outcome, says = change()
    return _changed(outcome, says, before, video_state(within.tx, target.uuid))


def video_state(tx: Tx, video_id: UUID) -> Row:
    """Return what of a video and its orders an action may change; work in its tenant's scope from here on.

    Raises:
        UnknownVideo: there is none of this id.
    """
    row = shown_video(tx, video_changes.owner_of(tx, None, video_id), video_id)
    orders = [_of(each, ("scene", "state", "final_usd")) for each in row["submissions"]]
    return _of(row, VIDEO_FIELDS) | {"orders": orders}


def _of(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    return {name: row[name] for name in names if name in row}


def _changed(outcome: Outcome, says: str, before: Row, after: Row) -> Result:
    names = [name for name in before if before[name] != after.get(name)]
    return Result(outcome, says, _of(before, names), _of(after, names))


IN_TRANSACTION: Mapping[str, InTransaction] = {
    "job.retry": retry_job,
    "job.cancel": cancel_job,
    "job.run_now": run_job_now,
    "job.prioritize": prioritize_job,
    "event.replay": replay_event,
    "post.approve": approve_post,
    "post.cancel": cancel_post,
    "post.retry": retry_post,
    "post.reconcile": reconcile_post,
    "post.resolve": give_up_post,
    "video.cancel": cancel_video,
    "video.resolve": give_up_order,
}
"""Actions that can be done to many things; of a decision, that it is lost."""
