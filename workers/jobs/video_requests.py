"""Asks for a video of a concept, or of a file: by a person (`workers/ops/videos.py`) or by the autopilot."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.errors import ClipProviderUnusable, Conflict, Rejected, UnknownGeneration, UnknownMedia, UnknownVideo
from domain.videos.budget import Budget, check, month_of
from domain.videos.media import MediaKind
from domain.videos.plan import STORYBOARD, ClipModel, Layout, chain, offer
from domain.videos.script import concept_at, concept_ids, script_of
from domain.videos.submissions import OPEN
from workers.engine.job import SYSTEM, Tx
from workers.jobs.videos import draw, render

CONCEPT, OWN = "concept", "own"
FIRST = "#1"
"""The concept that is meant if none is named."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video that may be made, before it is."""

    generation_id: UUID | None
    concept_id: str | None
    title: str
    source: str
    provider: str
    layout: str
    estimated_usd: Decimal
    prompt: str | None = None
    media_id: UUID | None = None


def of_concept(
    tx: Tx,
    tenant_id: UUID,
    generation_id: UUID,
    *,
    concept_id: str | None,
    provider: str,
    layout: str | None,
    again: bool,
    keys: Collection[str],
    now: datetime,
    lock: bool = True,
) -> NewVideo | Row:
    """Return what is to be made of a concept, or the video that there is of it. With `lock` the budget of a paid one
    stays locked, so that of many which are asked for at once only those are made that can be paid. `keys`: the
    providers there is a key for.

    Raises:
        UnknownGeneration, UnknownConcept: there is no such concept.
        ScriptUnusable: no video can be made of it.
        BudgetExceeded: the month's money is not enough.
        ClipProviderUnusable: the provider cannot be used; the text says why.
    """
    concepts = concepts_in(tx, tenant_id, generation_id, keep=True)
    address = _address(concepts, concept_id or FIRST)
    script = script_of(concept_at(concepts, address))
    made = NewVideo(generation_id, address, script.title, CONCEPT, provider, Layout.STORYBOARD, Decimal(0))
    if (found := _existing(tx, tenant_id, made, again=again)) is not None:
        return found
    if provider == STORYBOARD:
        return made
    asked = chain(models_of(tx, tenant_id, now), provider, now, keys)
    plan = offer(script, asked, layout)
    if lock:
        tx.video_budgets.lock(tenant_id, month_of(now))
        if (found := _existing(tx, tenant_id, made, again=again)) is not None:
            return found  # it was asked for meanwhile
    check(to_promise(tx, tenant_id, month_of(now)), plan.usd, month_of(now))
    return NewVideo(
        generation_id,
        address,
        script.title,
        CONCEPT,
        provider,
        plan.layout,
        plan.usd,
        prompt=plan.clips[0].order.prompt,
    )


def of_media(
    tx: Tx, tenant_id: UUID, media_id: UUID, generation_id: UUID | None, concept_id: str | None, *, again: bool
) -> NewVideo | Row:
    """Return what is to be made of a file of the tenant's own, for a concept or for none.

    Raises:
        UnknownMedia, UnknownGeneration, UnknownConcept: there is no such thing.
    """
    file = tx.media.use(tenant_id, media_id)
    if file is None:
        raise UnknownMedia(f"no media file has the id {media_id}")
    if file.kind != MediaKind.VIDEO:
        raise Rejected(f"the media file {media_id} is no video")
    title, address = "", None
    if generation_id is not None:
        concepts = concepts_in(tx, tenant_id, generation_id, keep=True)
        address = _address(concepts, concept_id or FIRST)
        title = " ".join(str(concept_at(concepts, address).get("title") or "").split())
        live = tx.videos.of_concept(tenant_id, generation_id, address)
        if live is not None and live["media_id"] == media_id and not (again and live["status"] == "completed"):
            return live
        if live is not None and live["status"] != "completed":
            says = f"the video {live['id']} of this concept is {live['status']}: cancel it first"
            raise Conflict("VIDEO_LIVE", says)
    elif not again and (found := tx.videos.of_media(tenant_id, media_id)) is not None:
        return found
    layout, source = Layout.STORYBOARD, OWN
    return NewVideo(generation_id, address, title, source, OWN, layout, Decimal(0), media_id=media_id)


