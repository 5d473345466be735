"""What became of a post that was sent: the platform is asked by the handle, else the account's own list is read; and
what is said is written down before anything else happens."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.posting.limits import Act
from domain.posting.looks import IN_DOUBT, LISTED, WATCHING, may_commit_again
from domain.posting.matching import BEFORE_BACKUP, CLOCKS, GIVE_MARKS_BACK, Found, InDoubt, NotThere, Ours, match
from domain.posting.posts import Post, PostStatus
from domain.posting.publishing import (
    Absent,
    Accepted,
    CannotTell,
    InInbox,
    Published,
    Sight,
    Unfinished,
)
from workers.engine.job import SYSTEM, Context, Tx
from workers.jobs.post_work import (
    LOOK_AFTER,
    MAY_BE_THERE,
    Work,
    ask,
    doubt,
    fail,
    looks_at,
    note,
    release,
    reopen,
    wait,
)

AGAIN_REFUSED = "refused again"
AGAIN_LOST = "lost again"
"""Codes of a post of which a repeated commit was refused, or its handle not known: a look decides."""

FollowUp = Callable[[Tx, Post], None]
"""Enqueues what comes after a publication."""


@dataclass(frozen=True, slots=True)
class Again:
    """It was certainly not published, and may be committed now; the platform has `start` bytes."""

    start: int


@dataclass(frozen=True, slots=True)
class Matched(Published):
    """It is there, by its text and time: it was published then (`at`)."""

    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NotListed(Absent):
    """It is not in the account's own list, which may lag behind."""


def look(ctx: Context, work: Work) -> Sight | InDoubt:
    """Ask what became of the post: by the handle, and where the platform knows that no more, by the account's list."""
    handle = work.handle
    if handle is None:
        return search(ctx, work)
    sight = ask(ctx, work, Act.LOOK, lambda who: work.publisher.look(who, handle, work.content, work.video))
    if isinstance(sight, CannotTell) and sight.lost:
        return search(ctx, work)
    return sight


def search(ctx: Context, work: Work) -> Sight | InDoubt:
    """Look for the post in the account's own list: the last resort. Never one that another post has."""
    tenant_id, account_id = work.post.tenant_id, work.post.account_id
    claimed_at = work.post.claimed_at or work.post.created_at
    restored = work.post.restored_from is not None
    since = claimed_at - (BEFORE_BACKUP if restored else CLOCKS)
    listing = ask(ctx, work, Act.RECENT, lambda who: work.publisher.recent(who, since))
    with ctx.begin() as tx:
        tx.work_as(SYSTEM)
        bound = tx.posts.bound(tenant_id, account_id, [seen.external_id for seen in listing.posts])
        twin = tx.posts.has_twin(*work.key)
    shown = GIVE_MARKS_BACK.get(work.platform)
    mark = work.content.mark if shown is None else shown(work.content.mark)
    seconds, marked = work.video.seconds or None, shown is not None
    ours = Ours(work.content.text, mark, claimed_at, seconds, marked, twin, restored)
    found = match(ours, listing, bound)
    if isinstance(found, Found):
        return Matched(found.seen.external_id, found.seen.permalink, at=found.seen.published_at)
    if isinstance(found, NotThere):
        return NotListed("the account's own list of posts, which is complete, does not have it")
    return found


def conclude(ctx: Context, work: Work, sight: Sight | InDoubt, follow_up: FollowUp) -> Again | None:
    """Write down what a look at a post of which a job takes care has said. None: that is the end of the attempt.

    Raises:
        Snoozed: it is looked at later, or gets another handle.
    """
    post, now = work.post, ctx.now()
    answered = post.status == PostStatus.CLAIMED
    since = now - (post.submitted_at or now)
    settled = may_commit_again(post.submitted_at or now, now, answered=answered)
    match sight:
        case Published():
            published(ctx, work, sight, follow_up)
        case InInbox():
            in_inbox(ctx, work, follow_up)
        case Accepted():
            watch(ctx, work, sight.detail)
        case NotListed() if not _was_missing_before(ctx, work, since):
            next_look = max(LISTED - since, IN_DOUBT.after(since) or timedelta(minutes=1))
            wait(ctx, post, min(next_look, IN_DOUBT.longest), f"it is not there yet: {sight.reason}")
        case Absent(error=error) if error is not None:
            fail(ctx, post, getattr(error, "code", "refused"), str(error), certain=True)
        case Unfinished() | Absent() if settled:
            return _not_there(ctx, post, sight)
        case Unfinished() | Absent():
            # What was sent last may still be under way: it is waited for, and then looked at once more.
            refused = post.error_code in (AGAIN_REFUSED, AGAIN_LOST)
            why = str(post.error_message) if refused else f"it is not there yet: {sight.reason}"
            wait(ctx, post, IN_DOUBT.after(since) or timedelta(minutes=1), why)
        case InDoubt() if sight.candidates:
            doubt(ctx, post, "ambiguous", sight.reason, candidates=list(sight.candidates))
        case CannotTell() | InDoubt():
            after = looks_at(post).after(since)
            if after is None:
                reason = f"it was sent, and for too long nobody could tell whether it was published: {sight.reason}"
                doubt(ctx, post, "unknown", reason)
            else:
                wait(ctx, post, after, f"{MAY_BE_THERE}{sight.reason}")
    return None


