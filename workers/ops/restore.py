"""After the database was put back to an earlier state: nothing is posted until it is known what went out since.

begin   nobody posts; what may have been published since the backup is in doubt, and is looked for; autopilots ask first
status  what is still in doubt
end     posts go out again
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from db.posting.restores import Restore
from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, Rejected
from domain.posting.matching import BEFORE_BACKUP
from workers.app import App
from workers.jobs.reconcile_posts import reconcile
from workers.jobs.submission_marks import compare

PAUSED = ("social", "media")
"""Queues whose jobs do what cannot be undone: they post, and they order clips."""
DOUBT = (
    "the database was put back to an earlier state, so it is not known whether this was published since; it is being "
    "looked for"
)
SHOWN = 50


@dataclass(frozen=True)
class RestoreStatus:
    """`open`: nothing is posted. `undecided` posts may have been published, and nobody has said; `posts` are the first
    of them. `asking_again` are tenants whose autopilot asked nobody before, and lets each post be approved since then,
    until somebody switches it to auto again."""

    open: bool
    restore: dict[str, Any] | None
    undecided: int
    posts: list[dict[str, Any]]
    asking_again: list[UUID]


def begin(app: App, taken_at: datetime) -> RestoreStatus:
    """Let nothing be posted, and look for what may have been published since the backup was taken. Again: the earlier
    moment counts, and what is in doubt is looked for once more.

    Raises:
        Rejected: the moment is still to come.
    """
    with app.db.transaction(SYSTEM) as tx:
        now = app.now(tx)
        if taken_at > now:
            raise Rejected(f"--taken-at: {taken_at.isoformat()} is still to come")
        restore = tx.restores.begin(taken_at, now)
        tx.restores.paused([queue for queue in PAUSED if tx.queues.pause(queue)])
        since = restore.taken_at or taken_at
        for tenant_id, post_id in tx.restores.doubt(taken_at=since, margin=BEFORE_BACKUP, now=now, message=DOUBT):
            tx.posts.note(tenant_id, post_id, "restored", DOUBT, at=now)
        for tenant_id, post_id in tx.posts.in_doubt():
            reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
    return status(app)


def status(app: App) -> RestoreStatus:
    with app.db.transaction(SYSTEM) as tx:
        restore = tx.restores.last()
        return RestoreStatus(
            open=restore is not None and restore.ended_at is None,
            restore=None if restore is None else _shown(restore),
            undecided=tx.restores.count_undecided(),
            posts=tx.restores.undecided(SHOWN),
            asking_again=tx.autopilot.asking_again(),
        )


def end(app: App, *, although_undecided: bool = False) -> RestoreStatus:
    """Let posts go out again. What is still in doubt stays so until a person decides it. If none is open nothing
    happens.

    Raises:
        Conflict: posts are undecided.
    """
    with app.db.transaction(SYSTEM) as tx:
        undecided = tx.restores.count_undecided()
        if tx.restores.open_one() is not None:
            if undecided and not although_undecided:
                raise Conflict(
                    "POSTS_UNDECIDED",
                    f"of {undecided} posts nobody knows yet whether they were published: see `viral restore status`, "
                    "wait for the reconciler or decide them with `viral posts resolve`; or `viral restore end --yes`, "
                    "and they stay unconfirmed",
                )
            ended = tx.restores.end(app.now(tx))
            for queue in ended.paused if ended is not None else ():
                tx.queues.resume(queue)
    return status(app)


def check(app: App, _: Tx) -> tuple[str, str]:
    """Return for the doctor whether posts go out, and whether this database has what was submitted last."""
    now = app.clock() if app.clock is not None else datetime.now(UTC)
    found, missing, halted = compare(lambda: app.db.transaction(SYSTEM), app.ports.marks, now)
    if halted is not None:
        return "fail", f"nothing is posted since {halted}; see `viral restore status`"
    if missing:
        remedy = "if it was put back to an earlier state: `viral restore begin --taken-at TIME`"
        return "fail", f"the database lacks {missing} of the last {found} submissions of posts: {remedy}"
    return "ok", f"the database has all of the last {found} submissions that are remembered outside of it"


def _shown(restore: Restore) -> dict[str, Any]:
    return {name: value for name, value in restore._asdict().items() if name != "id"}
