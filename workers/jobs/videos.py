"""Videos: clips are bought once, copied and kept; then the video is drawn on this machine's cores.

    videos.render ──clips, one after another──▶ videos.draw ──▶ completed
         │ cancelled with a clip under way ──▶ videos.withdraw ──▶ settled

`render` only waits for others. Each clip is a submission, a row of `provider_jobs` that reserves money before anything
is sent; at most one of a video is open. To send it is a step, whose result is kept together with the submission's
state and money: an attempt after a crash finds the answer, or asks the provider, or leaves it to a person. Where nobody
can tell whether a clip was taken, the job completes and the video is `unconfirmed`: there is nothing to run again, and
`viral videos resolve` enqueues a new job. Every other end of a job that is no completion runs `abandon`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from domain.errors import BudgetExceeded, ClipProviderUnusable, ProviderRefused, Rejected, Unavailable
from domain.ports import ClipProvider, Watch
from domain.text.redaction import without_values
from domain.videos.boxes import why_not_whole
from domain.videos.media import CLIP_ROOM, Media, MediaUnusable, Probe, StoreUnavailable
from domain.videos.plan import (
    AUTO,
    BUSY_WAITS,
    ClipModel,
    Layout,
    Past,
    chain,
    clip_of,
    fits,
    next_model,
    scenes,
)
from domain.videos.profiles import NAMES, faults, hints, profile_of
from domain.videos.script import Script, ScriptSegment, concept_at, script_of
from domain.videos.submissions import (
    UNKNOWN_FOR,
    Absent,
    Accepted,
    ClipState,
    ClipStatus,
    ProviderJob,
    Refused,
    RefusedFor,
    Submission,
    SubmissionState,
    Unknown,
    answer_of,
    answer_row,
    poll_after,
)
from workers.engine.job import SYSTEM, Context, FailedJob, Tx, job, reason_for_people
from workers.jobs.media import keep

MOST_CLIP_BYTES = 512 * 1024 * 1024
UNUSABLE_COPIES = 3
"""A finished clip is copied so often that turns out to be cut short, or something else."""
LOOK_UP = 0.4
"""Seconds between two looks of long work at whether it is still wanted."""
RESTS_AT_MOST = timedelta(minutes=15)
DRAWING_TIME = timedelta(minutes=30)
PROBE_FIELDS = tuple(Probe.__dataclass_fields__)


class ClipNotMade(Rejected):
    """The one clip that was to be the video cannot be had; the text says what each provider answered."""


# --- when a job ends without completing -----------------------------------------------------------------------


def abandon(tx: Tx, failed: FailedJob) -> None:
    """End the video of a job that failed or was cancelled, and leave its money right: what was certainly not sent is
    released; what a provider is making is withdrawn if nobody wants it, and waits for a person if the job failed."""
    if failed.tenant_id is None:
        return
    tenant_id, video_id = failed.tenant_id, failed.arguments["video_id"]
    row = tx.jobs.get(failed.id)
    cancelled = row is not None and row["status"] == "cancelled"
    give_up(tx, tenant_id, video_id, failed.id, cancelled=cancelled, reason=reason_for_people(tx, failed))


def give_up(tx: Tx, tenant_id: UUID, video_id: UUID, job_id: UUID | None, *, cancelled: bool, reason: str) -> None:
    """`abandon` for a video that this job made; with `job_id` None, whichever did."""
    opened = _open_one(tx, tenant_id, video_id)
    if opened is not None and opened.state == SubmissionState.INTENDED and (job_id in (None, opened.job_id)):
        _decide_unsent(tx, opened)
        opened = _open_one(tx, tenant_id, video_id)
    video = tx.videos.lock(tenant_id, video_id)
    if video is None or (job_id is not None and video["job_id"] != job_id):
        return
    cancelled = cancelled or _is_unwanted(video)
    status, message = ("cancelled", None) if cancelled else ("failed", reason)
    if opened is not None and opened.state == SubmissionState.UNCONFIRMED:
        status = "cancelled" if cancelled else "unconfirmed"
        message = _undecided(opened)
    elif opened is not None and cancelled:
        message = f"what {opened.name} costs is settled when {opened.provider} has said so"
        withdraw.enqueue(tx, tenant_id=tenant_id, video_id=video_id)
    elif opened is not None:
        status = "unconfirmed"
        message = f"{reason}; {opened.name} is still being made there, and {_reserved(opened)}"
    tx.videos.end(tenant_id, video_id, status, message)


def take_up(tx: Tx, tenant_id: UUID, video_id: UUID) -> None:
    """Go on with a video that no live job is at, or about whose submission something has become known: make it, or
    withdraw what nobody wants and settle what it cost."""
    video = tx.videos.lock(tenant_id, video_id)
    if video is None:
        return
    if video["status"] in ("cancelled", "completed", "failed"):
        _settle(tx, tenant_id, video_id)
        if _open_one(tx, tenant_id, video_id) is not None:
            withdraw.enqueue(tx, tenant_id=tenant_id, video_id=video_id)
        return
    made_by = video["job_id"] and tx.jobs.get(video["job_id"])
    if made_by is not None and made_by["status"] in ("pending", "running"):
        return
    tx.videos.hand_on(tenant_id, video_id, render.enqueue(tx, tenant_id=tenant_id, video_id=video_id))


def _leave_to_a_person(tx: Tx, failed: FailedJob) -> None:
    """Leave what could not be withdrawn reserved until a person says what it cost."""
    if failed.tenant_id is None:
        return
    opened = _open_one(tx, failed.tenant_id, failed.arguments["video_id"])
    if opened is not None:
        tx.submissions.doubt(failed.tenant_id, opened.id, message=f"it could not be withdrawn: {failed.reason}")
    _settle(tx, failed.tenant_id, failed.arguments["video_id"])


def _settle(tx: Tx, tenant_id: UUID, video_id: UUID) -> None:
    """Add up what an ended video cost, and say on a cancelled one what only a person can decide."""
    opened = _open_one(tx, tenant_id, video_id)
    if opened is None or opened.state == SubmissionState.UNCONFIRMED:
        tx.videos.recount(tenant_id, video_id, None if opened is None else _undecided(opened))


def _decide_unsent(tx: Tx, row: ProviderJob) -> None:
    """Decide about an intended submission that no attempt will send: whether one may have sent it, its step tells."""
    tx.work_as(SYSTEM)
    begun = row.job_id is None or tx.steps.begun(row.job_id, _step(row))
    tx.work_as(row.tenant_id)
    if begun:
        tx.submissions.doubt(row.tenant_id, row.id, message=f"nobody can tell whether {row.provider} took the order")
        return
    # As if it had been busy: it may be asked again.
    tx.submissions.refuse(row.tenant_id, row.id, kind=RefusedFor.BUSY, message="the order was not sent", now=tx.now())


# --- buying clips -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Making:
    """A video that is being made of a script. `most_usd` is what was said to be the most that it costs."""

    tenant_id: UUID
    video_id: UUID
    provider: str
    layout: Layout
    script: Script
    most_usd: Decimal


@job("videos.render", queue="media", unique=("video_id",), on_failure=abandon, max_attempts=5)
def render(ctx: Context, tenant_id: UUID, video_id: UUID) -> None:
    """Buy the clips that the video needs, one after another, and hand it on to be drawn."""
    with ctx.begin() as tx:
        video = tx.videos.begin(tenant_id, video_id, ctx.job.id)
        making = None if video is None else _making(tx, video)
        paid = [] if making is None else _paid_before(tx, making)
    if video is None or _is_unwanted(video):
        _finish_without(ctx, tenant_id, video_id)
        return
    for each in paid:
        _take_over(ctx, each, video_id)
    while making is not None and (row := _next(ctx, making)) is not None:
        if row.state == SubmissionState.UNCONFIRMED:
            _leave_unconfirmed(ctx, making)
            return
        if row.state == SubmissionState.INTENDED:
            _submit(ctx, row)
        else:
            _follow(ctx, row, _poll(ctx, row))
    with ctx.finish() as tx:
        if _stopped(tx, tenant_id, video_id):
            return
        tx.videos.progress(tenant_id, video_id, "waiting to be drawn", None)
        tx.videos.hand_on(tenant_id, video_id, draw.enqueue(tx, tenant_id=tenant_id, video_id=video_id))


def _making(tx: Tx, video: Mapping[str, Any]) -> Making | None:
    """Return what is to be made; None of a file of one's own."""
    if video["source"] != "concept":
        return None
    generation = tx.generations.get(video["tenant_id"], video["generation_id"])
    if generation is None:
        raise Rejected(f"the generation {video['generation_id']} is not there any more")
    script = script_of(concept_at(list(generation.concepts), video["concept_id"]))
    layout, most_usd = Layout(video["layout"]), video["estimated_usd"] or Decimal(0)
    return Making(video["tenant_id"], video["id"], video["provider"], layout, script, most_usd)


