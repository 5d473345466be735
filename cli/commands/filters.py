"""The filters of lists, and of acts on many, as options of the shell: each is declared once, here."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, one_of
from domain.events.outcomes import Status
from domain.ops.event_filters import FAILED, FLAGS, KINDS, SOURCES, STATUSES, EventFilter, event_filter
from domain.ops.post_filters import (
    POST_STATUSES,
    PostFilter,
    VideoFilter,
    post_filter,
    video_filter,
)
from domain.queue.job_filters import STATES, JobFilter, job_filter
from domain.text.filters import SenselessFilter
from domain.videos.plan import KEY_SETTINGS, STORYBOARD, VIDEO_STATUSES
from domain.videos.profiles import NAMES as PLATFORMS
from workers import jobs
from workers.engine.discovery import discover
from workers.engine.queues import QUEUES
from workers.ops.accounts import platform_of


def job_types() -> list[str]:
    """Return the names of all job types."""
    return sorted(discover([jobs]))


Tenant = Annotated[UUID | None, typer.Option("--tenant", metavar="ID", help="Of this tenant.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on, or of the last 2h, 1d.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then, or so long ago.")]
After = Annotated[str | None, typer.Option("--after", metavar="PLACE", help="Go on from where a list ended.")]

JobState = Annotated[
    str | None,
    typer.Option("--status", metavar="STATUS", help=f"One of {', '.join(STATES)}.", autocompletion=among(STATES)),
]
JobType = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="Of this job type.", autocompletion=job_types),
]
Queue = Annotated[
    str | None, typer.Option("--queue", metavar="QUEUE", help="On this queue.", autocompletion=among(QUEUES))
]
CausedBy = Annotated[
    str | None,
    typer.Option("--cause", metavar="CAUSE", help="Enqueued by this: event:ID, job:ID, person:WHO, …."),
]
JobText = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="With this text in its error, a key or its cause; or an id."),
]

OF_JOBS: Mapping[str, Any] = {
    "status": JobState,
    "type": JobType,
    "queue": Queue,
    "tenant": Tenant,
    "cause": CausedBy,
    "text": JobText,
    "since": Since,
    "until": Until,
}

Source = Annotated[
    str | None,
    typer.Option("--source", metavar="SOURCE", help="Of stripe or clerk.", autocompletion=among(SOURCES)),
]
EventType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="invoice.paid, user.created, …")]
EventStatus = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="received, applied, stale, duplicate, ignored or parked; or one of these: parked:thin; or failed: its job "
        "has.",
        autocompletion=among(STATUSES),
    ),
]
EventFlag = Annotated[
    str | None,
    typer.Option("--flag", metavar="FLAG", help="With this flag: refund, dispute, …", autocompletion=among(FLAGS)),
]
Subject = Annotated[
    str | None,
    typer.Option("--subject", metavar="ID", help="Of this customer, user or organization."),
]
EventText = Annotated[
    str | None, typer.Option("--text", metavar="TEXT", help="With this in the sender's id or the subject.")
]

OF_EVENTS: Mapping[str, Any] = {
    "source": Source,
    "type": EventType,
    "status": EventStatus,
    "flag": EventFlag,
    "subject": Subject,
    "tenant": Tenant,
    "since": Since,
    "until": Until,
    "text": EventText,
}

PostState = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help=f"One of {', '.join(POST_STATUSES)}.",
        autocompletion=among(POST_STATUSES),
    ),
]
Account = Annotated[UUID | None, typer.Option("--account", metavar="ID", help="To this account.")]
Video = Annotated[UUID | None, typer.Option("--video", metavar="ID", help="Of this video.")]
Platform = Annotated[
    str | None,
    typer.Option("--platform", metavar="PLATFORM", help="On this platform.", autocompletion=among(PLATFORMS)),
]
ChangedSince = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="That changed from then on, or in the last 2h, 1d."),
]
ChangedUntil = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="That changed before then, or so long ago.")
]

OF_POSTS: Mapping[str, Any] = {
    "status": PostState,
    "platform": Platform,
    "account": Account,
    "tenant": Tenant,
    "video": Video,
    "since": ChangedSince,
    "until": ChangedUntil,
}

VideoState = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help=f"One of {', '.join(VIDEO_STATUSES)}.",
        autocompletion=among(VIDEO_STATUSES),
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Of this provider; storyboard: drawn here.",
        autocompletion=among((STORYBOARD, *KEY_SETTINGS)),
    ),
]

OfGeneration = Annotated[UUID | None, typer.Option("--generation", metavar="ID", help="Of this generation's concepts.")]

OF_VIDEOS: Mapping[str, Any] = {
    "status": VideoState,
    "provider": Provider,
    "tenant": Tenant,
    "generation": OfGeneration,
    "since": ChangedSince,
    "until": ChangedUntil,
}

Filters = Mapping[str, str]
"""The filters that are given, as a URL has them."""


def filtered(options: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options; those that are given are its argument `filters`."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            asked = {name: values.pop(f"filter_{name}") for name in options}
            command(**values, filters={name: str(value) for name, value in asked.items() if value is not None})

        added = [
            Parameter(f"filter_{name}", Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options.items()
        ]
        parameters: list[Parameter] = []
        for name, each in signature(command).parameters.items():
            parameters += added if name == "filters" else [each.replace(kind=Parameter.KEYWORD_ONLY)]
        run.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return with_options


def jobs_of(filters: Filters) -> JobFilter:
    """Return the filter of jobs that is asked for.

    Raises:
        typer.BadParameter: it cannot be.
    """
    one_of(STATES, filters.get("status"), "--status", "status")
    try:
        return job_filter(filters)
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None


def events_of(filters: Filters) -> EventFilter:
    """Return the filter of events that is asked for.

    Raises:
        typer.BadParameter: it cannot be.
    """
    one_of(SOURCES, filters.get("source"), "--source", "source")
    status = filters.get("status")
    alike = [each for each in Status if each.kind == (status or "").partition(":")[0]]
    one_of((*alike, alike[0].kind) if len(alike) > 1 else (*KINDS, FAILED), status, "--status", "status")
    one_of(FLAGS, filters.get("flag"), "--flag", "flag")
    try:
        return event_filter(filters)
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None


def posts_of(filters: Filters) -> PostFilter:
    """Return the filter of posts that is asked for.

    Raises:
        typer.BadParameter: it cannot be.
        Rejected: there is no such platform.
    """
    one_of(POST_STATUSES, filters.get("status"), "--status", "status")
    named = {"platform": platform_of(filters["platform"])} if "platform" in filters else {}
    try:
        return post_filter({**filters, **named})
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None


def videos_of(filters: Filters) -> VideoFilter:
    """Return the filter of videos that is asked for.

    Raises:
        typer.BadParameter: it cannot be.
    """
    one_of(VIDEO_STATUSES, filters.get("status"), "--status", "status")
    try:
        return video_filter(filters)
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None


def with_place(filters: Filters, after: str | None) -> Filters:
    """Add the place to go on from, if one is given."""
    return filters if after is None else {**filters, "after": after}


def say_further(further: PostFilter | VideoFilter | JobFilter | None, looked_at: int | None, *, full: bool) -> None:
    """Say how a list goes on, on standard error: where only the newest were looked at, or it did not fit."""
    if further is None:
        return
    if looked_at is not None:
        typer.echo(f"The newest {looked_at:,} were looked at; older ones: --after {further.after}", err=True)
    elif not full:
        typer.echo(f"The list is large; the rest of it: --after {further.after}", err=True)
