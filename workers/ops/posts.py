"""Posts as people ask for them: checked, scheduled, changed, approved, cancelled, made again. The API and the shell use
this.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from db.postgres.errors import UniqueViolation
from db.posting.planning import PostingPolicy
from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, PostInvalid, Rejected, UnknownPost
from domain.posting.posts import EDITABLE, UNDER_WAY, PostStatus
from workers.app import App
from workers.jobs.post_plans import NO_PLACE, SUGGESTED, Planned, Plans, PostRequest
from workers.jobs.post_requests import Row, add, begin_due, raise_faults, shown
from workers.jobs.reconcile_posts import reconcile

TEXTS = ("caption", "title", "hashtags", "options", "cover_at", "first_comment")

MOST_OF_A_RANGE = 1000
LOOKED_FOR = (
    "the database was put back to a moment when this was over already: it is being looked for whether it was made "
    "again and published since; do it once more when that is known"
)


class PostCursor(NamedTuple):
    """The last post of a page."""

    created_at: datetime
    id: UUID


class PostPage(NamedTuple):
    """Posts, newest first; `next` is None on the last page."""

    posts: list[Row]
    next: PostCursor | None


# --- asking for posts ---------------------------------------------------------------------------------------------


def check(app: App, tenant_id: UUID, request: PostRequest) -> list[Planned]:
    """Return what would be posted to each account, and what is wrong with it. Nothing is written.

    Raises:
        UnknownVideo, UnknownAccount: the tenant has no such thing.
        Rejected: no account is named, or one twice.
    """
    with app.db.transaction(tenant_id) as tx:
        return [planned for planned, _ in Plans(tx, tenant_id, request.video_id, _now(app, tx)).of(request)]


def create(app: App, tenant_id: UUID, request: PostRequest, key: str | None = None) -> list[Row]:
    """Schedule the video on all accounts, or on none, and return the posts, in the order of the accounts.

    The same `key` brings back the posts of its first request for 24 hours.

    Raises:
        Conflict: the key was sent with another request before (IDEMPOTENCY_KEY_REUSED).
        PostInvalid: something is wrong with one of them; `details` has the faults by account.
        UnknownVideo, UnknownAccount: the tenant has no such thing.
        Rejected: no account is named, or one twice.
    """
    asked = _digest(request)
    with app.db.transaction(tenant_id) as tx:
        # A tenant's requests come one by one: the same file may be the video of several rows, and a key is used once.
        tx.quota.lock(tenant_id)
        group = None if key is None else uuid5(tenant_id, key)
        if group is not None and (there := tx.planned_posts.of_group(tenant_id, group)):
            return _of_key(there, asked, request)
        return add(tx, tenant_id, request, _now(app, tx), group=group, request_hash=asked)


def _digest(request: PostRequest) -> bytes:
    return sha256(json.dumps(asdict(request), sort_keys=True, default=str).encode()).digest()


def _of_key(there: Sequence[Row], asked: bytes, request: PostRequest) -> list[Row]:
    if any(bytes(row["request_hash"]) != asked for row in there):
        says = "this Idempotency-Key was sent with another request before; send a new one"
        raise Conflict("IDEMPOTENCY_KEY_REUSED", says)
    places = {each.account_id: place for place, each in enumerate(request.accounts)}
    return sorted(there, key=lambda row: places[row["account_id"]])


# --- changing them --------------------------------------------------------------------------------------------------


def edit(app: App, tenant_id: UUID | None, post_id: UUID, changes: Mapping[str, Any]) -> Row:
    """Change the texts, options or time of a post that is not claimed yet, and return it. A post that is missed is
    scheduled again by its new time. `at` may be "suggested". One that was over when a backup was taken that the
    database was put back to is looked for first, and is unconfirmed meanwhile.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not to be changed any more (NOT_EDITABLE), or the account has the video by another post.
        PostInvalid: it would not be taken as it is then.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner, post = _locked(tx, tenant_id, post_id)
        now = _now(app, tx)
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


