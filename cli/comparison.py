"""Shows what differs from the books of Stripe and Clerk, for the two `reconcile` commands of `viral`."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from cli.output import console, print_json, progress, show
from cli.session import interruptible_sleep, session
from domain.events.difference import Difference
from workers.app import App
from workers.jobs.reconcile import ComparedPage
from workers.ops import reconcile

Repair = Annotated[bool, typer.Option("--repair", help="Also repair the mirror. Default: only report.")]


def compare_with_books(
    owner: str, pages: Callable[[App], Iterator[ComparedPage]], *, repair: bool, as_json: bool
) -> None:
    """Show the differences between the mirror and the books of `owner`, page by page, and `repair` them if asked to."""
    differences: list[Difference] = []
    compared = repaired = 0
    with session() as current, progress(f"{owner}'s books", as_json=as_json) as step:
        for page in pages(current):
            compared += page.count
            differences += page.differences
            if repair and page.differences:
                repaired += reconcile.repair(current, page.differences)
            step(what=f"{page.kind}s", says=f"{compared:,} compared")
            interruptible_sleep(0)
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


def _identity(found: Difference) -> dict[str, Any]:
    subject = {"customer_id": found.subject} if found.source == "stripe" else {}
    return {"kind": found.kind, "id": found.id, **subject, "repairable": found.event is not None}


def _changes(found: Difference) -> dict[str, dict[str, Any]]:
    return {name: {"ours": ours, found.source: theirs} for name, (ours, theirs) in found.changes.items()}
