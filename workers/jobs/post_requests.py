"""Adds the posts of a video that are asked for together: by a person (`workers/ops/posts.py`) or by the autopilot."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, time
from typing import Any
from uuid import UUID

from domain.errors import PostInvalid, UnknownPost
from domain.learning.scoring import shown_of, shown_row
from domain.posting.posts import PostStatus
from workers.engine.job import SYSTEM, Tx
from workers.jobs.post_plans import Planned, Plans, PostRequest
from workers.jobs.posting import find_due

Row = dict[str, Any]


def add(
    tx: Tx,
    tenant_id: UUID,
    request: PostRequest,
    now: datetime,
    *,
    group: UUID | None = None,
    request_hash: bytes | None = None,
    approve: bool = False,
    times: Sequence[time] = (),
) -> list[Row]:
    """Schedule the video on all accounts, or on none, and return the posts, in the order of the accounts. For the end
    of a transaction that holds the tenant's lock. With `approve` a person has to approve each, whatever the tenant's
    policy is. A suggested time is one of `times` of the clock, where there are any. What the models expect of a post is
    written down with it, once: whatever is changed of it later, the first prediction stays.

    Raises:
        PostInvalid: something is wrong with one of them; `details` has the faults by account.
        UnknownVideo, UnknownAccount: the tenant has no such thing.
        Rejected: no account is named, or one twice.
    """
    needs_approval = approve or tx.planned_posts.policy(tenant_id).needs_approval
    planning = Plans(tx, tenant_id, request.video_id, now, times=times)
    plans = list(planning.of(request))
    raise_faults(planned for planned, _ in plans)
    group = group or (tx.new_id() if len(plans) > 1 else None)
    ids = []
    for planned, post in sorted(plans, key=lambda each: each[0].account_id):  # the order of locks
        status = _first_status(draft=request.draft, needs_approval=needs_approval)
        predicted = planning.predict(planned.platform, post)
        new = replace(
            post,
            id=tx.new_id(),
            status=status,
            group_id=group,
            request_hash=request_hash,
            prediction=None if (shows := shown_of(predicted)) is None else shown_row(shows),
        )
        if not tx.planned_posts.add(tenant_id, new):
            raise PostInvalid(
                f"{planned.account}: the account has this video by another post, or soon will",
                {str(planned.account_id): ["the account has this video by another post, or soon will"]},
            )
        tx.predictions.add(tenant_id, new.id, predicted, planning.lessons)
        tx.posts.note(tenant_id, new.id, "asked", _asked(planned, status), at=now)
        ids.append((planned.account_id, new.id))
    by_account = {account_id: shown(tx, tenant_id, post_id) for account_id, post_id in ids}
    made = [by_account[planned.account_id] for planned, _ in plans]
    begin_due(tx, made, now)
    return made


def raise_faults(plans: Iterable[Planned]) -> None:
    """Check that nothing is wrong with any of the posts.

    Raises:
        PostInvalid: something is; `details` has the faults by account.
    """
    details = {str(planned.account_id): planned.faults for planned in plans if planned.faults}
    if details:
        first = next(iter(details.values()))
        more = sum(map(len, details.values())) - 1
        raise PostInvalid(first[0] + (f" (and {more} more: see the details)" if more else ""), details)


def begin_due(tx: Tx, rows: Sequence[Row], now: datetime) -> None:
    """Have what is due already claimed at once, and not with the next minute. For the end of a transaction."""
    if any(row["status"] == PostStatus.SCHEDULED and row["scheduled_for"] <= now for row in rows):
        tx.work_as(SYSTEM)
        find_due.with_options(unique_key="now").enqueue(tx)


def shown(tx: Tx, tenant_id: UUID, post_id: UUID) -> Row:
    """Return a post with its account's `platform` and `username`.

    Raises:
        UnknownPost: the tenant has none of this id.
    """
    post = tx.planned_posts.get(tenant_id, post_id)
    if post is None:
        raise UnknownPost(f"there is no post {post_id}")
    return post


def _first_status(*, draft: bool, needs_approval: bool) -> PostStatus:
    if draft:
        return PostStatus.DRAFT
    return PostStatus.NEEDS_APPROVAL if needs_approval else PostStatus.SCHEDULED


def _asked(planned: Planned, status: PostStatus) -> str:
    when = f"for {planned.preview.at:%Y-%m-%d %H:%M} UTC" if planned.preview.at else "for as soon as possible"
    match status:
        case PostStatus.DRAFT:
            return f"kept as a draft, {when}"
        case PostStatus.NEEDS_APPROVAL:
            return f"wanted {when}; somebody has to approve it first"
    return f"scheduled {when}"