def _paid_before(tx: Tx, making: Making) -> list[ProviderJob]:
    """Return clips that this video would order, and that failed or cancelled videos of its concept have paid for: one a
    scene that has none yet."""
    kept = tx.submissions.kept(making.tenant_id, making.video_id)
    if not kept:
        return []
    tx.work_as(SYSTEM)
    models = {(each.provider, each.model): each for each in tx.video_providers.current(tx.now())}
    tx.work_as(making.tenant_id)
    rows = tx.submissions.of_video(making.tenant_id, making.video_id)
    has = {row.scene for row in rows if row.open or row.state == SubmissionState.SUCCEEDED}
    found: dict[int, ProviderJob] = {}
    for row in kept:
        model = models.get((row.provider, row.model))
        if model is None or making.provider not in (AUTO, row.provider) or row.scene in has:
            continue
        if row.scene in scenes(making.script, making.layout) and fits(making.script, model, making.layout):
            order = clip_of(making.script, model, making.layout, row.scene).order
            if (order.prompt, order.seconds) == (row.prompt, row.seconds):
                found.setdefault(row.scene, row)
    return list(found.values())


def _take_over(ctx: Context, row: ProviderJob, video_id: UUID) -> None:
    """Use a clip that was paid for already instead of an order. The video that it was made for says where it is."""
    with ctx.begin() as tx:
        if row.media_id is None or tx.media.use(row.tenant_id, row.media_id) is None:
            return
        if tx.submissions.take_over(row, video_id):
            earlier = tx.videos.lock(row.tenant_id, row.video_id) or {}
            slides = (earlier.get("details") or {}).get("slides") or {}
            slides |= {str(row.scene): f"its clip is in the video {video_id}"}
            tx.videos.note(row.tenant_id, row.video_id, {"slides": slides})
            _settle(tx, row.tenant_id, row.video_id)