def _not_there(ctx: Context, post: Post, sight: Unfinished | Absent) -> Again | None:
    if post.error_code == AGAIN_REFUSED:
        fail(ctx, post, "refused", str(post.error_message), certain=True)
    elif isinstance(sight, Unfinished) and post.error_code != AGAIN_LOST:
        return Again(sight.start)
    else:
        reopen(ctx, post, sight.reason, certain=True)
    return None


def _was_missing_before(ctx: Context, work: Work, since: timedelta) -> bool:
    """Whether the account's list has lacked the post for long enough, and at the look before too. Lists lag behind."""
    if since < LISTED:
        return False
    with ctx.begin() as tx:
        return tx.posts.not_listed(*work.key)


def published(ctx: Context, work: Work, found: Published, follow_up: FollowUp) -> None:
    """End the job: the post is there. An id that another post has is not bound a second time: who was found by text and
    time alone is in doubt then, and who is there by its handle has an id that is not known yet."""
    post, external_id, permalink = work.post, found.external_id, found.permalink
    with ctx.finish() as tx:
        other = external_id and bound_by(tx, *work.key, external_id)
        if other and isinstance(found, Matched):
            reason = f"the only post that fits, {external_id}, belongs to another post already"
            if tx.posts.doubt(*work.key, code="ambiguous", message=reason, look_after=None):
                note(ctx, tx, post, "unconfirmed", reason)
            return
        if other:
            external_id = permalink = None
        at = found.at if isinstance(found, Matched) else None
        if tx.posts.published(*work.key, external_id=external_id, permalink=permalink, now=ctx.now(), at=at):
            name = external_id or "by what name is not known yet"
            more = f"; it names further ones: {', '.join(found.others)}" if found.others else ""
            note(ctx, tx, post, "published", f"the platform has it: {name}{more}", external_id=external_id)
            follow_up(tx, post)
        else:
            _contradict(ctx, tx, post, external_id)


def _contradict(ctx: Context, tx: Tx, post: Post, external_id: str | None) -> None:
    """Keep that the platform has a post which counted as not there meanwhile: nothing makes it again."""
    message = f"the platform has it, although it counted as not there: {external_id or 'by no name yet'}"
    note(ctx, tx, post, "contradicted", message, external_id=external_id)
    tx.posts.contradict(post.tenant_id, post.id, message=message, now=ctx.now())


def bound_by(tx: Tx, tenant_id: UUID, post_id: UUID, external_id: str) -> UUID | None:
    """Return the other post, whosever, that is this one of the account; work in the tenant's scope after it."""
    tx.work_as(SYSTEM)
    other = tx.posts.bound_by(tenant_id, post_id, external_id)
    tx.work_as(tenant_id)
    return other


def in_inbox(ctx: Context, work: Work, follow_up: FollowUp) -> None:
    """End the job: only the account's owner can publish it."""
    with ctx.finish() as tx:
        if tx.posts.in_inbox(*work.key):
            note(ctx, tx, work.post, "in_inbox", "it waits in the inbox of the account's owner, who has to publish it")
            follow_up(tx, work.post)


def watch(ctx: Context, work: Work, detail: str) -> None:
    """Let the platform work on it; after some days it is a person's."""
    post, now = work.post, ctx.now()
    after = WATCHING.after(now - (post.submitted_at or now))
    if after is None:
        doubt(ctx, post, "slow", f"the platform has been working on it for days, and says only: {detail}")
        return
    with ctx.begin() as tx:
        before = tx.posts.accepted(*work.key, look_after=now + after + LOOK_AFTER)
        if before in (PostStatus.SUBMITTING, PostStatus.UNCONFIRMED):
            note(ctx, tx, post, "accepted", "the platform has all it needs, and works on it", detail=detail)
    ctx.snooze(after, "the platform works on it")


def absolve(ctx: Context, work: Work, why: str) -> None:
    """End a doubt: it is certainly not there. After a restore it is as it was; else a person may try it again."""
    post = work.post
    with ctx.finish() as tx:
        if post.restored_from is not None:
            text = "after the database was put back, it was found that it had not been published"
            if tx.posts.acquit(*work.key, message=text):
                note(ctx, tx, post, "acquitted", f"{text}: {why}")
        elif tx.posts.not_there(
            post,
            PostStatus.FAILED,
            certain=True,
            code="absent",
            message=f"it was certainly not published: {why}",
            keep_handle=True,
        ):
            note(ctx, tx, post, "failed", f"it was certainly not published: {why}")
        release(tx, post)
