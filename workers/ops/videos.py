"""Asks for videos, shows them, stops them, and settles what only a person can know. The API and the shell use this.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM, Tx
from domain.errors import (
    BudgetExceeded,
    ClipProviderUnusable,
    Conflict,
    ProviderRefused,
    Rejected,
    Unavailable,
    UnknownConcept,
)
from domain.ops.actions import Outcome, Result
from domain.videos.budget import Budget, check, month_of
from domain.videos.plan import (
    AUTO,
    KEY_SETTINGS,
    STORYBOARD,
    ClipModel,
    Layout,
    chain,
    check_layout,
    clip_lengths,
    fits,
    named_models,
    offer,
    why_unusable,
)
from domain.videos.script import concept_at, concept_ids, script_of
from domain.videos.submissions import ProviderJob, SubmissionState
from workers.app import App
from workers.jobs.video_requests import (
    FIRST,
    NewVideo,
    Row,
    add,
    concepts_in,
    models_of,
    of_concept,
    of_media,
    shown,
    to_promise,
)
from workers.jobs.videos import take_up
from workers.ops.jobs import Change
from workers.ops.video_changes import (
    changed_meanwhile,
    give_up_order,
    order_in_doubt,
    owner_of,
    stop,
    taken_up,
    want_no_more,
)

MOST_USD = 1_000_000


@dataclass(frozen=True, slots=True)
class Option:
    """A way to make a video of a concept, and the most that it costs, whoever of several providers makes it: what
    `request` takes as the video's price. Not `usable`: `reason` says why, else it is None.

    `seconds` is the length of the video, `clips` how many are bought.
    """

    provider: str
    layout: str
    clips: int
    seconds: float
    usd: Decimal
    usable: bool
    reason: str | None


class VideoCursor(NamedTuple):
    """The last video of a page."""

    created_at: datetime
    id: UUID


class VideoPage(NamedTuple):
    """Videos, newest first; `next` is None on the last page."""

    videos: list[Row]
    next: VideoCursor | None


def concepts_of(app: App, tenant_id: UUID, generation_id: UUID) -> list[str]:
    """Return how each concept of a generation is addressed, in their order: by its id, or "#2" if it has none.

    Raises:
        UnknownGeneration: the tenant has none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        return concept_ids(concepts_in(tx, tenant_id, generation_id))


def locate(app: App, concept_id: str) -> tuple[UUID, UUID]:
    """Return the tenant and the generation of a concept, for the shell.

    Raises:
        UnknownConcept: no generation has it, or several have.
    """
    with app.db.transaction(SYSTEM) as tx:
        found = tx.videos.find_concept(concept_id)
    if not found:
        raise UnknownConcept(f"no generation has a concept {concept_id!r}; `viral generations list` shows them")
    if len(found) > 1:
        raise UnknownConcept(f"several generations have a concept {concept_id!r}: name one with --generation")
    return found[0]


def estimate(app: App, tenant_id: UUID, generation_id: UUID, concept_id: str | None = None) -> list[Option]:
    """Return the ways to make a video of a concept, the free one first; nothing is written. While no provider can be
    used, there is none of "auto".

    Raises:
        UnknownGeneration, UnknownConcept: there is no such concept.
        ScriptUnusable: no video can be made of it.
    """
    with app.db.transaction(tenant_id) as tx:
        return list(_options(app, tx, tenant_id, generation_id, concept_id))


def quote(
    app: App,
    tenant_id: UUID,
    *,
    generation_id: UUID,
    concept_id: str | None = None,
    provider: str = STORYBOARD,
    layout: str | None = None,
    again: bool = False,
) -> Option | None:
    """Return which of the estimated options `request` would take now; None if it would return a video that there is.

    Raises:
        Rejected: what `request` would raise.
    """
    check_layout(provider, layout)
    with app.db.transaction(tenant_id) as tx:
        which = _which(app, tx, concept_id, provider, layout)
        new = of_concept(tx, tenant_id, generation_id, **which, again=again, lock=False)
        if not isinstance(new, NewVideo):
            return None
        wanted = (new.provider, new.layout, new.estimated_usd)
        options = _options(app, tx, tenant_id, generation_id, concept_id)
        return next(each for each in options if (each.provider, each.layout, each.usd) == wanted)