def _next(ctx: Context, making: Making) -> ProviderJob | None:
    """Return the submission to go on with, a new one for the next scene if none is open; None if each scene has its
    clip or will be a slide.

    Raises:
        Snoozed: the only provider that is left wants to be asked later.
        ClipNotMade: the video cannot be made.
    """
    with ctx.begin() as tx:
        video = tx.videos.get(making.tenant_id, making.video_id) or {}
        rows = tx.submissions.of_video(making.tenant_id, making.video_id)
        found = next((row for row in rows if row.open), None)
        if found is not None and found.state == SubmissionState.INTENDED and found.job_id != ctx.job.id:
            _decide_unsent(tx, found)  # its job has ended without an end for it
            rows = tx.submissions.of_video(making.tenant_id, making.video_id)
            found = next((row for row in rows if row.open), None)
        wait, why = timedelta(0), ""
        noted = (video.get("details") or {}).get("slides") or {}
        slides = dict(noted)
        made = {row.scene for row in rows if row.state == SubmissionState.SUCCEEDED}
        for scene in scenes(making.script, making.layout):
            if found is not None or wait:
                break
            if scene in made or str(scene) in slides:
                continue
            chosen = _order(ctx, tx, making, scene, rows)
            if isinstance(chosen, ProviderJob):
                found = chosen
            elif isinstance(chosen, Wait):
                wait, why = chosen
            else:
                slides[str(scene)] = chosen
        if slides != noted and making.layout is not Layout.CLIP:
            tx.videos.note(making.tenant_id, making.video_id, {"slides": slides})
        if wait:
            tx.videos.progress(making.tenant_id, making.video_id, f"waiting: {why}", None)
    if wait:
        ctx.snooze(wait, why)
    if found is None and making.layout is Layout.CLIP and slides:
        raise ClipNotMade("; ".join(slides.values()))
    return found


class Wait(NamedTuple):
    """How long to wait before the next order, and why, in words that tenants may read."""

    time: timedelta
    why: str


