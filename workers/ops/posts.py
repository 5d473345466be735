"""Posts as people ask for them: checked, scheduled, changed, approved, cancelled, made again. The API and the shell use
this.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from db.posting.planning import PostingPolicy
from db.transaction import SYSTEM, Tx
from domain.errors import Conflict, Rejected
from workers.app import App
from workers.jobs.post_plans import Planned, Plans, PostRequest
from workers.jobs.post_requests import Row, add, shown
from workers.ops import post_changes
from workers.ops.post_changes import owner_of

MOST_OF_A_RANGE = 1000


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
        return [planned for planned, _ in Plans(tx, tenant_id, request.video_id, app.now(tx)).of(request)]


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
        return add(tx, tenant_id, request, app.now(tx), group=group, request_hash=asked)


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
    """`post_changes.edit`, in a transaction of its own, as those below are."""
    with _scope(app, tenant_id) as (tx, now):
        return post_changes.edit(tx, tenant_id, post_id, changes, now)


def approve(app: App, tenant_id: UUID | None, post_id: UUID) -> Row:
    """`post_changes.approve`."""
    with _scope(app, tenant_id) as (tx, now):
        return post_changes.approve(tx, tenant_id, post_id, now)


def cancel(app: App, tenant_id: UUID | None, post_id: UUID) -> Row:
    """`post_changes.cancel`; returns the post."""
    with _scope(app, tenant_id) as (tx, now):
        return post_changes.cancel(tx, tenant_id, post_id, now)[0]


def retry(app: App, tenant_id: UUID | None, post_id: UUID, at: datetime | None = None) -> Row:
    """`post_changes.retry`."""
    with _scope(app, tenant_id) as (tx, now):
        return post_changes.retry(tx, tenant_id, post_id, at, now)


@contextmanager
def _scope(app: App, tenant_id: UUID | None) -> Iterator[tuple[Tx, datetime]]:
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        yield tx, app.now(tx)


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
