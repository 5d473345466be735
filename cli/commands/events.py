"""`viral events`"""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from cli.acting import Reason, Yes, act, act_on_many
from cli.arguments import among, earlier, one_of
from cli.commands.filters import OF_EVENTS, After, Filters, events_of, filtered
from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import for_system, session
from cli.shell import Group
from domain.ops.masking import written
from domain.ops.metrics import PARKED
from domain.text.readable import lines, readable
from workers.ops import events
from workers.ops import lineage as lineages
from workers.ops.event_views import event_list, event_report

app = Group()

COLUMNS = ("id", "source", "type", "status", "flag", "external_id", "subject", "received_at")
DETAILED_COLUMNS = ("id", "source", "type", "status", "flag", "detail", "external_id", "received_at")
OUTCOMES = ("source", "status", "events", "flagged", "duplicates")
REPLAYED = ("event_id", "source", "job_id")
LEDGER = ("at", "kind", "amount", "used_after", "quota_after", "cause")
RELATED = ("happened_at", "type", "status", "external_id", "object_id")


@app.command("list")
@filtered(OF_EVENTS)
def list_events(
    filters: Filters,
    flagged: Annotated[bool, typer.Option("--flagged", help="Only those that a person should look at.")] = False,
    after: After = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest events first.

    All filters can be combined; where only the newest events were looked at, the last lines say how to go on.

    \b
    viral events list --status parked
    """
    if flagged:
        filters = {"flag": "any", **filters}
    wanted = events_of(filters if after is None else {**filters, "after": after})
    with session() as current:
        found = event_list(current, wanted, limit=limit)
    detailed = wanted.flag is not None or (wanted.status or "").startswith(("ignored", "parked"))
    rows = [row | {"became": " ".join(row["became"])} for row in found.rows]
    show(rows, DETAILED_COLUMNS if detailed else COLUMNS, as_json=as_json, nothing="No events.")
    if not as_json:
        for note in found.notes:
            console().print(note)
        if found.further is not None:
            console().print(f"{found.count} match. Older ones: --after {found.further.after}")


@app.command("stats")
def show_outcomes(
    since: Annotated[
        datetime | None, typer.Option(parser=earlier, metavar="TIME", help="Received since then. Default: a day ago.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count events, repeated ones, and what became of them.

    \b
    viral events stats
    """
    with for_system() as tx:
        rows = tx.events.outcomes(since or tx.now() - timedelta(days=1))
    show(rows, OUTCOMES, as_json=as_json, nothing="No events since then.")


@app.command("replay")
@filtered({name: option for name, option in OF_EVENTS.items() if name != "text"})
def replay(
    filters: Filters,
    event_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Our ids, or the senders' (evt_…, msg_…).")
    ] = None,
    parked: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="All that are parked for it: unknown_price, thin, … or any.",
            autocompletion=among((*PARKED, "any")),
        ),
    ] = None,
    ignored: Annotated[
        str | None, typer.Option(metavar="TYPE", help="All that were ignored because of this type.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Apply stored events again; an applied one changes nothing.

    What an event said is kept for a while only (see docs/deploying.md); then it cannot be replayed. By a filter, it is
    shown how many they are, and asked; exactly those are applied again.

    \b
    viral events replay evt_1PqXyz
    viral events replay --parked unknown_price
    viral events replay --ignored customer.tax_id.created
    viral events replay --status failed --source stripe --since 6h --reason "the deploy is undone"
    """
    if sum((bool(event_ids), parked is not None, ignored is not None, bool(filters))) != 1:
        raise typer.BadParameter(
            "name events by their ids, or --parked REASON, or --ignored TYPE, or filters: one of them"
        )
    if filters:
        wanted = events_of(filters)
        with session() as current:
            act_on_many(current, "event.replay", wanted=wanted, reason=reason, yes=yes)
        return
    with session() as current:
        kind = "" if parked == "any" else parked
        found = events.to_replay(current, event_ids or (), parked=kind, ignored=ignored, limit=limit)
        replayed = [
            {"event_id": each.id, "source": each.source, "job_id": done.after["job_id"]}
            for each in found
            for done in [act(current, "event.replay", f"event:{each.id}", reason=reason)]
        ]
    if not found and parked not in (None, "any") and not any(each.startswith(parked or "") for each in PARKED):
        one_of((*PARKED, "any"), parked, "--parked", "reason")
    nothing = "No event is parked for that." if ignored is None else "No event that is still kept was ignored for that."
    show(replayed, REPLAYED, as_json=as_json, nothing=nothing)


@app.command("show")
def show_event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Our id, or the sender's (evt_…, msg_…).")],
    unmasked: Annotated[
        bool, typer.Option("--unmasked", help="What it said as it stands: names and addresses of people, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one event: what it said, what became of it and around it.

    Of what it said, only ids, states, times and money are shown; all else by its kind and length.

    \b
    viral events show ID
    """
    with session() as current:
        report = event_report(current, event_id, unmasked=unmasked)
    row = report.event | {"tenant_id": report.tenant_id, "tenant": report.tenant_name}
    if as_json:
        job = report.job and {
            name: report.job[name] for name in ("id", "status", "attempts", "error_message", "archived")
        }
        parts = {"payload": report.payload, "job": job, "ledger": report.ledger, "related": report.related}
        print_json(row | {"became": report.became} | parts)
        return
    for sentence in report.became:
        console().print(readable(sentence), style="bold")
    job_status = report.job and f"{report.job['status']}{', archived' if report.job['archived'] else ''}"
    body = f"{report.body_bytes} bytes as signed" if report.body_bytes else "not kept"
    show_one(row | {"job": job_status, "body": body}, as_json=False)
    if report.ledger:
        console().print("\nwhat it changed", style="bold")
        show(report.ledger, LEDGER, as_json=False, nothing="")
    if report.lineage.node.children:
        console().print("\nwhat came of it", style="bold")
        for line in lineages.lines(report.lineage):
            console().print(readable(line))
    if len(report.related) > 1:
        console().print("\nand related, in the order in which they occurred", style="bold")
        show(report.related, RELATED, as_json=False, nothing="")
    if report.payload is not None:
        console().print("\npayload", style="bold")
        console().print(lines(written(report.payload)))