def request(
    app: App,
    tenant_id: UUID,
    *,
    generation_id: UUID | None = None,
    concept_id: str | None = None,
    media_id: UUID | None = None,
    provider: str = "storyboard",
    layout: str | None = None,
    again: bool = False,
    at_most: Decimal | None = None,
    key: str | None = None,
) -> Row:
    """Ask for a video of a concept, or of a media file of one's own, and return its row.

    A video of the same concept that is being made, or is complete, is returned instead (`existing` is true then),
    unless a complete one is to be made `again`. `provider` is "storyboard", "auto", or a name of `video_providers`.
    `at_most` is what somebody has agreed to pay: nothing that may cost more is asked for.
    The same `key` brings back the video of its first request for 24 hours.

    Raises:
        Conflict: the key was sent with another request before (IDEMPOTENCY_KEY_REUSED), or it costs more than was
            agreed to (PRICE_CHANGED).
        UnknownGeneration, UnknownConcept, UnknownMedia: there is no such thing.
        ScriptUnusable: the concept cannot be rendered.
        BudgetExceeded: the month's money is not enough.
        ClipProviderUnusable: the provider cannot be used; the text says why.
    """
    check_layout(provider, layout)
    asked: dict[str, Any] = {"provider": provider, "layout": layout, "again": again}
    asked |= {"media_id": media_id and str(media_id), "generation_id": generation_id and str(generation_id)}
    asked |= {"concept_id": concept_id, "key": key}
    with app.db.transaction(tenant_id) as tx:
        if key is not None:
            tx.quota.lock(tenant_id)  # a tenant's requests with keys come one by one
            if (found := _by_key(tx, tenant_id, key, asked)) is not None:
                return found | {"existing": True}
        if provider not in (STORYBOARD, AUTO):  # a slip is one, also where nothing is ordered
            named_models(models_of(tx, tenant_id, app.now(tx)), provider)
        if media_id is not None:
            new = of_media(tx, tenant_id, media_id, generation_id, concept_id, again=again)
        elif generation_id is not None:
            which = _which(app, tx, concept_id, provider, layout)
            new = of_concept(tx, tenant_id, generation_id, **which, again=again)
        else:
            raise Rejected("a video is made of a concept or of a media file: name one")
        if not isinstance(new, NewVideo):
            if new["status"] in ("pending", "rendering"):
                take_up(tx, tenant_id, new["id"])  # if its job is lost
            return new | {"existing": True}
        if at_most is not None and new.estimated_usd > at_most:
            says = (
                f"it costs ${new.estimated_usd:.2f} at most now, and not ${at_most:.2f}: nothing is bought; ask again"
            )
            raise Conflict("PRICE_CHANGED", says)
        return add(tx, tenant_id, new, asked, again=again)


def show(app: App, tenant_id: UUID | None, video_id: UUID) -> Row:
    """Return a video with its `submissions`, oldest first.

    Raises:
        UnknownVideo: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        return shown(tx, owner_of(tx, tenant_id, video_id), video_id)


def listed(
    app: App,
    tenant_id: UUID | None,
    *,
    limit: int = 50,
    after: VideoCursor | None = None,
    status: str | None = None,
    generation_id: UUID | None = None,
) -> VideoPage:
    """Return a page of videos, newest first."""
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        rows = tx.videos.listed(tenant_id, limit=limit + 1, after=after, status=status, generation_id=generation_id)
    page = rows[:limit]
    more = len(rows) > limit
    return VideoPage(page, VideoCursor(page[-1]["created_at"], page[-1]["id"]) if more else None)


def cancel(app: App, tenant_id: UUID | None, video_id: UUID) -> Change:
    """Stop a video that waits or is being made. What was reserved is released, or settled when the provider has said
    what it charges.

    Raises:
        UnknownVideo: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        refused = want_no_more(tx, tenant_id, video_id)
    if refused is not None:
        return Change(False, refused)
    with app.db.transaction(SYSTEM) as tx:
        return Change(True, stop(tx, app.job_types, video_id))


def resolve(
    app: App,
    video_id: UUID,
    verdict: Literal["found", "lost"],
    provider_job_id: str | None = None,
    charged_usd: Decimal = Decimal(0),
) -> Change:
    """Decide about a submission of which nobody else can tell whether it was taken.

    "found": it is this job at the provider, and the video goes on with it. "lost": it is given up, and `charged_usd` is
    what the provider's bill says.

    Raises:
        UnknownVideo: there is none of this id.
        Conflict: it has no submission to decide about, more has become known of it meanwhile, or the provider's job
            belongs to another one; or the provider, which is asked where there is a key for it, knows no such job.
    """
    if charged_usd < 0 or verdict not in ("found", "lost"):
        raise Rejected("the verdict is found or lost, and what was charged is not negative")
    heard = _ask_for(app, video_id, provider_job_id) if verdict == "found" else ""
    with app.db.transaction(SYSTEM) as tx:
        if verdict == "lost":
            return Change(True, give_up_order(tx, video_id, charged_usd, app.now(tx)))
        video, row = order_in_doubt(tx, video_id)
        return Change(True, taken_up(tx, video, _found(app, tx, row, provider_job_id) + heard))


