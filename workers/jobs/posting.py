"""Posts go out, each once.

    posting.due ──each minute──▶ posting.publish ──▶ published ──▶ posting.follow_up
                                      │
                                      └──nobody can tell──▶ unconfirmed ──▶ posting.reconcile, or a person

What state a post is in stands on its row, not in a job: an attempt reads it, and goes on from there. Before the point
of no return everything may be done again. The row is `submitting`, and a submission is a row, before the one call that
publishes; whoever finds it so looks before it acts. Design, and why no sequence of crashes, lost answers and expired
tokens makes a second post: docs/decisions/0036.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from domain.autopilot.consent import Withheld
from domain.errors import Rejected, Unavailable, ViralError
from domain.ports import Watch
from domain.posting.accounts import Credential
from domain.posting.limits import Act, closings, draws, limits_row, places
from domain.posting.looks import COMMIT_WITHIN, IN_DOUBT, PREPARING, TRIED_FOR
from domain.posting.posts import PostingHalted, PostStatus
from domain.posting.publishing import (
    Accepted,
    AccountRevoked,
    Commit,
    Handle,
    HandleLost,
    InInbox,
    NotReady,
    PostRefused,
    Published,
    Refused,
    TokenExpired,
    Unknown,
)
from domain.posting.schedule import TURN, in_words, is_late
from workers.engine.job import SYSTEM, Context, FailedJob, Tx, elapsed, job, reason_for_people
from workers.jobs.accounts import access, revoked
from workers.jobs.post_looks import AGAIN_LOST, AGAIN_REFUSED, conclude, in_inbox, look, published, watch
from workers.jobs.post_work import (
    LOOK_AFTER,
    MAY_BE_THERE,
    Work,
    answering,
    ask,
    fail,
    halted,
    keep_handle,
    load,
    looks_at,
    miss,
    note,
    release,
    reopen,
    wait,
    wait_for_account,
)
from workers.jobs.reconcile_posts import follow, reconcile

CHUNK = 200
"""Posts that are claimed in one transaction."""
LONGEST_COMMIT = timedelta(minutes=4)
"""No request of a commit is begun later than that after its submission was written down: with its own time-out it has
ended when the outcome counts as settled (`domain.posting.looks.SETTLES`)."""
BEGUN_MAY_END = timedelta(minutes=30)
"""A post whose handle was opened in time may be published so much later."""
WAITS_TODAY = timedelta(hours=24)
"""What others have due so soon shares the places of this installation."""
HALTED_WAIT = timedelta(minutes=1)
TAKES_AT_MOST = timedelta(minutes=15)
TO_END = timedelta(seconds=30)
"""What is left of an attempt when an upload is ended, so that it can be written down."""
LOOKS_BACK_EVERY = 15
"""Minutes."""
CHECK_EVERY = 2.0
"""Seconds between two looks of an upload at whether the job is still ours."""


class CommitTooLate(Unavailable):
    """The call that publishes was not begun, since too much time had gone by: another attempt may be at it."""


# --- what is due -----------------------------------------------------------------------------------------------------


@job("posting.due", system=True, timeout=timedelta(minutes=5))
def find_due(ctx: Context) -> None:
    """Claim what is due and enqueue it, account by account; say of what is too late that it is missed; and let nothing
    be forgotten that is under way."""
    ctx.count(claimed=0, missed=0, left_alone=0)
    if not halted(ctx):
        _miss_late(ctx)
        _claim(ctx)
    with ctx.begin() as tx:
        left = tx.posts.left_alone(now=ctx.now(), again=ctx.now() + LOOK_AFTER, limit=CHUNK)
        for tenant_id, post_id, status in left:
            cared_for = reconcile if status == PostStatus.UNCONFIRMED else publish
            cared_for.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
    ctx.count(left_alone=len(left))
    with ctx.finish():
        pass


def anything_due(tx: Tx, now: datetime) -> bool:
    """Whether `find_due` may find anything to do. Now and then it looks in any case whether the database was put back
    to an earlier state."""
    return now.minute % LOOKS_BACK_EVERY == 0 or tx.posts.any_due(now)


def _miss_late(ctx: Context) -> None:
    more = True
    while more:
        with ctx.begin() as tx:
            late = tx.posts.late(now=ctx.now(), begun=BEGUN_MAY_END, limit=CHUNK)
            for post_id, tenant_id, scheduled_for, late_after, account_status, account_reason, waits in late:
                reason = waits if account_status == "active" else account_reason or f"its account is {account_status}"
                message = _late_words(scheduled_for, late_after, reason)
                post = tx.posts.get(tenant_id, post_id)
                if post and tx.posts.not_there(post, PostStatus.MISSED, certain=False, code="late", message=message):
                    tx.posts.note(tenant_id, post_id, "missed", message, job_id=ctx.job.id, at=ctx.now())
                    tx.reservations.release(tenant_id, post_id)
        ctx.count(missed=len(late))
        more = len(late) == CHUNK


def _claim(ctx: Context) -> None:
    more = True
    while more:
        now = ctx.now()
        with ctx.begin() as tx:
            claimed = tx.posts.claim(now=now, last_turn=now - TURN, look_after=now + LOOK_AFTER, limit=CHUNK)
            publish.enqueue_many(tx, [{"tenant_id": tenant_id, "post_id": post_id} for tenant_id, post_id in claimed])
            for tenant_id, post_id in claimed:
                tx.posts.note(tenant_id, post_id, "claimed", "it is due", job_id=ctx.job.id, at=now)
        ctx.count(claimed=len(claimed))
        more = len(claimed) == CHUNK


def _late_words(scheduled_for: datetime, late_after: timedelta, reason: str | None) -> str:
    why = f": {reason}" if reason else ""
    return (
        f"it was due at {scheduled_for:%Y-%m-%d %H:%M} UTC and could not be begun within {in_words(late_after)}{why}; "
        "schedule it again if it is still to be posted"
    )


# --- publishing ------------------------------------------------------------------------------------------------------


def left_over(tx: Tx, failed: FailedJob) -> None:
    """Decide about a post whose job ends without an end for it: one that was certainly not sent has failed, the others
    are looked after again."""
    if failed.tenant_id is None:
        return
    tenant_id, post_id = failed.tenant_id, failed.arguments["post_id"]
    reason = reason_for_people(tx, failed)
    post = tx.posts.get(tenant_id, post_id)
    if post is None or post.job_id != failed.id:
        return
    now = tx.now()
    if not post.may_be_there:
        if tx.posts.not_there(post, PostStatus.FAILED, certain=False, code="error", message=reason, keep_handle=True):
            tx.posts.note(tenant_id, post_id, "failed", reason, job_id=failed.id)
            release(tx, post)
    elif looks_at(post).after(now - (post.submitted_at or now)) is None:
        tx.posts.doubt(tenant_id, post_id, code="unknown", message=reason, look_after=None)
        tx.posts.note(tenant_id, post_id, "unconfirmed", reason, job_id=failed.id)
    else:
        tx.posts.look_after(tenant_id, post_id, now + timedelta(minutes=1), message=reason)


@job(
    "posting.publish",
    queue="social",
    unique=("post_id",),
    max_attempts=5,
    timeout=TAKES_AT_MOST,
    on_failure=left_over,
)
def publish(ctx: Context, tenant_id: UUID, post_id: UUID) -> None:
    """Bring a claimed post further: make its handle, cross the point of no return, or look what became of it."""
    with ctx.begin() as tx:
        post = tx.posts.take(tenant_id, post_id, ctx.job.id, look_after=ctx.now() + TAKES_AT_MOST + LOOK_AFTER)
    if post is None:
        with ctx.finish():
            pass
        return
    with answering(ctx, post):
        _go_on(ctx, load(ctx, post))


def _go_on(ctx: Context, work: Work) -> None:
    post, start, now = work.post, 0, ctx.now()
    if post.may_be_there:
        again = conclude(ctx, work, look(ctx, work), follow)
        if again is None:
            return
        start = again.start
    waited = (post.error_message or "").removeprefix(MAY_BE_THERE)
    if halted(ctx):
        wait(ctx, post, HALTED_WAIT, str(PostingHalted()))
    if is_late(post.scheduled_for or now, now, work.late_after) and not _was_begun(ctx, work):
        miss(ctx, post, _late_words(post.scheduled_for or now, work.late_after, waited))
        return
    if now - (work.first_sent_at or now) > TRIED_FOR:
        why = waited or "the platform does not say why"
        fail(ctx, post, "tries", f"it was sent again and again for a day, and is not there: {why}", certain=True)
        return
    if not post.may_be_there:
        work = _prepared(ctx, work)
    _submit(ctx, work, start)


def _was_begun(ctx: Context, work: Work) -> bool:
    return work.handle is not None and work.opened_at is not None and ctx.now() < work.opened_at + BEGUN_MAY_END


def _prepared(ctx: Context, work: Work) -> Work:
    """Return the work with a handle that can be committed. All of it may be done again, and nothing is published.

    Raises:
        Snoozed: a place, a rate or the platform is waited for.
    """
    handle = work.handle
    if handle is None or _is_over(ctx, handle):
        _reserve(ctx, work)
        watch_ = _watching(ctx, None)
        handle = ask(ctx, work, Act.OPEN, lambda who: work.publisher.open(who, work.content, work.video, watch_))
        work = keep_handle(ctx, work, handle, new=True)
    made = handle
    try:
        ready = ask(
            ctx,
            work,
            Act.READY,
            lambda who: work.publisher.ready(who, made, work.content, work.video, _watching(ctx, None)),
        )
    except NotReady as error:
        if error.handle is not None:
            keep_handle(ctx, work, error.handle)
        after = PREPARING.after(ctx.now() - (work.opened_at or ctx.now()))
        if after is None:
            raise PostRefused("not_ready", f"the platform did not get it ready in time: {error}") from error
        wait(ctx, work.post, error.retry_after or after, str(error))
        raise
    return work if ready == handle else keep_handle(ctx, work, ready)


def _is_over(ctx: Context, handle: Handle) -> bool:
    return handle.expires_at is not None and handle.expires_at <= ctx.now() + LONGEST_COMMIT


def _reserve(ctx: Context, work: Work) -> None:
    """Take one of the places that the platform has for posts of the account today, or wait for one."""
    limits = ask(ctx, work, Act.LIMITS, work.publisher.limits)
    account_id, now = work.post.account_id, ctx.now()
    tenant_id = work.post.tenant_id
    with ctx.begin() as tx:
        tx.social_accounts.save_limits(tenant_id, account_id, limits_row(limits), now)
        tx.work_as(SYSTEM)
        shared = tx.reservations.others_wait(tenant_id, work.platform, now + WAITS_TODAY)
    allowances = places(
        work.platform,
        account_id,
        now,
        daily_limit=work.daily_limit,
        limits=limits,
        limits_read_at=now,
        tenant_id=tenant_id,
        shared=shared,
    )
    with ctx.begin() as tx:  # no row is held while a place is waited for
        tx.work_as(SYSTEM)
        full = tx.reservations.reserve(*work.key, allowances, now)
    if full is not None:
        free_at, allowance = full
        wait(ctx, work.post, max(free_at - now, timedelta(minutes=1)), f"it waits for a place: {allowance.why}")


# --- the point of no return ------------------------------------------------------------------------------------------


def _submit(ctx: Context, work: Work, start: int) -> None:
    """Write down that the post is submitted, make the one call that publishes, and write down what it said."""
    handle, account_id, repeated = work.handle, work.post.account_id, work.post.may_be_there
    if handle is None:
        raise HandleLost("it has no handle")
    ctx.draw_all([*closings(work.platform, account_id), *draws(work.platform, Act.COMMIT, account_id)])
    credential = access(ctx, work.post.tenant_id, account_id)
    if halted(ctx):
        wait(ctx, work.post, HALTED_WAIT, str(PostingHalted()))
    try:
        with ctx.begin() as tx:
            tx.work_as(SYSTEM)
            submission_id, now, began = tx.new_id(), ctx.now(), elapsed()
            before = tx.posts.begin_submission(
                *work.key, id=submission_id, now=now, look_after=now + TAKES_AT_MOST + LOOK_AFTER
            )
            if before is not None:
                says = "it is being sent: from here on it may be published"
                note(ctx, tx, work.post, "submitting", says, start=start)
    except Withheld as error:
        _withhold(ctx, work, error)
        return
    if before is None:
        with ctx.finish():
            pass
        return
    if ctx.ports.marks is not None:
        ctx.ports.marks.remember(submission_id, now)
    work = replace(work, post=replace(work.post, status=PostStatus.SUBMITTING, submitted_at=now))
    try:
        if elapsed() - began > COMMIT_WITHIN.total_seconds():
            raise CommitTooLate("too much time went by before it could be sent")
        outcome: Commit = work.publisher.commit(
            credential, handle, work.content, work.video, start=start, watch=_watching(ctx, began)
        )
    except CommitTooLate as error:
        outcome = Refused(error)
    _write_down(ctx, work, credential, outcome, repeated=repeated)


def _withhold(ctx: Context, work: Work, why: Withheld) -> None:
    """End the job, and do not send the post, which is not there: if it was sent before, a look has just said so."""
    post, kind = work.post, "held_back" if why.to is PostStatus.NEEDS_APPROVAL else "cancelled"
    with ctx.finish() as tx:
        if tx.posts.not_there(post, why.to, certain=True, message=str(why)):
            note(ctx, tx, post, kind, str(why))
            tx.chains.note(post.tenant_id, why.chain_id, kind, str(why), at=ctx.now(), job_id=ctx.job.id)
            release(tx, post)


def _watching(ctx: Context, began: float | None) -> Watch:
    """Return what an upload calls: it ends it if the job is not ours any more, and before the last request of a commit
    that began then (`elapsed`) if that would be too late. What comes before the commit may take all of the attempt."""
    checked = elapsed()

    def watch_(fraction: float) -> None:
        nonlocal checked
        now = elapsed()
        if began is not None and now - began > LONGEST_COMMIT.total_seconds():
            raise CommitTooLate("the upload took too long, and goes on from where it is")
        if began is None and ctx.remaining < TO_END:
            raise Unavailable("the platform takes the upload too slowly for one attempt")
        if now - checked > CHECK_EVERY:
            ctx.check()
            checked = now

    return watch_


def _write_down(ctx: Context, work: Work, credential: Credential, outcome: Commit, *, repeated: bool) -> None:
    post = work.post
    match outcome:
        case Published():
            published(ctx, work, outcome, follow)
        case InInbox():
            in_inbox(ctx, work, follow)
        case Accepted():
            watch(ctx, work, outcome.detail)
        case Unknown():
            with ctx.begin() as tx:
                note(ctx, tx, post, "unknown", f"it was sent, and no answer tells what became of it: {outcome.reason}")
            wait(ctx, post, IN_DOUBT.shortest, f"{MAY_BE_THERE}{outcome.reason}")
        case Refused():
            _refused(ctx, work, credential, outcome.error, repeated=repeated)


def _refused(ctx: Context, work: Work, credential: Credential, error: ViralError, *, repeated: bool) -> None:
    """Go on after an answer that says that this call published nothing. Of a first one that is certain of the post. A
    `repeated` one may be refused because an earlier one has published it, whatever the look between them has said: the
    next look decides."""
    post = work.post
    if repeated and isinstance(error, Rejected) and not isinstance(error, AccountRevoked):
        with ctx.begin() as tx:
            code = AGAIN_LOST if isinstance(error, HandleLost) else AGAIN_REFUSED
            tx.posts.look_after(*work.key, ctx.now() + LOOK_AFTER, code=code, message=str(error))
            note(ctx, tx, post, "refused_again", f"it was sent again, and that was refused: {error}")
        ctx.snooze(IN_DOUBT.shortest, str(error))
    elif isinstance(error, HandleLost):
        reopen(ctx, post, str(error), certain=True)
    elif isinstance(error, (AccountRevoked, Unavailable)):
        with ctx.begin() as tx:
            tx.posts.not_there(post, PostStatus.CLAIMED, certain=True, message=str(error), keep_handle=True)
            note(ctx, tx, post, "not_sent", f"certainly nothing was published by that: {error}")
        if isinstance(error, AccountRevoked):
            revoked(ctx, post.tenant_id, post.account_id, credential, error)
            if not repeated:
                wait_for_account(ctx, post, str(error), certain=True)
                return
        if isinstance(error, TokenExpired):
            access(ctx, post.tenant_id, post.account_id, refused=credential)
        if isinstance(error, (TokenExpired, CommitTooLate)):
            ctx.snooze(timedelta(0), str(error))
        raise error
    else:
        fail(ctx, post, getattr(error, "code", "refused"), str(error), certain=True)