def _order(ctx: Context, tx: Tx, making: Making, scene: int, rows: Sequence[ProviderJob]) -> ProviderJob | Wait | str:
    """Reserve the money for a scene's clip and intend to order it; or return how long to wait, or why there is none.

    A model that would take more than what is left of `most_usd` is not asked: somebody has agreed to no more.
    """
    now = ctx.now()
    past = [row for row in rows if row.scene == scene]
    left = making.most_usd - sum((row.final_usd or Decimal(0) for row in rows), Decimal(0))
    answers = list(dict.fromkeys(f"{row.provider}: {row.error_message}" for row in past if row.error_message))
    try:
        models = [model for model in _chain(ctx, tx, making) if fits(making.script, model, making.layout)]
    except ClipProviderUnusable as error:
        return "; ".join([*answers, str(error)])
    clips = {model: clip_of(making.script, model, making.layout, scene) for model in models}
    choice = next_model([model for model in models if clips[model].usd <= left], [_past(row) for row in past], now)
    if choice is None:
        if not any(row.final_usd for row in past):  # else nobody would be asked, at whatever price
            answers += [_too_dear(model, clip.usd, left) for model, clip in clips.items() if clip.usd > left]
        return "; ".join(answers) or "no provider makes clips as long as the script"
    model, wait = choice
    if wait > timedelta(0):
        last = max((row for row in past if row.provider == model.provider), key=lambda row: row.attempt)
        return Wait(wait, without_values(last.error_message or f"{model.provider} is busy"))
    try:
        return tx.submissions.intend(
            making.tenant_id,
            making.video_id,
            id=tx.new_id(),
            job_id=ctx.job.id,
            provider=model.provider,
            clip=clips[model],
            now=now,
        )
    except BudgetExceeded as error:
        return "; ".join([*answers, str(error)])


def _chain(ctx: Context, tx: Tx, making: Making) -> tuple[ClipModel, ...]:
    tx.work_as(SYSTEM)
    models = tx.video_providers.current(ctx.now())
    tx.work_as(making.tenant_id)
    return chain(models, making.provider, ctx.now(), ctx.ports.clips.keys())


def _too_dear(model: ClipModel, usd: Decimal, left: Decimal) -> str:
    left = max(left, Decimal(0))
    return f"{model.provider} takes ${usd:.2f} for it, more than the ${left:.2f} that are left of the video's price"


def _past(row: ProviderJob) -> Past:
    return Past(row.provider, SubmissionState(row.state), row.error_code, row.final_usd, row.ended_at)


def _leave_unconfirmed(ctx: Context, making: Making) -> None:
    """Complete the job, and leave the video to a person; unless something has become known meanwhile."""
    with ctx.finish() as tx:
        if _stopped(tx, making.tenant_id, making.video_id):
            return
        video = tx.videos.lock(making.tenant_id, making.video_id)
        row = _open_one(tx, making.tenant_id, making.video_id)
        if video is None or row is None or row.state != SubmissionState.UNCONFIRMED:
            ctx.snooze(timedelta(0), "the submission has been decided about meanwhile")
            return
        message = _undecided(row)
        tx.videos.end(making.tenant_id, making.video_id, "unconfirmed", message)


# --- one submission ---------------------------------------------------------------------------------------------


def _submit(ctx: Context, row: ProviderJob) -> None:
    """Send the order, once. What became of it is written in the commit that keeps the step's result."""
    provider = ctx.ports.clips.get(row.provider)
    if provider is None:
        with ctx.begin() as tx:
            _decide_unsent(tx, row)
        return
    ctx.ports.media.check_room(CLIP_ROOM)  # before anything is paid that could not be kept
    with ctx.begin() as tx:
        tx.videos.progress(row.tenant_id, row.video_id, f"ordering {row.name}", None)
    answer = answer_of(
        ctx.step(
            _step(row),
            partial(_send, provider, row),
            look=partial(_look, provider, row),
            keep=partial(_keep_answer, ctx, row),
        )
    )
    _note_health(ctx, row, answer)


def _step(row: ProviderJob) -> str:
    return f"submit {row.id}"


def _send(provider: ClipProvider, row: ProviderJob, key: str) -> dict[str, Any]:
    """The submission's id is its key: the same in every attempt, and fit for a label."""
    return answer_row(provider.submit(row.order, str(row.id)))


def _look(provider: ClipProvider, row: ProviderJob, key: str) -> dict[str, Any] | None:
    found = provider.look(str(row.id))
    return None if isinstance(found, Absent) else answer_row(found)


def _keep_answer(ctx: Context, row: ProviderJob, kept: Mapping[str, Any], tx: Tx) -> None:
    """Write the submission's state and money as the answer says. If others have decided meanwhile that nobody can tell,
    the video is taken up again: now it is known."""
    answer, now = answer_of(kept), ctx.now()
    match answer:
        case Accepted(provider_job_id, usd):
            tx.work_as(SYSTEM)
            models = tx.video_providers.current(now)
            tx.work_as(row.tenant_id)
            patience = next((m.patience for m in models if (m.provider, m.model) == (row.provider, row.model)), None)
            before = tx.submissions.accept(
                row.tenant_id,
                row.id,
                provider_job_id=provider_job_id,
                estimated_usd=usd,
                now=now,
                deadline_at=now + (patience or RESTS_AT_MOST),
            )
        case Refused(kind, code, reason):
            before = tx.submissions.refuse(row.tenant_id, row.id, kind=kind, message=f"{reason} ({code})", now=now)
        case Unknown(reason):
            message = f"nobody can tell whether {row.provider} took the order: {reason}"
            tx.submissions.doubt(row.tenant_id, row.id, message=message)
            return
    if before == SubmissionState.UNCONFIRMED:
        take_up(tx, row.tenant_id, row.video_id)
    elif before is None:
        _settle(tx, row.tenant_id, row.video_id)


