"""Numbers of posts come back, each at its horizon or not at all.

    analytics.due ──each minute──▶ analytics.collect, one an account ──▶ snapshot, feedback, the next look: one commit

The rules are `domain/learning/horizons.py`, the reasons docs/decisions/0039. When a post is looked at next stands on
its row (`measure_at`), so a job that ends for whatever reason forgets nothing, and a platform that is silent costs one
call for each of its accounts. Posts come first: collecting has the queue `social`, whose threads wait for platforms,
with a lower priority; a job holds its thread for seconds only, and leaves half of the rates that posts draw from.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from domain.errors import Rejected, Unavailable
from domain.learning.horizons import JOINS_AT_MOST, NO_ID, held_off, joins, not_answered, without_account
from domain.learning.measuring import Circumstances, MeasuredPost, Outcome, answered, doubted, unanswered
from domain.learning.numbers import Measured
from domain.ports import Publisher
from domain.posting.accounts import AccountStatus, Credential
from domain.posting.limits import Act, draws
from domain.posting.publishing import AccountRevoked, HeldOff
from domain.videos.profiles import NAMES
from workers.engine.job import OUR_ERROR, SYSTEM, Context, FailedJob, Tx, elapsed, job
from workers.jobs.post_work import HELD_OFF, ask_account, call_with_access

CHUNK = 200
"""Accounts that are enqueued in one transaction."""
BEGUN = 1000
"""Posts of the release before this one that are begun in one transaction."""
CHUNKS = 10
"""So many chunks one run of the schedule enqueues at most; the next one, a minute later, goes on."""
POSTS = 500
"""Posts of an account that one job looks at, at most."""
ROUND = 15.0
"""After so many seconds a job begins no further call: what is left is due still, and posts get the thread."""
AFTER_POSTS = 7
"""The priority: higher numbers come later, and posts have 5."""
AFTER_AN_ERROR = timedelta(minutes=30)


@job("analytics.due", system=True, timeout=timedelta(minutes=5))
def find_due(ctx: Context) -> None:
    """Begin what the release before this one has published meanwhile; enqueue one job for each account that has posts
    to be measured, one tenant's between those of the others."""
    ctx.count(accounts=0)
    for _ in range(CHUNKS):
        with ctx.begin() as tx:
            begun = tx.snapshots.begin(now=ctx.now(), limit=BEGUN)
        if begun < BEGUN:
            break
    for _ in range(CHUNKS):
        with ctx.begin() as tx:
            found = tx.snapshots.due_accounts(now=ctx.now(), limit=CHUNK)
            collect.enqueue_many(
                tx, [{"tenant_id": tenant_id, "account_id": account_id} for tenant_id, account_id in found]
            )
        ctx.count(accounts=len(found))
        if len(found) < CHUNK:
            break
    with ctx.finish():
        pass


def anything_due(tx: Tx, now: datetime) -> bool:
    """Whether `find_due` may find anything to do."""
    return tx.snapshots.any_due(now)


def left_over(tx: Tx, failed: FailedJob) -> None:
    """Let the account's posts wait for a while whose job has failed, so that one error does not come back each
    minute."""
    if failed.tenant_id is None:
        return
    now = tx.now()
    tx.work_as(failed.tenant_id)
    tx.snapshots.put_off(
        failed.tenant_id, failed.arguments["account_id"], now=now, until=now + AFTER_AN_ERROR, note=OUR_ERROR
    )


@job(
    "analytics.collect",
    queue="social",
    unique=("account_id",),
    priority=AFTER_POSTS,
    timeout=timedelta(minutes=5),
    on_failure=left_over,
)
def collect(ctx: Context, tenant_id: UUID, account_id: UUID) -> None:
    """Ask for the numbers of the account's posts that are due, and of those that are soon; write each answer down
    before the next one is asked for."""
    began, now = elapsed(), ctx.now()
    with ctx.begin() as tx:
        row = tx.social_accounts.get(tenant_id, account_id)
        posts = tx.snapshots.due_posts(tenant_id, account_id, until=now + JOINS_AT_MOST, limit=POSTS)
        tx.work_as(SYSTEM)
        restore = tx.restores.last()
    due = [post for post in posts if post.measure_at <= now]
    if row is not None and due:
        soon = [post for post in posts if post.measure_at > now and joins(post.published_at, now, post.settled)]
        # What was measured after the backup was taken is lost; nothing was from when that was noticed.
        halted = restore and (min(restore.taken_at or restore.noticed_at, restore.noticed_at), restore.ended_at)
        why_not = without_account(row["status"], row["reason"])
        asked = Asked(tenant_id, account_id, row["platform"], Circumstances(why_not, halted))
        _collect(ctx, asked, due, soon, until=began + ROUND)
    with ctx.finish():
        pass


@dataclass(frozen=True, slots=True)
class Asked:
    """The account that is asked."""

    tenant_id: UUID
    account_id: UUID
    platform: str
    circumstances: Circumstances