def add(tx: Tx, tenant_id: UUID, new: NewVideo, asked: Mapping[str, Any], *, again: bool) -> Row:
    """Add the video, enqueue the job that makes it, and return its row; or the row of another one that somebody has
    asked for meanwhile. `existing` tells which. `asked` is the request, as it is kept.

    Raises:
        Conflict: another video of the concept has just ended.
    """
    video_id = tx.new_id()
    values = asdict(new) | {"details": {"asked": asked}}
    if not tx.videos.add(tenant_id, id=video_id, **values):
        live = _existing(tx, tenant_id, new, again=True)
        if live is not None:
            return live | {"existing": True}
        raise Conflict("VIDEO_JUST_ENDED", "another video of this concept has just ended; ask again")
    if not again and (done := _existing(tx, tenant_id, new, again=False, but=video_id)) is not None:
        # It was completed between the two questions: what was added is not wanted.
        tx.videos.discard(tenant_id, video_id)
        return done | {"existing": True}
    job = render if new.source == CONCEPT else draw
    tx.videos.hand_on(tenant_id, video_id, job.enqueue(tx, tenant_id=tenant_id, video_id=video_id))
    return shown(tx, tenant_id, video_id) | {"existing": False}


def _existing(tx: Tx, tenant_id: UUID, new: NewVideo, *, again: bool, but: UUID | None = None) -> Row | None:
    if new.source != CONCEPT or new.generation_id is None or new.concept_id is None:
        return None
    found = tx.videos.of_concept(tenant_id, new.generation_id, new.concept_id, but=but)
    if found is None or (again and found["status"] == "completed"):
        return None
    return shown(tx, tenant_id, found["id"])


def shown(tx: Tx, tenant_id: UUID, video_id: UUID) -> Row:
    """Return a video with its `submissions`, oldest first, and what they have reserved.

    Raises:
        UnknownVideo: the tenant has none of this id.
    """
    video = tx.videos.get(tenant_id, video_id)
    if video is None:
        raise UnknownVideo(f"no video has the id {video_id}")
    submissions = [asdict(each) for each in tx.submissions.of_video(tenant_id, video_id)]
    opened = [each["estimated_usd"] for each in submissions if each["state"] in OPEN]
    return video | {"submissions": submissions, "reserved_usd": sum(opened, Decimal(0))}


def concepts_in(tx: Tx, tenant_id: UUID, generation_id: UUID, *, keep: bool = False) -> list[Any]:
    """Return the concepts of a generation; with `keep`, nobody deletes it before the transaction ends.

    Raises:
        UnknownGeneration: the tenant has none of this id.
    """
    generation = tx.generations.get(tenant_id, generation_id, keep=keep)
    if generation is None:
        raise UnknownGeneration(f"no generation has the id {generation_id}")
    return list(generation.concepts)


def _address(concepts: Sequence[Any], concept_id: str) -> str:
    """Return the one name of a concept that may be named by its number."""
    found = concept_at(concepts, concept_id)
    place = next(place for place, each in enumerate(concepts) if each is found)
    return concept_ids(concepts)[place]


def to_promise(tx: Tx, tenant_id: UUID, month: date) -> Budget:
    """Return the month's budget with what live videos may still order."""
    budget, _ = tx.video_budgets.read(tenant_id, month)
    return replace(budget, promised=tx.videos.promised(tenant_id))


def unusable(tx: Tx, tenant_id: UUID, provider: str, now: datetime, keys: Collection[str]) -> str | None:
    """Return why no video can be made by this provider now, in words for tenants; None if one can. Works in the
    tenant's scope again afterwards."""
    try:
        if provider != STORYBOARD:
            chain(models_of(tx, tenant_id, now), provider, now, keys)
    except ClipProviderUnusable as error:
        return str(error)
    return None


def models_of(tx: Tx, tenant_id: UUID, now: datetime) -> list[ClipModel]:
    """Return the models of clips as they are sold now. Works in the tenant's scope again afterwards."""
    tx.work_as(SYSTEM)
    models = tx.video_providers.current(now)
    tx.work_as(tenant_id)
    return models
