"""`viral billing reconcile`"""

import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.arguments import moment
from cli.output import AsJson, VisibleConsole, console, print_json, show
from cli.session import rest, session
from domain.errors import NotSetUp

if TYPE_CHECKING:
    from domain.events.difference import Difference
    from workers.app import App
    from workers.jobs.reconcile import ComparedPage


def reconcile(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant. Default: all.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="Invoices and events from here on. Default: all there are."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Also repair the mirror. Default: only report.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the mirror with Stripe's own books.

    Compared are subscriptions, paid invoices, and events that were not delivered.

    Subscriptions are compared whatever their age, because Stripe does not tell when one changed; Stripe keeps events
    for 30 days. A repair is an event: stored, applied by a worker, known to `viral billing rebuild`. The nightly job
    billing.reconcile does the same for everybody.
    """
    compare_with_books("Stripe", partial(_pages, tenant=tenant, since=since), repair=repair, as_json=as_json)


def compare_with_books(
    owner: str, pages: "Callable[[App], Iterator[ComparedPage]]", *, repair: bool, as_json: bool
) -> None:
    """Show the differences between the mirror and the books of `owner`, page by page, and `repair` them if asked to."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from db.transaction import SYSTEM
    from workers.jobs import reconcile as books

    differences: list[Difference] = []
    compared = repaired = 0
    bars = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    hidden = as_json or not sys.stderr.isatty()
    bar = Progress(*bars, console=VisibleConsole(sys.stderr), transient=True, disable=hidden)
    with session() as current, bar:
        shown = bar.add_task(f"{owner}'s books", total=None)
        for page in pages(current):
            compared += page.count
            differences += page.differences
            if repair and page.differences:
                with current.db.transaction(SYSTEM) as tx:
                    repaired += books.repair(tx, page.differences)
            bar.update(shown, advance=page.count, description=f"{page.kind}s")
            rest(0)
    if as_json:
        found = [_identity(each) | {"changes": _changes(each)} for each in differences]
        print_json({"compared": compared, "repaired": repaired, "differences": found})
        return
    lines = [
        _identity(each) | {"field": field} | values for each in differences for field, values in _changes(each).items()
    ]
    subject = ("customer_id",) if owner == "Stripe" else ()
    columns = ("kind", "id", *subject, "field", "ours", owner.lower(), "repairable")
    show(lines, columns, as_json=False, nothing=f"The mirror is what {owner}'s books say ({compared} compared).")
    if lines and repair:
        console().print(f"\n{repaired} of {len(differences)} are stored as events; a worker applies them.")
    elif lines:
        console().print("\nNothing was changed: --repair repairs the mirror.")


def _pages(current: "App", *, tenant: UUID | None, since: datetime | None) -> "Iterator[ComparedPage]":
    """Compare with Stripe's books.

    Raises:
        NotSetUp: there is no key to ask Stripe with.
        UnknownTenant: there is no such tenant.
    """
    from db.transaction import SYSTEM
    from workers.jobs.reconcile import compare_billing

    records = current.ports.records
    if records is None:
        raise NotSetUp("Stripe cannot be asked: STRIPE_SECRET_KEY is not set")
    with current.db.transaction(SYSTEM) as tx:
        now = tx.now()
        customer_id = None if tenant is None else tx.tenants.get(tenant)["stripe_customer_id"]
    if tenant is not None and customer_id is None:
        return
    begin = partial(current.db.transaction, SYSTEM)
    yield from compare_billing(begin, records, now, customer_id=customer_id, since=since)


def _identity(found: "Difference") -> dict[str, Any]:
    subject = {"customer_id": found.subject} if found.source == "stripe" else {}
    return {"kind": found.kind, "id": found.id, **subject, "repairable": found.event is not None}


def _changes(found: "Difference") -> dict[str, dict[str, Any]]:
    return {name: {"ours": ours, found.source: theirs} for name, (ours, theirs) in found.changes.items()}
