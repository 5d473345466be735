"""`viral changes`"""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from cli.arguments import among, earlier, one_of
from cli.output import AsJson, Limit, show
from cli.session import for_system
from cli.shell import Group
from workers.ops.changes import KINDS, listed

app = Group()

COLUMNS = ("at", "kind", "says", "cause")
NOTHING = (
    "No change is recorded. A deploy, changed settings, a limit, a pause and a migration are listed here from when "
    "they happen."
)


@app.command("list")
def list_changes(
    since: Annotated[
        datetime | None, typer.Option(parser=earlier, metavar="TIME", help="Made since then, or in the last 2h, 1d.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help=f"One of {', '.join(KINDS)}.", autocompletion=among(KINDS)),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what was changed in the system, newest first.

    Deploys and settings are noted by the processes when they start. Of a secret it is kept only that it is set: one
    that was replaced by another is not seen here.

    \b
    viral changes list
    """
    one_of(KINDS, kind, "--kind", "kind")
    with for_system() as tx:
        rows = [asdict(each) for each in listed(tx, since=since, kind=kind, limit=limit)]
    show(rows, COLUMNS, as_json=as_json, nothing=NOTHING, whole=("says",))