def _collect(
    ctx: Context, asked: Asked, due: Sequence[MeasuredPost], soon: Sequence[MeasuredPost], *, until: float
) -> None:
    """Measure the posts that are `due`, and with them those that are `soon`, where one call asks for several."""
    _put_off(ctx, asked, [post for post in due if post.external_id is None], NO_ID)
    named = [post for post in due if post.external_id is not None]
    publisher = ctx.ports.publishers.get(asked.platform)
    if publisher is None or asked.circumstances.account is not None:
        why = asked.circumstances.account or f"this release cannot ask {asked.platform}"
        _put_off(ctx, asked, named, why)
        return
    size = publisher.measured_at_once
    if size > 1 and named:
        named += [post for post in soon if post.external_id is not None]
    missing: list[MeasuredPost] = []
    for start in range(0, len(named), size):
        batch, left = named[start : start + size], [*named[start:], *missing]
        if elapsed() > until:
            break
        try:
            measured, captured_at = _ask(ctx, asked, publisher, batch)
        except HeldOff as error:
            _hold_off(ctx, asked, left, error)
            return
        except AccountRevoked as error:
            _put_off(ctx, asked, left, without_account(AccountStatus.NEEDS_RECONNECT, str(error)) or "")
            return
        except (Unavailable, Rejected) as error:
            _put_off(ctx, asked, left, not_answered(str(error)))
            return
        later = doubted(batch, measured, captured_at)
        missing += later
        _answered(ctx, asked, [post for post in batch if post not in later], measured, captured_at)
    _ask_whether_gone(ctx, asked, publisher, missing, until=until)


def _ask(ctx: Context, asked: Asked, publisher: Publisher, posts: Sequence[MeasuredPost]) -> tuple[Measured, datetime]:
    """Return what the platform says of the posts, and the moment just before it was asked."""
    ids = [post.external_id for post in posts if post.external_id is not None]

    def call(credential: Credential) -> tuple[Measured, datetime]:
        now = ctx.now()
        return publisher.measure(credential, ids, now, more), now

    def more(count: int) -> None:
        ctx.draw_all(draws(asked.platform, Act.MEASURE, asked.account_id, times=count))

    return ask_account(ctx, (asked.tenant_id, asked.account_id), asked.platform, Act.MEASURE, call)


def _ask_whether_gone(
    ctx: Context, asked: Asked, publisher: Publisher, posts: Sequence[MeasuredPost], *, until: float
) -> None:
    """Ask of posts that the platform's answers are without whether it has them no longer. That is never waited for: the
    numbers of others do not depend on it, and whatever cannot be asked now is measured again first."""
    account, size = (asked.tenant_id, asked.account_id), publisher.doubted_at_once
    for start in range(0, len(posts), size):
        batch = posts[start : start + size]
        ids = [post.external_id for post in batch if post.external_id is not None]
        if start and elapsed() > until:
            return
        answer, asked_at = Measured("", missing=frozenset(ids)), ctx.now()
        if ctx.may_draw(draws(asked.platform, Act.GONE, asked.account_id)):
            with suppress(Unavailable, Rejected):
                gone = call_with_access(ctx, account, partial(publisher.gone, external_ids=ids))
                answer = Measured("", gone=gone)
        _answered(ctx, asked, batch, answer, asked_at)


def _hold_off(ctx: Context, asked: Asked, posts: Sequence[MeasuredPost], error: HeldOff) -> None:
    """Let the account's posts wait for as long as the platform says; or all accounts', if it says so of them.

    Raises:
        Snoozed: in the second case, for that long.
    """
    after = error.retry_after or HELD_OFF
    _put_off(ctx, asked, posts, held_off(str(error)), ctx.now() + after)
    for each in draws(asked.platform, Act.MEASURE, asked.account_id):
        if error.whole_app and each.whole_app:
            ctx.hold_off(each.bucket, after)


# --- what is written down --------------------------------------------------------------------------------------------


def _write_down(
    ctx: Context, asked: Asked, posts: Sequence[MeasuredPost], decide: Callable[[Sequence[MeasuredPost]], Outcome]
) -> None:
    """Lock the posts, decide what becomes of them as they are now, and keep it: one commit, if the job is ours."""
    if not posts:
        return
    tenant_id = asked.tenant_id
    with ctx.begin() as tx:
        outcome = decide(tx.snapshots.lock(tenant_id, [post.id for post in posts]))
        tx.snapshots.record(tenant_id, outcome.snapshots)
        tx.snapshots.postpone(tenant_id, outcome.postponed)
        tx.snapshots.miss(tenant_id, outcome.misses, ctx.now())
        for post in outcome.removed:
            message = (
                f"{NAMES[asked.platform]} says that it has it no longer, and has said so first at "
                f"{post.gone_at:%Y-%m-%d %H:%M} UTC"
            )
            if tx.posts.removed(tenant_id, post.id, message=message):
                tx.posts.note(
                    *(tenant_id, post.id, "removed", message),
                    details={"external_id": post.external_id},
                    job_id=ctx.job.id,
                    at=ctx.now(),
                )
    ctx.count(measured=len(outcome.snapshots), missed=len(outcome.misses), removed=len(outcome.removed))


def _answered(
    ctx: Context, asked: Asked, posts: Sequence[MeasuredPost], measured: Measured, captured_at: datetime
) -> None:
    """Write down what the platform said of posts."""
    _write_down(ctx, asked, posts, lambda locked: answered(locked, measured, captured_at, asked.circumstances))


def _put_off(
    ctx: Context, asked: Asked, posts: Sequence[MeasuredPost], why: str, not_before: datetime | None = None
) -> None:
    """Write down why posts could not be measured, and when they are tried again."""
    now = ctx.now()
    _write_down(
        ctx, asked, posts, lambda locked: unanswered(locked, why, now, asked.circumstances, not_before=not_before)
    )