def _note_health(ctx: Context, row: ProviderJob, answer: Submission) -> None:
    """Note on the provider's row how it does, so that others are asked first while it rests."""
    if isinstance(answer, Refused) and answer.kind is RefusedFor.PROMPT:
        return
    now = ctx.now()
    with ctx.begin() as tx:
        tx.work_as(SYSTEM)
        for model in tx.video_providers.current(now):
            if (model.provider, model.model) != (row.provider, row.model):
                continue
            if isinstance(answer, Accepted):
                tx.video_providers.worked(model)
                continue
            rest = min(BUSY_WAITS[0] * 2 ** min(model.failures, 10), RESTS_AT_MOST)
            if isinstance(answer, Refused):
                rest = min(max(answer.retry_after or rest, timedelta(0)), timedelta(days=1))
            tx.video_providers.failed(model, answer.reason, now + rest)


def _follow(ctx: Context, row: ProviderJob, status: ClipStatus | Absent | str) -> None:
    """Go on as the provider says that a clip is doing. Returns once the submission has ended, or is left to a person.

    Raises:
        Snoozed: to look again later.
    """
    if isinstance(status, str):
        with ctx.begin() as tx:
            tx.videos.progress(row.tenant_id, row.video_id, f"waiting for {row.name}: {without_values(status)}", None)
        _wait(ctx, row, status)
    elif isinstance(status, Absent):
        _miss(ctx, row)
    elif status.state is ClipState.SUCCEEDED:
        _copy(ctx, row, status)
    elif status.ended:
        _end_without(ctx, row, status)
    else:
        queued = status.queue if status.state is ClipState.QUEUED else None
        doing = "is queued" if status.state is ClipState.QUEUED else "is being made"
        with ctx.begin() as tx:
            tx.submissions.progress(row.tenant_id, row.id, percent=status.percent, queue=queued, now=ctx.now())
            tx.videos.progress(row.tenant_id, row.video_id, f"{row.name} {doing}", status.percent)
        _wait(ctx, row, f"{row.name} {doing}")


def _poll(ctx: Context, row: ProviderJob) -> ClipStatus | Absent | str:
    """Return how it is doing, or why the provider does not say so now, which changes nothing."""
    provider = ctx.ports.clips.get(row.provider)
    if provider is None:
        return f"there is no key for {row.provider} any more"
    try:
        return provider.poll(row.provider_job_id or "")
    except ProviderRefused:
        return Absent()
    except Unavailable as error:
        return f"{row.provider} does not tell: {error}"


def _miss(ctx: Context, row: ProviderJob) -> None:
    """The provider says that it knows no such job: if it has for some minutes, a person decides (anew).

    Raises:
        Snoozed: to look again later.
    """
    says = f"{row.provider} says that it knows no job {row.provider_job_id}"
    with ctx.begin() as tx:
        since = tx.submissions.miss(row.tenant_id, row.id, now=ctx.now())
        believed = ctx.now() - since >= UNKNOWN_FOR
        if believed:
            tx.submissions.doubt(row.tenant_id, row.id, message=says)
        else:
            tx.videos.progress(row.tenant_id, row.video_id, f"{says}; it is asked again", None)
    if not believed:
        _wait(ctx, row, says)


def _wait_made(ctx: Context, row: ProviderJob, reason: str, shown: str) -> None:
    """`_wait` for a clip that is made; tenants are shown why it is not here.

    Raises:
        Snoozed: to look again later.
    """
    with ctx.begin() as tx:
        stage = f"{row.name} is made, and cannot be copied now: {without_values(shown)}"
        tx.videos.progress(row.tenant_id, row.video_id, stage, None)
    _wait(ctx, row, reason, made=True)


