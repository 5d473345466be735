"""What people stop of videos and decide about their orders, each within one transaction: one of the API or the shell
(`workers/ops/videos.py`), or that of a bulk action (`workers/ops/acting.py`)."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, Rejected, UnknownVideo
from domain.videos.submissions import ProviderJob, SubmissionState
from workers.engine.job import JobTypes
from workers.engine.outcomes import cancel as cancel_job
from workers.jobs.video_requests import Row, shown
from workers.jobs.videos import give_up, take_up

MOST_TIMES = 10
"""So many times what was reserved for an order a person may book for it; more is a slip of the hand."""


def owner_of(tx: Tx, tenant_id: UUID | None, video_id: UUID) -> UUID:
    """Return the tenant of a video, and work in its scope from here on.

    Raises:
        UnknownVideo: there is none of this id in scope.
    """
    owner = tx.videos.owner(video_id)
    if owner is None or tenant_id not in (None, owner):
        raise UnknownVideo(f"no video has the id {video_id}")
    tx.work_as(owner)
    return owner


def want_no_more(tx: Tx, tenant_id: UUID | None, video_id: UUID) -> str | None:
    """Write down that a video is not wanted any more: whichever job comes to it next ends it. Returns why it cannot be
    cancelled; None: `stop` it.

    Raises:
        UnknownVideo: there is none of this id.
    """
    owner = owner_of(tx, tenant_id, video_id)
    if tx.videos.want_no_more(owner, video_id):
        return None
    video = shown(tx, owner, video_id)
    if video["status"] == "unconfirmed":
        return f"it is unconfirmed: {video['error_message']}"
    return f"it is {video['status']}, and only one that waits or is being made can be cancelled"


def stop(tx: Tx, job_types: JobTypes, video_id: UUID) -> str:
    """Stop whichever job is at an unwanted video, and return what it is now. What was reserved is released, or settled
    when the provider has said what it charges.

    Raises:
        Contended: its job's end waits for somebody else's transaction.
    """
    owner = owner_of(tx, None, video_id)
    video = shown(tx, owner, video_id)
    tx.work_as(SYSTEM)
    state = None if video["job_id"] is None else cancel_job(tx, job_types, video["job_id"])
    tx.work_as(owner)
    if state is None and video["status"] in ("pending", "rendering"):
        give_up(tx, owner, video_id, None, cancelled=True, reason="cancelled")
    if state == "running":
        return "asked to stop: it does within two seconds, or once an order on its way is answered"
    video = shown(tx, owner, video_id)
    return "; ".join(filter(None, [video["status"], video["error_message"]]))


# --- what only a person can know ------------------------------------------------------------------------------------


def order_in_doubt(tx: Tx, video_id: UUID) -> tuple[Row, ProviderJob]:
    """Return a video and the order of which nobody can tell whether it was taken; work in its tenant's scope from here
    on.

    Raises:
        UnknownVideo: there is none of this id.
        Conflict: it has no order to decide about (NOTHING_TO_RESOLVE, NOT_IN_DOUBT).
    """
    owner = owner_of(tx, None, video_id)
    video = tx.videos.get(owner, video_id) or {}
    row = next((each for each in tx.submissions.of_video(owner, video_id) if each.open), None)
    if row is None:
        raise Conflict("NOTHING_TO_RESOLVE", f"the video is {video['status']}, and none of its clips is in doubt")
    in_doubt = row.state == SubmissionState.UNCONFIRMED or video["status"] in ("unconfirmed", "failed")
    if not in_doubt or row.state == SubmissionState.INTENDED:
        raise Conflict("NOT_IN_DOUBT", f"{row.name} is {row.state}, and a job takes care of it")
    return video, row


def give_up_order(tx: Tx, video_id: UUID, charged_usd: Decimal, now: datetime) -> str:
    """Decide that the provider does not have an order, and return what becomes of the video. `charged_usd` is what the
    provider's bill says.

    Raises:
        UnknownVideo, Conflict: as `order_in_doubt`; or more has become known of it meanwhile (CHANGED_MEANWHILE).
        Rejected: that is much more than was reserved for it.
    """
    video, row = order_in_doubt(tx, video_id)
    if charged_usd > MOST_TIMES * row.estimated_usd:
        says = f"${charged_usd} is more than {MOST_TIMES} times the ${row.estimated_usd.normalize():f} that were"
        raise Rejected(f"{says} reserved for {row.name}: look at the bill again")
    what: dict[str, Any] = {"final_usd": charged_usd, "now": now, "code": "lost", "message": "a person gave it up"}
    since = (SubmissionState(row.state),)
    if tx.submissions.end(row.tenant_id, row.id, SubmissionState.FAILED, **what, since=since) is None:
        raise changed_meanwhile(row)
    return taken_up(tx, video, f"{row.name} is given up, ${charged_usd} are spent")


def taken_up(tx: Tx, video: Row, says: str) -> str:
    """Go on with a video about whose order something has become known, and say so."""
    take_up(tx, video["tenant_id"], video["id"])
    return says if video["status"] == "cancelled" else f"{says}; the video is taken up again"


def changed_meanwhile(row: ProviderJob) -> Conflict:
    return Conflict("CHANGED_MEANWHILE", f"more has become known of {row.name} just now; look at it again")
