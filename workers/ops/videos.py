"""Asks for videos, shows them, stops them, and settles what only a person can know. The API and the shell use this.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from workers.app import App
from workers.ops.jobs import Change

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Option:
    """A way to make a video of a concept, and what it costs. Not `usable`: `reason` says why, else it is None.

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
    raise NotImplementedError


def locate(app: App, concept_id: str) -> tuple[UUID, UUID]:
    """Return the tenant and the generation of a concept, for the shell.

    Raises:
        UnknownConcept: no generation has it, or several have.
    """
    raise NotImplementedError


def estimate(app: App, tenant_id: UUID, generation_id: UUID, concept_id: str | None = None) -> list[Option]:
    """Return the ways to make a video of a concept, the free one first; nothing is written.

    Raises:
        UnknownGeneration, UnknownConcept: there is no such concept.
        ScriptUnusable: no video can be made of it.
    """
    raise NotImplementedError


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
    key: str | None = None,
) -> Row:
    """Ask for a video of a concept, or of a media file of one's own, and return its row.

    A video of the same concept that is being made, or is complete, is returned instead (`existing` is true then),
    unless a complete one is to be made `again`. `provider` is "storyboard", "auto", or a name of `video_providers`.
    The same `key` brings back the video of its first request for 24 hours (the job's unique key: `request:KEY`).

    Raises:
        Conflict: the key was sent with another request before (IDEMPOTENCY_KEY_REUSED).
        UnknownGeneration, UnknownConcept, UnknownMedia: there is no such thing.
        ScriptUnusable: the concept cannot be rendered.
        BudgetExceeded: the month's money is not enough.
        ClipProviderUnusable: the provider cannot be used; the text says why.
    """
    raise NotImplementedError


def show(app: App, tenant_id: UUID | None, video_id: UUID) -> Row:
    """Return a video with its `submissions`, oldest first.

    Raises:
        UnknownVideo: there is none of this id.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def cancel(app: App, tenant_id: UUID | None, video_id: UUID) -> Change:
    """Stop a video that waits or is being made. What was reserved is released, or settled when the provider has said
    what it charges.

    Raises:
        UnknownVideo: there is none of this id.
    """
    raise NotImplementedError


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
        Conflict: it has no submission to decide about, or the provider's job belongs to another one.
    """
    raise NotImplementedError


def budget(app: App, tenant_id: UUID, month: date | None = None) -> Row:
    """Return the `limit_usd`, `reserved_usd`, `spent_usd` and `left_usd` of a month, by default this one, and whether
    the limit is the tenant's `own`.

    Raises:
        UnknownTenant: there is none of this id.
    """
    raise NotImplementedError


def set_budget(app: App, tenant_id: UUID, limit: Decimal | None, month: date | None = None) -> Row:
    """Set the limit of a month, by default this one, and of those after it; None: what the plan gives. Returns it as
    `budget` does.

    Raises:
        UnknownTenant: there is none of this id.
    """
    raise NotImplementedError


def providers(app: App) -> list[Row]:
    """Return the storyboard and the providers of today, by rank: their row, `has_key`, and `reason` (None: usable)."""
    raise NotImplementedError


def enable(app: App, provider: str) -> Change:
    """Let a provider be asked again, and forget its failures."""
    raise NotImplementedError


def disable(app: App, provider: str) -> Change:
    """Have a provider asked no more; what it is making already goes on."""
    raise NotImplementedError


def recover(app: App) -> int:
    """Enqueue a job for each video that waits or is being made, and has none that is live. Returns how many."""
    raise NotImplementedError
