"""`viral providers`"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.output import AsJson, console, dollars, show
from cli.session import session
from cli.shell import Group
from domain.errors import ClipProviderUnusable
from workers.ops import videos
from workers.ops.jobs import Change

app = Group()

COLUMNS = ("provider", "model", "usable", "per_second", "clips", "resolution", "valid_from", "failures", "why")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The provider; `viral providers list` shows them.")]


@app.command("list")
def list_providers(as_json: AsJson = False) -> None:
    """Show who makes videos, for how much, and why some cannot now.

    The storyboard is drawn on this machine. Prices and lengths are dated rows of `video_providers`.
    Keys are those of this shell, which may differ from the workers'.
    """
    with session() as current:
        rows = videos.providers(current)
    show(rows, COLUMNS, as_json=as_json, nothing="", simplified=_simplified)
    if not as_json:
        console().print("\nby the keys of this shell; workers may have others")


@app.command()
def enable(name: Name) -> None:
    """Let a provider be asked again, and forget its failures."""
    with session() as current:
        _print(videos.enable(current, name))


@app.command()
def disable(name: Name) -> None:
    """Order nothing of a provider any more. What it is making already goes on."""
    with session() as current:
        _print(videos.disable(current, name))


def _print(change: Change) -> None:
    if not change.done:
        raise ClipProviderUnusable(change.says)
    console().print(change.says)


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    durations = row.get("durations") or []
    return {
        **row,
        "usable": "yes" if row["reason"] is None else "no",
        "per_second": None if row.get("usd_per_second") is None else dollars(row["usd_per_second"]),
        "clips": f"{durations[0]} to {durations[-1]} s" if durations else None,
        "failures": row.get("failures") or None,
        "why": row["reason"],
    }