def budget(app: App, tenant_id: UUID, month: date | None = None) -> Row:
    """Return the `limit_usd`, `reserved_usd`, `spent_usd` and `left_usd` of a month, by default this one, and whether
    the limit is the tenant's `own`.

    Raises:
        UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        return _budget(app, tx, tenant_id, month)


def set_budget(app: App, tenant_id: UUID, limit: Decimal | None, month: date | None = None) -> Row:
    """Set the limit of a month, by default this one, and of those after it; None: what the plan gives. Returns it as
    `budget` does.

    Raises:
        UnknownTenant: there is none of this id.
    """
    if limit is not None and not 0 <= limit < MOST_USD:
        raise Rejected(f"a limit is 0 to {MOST_USD:,} US dollars")
    with app.db.transaction(tenant_id) as tx:
        tx.video_budgets.set_limit(tenant_id, month_of(month or app.now(tx)), limit)
        return _budget(app, tx, tenant_id, month)


def providers(app: App) -> list[Row]:
    """Return the storyboard and the providers of today, by rank: their row, `clips` (their lengths in words),
    `has_key`, and `reason` (None: usable)."""
    with app.db.transaction(SYSTEM) as tx:
        now = app.now(tx)
        models = tx.video_providers.current(now)
    keys = app.ports.clips.keys()
    here = {"provider": STORYBOARD, "model": "local", "usd_per_second": Decimal(0), "enabled": True}
    here |= {"has_key": True, "reason": None}
    return [
        here,
        *(
            asdict(each)
            | {"clips": clip_lengths(each.durations), "has_key": each.provider in keys, "reason": _why(each, now, keys)}
            for each in models
        ),
    ]


def _why(model: ClipModel, now: datetime, keys: Collection[str]) -> str | None:
    """Return `why_unusable`, with what an operator can do about it; tenants do not read this."""
    reason = why_unusable(model, now, keys)
    if reason != why_unusable(replace(model, enabled=True), now, keys):
        return f"{reason}; `viral providers enable {model.provider}` lets it be asked"
    if reason != why_unusable(model, now, [*keys, model.provider]) and model.provider in KEY_SETTINGS:
        return f"{reason}; set {KEY_SETTINGS[model.provider]}"
    return reason


def enable(app: App, provider: str) -> Result:
    """Let a provider be asked again, and forget its failures."""
    return _enable(app, provider, enabled=True)


def disable(app: App, provider: str) -> Result:
    """Have a provider asked no more; what it is making already goes on."""
    return _enable(app, provider, enabled=False)


def recover(app: App) -> int:
    """Enqueue a job for each video that waits or is being made, and has none that is live. Returns how many."""
    with app.db.transaction(SYSTEM) as tx:
        abandoned = tx.videos.abandoned()
    for tenant_id, video_id in abandoned:
        with app.db.transaction(tenant_id) as tx:
            take_up(tx, tenant_id, video_id)
    return len(abandoned)


# --- what is asked for ------------------------------------------------------------------------------------------


def _which(app: App, tx: Tx, concept_id: str | None, provider: str, layout: str | None) -> dict[str, Any]:
    """Return what `of_concept` is asked with."""
    how: dict[str, Any] = {"concept_id": concept_id, "provider": provider, "layout": layout}
    return how | {"keys": app.ports.clips.keys(), "now": app.now(tx)}


def _by_key(tx: Tx, tenant_id: UUID, key: str, asked: Mapping[str, Any]) -> Row | None:
    found = tx.videos.of_key(tenant_id, key)
    if found is None:
        return None
    if found["details"]["asked"] != asked:
        says = "this Idempotency-Key was sent with another request before; send a new one"
        raise Conflict("IDEMPOTENCY_KEY_REUSED", says)
    return shown(tx, tenant_id, found["id"])


def _options(app: App, tx: Tx, tenant_id: UUID, generation_id: UUID, concept_id: str | None) -> Iterator[Option]:
    concepts = concepts_in(tx, tenant_id, generation_id)
    script = script_of(concept_at(concepts, concept_id or FIRST))
    now = app.now(tx)
    models = models_of(tx, tenant_id, now)
    budget = to_promise(tx, tenant_id, month_of(now))
    yield Option(STORYBOARD, Layout.STORYBOARD, 0, script.seconds, Decimal(0), True, None)
    for provider in (AUTO, *dict.fromkeys(model.provider for model in models)):
        asked, unusable = _asked(app, models, provider, now)
        for layout in (Layout.CLIP, Layout.HOOK, Layout.SCENES):
            if not any(fits(script, model, layout) for model in asked):
                continue
            plan = offer(script, asked, layout)
            reason = unusable or _too_much(budget, plan.usd, month_of(now))
            yield Option(provider, layout, len(plan.clips), script.seconds, plan.usd, reason is None, reason)


def _asked(
    app: App, models: Sequence[ClipModel], provider: str, now: datetime
) -> tuple[Sequence[ClipModel], str | None]:
    """Return whom an order would go to, or, with the reason, to whom it cannot."""
    try:
        return chain(models, provider, now, app.ports.clips.keys()), None
    except ClipProviderUnusable as error:
        return [model for model in models if model.provider == provider], str(error)


def _too_much(budget: Budget, usd: Decimal, month: date) -> str | None:
    try:
        check(budget, usd, month)
    except BudgetExceeded as error:
        return str(error)
    return None


# --- what there is ----------------------------------------------------------------------------------------------


def _ask_for(app: App, video_id: UUID, provider_job_id: str | None) -> str:
    """Ask the provider whether it knows the job that a submission in doubt is said to be. Returns what to add to the
    answer if it could not be asked.

    Raises:
        Conflict: it knows no such job.
    """
    with app.db.transaction(SYSTEM) as tx:
        owner = owner_of(tx, None, video_id)
        row = next((each for each in tx.submissions.of_video(owner, video_id) if each.open), None)
    named = provider_job_id or (None if row is None else row.provider_job_id)
    if row is None or row.state != SubmissionState.UNCONFIRMED or named is None:
        return ""
    provider = app.ports.clips.get(row.provider)
    if provider is None:
        return f" (not asked whether it knows it: there is no key for {row.provider} here)"
    try:
        provider.poll(named)
    except ProviderRefused as error:
        raise Conflict("JOB_UNKNOWN", f"{row.provider} knows no job {named}") from error
    except Unavailable as error:
        return f" (it could not be asked whether it knows it: {error})"
    return ""


def _found(app: App, tx: Tx, row: ProviderJob, provider_job_id: str | None) -> str:
    named = provider_job_id or row.provider_job_id
    if named is None:
        raise Conflict(
            "JOB_NOT_NAMED", f"say which job of {row.provider} it is: `viral videos resolve … found --job ITS_ID`"
        )
    if row.state != SubmissionState.UNCONFIRMED:
        if named != row.provider_job_id:
            raise Conflict("JOB_KNOWN", f"it is the job {row.provider_job_id} of {row.provider}, and no other")
        return f"{row.name} is looked at again"
    now = app.now(tx)
    models = models_of(tx, row.tenant_id, now)
    patience = next((each.patience for each in models if each.provider == row.provider), timedelta(minutes=20))
    try:
        with tx.savepoint(row.tenant_id):
            accepted = tx.submissions.accept(
                row.tenant_id,
                row.id,
                provider_job_id=named,
                estimated_usd=None,
                now=now,
                deadline_at=now + patience,
            )
    except UniqueViolation as error:
        says = f"the job {named} of {row.provider} belongs to another submission"
        raise Conflict("JOB_TAKEN", says) from error
    if accepted is None:
        raise changed_meanwhile(row)
    return f"{row.name} is {named} at {row.provider}"


def _budget(app: App, tx: Tx, tenant_id: UUID, month: date | None) -> Row:
    which = month_of(month or app.now(tx))
    budget, own = tx.video_budgets.read(tenant_id, which)
    figures = {"limit_usd": budget.limit, "reserved_usd": budget.reserved, "spent_usd": budget.spent}
    return {"tenant_id": tenant_id, "month": which, "own": own, "left_usd": budget.left, **figures}


def _enable(app: App, provider: str, *, enabled: bool) -> Result:
    with app.db.transaction(SYSTEM) as tx:
        before = tx.video_providers.lock(provider)
        tx.video_providers.enable(provider, enabled)
        after = tx.video_providers.lock(provider)
    if not before:
        return Result(Outcome.REFUSED, f"there is no provider {provider!r}; `viral providers list` shows them")
    says = "it is asked again" if enabled else "it is asked no more; what it is making goes on"
    was, now = ({"enabled": all(row["enabled"] for row in rows)} for rows in (before, after))
    return Result(Outcome.UNCHANGED if before == after else Outcome.DONE, says, was, now)