def _wait(ctx: Context, row: ProviderJob, reason: str, *, made: bool = False) -> None:
    """Come back later; or leave it to a person, if that has been done for a day.

    Raises:
        Snoozed: to look again later.
    """
    since = row.submitted_at or row.created_at
    after = poll_after(ctx.now() - since, (row.deadline_at or since) - since)
    if after is not None:
        if not made and row.deadline_at is not None and ctx.now() > row.deadline_at:
            with ctx.begin() as tx:
                stage = f"{row.name} is late; it may still come, and is looked at ever more rarely"
                tx.videos.progress(row.tenant_id, row.video_id, stage, None)
        ctx.snooze(after, reason)
    with ctx.begin() as tx:
        tx.submissions.doubt(row.tenant_id, row.id, message=f"after a day {row.name} is not here: {reason}")


def _end_without(ctx: Context, row: ProviderJob, status: ClipStatus) -> None:
    """The provider ended it without a clip. What that cost it says; where it does not, it counts as paid, since a bill
    may come."""
    code = RefusedFor.PROMPT.value if status.refused_prompt else "failed"
    message = " ".join(filter(None, [status.reason or f"it was {status.state}", status.code and f"({status.code})"]))
    with ctx.begin() as tx:
        tx.submissions.end(
            row.tenant_id,
            row.id,
            SubmissionState(status.state.value),
            final_usd=status.final_usd,
            now=ctx.now(),
            code=code,
            message=message,
        )


def _copy(ctx: Context, row: ProviderJob, status: ClipStatus) -> None:
    """Copy the finished clip into the store, and settle what it cost. A file that is no whole clip is copied again a
    few times, and then paid for without one.

    Raises:
        Snoozed: it cannot be copied now; the next look gets a fresh address.
    """
    watch = _watching(ctx, row.tenant_id, row.video_id, f"copying {row.name}")
    try:
        kept = _fetch(ctx, row, status.url or "", watch)
    except MediaUnusable as error:
        with ctx.begin() as tx:
            unusable = tx.submissions.failed_fetch(row.tenant_id, row.id, message=str(error))
        if unusable < UNUSABLE_COPIES:
            _wait_made(ctx, row, str(error), str(error))
            return
        message = f"the file that {row.provider} made cannot be used: {error}"
        with ctx.begin() as tx:
            tx.submissions.end(
                row.tenant_id,
                row.id,
                SubmissionState.FAILED,
                final_usd=status.final_usd,
                now=ctx.now(),
                code="media",
                message=message,
            )
        return
    except StoreUnavailable as error:
        _wait_made(ctx, row, str(error), "the media store cannot be used")
        return
    except Unavailable as error:
        _wait_made(ctx, row, str(error), str(error))
        return
    with ctx.begin() as tx:
        if tx.media.use(row.tenant_id, kept.id) is None:
            raise StoreUnavailable("the clip was deleted while it was being kept; it is copied again")
        tx.submissions.end(
            row.tenant_id,
            row.id,
            SubmissionState.SUCCEEDED,
            final_usd=status.final_usd,
            now=ctx.now(),
            media_id=kept.id,
        )


def _fetch(ctx: Context, row: ProviderJob, url: str, watch: Watch) -> Media:
    provider = ctx.ports.clips[row.provider]
    ctx.ports.media.check_room(CLIP_ROOM)
    with _folder(ctx) as folder:
        path = folder / "clip.mp4"
        digest = provider.fetch(url, path, most_bytes=MOST_CLIP_BYTES, watch=watch)
        with path.open("rb") as file:
            fault = why_not_whole(file, path.stat().st_size)
        if fault is not None:
            raise MediaUnusable(fault)
        return keep(ctx.begin, ctx.ports.media, row.tenant_id, path, extension="mp4", sha256=digest)


# --- withdrawing a clip that nobody wants any more ----------------------------------------------------------------


@job("videos.withdraw", queue="media", unique=("video_id",), on_failure=_leave_to_a_person, max_attempts=5)
def withdraw(ctx: Context, tenant_id: UUID, video_id: UUID) -> None:
    """Cancel at the provider what a cancelled video has under way, and settle what it charges. A clip that is finished
    nevertheless was paid for, so it is kept with its submission; to ask that it be stopped could delete it."""
    with ctx.begin() as tx:
        row = _open_one(tx, tenant_id, video_id)
        if row is not None and row.state == SubmissionState.INTENDED:
            _decide_unsent(tx, row)
    if row is not None and row.state in (SubmissionState.SUBMITTED, SubmissionState.RUNNING):
        status = _poll(ctx, row)
        if isinstance(status, ClipStatus) and not status.ended:
            status = _cancel(ctx, row)
        _follow(ctx, row, status)
    with ctx.finish() as tx:
        _settle(tx, tenant_id, video_id)


