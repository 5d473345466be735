"""`viral events`"""

import json
from datetime import datetime, timedelta
from typing import Annotated

import typer

from cli.arguments import moment, one_of
from cli.output import AsJson, Limit, console, lines, print_json, show, show_one
from cli.session import for_system, session
from cli.shell import Group
from domain.events.outcomes import Status
from workers.ops import events

app = Group()

SOURCES = ("stripe", "clerk")
STATUSES = tuple(dict.fromkeys(status.kind for status in Status))
COLUMNS = ("id", "source", "type", "status", "flag", "external_id", "subject", "received_at")
DETAILED_COLUMNS = ("id", "source", "type", "status", "flag", "detail", "external_id", "received_at")
OUTCOMES = ("source", "status", "events", "flagged", "duplicates")
REPLAYED = ("event_id", "source", "job_id")


@app.command("list")
def list_events(
    source: Annotated[str | None, typer.Option(help="stripe or clerk.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="invoice.paid, user.created, …")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="received, applied, stale, duplicate, ignored or parked; or one of these: parked:thin."),
    ] = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Only those that a person should look at.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest events first."""
    one_of(SOURCES, source, "--source", "source")
    alike = [each for each in Status if each.kind == (status or "").partition(":")[0]]
    one_of((*alike, alike[0].kind) if len(alike) > 1 else STATUSES, status, "--status", "status")
    with for_system() as tx:
        rows = tx.events.recent(source=source, type=event_type, status=status, flagged=flagged, limit=limit)
    detailed = flagged or (status is not None and status.startswith(("ignored", "parked")))
    show(rows, DETAILED_COLUMNS if detailed else COLUMNS, as_json=as_json, nothing="No events.")


@app.command("stats")
def show_outcomes(
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Received since then. Default: a day ago.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count events, repeated ones, and what became of them."""
    with for_system() as tx:
        rows = tx.events.outcomes(since or tx.now() - timedelta(days=1))
    show(rows, OUTCOMES, as_json=as_json, nothing="No events since then.")


@app.command("replay")
def replay(
    event_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Our ids, or the senders' (evt_…, msg_…).")
    ] = None,
    parked: Annotated[
        str | None, typer.Option(metavar="REASON", help="All that are parked for it: unknown_price, thin, … or any.")
    ] = None,
    ignored: Annotated[
        str | None, typer.Option(metavar="TYPE", help="All that were ignored because of this type.")
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Apply stored events again; an applied one changes nothing.

    What an event said is kept for a while only (see docs/deploying.md); then it cannot be replayed.

    \b
    viral events replay evt_1PqXyz
    viral events replay --parked unknown_price
    viral events replay --ignored customer.tax_id.created
    """
    if sum((bool(event_ids), parked is not None, ignored is not None)) != 1:
        raise typer.BadParameter("name events by their ids, or --parked REASON, or --ignored TYPE: one of the three")
    reason = "" if parked == "any" else parked
    with session() as current:
        replayed = events.replay(current, event_ids or (), parked=reason, ignored=ignored, limit=limit)
    nothing = "No event is parked for that." if ignored is None else "No event that is still kept was ignored for that."
    show([vars(each) for each in replayed], REPLAYED, as_json=as_json, nothing=nothing)


@app.command("show")
def show_event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Our id, or the sender's (evt_…, msg_…).")],
    as_json: AsJson = False,
) -> None:
    """Show one event: what it said, and what became of it."""
    with for_system() as tx:
        row = events.find(tx, event_id)
    body = row.pop("body")
    if as_json:
        print_json(row)
        return
    payload = row.pop("payload")
    show_one(row | {"body": f"{len(body)} bytes as signed" if body else "not kept"}, as_json=False)
    if row["dropped_at"] is None:
        console().print("\npayload", style="bold")
        console().print(lines(json.dumps(payload, indent=2, ensure_ascii=False)))
