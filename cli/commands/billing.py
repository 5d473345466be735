"""`viral billing`"""

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

import typer

from cli.arguments import earlier, person
from cli.comparison import Repair, compare_with_books
from cli.output import AsJson, console, progress, show
from cli.session import session
from cli.shell import Group
from workers.ops.rebuild import rebuild
from workers.ops.reconcile import compare_billing

app = Group()

COLUMNS = ("tenant_id", "what", "column", "stored", "derived")

Tenant = Annotated[UUID | None, typer.Option(help="Only this tenant. Default: all.")]


@app.command()
def reconcile(
    tenant: Tenant = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=earlier, metavar="TIME", help="Invoices and events from here on. Default: all there are."),
    ] = None,
    repair: Repair = False,
    as_json: AsJson = False,
) -> None:
    """Compare the mirror with Stripe's own books.

    Compared are subscriptions, paid invoices, and events that were not delivered.

    Subscriptions are compared whatever their age, because Stripe does not tell when one changed; Stripe keeps events
    for 30 days. A repair is an event: stored, applied by a worker, known to `viral billing rebuild`. The nightly job
    billing.reconcile does the same for everybody.

    \b
    viral billing reconcile --tenant ID
    viral billing reconcile --repair
    """
    pages = partial(compare_billing, tenant_id=tenant, since=since)
    compare_with_books("Stripe", pages, repair=repair, as_json=as_json)


@app.command("rebuild")
def rebuild_plans(
    tenant: Tenant = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Also write what the events say. Default: only report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Derive plans anew from stored events; report differences.

    Mirror and plans are read off the events that Stripe sent once, and compared; Stripe is asked nothing.

    On a healthy system nothing differs. A row that no stored event describes, or that is newer than all of them
    (written by `reconcile`, say), is left as it is. What a person wrote into a plan by hand counts as a difference.

    \b
    viral billing rebuild
    """
    with session() as current, progress("plans", as_json=as_json) as step:
        found = rebuild(
            current.db, current.ports, tenant_id=tenant, apply=apply, cause=f"person:{person()}", watch=step
        )
    rows = [vars(each) for each in found]
    show(rows, COLUMNS, as_json=as_json, nothing="Mirror and plans are what the events say.")
    if rows and not as_json:
        console().print("\nWritten." if apply else "\nNothing was written: --apply does.")
