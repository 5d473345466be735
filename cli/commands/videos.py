"""`viral videos`"""

import sys
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason, Yes, act_on_some, check_known, decided
from cli.arguments import among, one_of, regular, usd
from cli.commands.filters import OF_VIDEOS, After, Filters, filtered, say_further, videos_of, with_place
from cli.output import AsJson, Limit, console, dollars, print_json, progress, show, show_one
from cli.session import for_system, interruptible_sleep, session
from cli.shell import Group
from domain.concepts.wording import counted
from domain.errors import UnknownConcept, UnknownGeneration, ViralError
from domain.ops.action_list import VERDICTS
from domain.ops.post_filters import VideoFilter
from domain.text.readable import readable
from domain.videos.plan import AUTO, KEY_SETTINGS, STORYBOARD, Layout
from domain.videos.submissions import OPEN, SubmissionState
from workers.app import App
from workers.ops import queues, videos
from workers.ops.post_lists import video_list
from workers.ops.video_files import add_own, addresses, warnings_of

app = Group()

ENDED = ("completed", "failed", "unconfirmed", "cancelled")
COLUMNS = ("id", "created_at", "tenant_id", "status", "stage", "percent", "provider", "layout", "cost", "title")
SUBMISSIONS = (
    *("clip", "provider", "model", "state", "seconds", "percent", "queue", "reserved", "cost"),
    *("provider_job_id", "error_message"),
)
LIFETIME = timedelta(hours=1)
BETWEEN_LOOKS = 0.3
"""Seconds."""
LOOKS_WITHOUT_WORKER = 10
"""After so many looks at a video that nobody has begun, the shell looks whether there is a worker."""

VideoId = Annotated[UUID, typer.Argument(metavar="ID", help="The video's id; `viral videos list` shows them.")]
Tenant = Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")]


class StillRendering(ViralError):
    """Whoever waited for a video does not wait any more; it goes on."""


