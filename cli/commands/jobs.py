"""`viral jobs`"""

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason, Yes, act_on_some, check_known
from cli.arguments import among, duration, moment, one_of, pairs
from cli.commands.filters import OF_JOBS, After, Filters, filtered, job_types, jobs_of, say_further
from cli.output import AsJson, Limit, console, print_json, progress, show, show_one
from cli.session import interruptible_sleep, session
from cli.shell import Group
from db.schema.queue import JOB_STATUSES
from domain.queue.job_filters import JobFilter
from domain.text.readable import lines, plain, readable, shortened
from domain.text.visible import visible_json
from workers.app import App
from workers.engine.queues import QUEUES
from workers.ops import explain as explanations
from workers.ops import jobs
from workers.ops import lineage as lineages
from workers.ops.job_lists import job_list
from workers.ops.tail import JobEvent, Tail, TailFilter, follow

app = Group()

COLUMNS = ("id", "job_type", "status", "attempts", "tenant_id", "scheduled_for", "completed_at")
RARE_COLUMNS = ("ordering_key", "cost", "snoozes", "error_message")
"""Columns that few jobs use; a list has those that some row does use."""

ORDINARY = {"cost": 1, "payload_version": 1, "snoozes": 0, "crashes": 0, "wake_count": 0}
RETIRED = ("ring_at", "rings", "batch_id", "follows_batch")
"""Columns that only the release before uses."""
FINISHED = ("completed", "failed", "cancelled")
ATTEMPTS = ("attempt", "outcome", "started_at", "ended_at", "worker_id", "error_class", "error_message")

JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The job's id.")]
Unmasked = Annotated[
    bool, typer.Option("--unmasked", help="Payload and results as they stand: names, texts and secrets, too.")
]
Status = Annotated[
    str | None,
    typer.Option(
        "--status", metavar="STATUS", help=f"One of {', '.join(JOB_STATUSES)}.", autocompletion=among(JOB_STATUSES)
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is finished; fail if it failed.")]


@app.command()
def enqueue(
    job_type: Annotated[
        str,
        typer.Argument(metavar="TYPE", help="A job type; a wrong one lists them all.", autocompletion=job_types),
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="The job's arguments.")] = None,
    payload: Annotated[str | None, typer.Option(help="The arguments as a JSON object.")] = None,
    tenant: Annotated[UUID | None, typer.Option(help="The tenant it works for.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(parser=moment, metavar="TIME", help="Not before this time, which has to lie ahead."),
    ] = None,
    delay: Annotated[
        timedelta | None,
        typer.Option("--in", parser=duration, metavar="DURATION", help="Not before 90s, 10m, 2h, 1d."),
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="Lower runs first; 5 is usual.")] = None,
    key: Annotated[str | None, typer.Option(help="Enqueue nothing if a live job has this key.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Put a job on its queue and print its id.

    \b
    viral jobs enqueue quota.reset_due --wait
    viral jobs enqueue upkeep.prune --at 2026-12-01T03:00Z
    viral jobs enqueue billing.apply_stripe_event event_id=01a20417-5ccc-7850-9558-0a37b805228c
    """
    if at is not None and delay is not None:
        raise typer.BadParameter("give one of them, not both", param_hint="--at and --in")
    values = pairs(arguments or [], payload)
    with session() as current:
        declared = current.job_types.get(job_type)
        if declared is None:
            names = "\n  ".join(sorted(current.job_types))
            raise typer.BadParameter(f"there is no {job_type!r}; there are:\n  {names}", param_hint="TYPE")
        if tenant is not None:
            if "tenant_id" not in declared.parameters:
                raise typer.BadParameter(f"{job_type} works for no tenant; leave it away", param_hint="--tenant")
            values["tenant_id"] = str(tenant)
        options = {"scheduled_for": at, "delay": delay, "priority": priority, "unique_key": key or None}
        chosen = {name: value for name, value in options.items() if value is not None}
        job_id = jobs.enqueue(current, declared, values, **chosen)
        _print_enqueued(current, job_id, wait=wait, as_json=as_json)


def _print_enqueued(current: App, job_id: UUID, *, wait: bool, as_json: bool) -> None:
    """Print the id of a job that has just been enqueued or, if asked to wait, the job once it is finished."""
    if not wait:
        print_json({"id": job_id}) if as_json else console().print(str(job_id))
        return
    pause = 0.02
    with progress("waiting", as_json=as_json) as step:
        while (row := jobs.shown(current, job_id))["status"] not in FINISHED:
            step(what=row["status"])
            interruptible_sleep(pause)
            pause = min(pause * 1.5, 1.0)
    show_one(row, as_json=as_json, simplified=without_ordinary)
    if row["status"] != "completed":
        raise typer.Exit(1)


@app.command("list")
@filtered(OF_JOBS)
def list_jobs(
    filters: Filters,
    archive: Annotated[
        bool, typer.Option("--archive", help="Those that ended a while ago, and were archived.")
    ] = False,
    after: After = None,
    limit: Limit = 50,
    unmasked: Unmasked = False,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs first.

    Of those that have ended in a status that is asked for, the one that ended last is first. waiting, scheduled and
    backoff are pending ones: due, due later, and due later after an attempt that failed. All filters can be combined;
    where only the newest jobs were looked at, the last line says how to go on.

    \b
    viral jobs list --status failed --queue llm -n 20
    """
    places = {"archive": "yes" if archive else None, "after": after}
    wanted = jobs_of({**filters, **{name: value for name, value in places.items() if value is not None}})
    with session() as current:
        found = job_list(current, wanted, limit=limit, whole=as_json, unmasked=unmasked)
        if not found.rows and found.further is None:
            check_known(current, wanted)
    show(found.rows, (*COLUMNS, *RARE_COLUMNS), as_json=as_json, nothing="No jobs.", simplified=without_ordinary)
    say_further(found.further, found.looked_at, full=len(found.rows) >= limit)


@app.command()
@filtered({"status": Status, **{name: OF_JOBS[name] for name in ("type", "queue", "tenant")}})
def tail(
    filters: Filters,
    failed: Annotated[bool, typer.Option("--failed", help="What failed, whether or not it is tried again.")] = False,
    lasting: Annotated[
        timedelta | None, typer.Option("--for", parser=duration, metavar="DURATION", help="End after 30s, 10m.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Show what begins and ends, until Ctrl-C.

    A line an event: when, what, the job, its type and tenant, how long it ran, and its error. A job that begins and
    ends between two looks (half a second, two on a quiet system) has one line, at its end; `pending` is an attempt that
    ended while its job did not. No end is missed, and none is shown twice. If Postgres goes away it is waited for, and
    what ended meanwhile is shown then.

    \b
    viral jobs tail
    """
    one_of(JOB_STATUSES, filters.get("status"), "--status", "status")
    one_of(QUEUES, filters.get("queue"), "--queue", "queue")
    asked = jobs_of(filters)
    names = job_types()
    if asked.job_type is not None and asked.job_type not in names:  # another program may have it
        typer.echo(f"this release knows no job type {readable(asked.job_type)}; it knows {', '.join(names)}", err=True)
    wanted = TailFilter(asked.state, asked.job_type, asked.queue, asked.tenant_id, failed)
    with session() as current, suppress(KeyboardInterrupt):
        follow(
            Tail(current),
            lambda events: _print_events([event for event in events if wanted.fits(event)], as_json),
            pause=interruptible_sleep,
            say=lambda line: typer.echo(line, err=True),
            lasting=lasting,
        )


def _print_events(events: Iterable[JobEvent], as_json: bool) -> None:
    for event in events:
        if as_json:
            sys.stdout.write(f"{visible_json(json.dumps(plain(event), ensure_ascii=True))}\n")
            continue
        took = "" if event.took is None else f"{event.took.total_seconds():.3f}s"
        words = (event.outcome or "", event.error or "")
        what = f"{event.status:<9}  {event.id}  {readable(event.job_type)}  {readable(event.tenant_id)}  {took:>9}"
        error = "  ".join(shortened(readable(word)) for word in words if word)
        console().print(f"{readable(event.at)}  {what}  {error}".rstrip())
    sys.stdout.flush()


@app.command("show")
def show_job(job_id: JobId, unmasked: Unmasked = False, as_json: AsJson = False) -> None:
    """Show one job, its failed attempts, and what came of it.

    Of its payload and results, only ids, states, times and numbers are shown; all else by its kind and length.

    \b
    viral jobs show ID
    """
    with session() as current:
        row = jobs.shown(current, job_id, attempts=True, unmasked=unmasked)
        found = lineages.of_job(current, job_id)
    if as_json:
        print_json(row | {"lineage": asdict(found)})
        return
    attempts = row.pop("attempt_history")
    show_one(row, as_json=False, simplified=without_ordinary)
    if attempts:
        console().print("\nAttempts that did not complete", style="bold")
        show(attempts, ATTEMPTS, as_json=False, nothing="")
        if attempts[-1]["traceback"]:
            console().print(f"\n{lines(attempts[-1]['traceback'])}")
    console().print("\nLineage", style="bold")
    for line in lineages.lines(found):
        console().print(readable(line))


@app.command()
def explain(job_id: JobId, as_json: AsJson = False) -> None:
    """Say why a job is where it is, and what to do about it.

    A reason a line. How many jobs are ahead of it is an estimate: as if none began, ended or came in meanwhile.

    \b
    viral jobs explain ID
    """
    with session(log_level="ERROR") as current:
        found = explanations.explain(current, job_id)
    job = found.job
    if as_json:
        about = {name: job[name] for name in ("id", "job_type", "queue", "tenant_id", "status")}
        print_json(about | {"at": found.at, "reasons": found.reasons})
        return
    width = max(len(reason.code) for reason in found.reasons)
    console().print(f"{readable(job['job_type'])} on {readable(job['queue'])}: {job['status']}")
    for reason in found.reasons:
        advice = f" — {reason.advice}" if reason.advice else ""
        console().print(f"{reason.code:<{width}}  {reason.says}{advice}")


@app.command()
def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="DURATION", help="90d, 2w. Default: what the job type keeps."),
    ] = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Archive old finished jobs now: a job of upkeep.prune.

    \b
    viral jobs prune
    """
    with session() as current:
        values = {} if older_than is None else {"older_than": older_than}
        job_id = jobs.enqueue(current, current.job_types["upkeep.prune"], values)
        _print_enqueued(current, job_id, wait=wait, as_json=as_json)


@app.command()
@filtered(OF_JOBS)
def retry(
    filters: Filters,
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Failed or cancelled jobs.")] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Make failed or cancelled jobs due now, with one more attempt.

    Those of one ordering key run in the order of their ids, in whichever order they are named. By a filter, it is shown
    how many they are, and asked; exactly those are retried.

    \b
    viral jobs retry 01a20417-5ccc-7850-9558-0a37b805228c
    viral jobs retry --status failed --type posting.publish --since 2h --reason "TikTok is back"
    """
    act_on_some("job.retry", job_ids, _of(filters), reason=reason, yes=yes)


@app.command()
@filtered(OF_JOBS)
def cancel(
    filters: Filters,
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Pending, running or failed jobs.")] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Cancel pending, running and failed jobs.

    Pending ones leave their queue, running ones are asked to stop, failed ones are given up: nobody waits for them.

    \b
    viral jobs cancel 01a20417-5ccc-7850-9558-0a37b805228c
    viral jobs cancel --status waiting --queue llm --reason "a flood by mistake"
    """
    act_on_some("job.cancel", job_ids, _of(filters), reason=reason, yes=yes)


@app.command("run-now")
@filtered(OF_JOBS)
def run_now(
    filters: Filters,
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Pending jobs.")] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Make pending jobs due now, scheduled or in backoff.

    \b
    viral jobs run-now 01a20417-5ccc-7850-9558-0a37b805228c
    viral jobs run-now --status backoff --type billing.apply_stripe_event --reason "Stripe is back"
    """
    act_on_some("job.run_now", job_ids, _of(filters), reason=reason, yes=yes)


@app.command()
@filtered(OF_JOBS)
def prioritize(
    priority: Annotated[int, typer.Argument(metavar="N", min=0, max=100, help="Lower runs first; 5 is usual.")],
    filters: Filters,
    job_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Pending jobs.")] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Change when pending jobs come in their queue.

    \b
    viral jobs prioritize 1 01a20417-5ccc-7850-9558-0a37b805228c
    viral jobs prioritize 50 --status waiting --queue media --reason "the urgent ones first"
    """
    act_on_some("job.prioritize", job_ids, _of(filters), {"priority": priority}, reason=reason, yes=yes)


def _of(filters: Filters) -> JobFilter | None:
    return jobs_of(filters) if filters else None


def without_ordinary(row: Mapping[str, Any]) -> dict[str, Any]:
    """Blank the columns that have their ordinary value, or none that this release knows."""
    return {
        name: None if name in RETIRED or (name in ORDINARY and ORDINARY[name] == value) else value
        for name, value in row.items()
    }
