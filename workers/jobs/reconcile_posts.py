"""What comes after a publication, and what is done where nobody could tell whether there was one."""

from datetime import timedelta
from uuid import UUID

from domain.errors import Rejected, Unavailable
from domain.posting.limits import Act
from domain.posting.looks import IN_INBOX, LISTED, SETTLES, WITHOUT_ID, Looks, settles_at
from domain.posting.matching import InDoubt
from domain.posting.posts import Post, PostStatus
from domain.posting.publishing import Absent, Accepted, AccountRevoked, CannotTell, InInbox, Published, Unfinished
from workers.engine.job import SYSTEM, Context, Tx, job
from workers.jobs.post_looks import NotListed, absolve, bound_by, in_inbox, look, published, search
from workers.jobs.post_work import ACCOUNT_WAIT, LOOK_AFTER, Work, answering, ask, doubt, fail, load, note, wait

DECORATING = Looks(timedelta(seconds=10), timedelta(hours=1), timedelta(hours=24))
"""For so long a published post's address and first comment are tried."""
OTHERS_MAY_BE = 3
"""So often a restored post is looked for again while the account has posts that belong to none here yet."""


# --- after a publication ---------------------------------------------------------------------------------------------


@job("posting.follow_up", queue="social", unique=("post_id",), max_attempts=5)
def follow_up(ctx: Context, tenant_id: UUID, post_id: UUID) -> None:
    """Find out what a published post is called and where it is, and write its first comment. Whatever goes wrong here
    changes nothing of its publication."""
    with ctx.begin() as tx:
        post = tx.posts.get(tenant_id, post_id)
    if post is None or post.status not in (PostStatus.PUBLISHED, PostStatus.IN_INBOX):
        _end(ctx)
        return
    why = ""
    try:
        work = load(ctx, post)
        if post.status == PostStatus.IN_INBOX:
            _watch_inbox(ctx, work)
            return
        if post.external_id is None:
            work = _named(ctx, work)
        _decorate(ctx, work)
    except Unavailable as error:
        why, again = str(error), error.retry_after
        _later(ctx, post, why, again)
    except AccountRevoked as error:
        _later(ctx, post, str(error), ACCOUNT_WAIT)
    except Rejected as error:
        with ctx.finish() as tx:
            note(ctx, tx, post, "follow_up", f"it is published; what should have followed was refused: {error}")


def follow(tx: Tx, post: Post) -> None:
    """Enqueue what comes after a publication."""
    follow_up.enqueue(tx, tenant_id=post.tenant_id, post_id=post.id)


def _end(ctx: Context) -> None:
    with ctx.finish():
        pass


def _later(ctx: Context, post: Post, why: str, again: timedelta | None = None) -> None:
    """Come back later, until it has been tried for long enough."""
    looks = {True: WITHOUT_ID, False: DECORATING}[post.external_id is None]
    looks = IN_INBOX if post.status == PostStatus.IN_INBOX else looks
    since = ctx.now() - (post.published_at or post.submitted_at or ctx.now())
    after = looks.after(since)
    if after is None:
        with ctx.finish() as tx:
            note(ctx, tx, post, "follow_up", f"it is not tried any longer: {why}")
        return
    ctx.snooze(max(after, again or after), why)


def _watch_inbox(ctx: Context, work: Work) -> None:
    """Look whether the account's owner has published it from their inbox."""
    sight = look(ctx, work)
    if isinstance(sight, Published):
        published(ctx, work, sight, _once_more)
        return
    _later(ctx, work.post, "it waits in the inbox of the account's owner")


def _once_more(tx: Tx, post: Post) -> None:
    follow_up.with_options(unique_key=f"{post.id}/published").enqueue(tx, tenant_id=post.tenant_id, post_id=post.id)


def _named(ctx: Context, work: Work) -> Work:
    """Return the work once the platform has named the post's id: TikTok does so after its moderation, or never."""
    handle, external_id = work.handle, None
    if handle is not None:
        sight = ask(ctx, work, Act.LOOK, lambda who: work.publisher.look(who, handle, work.content, work.video))
        external_id = sight.external_id if isinstance(sight, Published) else None
    post = work.post
    with ctx.begin() as tx:
        if external_id is not None and bound_by(tx, *work.key, external_id) is None:
            tx.posts.name(*work.key, external_id)
            note(ctx, tx, post, "named", f"the platform calls it {external_id}", external_id=external_id)
            post = tx.posts.get(*work.key) or post
    if post.external_id is None:
        _later(ctx, post, "the platform has not named the post's id yet")
        return work
    return load(ctx, post)