def _cancel(ctx: Context, row: ProviderJob) -> ClipStatus | Absent | str:
    """Ask that it be stopped, and return how it is doing then. One that cannot be stopped now goes on meanwhile."""
    with suppress(Unavailable):
        ctx.step(f"cancel {row.id}", lambda key: ctx.ports.clips[row.provider].cancel(row.provider_job_id or ""))
    return _poll(ctx, row)


# --- drawing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class File:
    """The file of a video, on this machine; `kept`: as it is in the store already."""

    path: Path
    probe: Probe
    cover_at: float
    kept: Media | None
    details: Mapping[str, Any]


@job("videos.draw", queue="render", unique=("video_id",), on_failure=abandon, timeout=DRAWING_TIME)
def draw(ctx: Context, tenant_id: UUID, video_id: UUID) -> None:
    """Draw the video of its script and clips, or look at a file of the tenant's own, and complete it."""
    with ctx.begin() as tx:
        video = tx.videos.begin(tenant_id, video_id, ctx.job.id)
        making = None if video is None else _making(tx, video)
        clips = [] if making is None else _clips(tx, making)
        own = None if video is None or making is not None else tx.media.get(tenant_id, video["media_id"])
    if video is None or _is_unwanted(video):
        _finish_without(ctx, tenant_id, video_id)
        return
    with _folder(ctx) as folder:
        made = _look_at(ctx, video, own, folder) if making is None else _draw(ctx, making, clips, folder)
        watch = _watching(ctx, tenant_id, video_id, "storing")
        still = folder / "cover.jpg"
        ctx.ports.studio.thumbnail(made.path, still, at=made.cover_at, watch=watch)
        file = made.kept or keep(ctx.begin, ctx.ports.media, tenant_id, made.path, extension="mp4")
        cover = keep(ctx.begin, ctx.ports.media, tenant_id, still, extension="jpg")
    with ctx.finish() as tx:
        for each in sorted({file.id, cover.id}):
            if tx.media.use(tenant_id, each, probe=made.details["probe"] if each == file.id else None) is None:
                raise StoreUnavailable("the file was deleted while it was being kept; it is made again")
        if _stopped(tx, tenant_id, video_id):
            return
        tx.videos.complete(
            tenant_id,
            video_id,
            media_id=file.id,
            thumbnail_id=cover.id,
            cover_at=made.cover_at,
            seconds=made.probe.seconds,
            details=made.details,
        )


def _clips(tx: Tx, making: Making) -> list[tuple[ProviderJob, Media | None]]:
    rows = tx.submissions.of_video(making.tenant_id, making.video_id)
    return [
        (row, tx.media.get(making.tenant_id, row.media_id) if row.media_id else None)
        for row in rows
        if row.state == SubmissionState.SUCCEEDED
    ]


def _draw(ctx: Context, making: Making, clips: Sequence[tuple[ProviderJob, Media | None]], folder: Path) -> File:
    looking = _watching(ctx, making.tenant_id, making.video_id, "looking at the clips")
    paths, missing = {}, {}
    for row, media in clips:
        path = folder / f"clip-{row.scene}.mp4"
        try:
            paths[row.scene] = _clip(ctx, media, path, looking)
        except Rejected as error:
            missing[str(row.scene)] = f"{row.name} was paid for and cannot be shown: {error}"
    if missing:
        _note_unusable(ctx, making, missing)
    if making.layout is Layout.CLIP and not paths:
        raise ClipNotMade("; ".join(missing.values()) or "its clip is in another video of the concept")
    script = making.script
    if making.layout is Layout.CLIP:
        script = _as_one(script, clips[0][0].seconds)
    target = folder / "video.mp4"
    watch = _watching(ctx, making.tenant_id, making.video_id, "drawing")
    try:
        drawn = ctx.ports.studio.storyboard(script, target, watch=watch, clips=paths)
    except MediaUnusable as error:
        if not paths:
            raise
        missing |= {str(scene): f"the clips were paid for and cannot be joined: {error}" for scene in paths}
        _note_unusable(ctx, making, missing)
        if making.layout is Layout.CLIP:
            raise
        drawn = ctx.ports.studio.storyboard(script, target, watch=watch)
    details = _found(ctx, drawn.probe) | {"left_out": list(drawn.left_out), "unusable_clips": missing}
    return File(target, drawn.probe, drawn.cover_at, None, details)