def approve(app: App, tenant_id: UUID | None, post_id: UUID) -> Row:
    """Schedule a draft, or one that waits for approval; if its time has passed, for now.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it waits for no approval (NOT_WAITING).
        PostInvalid: it would not be taken as it is.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner, post = _locked(tx, tenant_id, post_id)
        if post["status"] not in (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL):
            raise Conflict("NOT_WAITING", f"the post is {post['status']}: it waits for no approval")
        now = _now(app, tx)
        at = _in_time(post["scheduled_for"], now)
        raise_faults([Plans(tx, owner, post["video_id"], now).of_post(post, at)])
        _change(
            tx,
            owner,
            post_id,
            {"status": PostStatus.SCHEDULED, "approved_at": now, "scheduled_for": at or now},
        )
        tx.posts.note(owner, post_id, "approved", f"approved, for {at or now:%Y-%m-%d %H:%M} UTC", at=now)
        return _begun(tx, shown(tx, owner, post_id), now)


def cancel(app: App, tenant_id: UUID | None, post_id: UUID) -> Row:
    """Cancel a post that is not claimed yet.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not to be cancelled any more (NOT_EDITABLE).
    """
    return cancel_once(app, tenant_id, post_id)[0]


def cancel_once(app: App, tenant_id: UUID | None, post_id: UUID) -> tuple[Row, bool]:
    """`cancel`, and whether it was this call that did it."""
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner, post = _locked(tx, tenant_id, post_id)
        if post["status"] == PostStatus.CANCELLED:
            return post, False
        _check_editable(post, "cancelled")
        tx.planned_posts.cancel(owner, post_id)
        tx.posts.note(owner, post_id, "cancelled", "cancelled", at=_now(app, tx))
        return shown(tx, owner, post_id), True


def retry(app: App, tenant_id: UUID | None, post_id: UUID, at: datetime | None = None) -> Row:
    """Schedule a post again that certainly did not appear: this one only, not those that were asked for with it. One
    that was over when a backup was taken that the database was put back to is looked for first, and is unconfirmed
    meanwhile.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it may have appeared, or is on its way (NOT_OVER); or the account has the video by another post.
        PostInvalid: it would not be taken as it is.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner, post = _locked(tx, tenant_id, post_id)
        if post["status"] not in (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED):
            why = " and nobody knows yet whether it appeared" if post["status"] == PostStatus.UNCONFIRMED else ""
            raise Conflict("NOT_OVER", f"the post is {post['status']}{why}: it is not made again")
        now = _now(app, tx)
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
        reconcile.enqueue(tx, tenant_id=post["tenant_id"], post_id=post["id"])
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


# --- showing them ---------------------------------------------------------------------------------------------------


def show(app: App, tenant_id: UUID | None, post_id: UUID) -> Row:
    """Return a post with its account's `platform` and `username`.

    Raises:
        UnknownPost: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        return shown(tx, owner_of(tx, tenant_id, post_id), post_id)


def listed(
    app: App, tenant_id: UUID | None, *, limit: int = 50, after: PostCursor | None = None, **wanted: Any
) -> PostPage:
    """Return a page of posts, newest first. `wanted` may name a `status`, `account_id`, `video_id` or `platform`."""
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        rows = tx.planned_posts.listed(tenant_id, limit=limit + 1, after=after, **wanted)
    page = rows[:limit]
    more = len(rows) > limit
    return PostPage(page, PostCursor(page[-1]["created_at"], page[-1]["id"]) if more else None)


def calendar(app: App, tenant_id: UUID, since: datetime, until: datetime, account_id: UUID | None = None) -> list[Row]:
    """Return the posts that are planned from `since` to before `until`, by their time.

    Raises:
        Rejected: the range is empty, longer than a year, or has more than 1,000 posts.
    """
    if not since < until <= since + timedelta(days=366):
        raise Rejected("the range ends before it begins, or is longer than a year")
    with app.db.transaction(tenant_id) as tx:
        limit = MOST_OF_A_RANGE + 1
        found = tx.planned_posts.calendar(tenant_id, since, until, account_id=account_id, limit=limit)
    if len(found) > MOST_OF_A_RANGE:
        raise Rejected(f"the range has more than {MOST_OF_A_RANGE:,} posts: ask for a shorter one, or for one account")
    return found


def policy(app: App, tenant_id: UUID) -> PostingPolicy:
    with app.db.transaction(tenant_id) as tx:
        return tx.planned_posts.policy(tenant_id)


def set_policy(
    app: App, tenant_id: UUID, *, late_after: timedelta | None = None, needs_approval: bool | None = None
) -> PostingPolicy:
    """Change what is given, and return how it is then. Posts that are scheduled already stay scheduled.

    Raises:
        Rejected: a post is late after 10 minutes to 7 days.
    """
    if late_after is not None and not timedelta(minutes=10) <= late_after <= timedelta(days=7):
        raise Rejected("a post is late after 10 minutes to 7 days")
    with app.db.transaction(tenant_id) as tx:
        return tx.planned_posts.set_policy(tenant_id, late_after=late_after, needs_approval=needs_approval)


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


def _locked(tx: Tx, tenant_id: UUID | None, post_id: UUID) -> tuple[UUID, Row]:
    """Return a post and its tenant, whose changes come one by one; the claim of a post takes the post's lock only."""
    owner = owner_of(tx, tenant_id, post_id)
    tx.quota.lock(owner)
    post = tx.planned_posts.lock(owner, post_id)
    if post is None:
        raise UnknownPost(f"there is no post {post_id}")
    return owner, post


def _now(app: App, tx: Tx) -> datetime:
    return app.clock() if app.clock is not None else tx.now()
