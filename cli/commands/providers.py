"""`viral providers`"""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.acting import Reason, act
from cli.arguments import among
from cli.output import AsJson, console, dollars, show
from cli.session import session
from cli.shell import Group
from domain.errors import ClipProviderUnusable
from domain.ops.actions import Performed
from domain.videos.plan import KEY_SETTINGS, STORYBOARD
from workers.ops import videos

app = Group()

COLUMNS = ("provider", "model", "usable", "per_second", "clips", "resolution", "valid_from", "failures", "why")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The provider; `viral providers list` shows them.",
        autocompletion=among((STORYBOARD, *KEY_SETTINGS)),
    ),
]


@app.command("list")
def list_providers(as_json: AsJson = False) -> None:
    """Show who makes videos, for how much, and why some cannot now.

    The storyboard is drawn on this machine. Prices and lengths are dated rows of `video_providers`.
    Keys are those of this shell, which may differ from the workers'.

    \b
    viral providers list
    """
    with session() as current:
        rows = videos.providers(current)
    show(rows, COLUMNS, as_json=as_json, nothing="", simplified=_simplified)
    if not as_json:
        console().print("\nby the keys of this shell; workers may have others")


@app.command()
def enable(name: Name, reason: Reason = None) -> None:
    """Let a provider be asked again, and forget its failures.

    \b
    viral providers enable runway
    """
    with session() as current:
        _print(act(current, "provider.enable", f"provider:{name}", reason=reason))


@app.command()
def disable(name: Name, reason: Reason = None) -> None:
    """Order nothing of a provider any more. What it is making already goes on.

    \b
    viral providers disable runway --reason "they charge twice"
    """
    with session() as current:
        _print(act(current, "provider.disable", f"provider:{name}", reason=reason))


def _print(change: Performed) -> None:
    if not change.well:
        raise ClipProviderUnusable(change.says)
    console().print(change.says)


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "usable": "yes" if row["reason"] is None else "no",
        "per_second": None if row.get("usd_per_second") is None else dollars(row["usd_per_second"]),
        "failures": row.get("failures") or None,
        "why": row["reason"],
    }
