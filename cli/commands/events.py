"""`viral events`"""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.arguments import moment
from cli.output import AsJson, Limit, console, lines, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.errors import EventDropped, UnknownEvent
from domain.events.outcomes import Ignored, Status

if TYPE_CHECKING:
    from db.events.store import Replayable
    from db.transaction import Tx
    from workers.app import App

app = Group()

SOURCES = ("stripe", "clerk")
STATUSES = tuple(dict.fromkeys(status.kind for status in Status))
APPLIED_BY = {"stripe": "billing.apply_stripe_event", "clerk": "identity.apply_clerk_event"}
COLUMNS = ("id", "source", "type", "status", "flag", "external_id", "subject", "received_at")
WHY = ("id", "source", "type", "status", "flag", "detail", "external_id", "received_at")


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
    """The newest events first."""
    from db.transaction import SYSTEM

    if source is not None and source not in SOURCES:
        raise typer.BadParameter(f"no such source; there are {', '.join(SOURCES)}", param_hint="--source")
    if status is not None and status not in (*STATUSES, *Status):
        alike = [each for each in Status if each.kind == status.partition(":")[0]]
        known = alike if len(alike) > 1 else STATUSES
        raise typer.BadParameter(f"no such status; there are {', '.join(known)}", param_hint="--status")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.events.recent(source=source, type=event_type, status=status, flagged=flagged, limit=limit)
    explained = flagged or (status is not None and status.startswith(("ignored", "parked")))
    show(rows, WHY if explained else COLUMNS, as_json=as_json, nothing="No events.")


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
    ignored: Annotated[
        str | None, typer.Option(metavar="TYPE", help="All that were ignored because of this type.")
    ] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Apply stored events again. Of an event that is applied already this changes nothing.

    What an event said is kept for a while only (see docs/deploying.md); then it cannot be replayed.

    \b
    viral events replay evt_1PqXyz
    viral events replay --parked unknown_price
    viral events replay --ignored customer.tax_id.created
    """
    from db.transaction import SYSTEM

    if sum((bool(event_ids), parked is not None, ignored is not None)) != 1:
        raise typer.BadParameter("name events by their ids, or --parked REASON, or --ignored TYPE: one of the three")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        if parked is not None:
            found = tx.events.parked("" if parked == "any" else parked, limit)
        elif ignored is not None:
            found = tx.events.ignored(ignored, limit)
        else:
            found = sorted({_known(tx, name) for name in event_ids or ()})  # in the order in which all enqueue them
        rows = [_replayed(current, tx, event) for event in found]
    nothing = "No event is parked for that." if ignored is None else "No event that is still kept was ignored for that."
    show(rows, ("event_id", "source", "job_id"), as_json=as_json, nothing=nothing)


def _known(tx: "Tx", name: str) -> "Replayable":
    from db.events.store import Replayable

    row = tx.events.find(name)
    if row is None:
        raise UnknownEvent(f"no event has the id {name}; nothing was replayed")
    if row["dropped_at"] is not None:
        raise EventDropped(name, row["dropped_at"])
    return Replayable(row["id"], row["source"], row["type"])


def _replayed(current: "App", tx: "Tx", event: "Replayable") -> dict[str, Any]:
    from web.webhooks import TRIAGE

    job, found = current.job_types[APPLIED_BY[event.source]], TRIAGE[event.source](event.type)
    job = job if isinstance(found, Ignored) else job.with_options(priority=found)
    job_id = job.enqueue_payload(tx, {"event_id": str(event.id)})
    return {"event_id": event.id, "source": event.source, "job_id": job_id}


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
    if row["status"] == Status.IGNORED_TYPE and row["detail"] is None:
        row["detail"] = _why_ignored(row["source"], row["type"])
    body: Any = row.pop("body")
    if as_json:
        print_json(row)
        return
    payload = row.pop("payload")
    show_one(row | {"body": f"{len(body)} bytes as signed" if body else "not kept"}, as_json=False)
    if row["dropped_at"] is not None:
        return
    console().print("\npayload", style="bold")
    console().print(lines(json.dumps(payload, indent=2, ensure_ascii=False)))


def _why_ignored(source: str, kind: str) -> str | None:
    from web.webhooks import TRIAGE

    found = TRIAGE[source](kind) if source in TRIAGE else None
    return found.detail if isinstance(found, Ignored) else None
