"""`viral billing reconcile`"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    from db.transaction import Tx
    from domain.billing.reconcile import Difference
    from workers.app import App
    from workers.jobs.billing_reconcile import ComparedPage

COLUMNS = ("kind", "id", "customer_id", "field", "ours", "stripe", "repairable")


def reconcile(
    tenant: Annotated[UUID | None, typer.Option(help="Only this tenant. Default: all.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="Invoices and events from here on. Default: all there are."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Also tell the mirror. Default: only report.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the mirror with Stripe's own books.

    Compared are subscriptions, paid invoices, and events that were not delivered.

    Subscriptions are compared whatever their age, because Stripe does not tell when one changed; Stripe keeps events
    for 30 days. A repair is an event: stored, applied by a worker, known to `viral billing rebuild`. The nightly job
    billing.reconcile does the same for everybody.
    """
    from workers.jobs import billing_reconcile

    hold_against_books(
        partial(_pages, tenant=tenant, since=since),
        billing_reconcile.repair if repair else None,
        whose="Stripe",
        rows=_lines,
        columns=COLUMNS,
        plain=_as_json,
        as_json=as_json,
    )


def hold_against_books(
    pages: "Callable[[App], Iterator[Any]]",
    repair: "Callable[[Tx, tuple[Any, ...]], int] | None",
    *,
    whose: str,
    rows: Callable[[Any], Iterable[Mapping[str, Any]]],
    columns: Sequence[str],
    plain: Callable[[Any], Mapping[str, Any]],
    as_json: bool,
) -> None:
    """Go through pages of differences between the mirror and the books of Stripe or Clerk, `repair` them if that is
    given, and show them, as `rows` or `plain` write each."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from db.transaction import SYSTEM

    differences: list[Any] = []
    compared = told = 0
    bars = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    hidden = as_json or not sys.stderr.isatty()
    bar = Progress(*bars, console=VisibleConsole(sys.stderr), transient=True, disable=hidden)
    with session() as current, bar:
        shown = bar.add_task(f"{whose}'s books", total=None)
        for page in pages(current):
            compared += page.count
            differences += page.differences
            if repair and page.differences:
                with current.db.transaction(SYSTEM) as tx:
                    told += repair(tx, page.differences)
            bar.update(shown, advance=page.count, description=f"{page.kind}s")
            rest(0)
    if as_json:
        print_json({"compared": compared, "repaired": told, "differences": [plain(each) for each in differences]})
        return
    lines = [line for each in differences for line in rows(each)]
    show(lines, columns, as_json=False, nothing=f"The mirror is what {whose}'s books say ({compared} compared).")
    if lines and repair:
        console().print(f"\n{told} of {len(differences)} told to the mirror; a worker applies them.")
    elif lines:
        console().print("\nNothing was changed: --repair tells the mirror.")


def _pages(current: "App", *, tenant: UUID | None, since: datetime | None) -> "Iterator[ComparedPage]":
    """Raises:
    NotSetUp: there is no key to ask Stripe with.
    UnknownTenant: there is no such tenant.
    """
    from db.transaction import SYSTEM
    from workers.jobs.billing_reconcile import compare

    records = current.ports.records
    if records is None:
        raise NotSetUp("Stripe cannot be asked: STRIPE_SECRET_KEY is not set")
    with current.db.transaction(SYSTEM) as tx:
        now = tx.now()
        customer_id = None if tenant is None else tx.tenants.get(tenant)["stripe_customer_id"]
    if tenant is not None and customer_id is None:
        return
    begin = partial(current.db.transaction, SYSTEM)
    yield from compare(begin, records, now, customer_id=customer_id, since=since)


def _as_json(found: "Difference") -> dict[str, Any]:
    changes = {name: {"ours": ours, "stripe": theirs} for name, (ours, theirs) in found.changes.items()}
    return {
        "kind": found.kind,
        "id": found.id,
        "customer_id": found.customer_id,
        "repairable": found.event is not None,
        "changes": changes,
    }


def _lines(found: "Difference") -> Iterator[dict[str, Any]]:
    of_it = {"kind": found.kind, "id": found.id, "customer_id": found.customer_id}
    for name, (ours, theirs) in found.changes.items():
        yield of_it | {"field": name, "ours": ours, "stripe": theirs, "repairable": found.event is not None}
