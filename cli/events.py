"""`viral events`"""

import json
from typing import Annotated, Any

import typer

from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.errors import UnknownEvent

app = Group()

SOURCES = ("stripe", "clerk")
STATUSES = ("received", "applied", "stale", "ignored", "parked")
COLUMNS = ("id", "source", "type", "status", "external_id", "subject", "received_at")


@app.command("list")
def list_events(
    source: Annotated[str | None, typer.Option(help="stripe or clerk.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="invoice.paid, user.created, …")] = None,
    status: Annotated[str | None, typer.Option(help="received, applied, stale, ignored or parked.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The newest events first."""
    from db.transaction import SYSTEM

    for option, given, known in (("--source", source, SOURCES), ("--status", status, STATUSES)):
        if given is not None and given.partition(":")[0] not in known:
            raise typer.BadParameter(f"no such {option[2:]}; there are {', '.join(known)}", param_hint=option)
    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.events.recent(source=source, type=event_type, status=status, limit=limit)
    show(rows, COLUMNS, as_json=as_json, nothing="No events.")


@app.command("show")
def show_event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Our id, or the sender's (evt_…, msg_…).")],
    as_json: AsJson = False,
) -> None:
    """One event: what it said, and what became of it."""
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        row = tx.events.find(event_id)
    if row is None:
        raise UnknownEvent(f"no event has the id {event_id}; `viral events list` shows the newest")
    body: Any = row.pop("body")
    if as_json:
        print_json(row)
        return
    payload = row.pop("payload")
    show_one(row | {"body": f"{len(body)} bytes as signed" if body else "not kept"}, as_json=False)
    console().print("\n[bold]payload[/bold]")
    console().print(json.dumps(payload, indent=2, ensure_ascii=False), markup=False)
