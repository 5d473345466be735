"""`viral events`"""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.arguments import moment
from cli.output import AsJson, Limit, console, lines, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.errors import UnknownEvent

if TYPE_CHECKING:
    from db.transaction import Tx

app = Group()

SOURCES = ("stripe", "clerk")
STATUSES = ("received", "applied", "stale", "duplicate", "ignored", "parked")
APPLIED_BY = {"stripe": "billing.apply_stripe_event", "clerk": "identity.apply_clerk_event"}
COLUMNS = ("id", "source", "type", "status", "flag", "external_id", "subject", "received_at")


@app.command("list")
def list_events(
    source: Annotated[str | None, typer.Option(help="stripe or clerk.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="invoice.paid, user.created, …")] = None,
    status: Annotated[str | None, typer.Option(help="received, applied, stale, duplicate, ignored or parked.")] = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Only those that a person should look at.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The newest events first."""
    from db.transaction import SYSTEM

    for option, given, known in (("--source", source, SOURCES), ("--status", status, STATUSES)):
        if given is not None and given.partition(":")[0] not in known:
            raise typer.BadParameter(f"no such {option[2:]}; there are {', '.join(known)}", param_hint=option)
    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.events.recent(source=source, type=event_type, status=status, flagged=flagged, limit=limit)
    show(rows, COLUMNS, as_json=as_json, nothing="No events.")


@app.command("stats")
def show_outcomes(
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Received since then. Default: a day ago.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How many events came, how often again, and what became of them."""
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.events.outcomes(since or tx.now() - timedelta(days=1))
    show(
        rows, ("source", "status", "events", "flagged", "duplicates"), as_json=as_json, nothing="No events since then."
    )


@app.command("replay")
def replay(
    event_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Our ids, or the senders' (evt_…, msg_…).")
    ] = None,
    parked: Annotated[
        str | None, typer.Option(metavar="REASON", help="All that are parked for it: unknown_price, thin, … or any.")
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Apply stored events again. Of an event that is applied already this changes nothing.

    \b
    viral events replay evt_1PqXyz
    viral events replay --parked unknown_price
    """
    from db.transaction import SYSTEM

    if bool(event_ids) == (parked is not None):
        raise typer.BadParameter("name events by their ids, or --parked REASON, and not both")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        if parked is not None:
            found = tx.events.parked("" if parked == "any" else parked, limit)
        else:
            found = sorted({_known(tx, name) for name in event_ids or ()})  # in the order in which all enqueue them
        rows = [
            {
                "event_id": event_id,
                "source": source,
                "job_id": current.job_types[APPLIED_BY[source]].enqueue_payload(tx, {"event_id": str(event_id)}),
            }
            for event_id, source in found
        ]
    show(rows, ("event_id", "source", "job_id"), as_json=as_json, nothing="No event is parked for that.")


def _known(tx: "Tx", name: str) -> tuple[UUID, str]:
    row = tx.events.find(name)
    if row is None:
        raise UnknownEvent(f"no event has the id {name}; nothing was replayed")
    return row["id"], row["source"]


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
    console().print("\npayload", style="bold")
    console().print(lines(json.dumps(payload, indent=2, ensure_ascii=False)))