def _note_unusable(ctx: Context, making: Making, missing: Mapping[str, str]) -> None:
    """Note it before the job can fail: another video of the concept shall not be made of such a clip."""
    with ctx.begin() as tx:
        tx.videos.note(making.tenant_id, making.video_id, {"unusable_clips": missing})


def _clip(ctx: Context, media: Media | None, path: Path, watch: Watch) -> Path:
    """Return the clip, copied from the store and looked at.

    Raises:
        Rejected: it is not there any more, or is no video.
    """
    if media is None or media.stored_at is None:
        raise Rejected("the store keeps it no longer")
    ctx.ports.media.get(media.key, path, watch=watch)
    ctx.ports.studio.probe(path, watch=watch, deep=True)
    return path


def _as_one(script: Script, seconds: float) -> Script:
    """Return the script as one segment, which the clip fills."""
    first = script.segments[0]
    return replace(script, segments=(ScriptSegment(0, seconds, "", first.visual, first.camera),))


def _look_at(ctx: Context, video: Mapping[str, Any], media: Media | None, folder: Path) -> File:
    """Look at the tenant's own file.

    Raises:
        MediaUnusable: it is no video that can be read.
    """
    if media is None or media.stored_at is None:
        raise MediaUnusable("the file is not there any more; upload it again")
    watch = _watching(ctx, video["tenant_id"], video["id"], "looking at the file")
    path = folder / f"own.{media.extension}"
    ctx.ports.media.get(media.key, path, watch=watch)
    probe = ctx.ports.studio.probe(path, watch=watch, deep=True)
    cover_at = min(1.0, probe.seconds / 2) if probe.cover_at is None else probe.cover_at
    return File(path, probe, cover_at, media, _found(ctx, probe))


# --- helpers of all -------------------------------------------------------------------------------------------------


def _open_one(tx: Tx, tenant_id: UUID, video_id: UUID) -> ProviderJob | None:
    return next((row for row in tx.submissions.of_video(tenant_id, video_id) if row.open), None)


def _finish_without(ctx: Context, tenant_id: UUID, video_id: UUID) -> None:
    """Complete a job that has nothing to do: its video is complete, or nobody wants it any more."""
    with ctx.finish() as tx:
        _stopped(tx, tenant_id, video_id)


def _is_unwanted(video: Mapping[str, Any]) -> bool:
    return bool(video["details"].get("cancel"))


def _stopped(tx: Tx, tenant_id: UUID, video_id: UUID) -> bool:
    """Return whether somebody wants the video cancelled, and cancel it then, although its job completes."""
    video = tx.videos.get(tenant_id, video_id)
    if video is None or not _is_unwanted(video):
        return False
    give_up(tx, tenant_id, video_id, None, cancelled=True, reason="cancelled")
    return True


@contextmanager
def _folder(ctx: Context) -> Iterator[Path]:
    """Make a folder that is gone after the block; on the store's own disk, so that nothing is copied twice."""
    with TemporaryDirectory(prefix="video-", dir=ctx.ports.media.incoming()) as folder:
        yield Path(folder)


def _watching(ctx: Context, tenant_id: UUID, video_id: UUID, stage: str) -> Watch:
    """Return what long work calls: it ends the work if somebody wants it stopped, and shows once a second how far it
    is."""
    looked = written = float("-inf")

    def watch(fraction: float) -> None:
        nonlocal looked, written
        now = monotonic()
        if now - looked < LOOK_UP:
            return
        with ctx.begin() as tx:
            if now - written >= 1:
                tx.videos.progress(tenant_id, video_id, stage, round(100 * min(max(fraction, 0.0), 1.0)))
                written = now
        looked = now

    return watch


def _found(ctx: Context, probe: Probe) -> dict[str, Any]:
    """Return what was found in the file, what is wrong with it for platforms that do not take it, and what is odd."""
    today = ctx.now().date()
    profiles = {platform: profile_of(platform, today) for platform in NAMES}
    wrong = {platform: faults(probe, profile) for platform, profile in profiles.items()}
    odd = dict.fromkeys(hint for profile in profiles.values() for hint in hints(probe, profile))
    shown = {name: getattr(probe, name) for name in PROBE_FIELDS}
    faulty = {platform: each for platform, each in wrong.items() if each}
    return {"probe": shown, "faults": faulty, "hints": list(odd)}


def _undecided(row: ProviderJob) -> str:
    return f"{row.error_message}; {_reserved(row)}"


def _reserved(row: ProviderJob) -> str:
    """Tenants read this too, so it names no command; the shell does."""
    return f"${row.estimated_usd.normalize():f} stay reserved until our people have looked into it"