@app.command()
def render(
    concept: Annotated[
        str | None, typer.Argument(metavar="CONCEPT", help="A concept's id, as `viral generations show` has it.")
    ] = None,
    generation: Annotated[
        UUID | None, typer.Option(metavar="ID", help="A generation, instead of a concept's id.")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--concept", metavar="N", min=1, help="Which of its concepts. Default: the first.")
    ] = None,
    tenant: Annotated[UUID | None, typer.Option(metavar="ID", help="Whose file --file is.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(parser=regular, metavar="FILE", help="A finished video of one's own, instead of a concept."),
    ] = None,
    provider: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="`viral providers list` shows them; auto: the first that can be used.",
            autocompletion=among((AUTO, STORYBOARD, *KEY_SETTINGS)),
        ),
    ] = STORYBOARD,
    layout: Annotated[
        str | None,
        typer.Option(metavar="L", help="clip, hook or scenes, for bought clips.", autocompletion=among(Layout)),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Make another one, though there is a completed one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without being asked.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; exit code 1 if it has no file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a video of a concept.

    It is drawn on this machine for nothing, unless a provider is named: then the price is shown first, and asked for. A
    concept has one video at a time; asking again shows the one that there is.

    \b
    viral videos render --generation ID --wait
    viral videos render --generation ID --concept 2 --provider runway --layout hook
    viral videos render --file holiday.mp4 --tenant ID
    """
    if [concept, generation, file].count(None) != 2:
        raise typer.BadParameter("give one of them", param_hint="CONCEPT, --generation, --file")
    if number is not None and generation is None:
        raise typer.BadParameter("goes with --generation", param_hint="--concept")
    if file is not None and tenant is None:
        raise typer.BadParameter("say whose file it is", param_hint="--tenant")
    one_of(Layout, layout, "--layout", "layout")
    owner = _generation_of(generation) if generation else tenant
    with session() as current:
        wanted: dict[str, Any] = {"tenant_id": owner}
        if file is not None and tenant is not None:
            wanted["media_id"] = add_own(current, tenant, file)
        elif generation is not None and owner is not None:
            wanted |= {"generation_id": generation, "concept_id": _numbered(current, owner, generation, number or 1)}
        elif concept is not None:
            owner, found = videos.locate(current, concept)
            wanted = {"tenant_id": owner, "generation_id": found, "concept_id": concept}
        if tenant not in (None, owner):
            raise UnknownConcept(f"the tenant {tenant} has no such concept: it is of the tenant {owner}")
        asked: dict[str, Any] = {"provider": provider, "layout": layout, "again": again}
        price = None if file or yes else videos.quote(current, **wanted, **asked)
    if price is not None and price.clips:
        _ask(price)
        asked["layout"] = price.layout
    if not yes:
        asked["at_most"] = Decimal(0) if price is None else price.usd
    with session() as current:
        row = videos.request(current, **wanted, **asked)
        if row.get("existing") and not as_json:
            typer.echo(_existing(row), err=True)
        if wait:
            row = _wait(current, row["tenant_id"], row["id"], quiet=as_json)
        shown = _result(current, row["tenant_id"], row["id"])
    show_one(shown, as_json=as_json, simplified=_simplified)
    if wait and shown["status"] != "completed":
        raise typer.Exit(1)


@app.command("list")
@filtered(OF_VIDEOS)
def list_videos(filters: Filters, after: After = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the newest videos first.

    \b
    viral videos list --status rendering
    viral videos list --status failed --provider luma --since 1d
    """
    with session() as current:
        wanted = videos_of(with_place(filters, after))
        found = video_list(current, wanted, limit=limit)
        if not found.rows and found.further is None:
            check_known(current, wanted)
    nothing = "No videos. `viral videos render --generation ID` makes one."
    show(found.rows, COLUMNS, as_json=as_json, nothing=nothing, simplified=_listed)
    say_further(found.further, found.looked_at, full=len(found.rows) >= limit)


@app.command("show")
def show_video(video_id: VideoId, as_json: AsJson = False) -> None:
    """Show how far a video is, or where its file is.

    With what it cost, and what was ordered for it.

    \b
    viral videos show ID
    """
    with session() as current:
        row = _result(current, None, video_id)
    if as_json:
        print_json(row)
        return
    submissions = row["submissions"]
    show_one(row, as_json=False, simplified=_simplified)
    if submissions:
        console().print("\nClips that were ordered", style="bold")
        show(submissions, SUBMISSIONS, as_json=False, nothing="", simplified=_ordered)


@app.command()
@filtered(OF_VIDEOS)
def cancel(
    filters: Filters,
    video_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="ID", help="Videos that wait or are being made.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Stop videos, and give back what was reserved for them.

    What a provider has begun is cancelled there, and settled when it says what it charges.

    \b
    viral videos cancel 01a20417-5ccc-7850-9558-0a37b805228c
    viral videos cancel --status pending --tenant ID --reason "a script of theirs ran wild"
    """
    act_on_some("video.cancel", video_ids, _of(filters), reason=reason, yes=yes, advice=_advice)


def _advice(current: App, video_id: UUID) -> str | None:
    return _decide(videos.show(current, None, video_id))


@app.command()
@filtered(OF_VIDEOS)
def resolve(
    filters: Filters,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID…] found|lost",
            help="The video; whether the provider has its order.",
            autocompletion=among(VERDICTS),
        ),
    ],
    job: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER_JOB_ID", help="found: what the provider calls it, unless that is shown already."
        ),
    ] = None,
    charged: Annotated[
        Decimal | None, typer.Option(parser=usd, metavar="USD", help="lost: what it cost anyway.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Decide about an order whose answer was lost.

    Look for it in the provider's console. Found: the video goes on with it. Lost: its money is free again, less what
    was charged. By a filter, all are lost, and nothing was charged.

    \b
    viral videos resolve ID found --job task_123
    viral videos resolve ID lost --charged 1.20
    viral videos resolve lost --status unconfirmed --provider luma --reason "their console has none of them"
    """
    video_ids, verdict, more = decided(words, filters, "ID")
    if more is not None:
        raise typer.BadParameter("what the provider calls it goes with --job", param_hint=more)
    if verdict == "lost" and job is not None:
        raise typer.BadParameter("goes with found", param_hint="--job")
    if verdict == "found" and charged is not None:
        raise typer.BadParameter("goes with lost: what was found says itself what it costs", param_hint="--charged")
    if filters and charged is not None:
        raise typer.BadParameter("is said of one at a time", param_hint="--charged")
    arguments = {"verdict": verdict, "job": job, "charged": charged}
    act_on_some("video.resolve", video_ids, _of(filters), arguments, reason=reason, yes=yes)


def _of(filters: Filters) -> VideoFilter | None:
    return videos_of(filters) if filters else None


@app.command()
def recover() -> None:
    """Take up videos that no job takes care of.

    There are none but after a backup was restored, or jobs were deleted by plain SQL.

    \b
    viral videos recover
    """
    with session() as current:
        found = videos.recover(current)
    console().print(f"{counted(found, 'video')} taken up again")


@app.command()
def budget(
    tenant: Tenant,
    limit: Annotated[
        Decimal | None,
        typer.Option(parser=usd, metavar="USD", help="What providers may cost a month, from this one on."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="What the tenant's plan gives, again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set what a tenant's videos may cost a month.

    With what is reserved and spent of it. Drawing storyboards costs nothing.

    \b
    viral videos budget TENANT
    """
    if plan and limit is not None:
        raise typer.BadParameter("give one of them", param_hint="--limit, --plan")
    with session() as current:
        changed = plan or limit is not None
        row = videos.set_budget(current, tenant, limit) if changed else videos.budget(current, tenant)
    show_one(row, as_json=as_json, simplified=_money)


# --- what is asked for ------------------------------------------------------------------------------------------


def _generation_of(generation_id: UUID) -> UUID:
    """Return the tenant of a generation."""
    with for_system() as tx:
        row = tx.generating.get(generation_id)
    if row is None:
        raise UnknownGeneration(f"no generation has the id {generation_id}; `viral generations list` shows them")
    tenant_id: UUID = row["tenant_id"]
    return tenant_id


def _numbered(current: App, tenant_id: UUID, generation_id: UUID, number: int) -> str:
    concepts = videos.concepts_of(current, tenant_id, generation_id)
    if number > len(concepts):
        raise UnknownConcept(f"the generation {generation_id} has {len(concepts)} concepts, and no number {number}")
    return concepts[number - 1]


def _ask(price: videos.Option) -> None:
    """Show what would be bought, and go on only if a person wants that."""
    clips = "one clip" if price.clips == 1 else f"{price.clips} clips"
    who = "the first provider that can be used" if price.provider == AUTO else price.provider
    what = f"{who} makes {clips} for a video of {price.seconds:g} s (layout {price.layout})"
    shown = f"{what}, for {dollars(price.usd)} at most."
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{shown} Say --yes to buy it", param_hint="--yes")
    typer.confirm(f"{shown} Buy it?", abort=True, err=True)


def _existing(row: Mapping[str, Any]) -> str:
    state = "is completed" if row["status"] == "completed" else f"is {row['status']} already"
    hint = "; --again makes another one" if row["status"] == "completed" else ""
    return f"The video of this concept {state}{hint}."


# --- what is shown ----------------------------------------------------------------------------------------------


def _wait(current: App, tenant_id: UUID, video_id: UUID, *, quiet: bool) -> dict[str, Any]:
    """Wait until the video has ended, and show how far it is to whoever sits before a terminal."""
    looks = 0
    with progress("waiting", as_json=quiet) as step:
        while (row := videos.show(current, tenant_id, video_id))["status"] not in ENDED:
            percent = row["percent"]
            says = "" if percent is None else f"{percent} %"
            step(percent or 0, None if percent is None else 100, what=_stage(row), says=says)
            looks += 1
            if looks == LOOKS_WITHOUT_WORKER and row["status"] == "pending":
                _say_if_nobody_works()
            try:
                interruptible_sleep(BETWEEN_LOOKS)
            except KeyboardInterrupt:
                raise StillRendering(
                    f"the video goes on without you: `viral videos show {video_id}` shows how far it is, "
                    f"`viral videos cancel {video_id}` stops it"
                ) from None
    return row


def _stage(row: Mapping[str, Any]) -> str:
    queue = _place(row)
    return readable(row["stage"]) + (f" (place {queue} in {row['provider']}'s queue)" if queue else "")


def _place(row: Mapping[str, Any]) -> int | None:
    place: int | None = row["submissions"][-1]["queue"] if row["submissions"] else None
    return place


def _say_if_nobody_works() -> None:
    with for_system() as tx:
        idle = [each.queue for each in queues.overview(tx) if each.queue in ("media", "render") and not each.workers]
    if idle:
        typer.echo(f"No worker works on {' and '.join(idle)}: start `viral up` or `viral worker`.", err=True)


def _result(current: App, tenant_id: UUID | None, video_id: UUID) -> dict[str, Any]:
    """Return a video as programs read it: where its file is, what a look at it found, who made it, what it cost."""
    row = dict(videos.show(current, tenant_id, video_id))
    files = addresses(current, row, LIFETIME)
    first = {"video_id": row.pop("id"), "status": row.pop("status"), "path": files.pop("path")} | files
    first |= {"provider": row.pop("provider"), "cost": row.pop("cost_usd")}
    warnings = warnings_of(row | first)
    del row["details"]
    return first | row | {"warnings": warnings}


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing to a person."""
    shown = dict(row)
    submissions = shown.pop("submissions")
    percent = shown.pop("percent")
    ended = shown["status"] in ENDED
    unknown = shown["status"] == "unconfirmed"
    stage = None if ended else f"{readable(shown['stage'])}{'' if percent is None else f', {percent} %'}"
    place = None if ended or not submissions else submissions[-1]["queue"]
    path = shown.pop("path")
    url = shown.pop("url")
    warnings = shown.pop("warnings")
    return {
        "video_id": shown["video_id"],
        "status": shown["status"],
        "stage": stage,
        "queue": place and f"place {place} at {shown['provider']}",
        "title": shown["title"],
        "file": path or url,
        "thumbnail": None if path else shown["thumbnail_url"],
        "sha256": shown["sha256"],
        "seconds": shown["duration_seconds"],
        "provider": shown["provider"],
        "layout": shown["layout"],
        "cost": dollars(shown["cost"]) if ended and not unknown and shown["cost"] is not None else None,
        "reserved": dollars(shown["reserved_usd"]) if shown["reserved_usd"] else None,
        "error": shown["error_message"],
        "decide": _decide({**row, "id": row["video_id"]}),
        "note": "; ".join(warnings) or None,
        "tenant_id": shown["tenant_id"],
        "generation_id": shown["generation_id"],
        "concept_id": shown["concept_id"],
        "job_id": None if ended else shown["job_id"],
        "created_at": shown["created_at"],
        "ended_at": shown["completed_at"],
    }


def _decide(row: Mapping[str, Any]) -> str | None:
    """Return what an operator does about an order in doubt; None if there is none."""
    states = [each["state"] for each in row["submissions"] if each["state"] in OPEN]
    if SubmissionState.UNCONFIRMED not in states and not (states and row["status"] in ("unconfirmed", "failed")):
        return None
    command = f"viral videos resolve {row['id']}"
    return f"look in the provider's account, then `{command} found --job ITS_ID` or `… lost`"


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    ended = row["status"] in ENDED
    cost = row["cost_usd"] if ended else row["estimated_usd"]
    return {
        **row,
        "cost": None if cost is None else dollars(cost),
        "stage": None if ended else row["stage"],
        "percent": None if ended else row["percent"],
    }


def _ordered(row: Mapping[str, Any]) -> dict[str, Any]:
    cost, going_on = row["final_usd"], row["state"] in OPEN
    return {
        **row,
        "clip": row["scene"] + 1,
        "percent": row["percent"] if going_on else None,
        "queue": row["queue"] if going_on else None,
        "reserved": dollars(row["estimated_usd"]) if going_on else None,
        "cost": None if cost is None else dollars(cost),
    }


def _money(row: Mapping[str, Any]) -> dict[str, Any]:
    whose = "the tenant's own" if row["own"] else "the plan's"
    return {
        "month": f"{row['month']:%Y-%m} (UTC)",
        "limit": f"{dollars(row['limit_usd'])}, {whose}",
        "spent": dollars(row["spent_usd"]),
        "reserved": dollars(row["reserved_usd"]),
        "left": dollars(row["left_usd"]),
    }
