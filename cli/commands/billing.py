"""`viral billing`"""

from typing import Annotated
from uuid import UUID

import typer

from cli.commands.quota import person
from cli.commands.reconcile import reconcile
from cli.output import AsJson, console, print_json, show
from cli.session import session
from cli.shell import Group

app = Group()
app.command("reconcile")(reconcile)

COLUMNS = ("tenant_id", "what", "column", "stored", "derived")


@app.command("rebuild")
def rebuild_plans(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant. Default: all.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Also write what the events say. Default: only report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Derive plans anew from stored events; report differences.

    Mirror and plans are read off the events that Stripe sent once, and compared; Stripe is asked nothing.

    On a healthy system nothing differs. A row of which no stored event tells, or that says something newer (written by
    `reconcile`, say), is left as it is. What a person wrote into a plan by hand counts as a difference.
    """
    from workers.ops import rebuild

    with session() as current:
        found = rebuild.rebuild(current.db, current.ports, tenant_id=tenant, apply=apply, cause=f"person:{person()}")
    rows = [vars(each) for each in found]
    if as_json:
        print_json(rows)
        return
    show(rows, COLUMNS, as_json=False, nothing="Mirror and plans are what the events say.")
    if rows:
        console().print("\nWritten." if apply else "\nNothing was written: --apply does.")
