"""What people change of posts and decide about them, each within one transaction: one of the API or the shell
(`workers/ops/posts.py`, `workers/ops/post_stories.py`), or that of a bulk action (`workers/ops/acting.py`).

Functions take a transaction in the scope of `tenant_id`, or in the system's where that is None, and leave it in the
scope of the post's tenant or the system's. What is the tenant's to change is changed under the tenant's lock, and then
the post's; what a person decides, under the post's only.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, PostInvalid, UnknownPost
from domain.posting.looks import settles_at
from domain.posting.posts import EDITABLE, UNDER_WAY, PostStatus, given_back, restored_from
from domain.videos.profiles import NAMES
from workers.jobs.post_plans import NO_PLACE, SUGGESTED, Plans
from workers.jobs.post_requests import Row, begin_due, raise_faults, shown
from workers.jobs.reconcile_posts import reconcile as reconcile_post

TEXTS = ("caption", "title", "hashtags", "options", "cover_at", "first_comment")

LOOKED_FOR = (
    "the database was put back to a moment when this was over already: it is being looked for whether it was made "
    "again and published since; do it once more when that is known"
)


def edit(tx: Tx, tenant_id: UUID | None, post_id: UUID, changes: Mapping[str, Any], now: datetime) -> Row:
    """Change the texts, options or time of a post that is not claimed yet, and return it. A post that is missed is
    scheduled again by its new time. `at` may be "suggested". One that was over when a backup was taken that the
    database was put back to is looked for first, and is unconfirmed meanwhile.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not to be changed any more (NOT_EDITABLE), or the account has the video by another post.
        PostInvalid: it would not be taken as it is then.
    """
    owner, post = locked(tx, tenant_id, post_id)
    _check_editable(post, "changed")
    if "at" in changes and _is_looked_for(tx, post, now):
        return shown(tx, owner, post_id)
    plans = Plans(tx, owner, post["video_id"], now)
    values = {name: value for name, value in changes.items() if name in TEXTS}
    at = changes.get("at", post["scheduled_for"])
    if at == SUGGESTED:
        account = tx.social_accounts.get(owner, post["account_id"]) or {}
        at, _ = plans.suggest(account, post["scheduled_for"])
        if at is None:
            raise PostInvalid(NO_PLACE, {str(account["id"]): [NO_PLACE]})
    planned = plans.of_post(post | values, at if "at" in changes else _in_time(at, now))
    raise_faults([planned])
    values["options"] = dict(planned.preview.options)
    if "at" in changes:
        values["scheduled_for"] = at or now
        if post["status"] == PostStatus.MISSED:
            values |= {"status": PostStatus.SCHEDULED, "approved_at": now}
    changed = changes.keys() & set(TEXTS) and post["status"] in (PostStatus.SCHEDULED, PostStatus.MISSED)
    if changed and tx.planned_posts.policy(owner).needs_approval:
        values |= {"status": PostStatus.NEEDS_APPROVAL, "approved_at": None}
    _change(tx, owner, post_id, values)
    what = ", ".join(sorted({"at", *TEXTS} & changes.keys())) or "nothing"
    tx.posts.note(owner, post_id, "changed", f"changed: {what}", at=now)
    return _begun(tx, shown(tx, owner, post_id), now)


def approve(tx: Tx, tenant_id: UUID | None, post_id: UUID, now: datetime) -> Row:
    """Schedule a draft, or one that waits for approval; if its time has passed, for now.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it waits for no approval (NOT_WAITING).
        PostInvalid: it would not be taken as it is.
    """
    owner, post = locked(tx, tenant_id, post_id)
    if post["status"] not in (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL):
        raise Conflict("NOT_WAITING", f"the post is {post['status']}: it waits for no approval")
    at = _in_time(post["scheduled_for"], now)
    raise_faults([Plans(tx, owner, post["video_id"], now).of_post(post, at)])
    _change(tx, owner, post_id, {"status": PostStatus.SCHEDULED, "approved_at": now, "scheduled_for": at or now})
    tx.posts.note(owner, post_id, "approved", f"approved, for {at or now:%Y-%m-%d %H:%M} UTC", at=now)
    return _begun(tx, shown(tx, owner, post_id), now)


def cancel(tx: Tx, tenant_id: UUID | None, post_id: UUID, now: datetime) -> tuple[Row, bool]:
    """Cancel a post that is not claimed yet, and return whether it was this call that did it.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not to be cancelled any more (NOT_EDITABLE).
    """
    owner, post = locked(tx, tenant_id, post_id)
    if post["status"] == PostStatus.CANCELLED:
        return post, False
    _check_editable(post, "cancelled")
    tx.planned_posts.cancel(owner, post_id)
    tx.posts.note(owner, post_id, "cancelled", "cancelled", at=now)
    return shown(tx, owner, post_id), True


def retry(tx: Tx, tenant_id: UUID | None, post_id: UUID, at: datetime | None, now: datetime) -> Row:
    """Schedule a post again that certainly did not appear: this one only, not those that were asked for with it. One
    that was over when a backup was taken that the database was put back to is looked for first, and is unconfirmed
    meanwhile.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it may have appeared, or is on its way (NOT_OVER); or the account has the video by another post.
        PostInvalid: it would not be taken as it is.
    """
    owner, post = locked(tx, tenant_id, post_id)
    if post["status"] not in (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED):
        why = " and nobody knows yet whether it appeared" if post["status"] == PostStatus.UNCONFIRMED else ""
        raise Conflict("NOT_OVER", f"the post is {post['status']}{why}: it is not made again")
    if _is_looked_for(tx, post, now):
        return shown(tx, owner, post_id)
    raise_faults([Plans(tx, owner, post["video_id"], now).of_post(post, at)])
    unseen = post["approved_at"] is None and tx.planned_posts.policy(owner).needs_approval
    status = PostStatus.NEEDS_APPROVAL if unseen else PostStatus.SCHEDULED
    try:
        with tx.savepoint(owner):
            tx.planned_posts.again(owner, post_id, at or now, status)
    except UniqueViolation as error:
        raise _has_it_already() from error
    tx.posts.note(owner, post_id, "retried", f"to be made again, {at or now:%Y-%m-%d %H:%M} UTC", at=now)
    return _begun(tx, shown(tx, owner, post_id), now)


def _is_looked_for(tx: Tx, post: Row, now: datetime) -> bool:
    """Whether the post is looked for first: it was over when the backup was taken that the database was put back to,
    so it may have been made again since."""
    tx.work_as(SYSTEM)
    last = tx.restores.last()
    tx.work_as(post["tenant_id"])
    if last is None or last.taken_at is None:
        return False
    try:
        with tx.savepoint(post["tenant_id"]):
            doubted = tx.restores.doubt_one(post["id"], last.taken_at, now, LOOKED_FOR)
    except UniqueViolation as error:
        raise _has_it_already() from error
    if doubted:
        tx.posts.note(post["tenant_id"], post["id"], "unconfirmed", LOOKED_FOR, at=now)
        reconcile_post.enqueue(tx, tenant_id=post["tenant_id"], post_id=post["id"])
    return doubted


def _begun(tx: Tx, post: Row, now: datetime) -> Row:
    begin_due(tx, [post], now)
    return post


def _in_time(at: datetime | None, now: datetime) -> datetime | None:
    """Return the time unless it has passed: then what is posted is posted now."""
    return at if at is not None and at > now else None


def _change(tx: Tx, tenant_id: UUID, post_id: UUID, values: Mapping[str, Any]) -> None:
    try:
        with tx.savepoint(tenant_id):
            tx.planned_posts.change(tenant_id, post_id, values)
    except UniqueViolation as error:
        raise _has_it_already() from error


def _has_it_already() -> Conflict:
    return Conflict("HAS_IT_ALREADY", "the account has this video by another post, or soon will")


def _check_editable(post: Row, verb: str) -> None:
    if post["status"] in EDITABLE:
        return
    on_its_way = post["status"] in UNDER_WAY
    why = "it is on its way to the platform" if on_its_way else f"it is {post['status']}"
    raise Conflict("NOT_EDITABLE", f"the post cannot be {verb} any more: {why}")


# --- what a person decides ------------------------------------------------------------------------------------------


def give_up(tx: Tx, post_id: UUID, now: datetime) -> str:
    """Decide that an unconfirmed post was certainly not published, and return what it is now. It is never sent again by
    itself.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not in doubt (NOT_IN_DOUBT), or what was sent may still arrive (MAY_STILL_ARRIVE).
    """
    message = "a person found that it was not published"
    post = in_doubt(tx, post_id, lock=True)
    key = (post["tenant_id"], post_id)
    _check_settled(tx, post, now)
    was = restored_from(post["error_code"])
    if was is not None and given_back(was) not in (PostStatus.SCHEDULED, PostStatus.FAILED):
        # Nothing is sent by itself in such a state.
        tx.posts.acquit(*key, message=message)
        says = f"it is {was} again, as before the database was put back"
    else:
        tx.posts.fail(*key, code="lost", message=message)
        says = "it has failed; it is not sent again unless somebody tries it again"
    tx.posts.note(*key, "resolved", message, at=now)
    tx.work_as(SYSTEM)
    tx.reservations.release(*key)
    return says


def _check_settled(tx: Tx, post: Row, now: datetime) -> None:
    """Refuse that it is not there while what was sent may still arrive."""
    tx.work_as(SYSTEM)
    last = tx.restores.last()
    tx.work_as(post["tenant_id"])
    at = settles_at(post["submitted_at"], last.begun_at if last is not None else None)
    if at is not None and now < at:
        says = f"what was sent may still arrive until {at:%H:%M:%S} UTC: look at the account after that"
        raise Conflict("MAY_STILL_ARRIVE", f"{says}, and say it then")


def in_doubt(tx: Tx, post_id: UUID, *, lock: bool) -> Row:
    """Return an unconfirmed post, and work in its tenant's scope from here on.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not in doubt (NOT_IN_DOUBT).
    """
    owner = owner_of(tx, None, post_id)
    post = tx.planned_posts.lock(owner, post_id) if lock else tx.planned_posts.get(owner, post_id)
    if post is None:
        raise UnknownPost(f"there is no post {post_id}")
    if post["status"] != PostStatus.UNCONFIRMED:
        care = ", and a job takes care of it" if post["status"] in UNDER_WAY else ""
        raise Conflict("NOT_IN_DOUBT", f"the post is {post['status']}{care}: there is nothing to decide")
    return post


def reconcile(tx: Tx, post_id: UUID) -> str:
    """Have the platform asked once more what became of an unconfirmed post.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not in doubt (NOT_IN_DOUBT).
    """
    post = in_doubt(tx, post_id, lock=False)
    reconcile_post.enqueue(tx, tenant_id=post["tenant_id"], post_id=post_id)
    return f"{NAMES[post['platform']]} is asked whether it has it"


def owner_of(tx: Tx, tenant_id: UUID | None, post_id: UUID) -> UUID:
    """Return the tenant of a post, and work in its scope from here on.

    Raises:
        UnknownPost: there is none of this id in scope.
    """
    owner = tx.planned_posts.owner(post_id)
    if owner is None or tenant_id not in (None, owner):
        raise UnknownPost(f"there is no post {post_id}")
    tx.work_as(owner)
    return owner


def locked(tx: Tx, tenant_id: UUID | None, post_id: UUID) -> tuple[UUID, Row]:
    """Return a post and its tenant, whose changes come one by one, and work in its scope from here on; the claim of a
    post takes the post's lock only.

    Raises:
        UnknownPost: there is none of this id in scope.
    """
    owner = owner_of(tx, tenant_id, post_id)
    tx.quota.lock(owner)
    post = tx.planned_posts.lock(owner, post_id)
    if post is None:
        raise UnknownPost(f"there is no post {post_id}")
    return owner, post
