"""What all jobs that look after posts share: what a post is published with, how its platform is asked, and what each
kind of refusal means for it. The machinery: docs/decisions/0036."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from domain.errors import NotSetUp, Rejected, SealUnknown, Unavailable, UnknownAccount
from domain.ports import MediaStore, Ports, Publisher, Vault
from domain.posting.accounts import Credential
from domain.posting.limits import Act, closed_bucket, draws
from domain.posting.looks import HANDLES, IN_DOUBT, WATCHING, Looks
from domain.posting.platforms import chosen, is_labelled, rules_of
from domain.posting.posts import Post, PostStatus, mark_of
from domain.posting.publishing import (
    AccountRevoked,
    Content,
    Handle,
    HandleLost,
    HeldOff,
    PostRefused,
    TokenExpired,
    VideoFile,
)
from domain.posting.text import compose
from domain.videos.media import CONTENT_TYPES, StoreUnavailable, object_key
from workers.engine.job import SYSTEM, Context, Tx
from workers.jobs.accounts import access, revoked
from workers.jobs.submission_marks import compare

MAY_BE_THERE = "it was sent, and may be published: "
"""Before why a post that was sent waits."""
HELD_OFF = timedelta(minutes=15)
"""For how long nobody asks, where the platform named no time."""
ACCOUNT_WAIT = timedelta(hours=1)
LOOK_AFTER = timedelta(minutes=15)
"""A post that its job has not touched for so long after it was to has no job any more."""
TRY_AGAIN = timedelta(seconds=10), timedelta(minutes=5)
"""The shortest and the longest wait for a platform that has failed before the point of no return."""
SILENT = timedelta(minutes=1), timedelta(minutes=10)
"""The shortest and the longest wait for one that let a question's whole time go by: it took a thread for that."""
LOOKS_FOR_A_PERSON = 10
"""A platform that does not answer is asked so often whether it has an unconfirmed post."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work:
    """A post, and all that it is published with. `handle` is by what the platform knows it already; `late_after` how
    late it may be begun; `opened_at` when its last handle was made; `first_sent_at` when it was sent first since its
    claim."""

    post: Post
    platform: str
    publisher: Publisher
    content: Content
    video: VideoFile
    handle: Handle | None
    daily_limit: int | None
    late_after: timedelta
    opened_at: datetime | None
    first_sent_at: datetime | None

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.post.tenant_id, self.post.id


def load(ctx: Context, post: Post) -> Work:
    """Read what the post is published with.

    Raises:
        PostRefused: the file is not there any more.
        AccountRevoked: its account cannot be used until its owner has connected it again.
    """
    with ctx.begin() as tx:
        row = tx.posts.material(post.tenant_id, post.id)
    if row is None:
        raise UnknownAccount(f"the account {post.account_id} is not there any more")
    if row["account_status"] != "active":
        why = row["account_reason"] or f"it is {row['account_status']}"
        raise AccountRevoked(row["account_status"], f"its account has to be connected again: {why}")
    if row["stored_at"] is None or row["video_status"] != "completed":
        raise PostRefused("video_gone", "the file of its video is not there any more: make the video again")
    publisher = ctx.ports.publishers.get(row["platform"])
    if publisher is None:
        raise NotSetUp(f"this release cannot post to {row['platform']}")
    return Work(
        post=post,
        platform=row["platform"],
        publisher=publisher,
        content=_content(post, row, ctx.now()),
        video=_video(ctx.ports.media, post, row),
        handle=_handle(ctx.ports, post),
        daily_limit=row["daily_limit"],
        late_after=row["late_after"],
        opened_at=row["opened_at"],
        first_sent_at=row["first_sent_at"],
    )


def ask(ctx: Context, work: Work, act: Act, call: Callable[[Credential], T]) -> T:
    """Ask the platform about a post, as `ask_account` does."""
    return ask_account(ctx, (work.post.tenant_id, work.post.account_id), work.platform, act, call)


def ask_account(
    ctx: Context, account: tuple[UUID, UUID], platform: str, act: Act, call: Callable[[Credential], T]
) -> T:
    """Ask the platform of an account (its tenant's id, and its own), within its rates, with tokens that open it; if
    they have expired, once more with fresh ones.

    Raises:
        Snoozed: until the rate allows it.
        AccountRevoked, HeldOff, PostRefused, Unavailable, …: as the platform says.
    """
    ctx.draw_all(draws(platform, act, account[1]))
    return call_with_access(ctx, account, call)


def call_with_access(ctx: Context, account: tuple[UUID, UUID], call: Callable[[Credential], T]) -> T:
    """Ask the platform as `ask_account` does; what that draws has been drawn."""
    credential = access(ctx, *account)
    try:
        try:
            return call(credential)
        except TokenExpired:
            credential = access(ctx, *account, refused=credential)
            return call(credential)
    except AccountRevoked as error:
        revoked(ctx, *account, credential, error)
        raise


def keep_handle(ctx: Context, work: Work, handle: Handle, *, new: bool = False) -> Work:
    """Write down by what the platform knows the coming post, before anything is done with it."""
    sealed = _vault(ctx.ports).seal(json.dumps(dict(handle.secrets))) if handle.secrets else None
    with ctx.begin() as tx:
        tx.posts.keep_handle(*work.key, handle, sealed, new=new)
        if new:
            note(ctx, tx, work.post, "opened", "the platform has begun a post; nothing is published by that")
    return replace(work, handle=handle, opened_at=ctx.now() if new else work.opened_at)


def halted(ctx: Context) -> bool:
    """Return whether nothing may be posted, because the database was put back to an earlier state; notice it if it
    does not know what was submitted last."""
    compared = compare(ctx.begin, ctx.ports.marks, ctx.now())
    if compared.missing:
        with ctx.begin() as tx:
            tx.work_as(SYSTEM)
            reason = f"{compared.missing} of the last {compared.found} submissions are not in the database"
            if tx.restores.notice(f"{reason}: it was put back", ctx.now()):
                ctx.log.error("posting.database_went_back", missing=compared.missing)
    return compared.halted is not None or compared.missing > 0


def note(ctx: Context, tx: Tx, post: Post, kind: str, message: str, **details: Any) -> None:
    """Write down what happened to a post, for people."""
    tx.posts.note(post.tenant_id, post.id, kind, message, details=details, job_id=ctx.job.id, at=ctx.now())


# --- how an attempt ends without going on --------------------------------------------------------------------------


def wait(ctx: Context, post: Post, after: timedelta, why: str) -> None:
    """End this attempt, say on the post why it waits, and go on later.

    Raises:
        Snoozed: always.
    """
    with ctx.begin() as tx:
        tx.posts.look_after(post.tenant_id, post.id, ctx.now() + after + LOOK_AFTER, message=why)
    ctx.snooze(after, why)


def miss(ctx: Context, post: Post, message: str) -> None:
    """End the job and the post: it is certainly not there, and is too late to be sent (again)."""
    with ctx.finish() as tx:
        if tx.posts.not_there(post, PostStatus.MISSED, certain=post.may_be_there, code="late", message=message):
            note(ctx, tx, post, "missed", message)
            release(tx, post)


def fail(ctx: Context, post: Post, code: str, message: str, *, certain: bool = False) -> None:
    """End the job and the post: it is not there (`certain`: an answer or a look says so), and will not be. Its places
    are free again."""
    with ctx.finish() as tx:
        if tx.posts.not_there(post, PostStatus.FAILED, certain=certain, code=code, message=message, keep_handle=True):
            note(ctx, tx, post, "failed", message, code=code)
            release(tx, post)


def doubt(ctx: Context, post: Post, code: str, message: str, **details: Any) -> None:
    """End the job, and leave the post to a person: nobody here can tell whether it was published."""
    with ctx.finish() as tx:
        if tx.posts.doubt(post.tenant_id, post.id, code=code, message=message, look_after=None):
            note(ctx, tx, post, "unconfirmed", message, **details)


def release(tx: Tx, post: Post) -> None:
    """Give back the places of a post that certainly was not published. For the end of a transaction."""
    tx.work_as(SYSTEM)
    tx.reservations.release(post.tenant_id, post.id)
    tx.work_as(post.tenant_id)


@contextmanager
def answering(ctx: Context, taken: Post) -> Iterator[None]:
    """End the attempt as whatever was raised asks for: what is refused before the point of no return is final, what is
    refused after it says nothing about the post."""
    try:
        yield
    except (AccountRevoked, UnknownAccount) as error:
        _without_account(ctx, _present(ctx, taken), str(error))
    except HeldOff as error:
        _hold_off(ctx, _present(ctx, taken), error)
    except Unavailable as error:
        post = _present(ctx, taken)
        # The store of the files is not the platform.
        is_silent = error.silent and not isinstance(error, StoreUnavailable)
        if is_silent and not (post.may_be_there or post.status == PostStatus.UNCONFIRMED):
            _not_answered(ctx, post, str(error))
        shortest, longest = TRY_AGAIN
        again = error.retry_after or min(shortest * 2 ** min(ctx.job.snoozes, 8), longest)
        if post.status == PostStatus.UNCONFIRMED and ctx.job.snoozes < LOOKS_FOR_A_PERSON:
            ctx.snooze(again, str(error))
        if post.may_be_there:
            _look_later(ctx, post, again, str(error))
        else:
            wait(ctx, post, again, str(error))
    except Rejected as error:
        _rejected(ctx, _present(ctx, taken), error)


def _rejected(ctx: Context, post: Post, error: Rejected) -> None:
    if post.may_be_there:
        _look_later(ctx, post, timedelta(minutes=1), str(error))
    elif isinstance(error, (HandleLost, SealUnknown)) and post.handle is not None:
        reopen(ctx, post, str(error))
    else:
        fail(ctx, post, getattr(error, "code", "refused"), str(error))


def reopen(ctx: Context, post: Post, why: str, *, certain: bool = False) -> None:
    """Let the post get another handle, since this one became no post (`certain`: an answer or a look says so); not for
    ever.

    Raises:
        Snoozed: to begin again.
    """
    handles = _present(ctx, post).handles
    if handles >= HANDLES:
        fail(ctx, post, "handles", f"what was begun was lost {handles} times; the last time: {why}", certain=certain)
        return
    with ctx.begin() as tx:
        if tx.posts.not_there(post, PostStatus.CLAIMED, certain=certain, message=why):
            note(ctx, tx, post, "reopened", f"certainly nothing was published: {why}")
    ctx.snooze(timedelta(0), why)


def looks_at(post: Post) -> Looks:
    """Return how often and how long the platform is asked about a post that was sent: for days if it has said that it
    works on it, else for a day."""
    return WATCHING if post.status in (PostStatus.SUBMITTED, PostStatus.PROCESSING) else IN_DOUBT


def _present(ctx: Context, post: Post) -> Post:
    with ctx.begin() as tx:
        return tx.posts.get(post.tenant_id, post.id) or post


def _look_later(ctx: Context, post: Post, after: timedelta, why: str) -> None:
    """Look again at what was sent; after a while it is a person's."""
    if post.status == PostStatus.UNCONFIRMED:
        with ctx.finish() as tx:
            note(ctx, tx, post, "look", f"it could not be looked for: {why}")
    elif _is_for_a_person(ctx, post):
        doubt(ctx, post, "unknown", f"it was sent, and for too long nobody could tell whether it was published: {why}")
    else:
        wait(ctx, post, after, f"{MAY_BE_THERE}{why}")


def _is_for_a_person(ctx: Context, post: Post) -> bool:
    since = ctx.now() - (post.submitted_at or post.claimed_at or ctx.now())
    return post.may_be_there and looks_at(post).after(since) is None


def _without_account(ctx: Context, post: Post, why: str) -> None:
    if post.may_be_there:
        _look_later(ctx, post, ACCOUNT_WAIT, why)
    else:
        wait_for_account(ctx, post, why)


def wait_for_account(ctx: Context, post: Post, why: str, *, certain: bool = False) -> None:
    """End the job, and let the post, which is not there (`certain`: an answer says so), wait for its account: it costs
    nobody else anything."""
    with ctx.finish() as tx:
        if tx.posts.not_there(post, PostStatus.SCHEDULED, certain=certain, code="account", message=why):
            note(ctx, tx, post, "waits", f"it waits for its account: {why}")
            release(tx, post)


def _hold_off(ctx: Context, post: Post, error: HeldOff) -> None:
    """Let all that would be posted to this account, or by this installation, wait as the platform says."""
    after = error.retry_after or HELD_OFF
    if _is_for_a_person(ctx, post):
        _look_later(ctx, post, after, str(error))
        return
    with ctx.begin() as tx:
        platform = (tx.posts.material(post.tenant_id, post.id) or {}).get("platform", "")
        tx.posts.look_after(post.tenant_id, post.id, ctx.now() + after + LOOK_AFTER, message=str(error))
        note(ctx, tx, post, "held_off", str(error), code=error.code, seconds=round(after.total_seconds()))
    ctx.hold_off(closed_bucket(platform, None if error.whole_app else post.account_id), after)


def _not_answered(ctx: Context, post: Post, why: str) -> None:
    """Let all that would be posted to this account wait: each of its posts would hold a thread until its time is over.
    This one asks again; the others come after it, one by one.

    Raises:
        Snoozed: always.
    """
    shortest, longest = SILENT
    after = min(shortest * 2 ** min(ctx.job.snoozes, 8), longest)
    with ctx.begin() as tx:
        platform = (tx.posts.material(post.tenant_id, post.id) or {}).get("platform", "")
        tx.posts.look_after(post.tenant_id, post.id, ctx.now() + after + LOOK_AFTER, message=why)
    ctx.hold_off(closed_bucket(platform, post.account_id), after)


# --- what a post is published with ---------------------------------------------------------------------------------


def _content(post: Post, row: Mapping[str, Any], now: datetime) -> Content:
    platform = row["platform"]
    options = chosen(rules_of(platform, now.date()), row["settings"], post.options)
    labelled = is_labelled(row["source"], options)
    return Content(
        post_id=post.id,
        text=compose(platform, post.caption, post.hashtags, labelled),
        created_at=post.claimed_at or post.created_at,
        mark=mark_of(post.id),
        title=post.title,
        hashtags=tuple(post.hashtags),
        options=options,
        cover_at=None if post.cover_at is None else float(post.cover_at),
        ai_generated=labelled,
    )


def _video(store: MediaStore, post: Post, row: Mapping[str, Any]) -> VideoFile:
    sha256, probe = bytes(row["sha256"]), row["probe"] or {}
    key = object_key(post.tenant_id, sha256, row["extension"])
    return VideoFile(
        sha256=sha256,
        size=row["bytes"],
        seconds=float(probe.get("seconds") or 0),
        width=int(probe.get("width") or 0),
        height=int(probe.get("height") or 0),
        content_type=CONTENT_TYPES.get(row["extension"], "application/octet-stream"),
        read=lambda start, end: store.read(key, start, end),
        address=lambda lifetime: store.address(key, lifetime=lifetime),
    )


def _handle(ports: Ports, post: Post) -> Handle | None:
    if post.handle is None:
        return None
    secrets = {} if post.handle_secrets is None else json.loads(_vault(ports).unseal(bytes(post.handle_secrets)))
    return Handle(post.handle, secrets, post.handle_expires_at)


def _vault(ports: Ports) -> Vault:
    if ports.vault is None:
        raise NotSetUp("TOKEN_ENCRYPTION_KEYS is not set, so what opens an account can be neither read nor kept")
    return ports.vault
