"""`viral media`: files that are kept, and whether platforms take a file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from cli.arguments import among, one_of, regular
from cli.configuration import resolve_offline
from cli.output import AsJson, Limit, console, print_json, progress, show
from cli.session import for_system
from cli.shell import Group
from domain.text.readable import readable
from domain.videos.media import MediaUnusable, Probe
from domain.videos.profiles import NAMES, faults, hints, profile_of, shown_size
from workers.adapters.ports import open_studio

app = Group()

ALL = "all"
COLUMNS = ("id", "tenant_id", "kind", "extension", "bytes", "used", "created_at", "last_used_at", "stored_at")


@app.command("list")
def list_media(
    tenant: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this tenant's.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the files that are kept, newest first.

    `used` says whether a video uses it.

    \b
    viral media list --tenant ID
    """
    with for_system() as tx:
        rows = tx.media.recent(tenant_id=tenant, limit=limit)
    listed = [dict(row) | {"sha256": row["sha256"].hex()} for row in rows]
    show(listed, COLUMNS, as_json=as_json, nothing="No media.")


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(parser=regular, metavar="FILE", help="A video file.")],
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="NAME",
            help=f"One of {', '.join(NAMES)}, or all (default). May be repeated.",
            autocompletion=among((*NAMES, ALL)),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether platforms take a video file, and why not.

    Needs ffmpeg, and no server. All of the file is decoded, so that a black or a silent one is found. Exit code 0: all
    platforms that were asked for take it; 1: one does not. Hints name what is taken and may still surprise you.

    \b
    viral media check video.mp4 --platform all
    """
    asked = platform or [ALL]
    for name in asked:
        one_of((*NAMES, ALL), name, "--platform", "platform")
    names = list(NAMES) if ALL in asked else list(dict.fromkeys(asked))
    probe, unusable = _probe(file, as_json=as_json)
    if unusable and not as_json:
        raise unusable
    verdicts = [_verdict(name, probe, unusable) for name in names]
    accepted = all(verdict["accepted"] for verdict in verdicts)
    if as_json:
        print_json({"file": str(file), "accepted": accepted, "probe": _as_dict(probe), "platforms": verdicts})
    elif probe:
        _print(file, probe, verdicts)
    if not accepted:
        raise typer.Exit(1)


def _probe(file: Path, *, as_json: bool) -> tuple[Probe | None, MediaUnusable | None]:
    try:
        with progress("check", 1.0, as_json=as_json) as watch:
            return open_studio(resolve_offline()).probe(file, watch=watch, deep=True), None
    except MediaUnusable as error:
        return None, error


def _as_dict(probe: Probe | None) -> dict[str, Any] | None:
    return None if probe is None else {name: getattr(probe, name) for name in Probe.__dataclass_fields__}


def _verdict(name: str, probe: Probe | None, unusable: MediaUnusable | None) -> dict[str, Any]:
    profile = profile_of(name, datetime.now(UTC).date())
    found = faults(probe, profile) if probe else [str(unusable)]
    return {
        "platform": name,
        "accepted": not found,
        "faults": found,
        "hints": hints(probe, profile) if probe else [],
        "limits_of": profile.since,
    }


def _print(file: Path, probe: Probe, verdicts: list[dict[str, Any]]) -> None:
    width, height = shown_size(probe)
    sound = f"{probe.audio_codec} sound" if probe.audio_streams else "no sound"
    container = f"{probe.container.upper()} of {probe.bytes / 1e6:.2f} MB"
    picture = f"{width}x{height}, {probe.fps:g} frames a second, {probe.video_codec}"
    console().print(f"{readable(file.name)}: {container}, {probe.seconds:.1f} s, {picture}, {sound}")
    for verdict in verdicts:
        mark = ("takes it", "green") if verdict["accepted"] else ("does not take it", "red")
        console().print(Text.assemble(f"{NAMES[verdict['platform']]} ", mark))
        for fault in verdict["faults"]:
            console().print(f"  {fault}")
    for hint in _common(verdicts):
        console().print(f"hint: {hint}")


def _common(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every hint once: most are the same for all platforms."""
    return list(dict.fromkeys(hint for verdict in verdicts for hint in verdict["hints"]))