def _decorate(ctx: Context, work: Work) -> None:
    """Read the post's address, and write its first comment, if it has none yet."""
    post, external_id = work.post, work.post.external_id
    if ctx.finished or external_id is None:
        return
    permalink = post.permalink
    if permalink is None:
        permalink = ask(ctx, work, Act.PERMALINK, lambda who: work.publisher.permalink(who, external_id))
        if permalink is not None:
            with ctx.begin() as tx:
                tx.posts.decorate(*work.key, permalink=permalink)
    if post.first_comment and post.first_comment_id is None:
        _comment(ctx, work, external_id, post.first_comment)
    if permalink is None:
        _later(ctx, post, "the platform has no address for the post yet")
        return
    _end(ctx)


def _comment(ctx: Context, work: Work, external_id: str, text: str) -> None:
    """Write the post's first comment; one that is refused is not tried again."""
    post, key = work.post, f"{work.post.id}:comment"
    try:
        comment_id = ask(ctx, work, Act.COMMENT, lambda who: work.publisher.comment(who, external_id, text, key))
        says = "its first comment is written" if comment_id else "the platform has no way to write a first comment"
    except AccountRevoked:
        raise
    except Rejected as error:
        comment_id, says = None, f"its first comment was refused: {error}"
    with ctx.begin() as tx:
        tx.posts.decorate(*work.key, first_comment_id=comment_id or "")
        note(ctx, tx, post, "comment", says, comment_id=comment_id)


# --- where nobody could tell -----------------------------------------------------------------------------------------


@job("posting.reconcile", unique=("post_id",), max_attempts=5)
def reconcile(ctx: Context, tenant_id: UUID, post_id: UUID) -> None:
    """Look what became of an unconfirmed post: by its handle, else in the account's own list. What cannot be told
    stays a person's to decide; nothing is sent."""
    with ctx.begin() as tx:
        post = tx.posts.take(tenant_id, post_id, ctx.job.id, look_after=None, states=(PostStatus.UNCONFIRMED,))
    if post is None:
        _end(ctx)
        return
    with answering(ctx, post):
        _reconcile(ctx, load(ctx, post))


@job("posting.reconcile_account", unique=("account_id",))
def reconcile_account(ctx: Context, tenant_id: UUID, account_id: UUID) -> None:
    """Reconcile all posts of an account of which nobody could tell whether they were published."""
    with ctx.finish() as tx:
        for _, post_id in tx.posts.in_doubt(tenant_id, account_id):
            reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)


def _reconcile(ctx: Context, work: Work) -> None:
    post, restored = work.post, work.post.restored_from is not None
    sight = look(ctx, work)
    if restored and work.handle is not None and isinstance(sight, (Unfinished, Absent)):
        # Of a later handle, which may have become the post, the database knows nothing.
        sight = search(ctx, work)
    match sight:
        case Published():
            published(ctx, work, sight, follow)
        case InInbox():
            in_inbox(ctx, work, follow)
        case Accepted():
            with ctx.finish() as tx:
                tx.posts.accepted(*work.key, look_after=ctx.now() + (LOOK_AFTER if restored else timedelta(0)))
                note(ctx, tx, post, "accepted", "the platform works on it", detail=sight.detail)
        case Absent(error=error) if error is not None and not restored:
            fail(ctx, post, getattr(error, "code", "refused"), str(error), certain=True)
        case Absent() | Unfinished():
            _wait_until_settled(ctx, work, sight)
            absolve(ctx, work, sight.reason)
        case CannotTell():
            _still_in_doubt(ctx, post, sight.reason)
        case InDoubt():
            if restored and sight.candidates and ctx.job.snoozes < OTHERS_MAY_BE:
                # Posts that went out since the backup may belong to others that are being looked for too.
                wait(ctx, post, timedelta(minutes=1), sight.reason)
            _still_in_doubt(ctx, post, sight.reason, candidates=list(sight.candidates))


def _wait_until_settled(ctx: Context, work: Work, sight: Unfinished | Absent) -> None:
    """Let nothing count as absent that may still arrive: who was uploading when a restore began, or an account was
    disconnected, goes on for minutes, and a list shows it later still.

    Raises:
        Snoozed: it is looked at again then.
    """
    with ctx.begin() as tx:
        tx.work_as(SYSTEM)
        last = tx.restores.last()
    at = settles_at(work.post.submitted_at, last.begun_at if last is not None else None)
    if at is not None and isinstance(sight, NotListed):
        at += LISTED - SETTLES
    if at is not None and ctx.now() < at:
        wait(ctx, work.post, at - ctx.now(), f"it is not there yet: {sight.reason}")


def _still_in_doubt(ctx: Context, post: Post, reason: str, **details: object) -> None:
    code = post.error_code or "unknown"
    doubt(ctx, post, code, f"nobody can tell whether it was published: {reason}; look at the account itself", **details)
