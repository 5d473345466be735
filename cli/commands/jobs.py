"""`viral jobs`"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.arguments import duration, moment, pairs
from cli.output import AsJson, Limit, console, lines, print_json, show, show_one
from cli.session import rest, session
from cli.shell import Group
from domain.concepts.wording import counted
from domain.errors import UnknownJob
from domain.text.readable import readable
from workers.ops.explain import overtaken

if TYPE_CHECKING:
    from db.transaction import Tx
    from workers.app import App

app = Group()

COLUMNS = ("id", "job_type", "status", "attempts", "tenant_id", "scheduled_for", "completed_at")
SPECIAL = ("ordering_key", "cost", "snoozes")
"""Columns that few jobs use, and those show."""

ORDINARY = {"cost": 1, "payload_version": 1, "snoozes": 0, "crashes": 0, "wake_count": 0}
RETIRED = ("ring_at", "rings", "batch_id", "follows_batch")
"""Columns that only the release before uses."""
FINISHED = ("completed", "failed", "cancelled")
PRUNE = "upkeep.prune"

JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The job's id.")]


@app.command()
def enqueue(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="A job type; a wrong one lists them all.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="The job's arguments.")] = None,
    payload: Annotated[str | None, typer.Option(help="The arguments as a JSON object.")] = None,
    tenant: Annotated[UUID | None, typer.Option(help="The tenant it works for.")] = None,
    at: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Not before this time.")] = None,
    delay: Annotated[
        timedelta | None,
        typer.Option("--in", parser=duration, metavar="DURATION", help="Not before 90s, 10m, 2h, 1d."),
    ] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="Lower runs first; 5 is usual.")] = None,
    key: Annotated[str | None, typer.Option(help="While a job of this key is live, it is this one.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is finished; fail if it failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a job on its queue and print its id.

    \b
    viral jobs enqueue quota.reset_due --wait
    viral jobs enqueue upkeep.prune --at 2026-12-01T03:00Z
    viral jobs enqueue billing.apply_stripe_event event_id=01a20417-5ccc-7850-9558-0a37b805228c
    """
    from db.transaction import SYSTEM

    if at is not None and delay is not None:
        raise typer.BadParameter("give one of them, not both", param_hint="--at and --in")
    given = pairs(arguments or [], payload)
    with session() as current:
        declared = current.job_types.get(job_type)
        if declared is None:
            known = "\n  ".join(sorted(current.job_types))
            raise typer.BadParameter(f"there is no {job_type!r}; these are known:\n  {known}", param_hint="TYPE")
        if tenant is not None:
            if "tenant_id" not in declared.parameters:
                raise typer.BadParameter(f"{job_type} works for no tenant; leave it away", param_hint="--tenant")
            given["tenant_id"] = str(tenant)
        whose = declared.validated(given).get("tenant_id")
        options = {"scheduled_for": at, "delay": delay, "priority": priority, "unique_key": key or None}
        options = {name: value for name, value in options.items() if value is not None}
        with current.db.transaction(SYSTEM) as tx:
            if whose is not None:
                tx.tenants.get(UUID(whose))
            job_id = declared.with_options(**options).enqueue_payload(tx, given)  # type: ignore[arg-type]
        _tell(current, job_id, wait=wait, as_json=as_json)


def _tell(current: "App", job_id: UUID, *, wait: bool, as_json: bool) -> None:
    """The id of a job that has just been enqueued; or what became of it, once it is finished."""
    if not wait:
        print_json({"id": job_id}) if as_json else console().print(str(job_id))
        return
    row = _await(current, job_id)
    show_one(row if as_json else _told(row), as_json=as_json)
    if row["status"] != "completed":
        raise typer.Exit(1)


def _await(current: "App", job_id: UUID) -> dict[str, Any]:
    """The job's row once it is finished. What it waits for is a row, so it looks often at first, then less."""
    pause = 0.02
    while True:
        row = _job(current, job_id)
        if row["status"] in FINISHED:
            return row
        rest(pause)
        pause = min(pause * 1.5, 1.0)


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="pending, running, completed, failed or cancelled.")] = None,
    job_type: Annotated[str | None, typer.Option("--type", help="Of this job type.")] = None,
    queue: Annotated[str | None, typer.Option(help="On this queue.")] = None,
    tenant: Annotated[UUID | None, typer.Option(help="Of this tenant.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The newest jobs first."""
    from db.schema.queue import JOB_STATUSES
    from db.transaction import SYSTEM
    from workers.engine.queues import QUEUES

    if status is not None and status not in JOB_STATUSES:
        raise typer.BadParameter(f"no such status; there are {', '.join(JOB_STATUSES)}", param_hint="--status")
    if queue is not None and queue not in QUEUES:
        raise typer.BadParameter(f"no such queue; there are {', '.join(QUEUES)}", param_hint="--queue")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        wanted: dict[str, Any] = {"status": status, "job_type": job_type, "queue": queue, "tenant_id": tenant}
        rows, left_out = tx.jobs.list_recent(**wanted, limit=limit)
    columns = (*COLUMNS, *SPECIAL, "error_message")
    show(rows if as_json else [_told(row) for row in rows], columns, as_json=as_json, nothing="No jobs.")
    if left_out:
        typer.echo(f"The list is large: {counted(left_out, 'older job')} left out.", err=True)


@app.command("show")
def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """One job, and each of its attempts that did not complete."""
    from db.transaction import SYSTEM

    with session() as current:
        row = _job(current, job_id)
        with current.db.transaction(SYSTEM) as tx:
            attempts = row.pop("attempt_history", None) or tx.jobs.attempts(job_id)
    if as_json:
        print_json(row | {"attempt_history": attempts})
        return
    show_one(_told(row), as_json=False)
    if attempts:
        console().print("\nAttempts that did not complete", style="bold")
        columns = ("attempt", "outcome", "started_at", "ended_at", "worker_id", "error_class", "error_message")
        show(attempts, columns, as_json=False, nothing="")
        if attempts[-1]["traceback"]:
            console().print(f"\n{lines(attempts[-1]['traceback'])}")


@app.command()
def explain(job_id: JobId, as_json: AsJson = False) -> None:
    """Why a job is where it is, and what to do about it.

    A reason a line. How many jobs are ahead of it is an estimate: as if none began, ended or came in meanwhile.
    """
    from db.transaction import SYSTEM
    from workers.ops.explain import gather, reasons
    from workers.ops.redis_health import unheard

    with session() as current:
        known = {name: declared.payload_version for name, declared in current.job_types.items()}
        redis = unheard(current.notifier.probe)
        with current.db.transaction(SYSTEM) as tx:
            facts = gather(tx, job_id, version=current.version, known=known, redis=redis)
    if facts is None:
        raise _unknown(job_id)
    found, job = reasons(facts), facts.job
    if as_json:
        about = {name: job[name] for name in ("id", "job_type", "queue", "tenant_id", "status")}
        print_json(about | {"at": facts.now, "reasons": [vars(reason) for reason in found]})
        return
    width = max(len(reason.code) for reason in found)
    console().print(f"{readable(job['job_type'])} on {readable(job['queue'])}: {job['status']}")
    for reason in found:
        advice = f" — {reason.advice}" if reason.advice else ""
        console().print(f"{reason.code:<{width}}  {reason.says}{advice}")


@app.command()
def prune(
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="DURATION", help="90d, 2w. Default: what the job type keeps."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is finished; fail if it failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Archive old finished jobs now: a job of upkeep.prune."""
    from db.transaction import SYSTEM

    with session() as current:
        declared = current.job_types[PRUNE]
        given = {} if older_than is None else {"older_than": older_than}
        with current.db.transaction(SYSTEM) as tx:
            job_id = declared.enqueue_payload(tx, given)
        _tell(current, job_id, wait=wait, as_json=as_json)


@app.command()
def retry(job_ids: Annotated[list[UUID], typer.Argument(metavar="ID", help="Failed or cancelled jobs.")]) -> None:
    """Make failed or cancelled jobs due now, with one more attempt.

    Those of one ordering key run in the order of their ids, in whichever order they are named.
    """
    from db.transaction import SYSTEM

    outcomes: dict[UUID, tuple[bool, str]] = {}
    # One transaction: none of them may begin before all are due.
    with session() as current, current.db.transaction(SYSTEM) as tx:
        for job_id in sorted(set(job_ids)):
            outcomes[job_id] = _retried(tx, job_id)
    for job_id in dict.fromkeys(job_ids):
        console().print(f"{job_id}  {outcomes[job_id][1]}")
    if not all(done for done, _ in outcomes.values()):
        raise typer.Exit(1)


def _retried(tx: "Tx", job_id: UUID) -> tuple[bool, str]:
    """Whether the job is due again, and a sentence that says so, or why not."""
    from psycopg.errors import UniqueViolation

    from db.transaction import SYSTEM

    row = tx.jobs.get(job_id) or tx.archive.get(job_id)
    if row is None:
        return False, "there is no such job"
    try:
        with tx.savepoint(SYSTEM):
            done = tx.transitions.retry(job_id)
    except UniqueViolation:
        twin = tx.jobs.live_twin(row["job_type"], row["tenant_id"], row["unique_key"])
        return False, f"the job {twin} of the same key is live; it does the same work"
    if not done:
        return False, f"it is {_state(row)}, and only a failed or cancelled job can be"
    return True, "; ".join(["due again", *(reason.says for reason in overtaken(tx.explain.overtaken_by(row)))])


@app.command()
def cancel(job_ids: Annotated[list[UUID], typer.Argument(metavar="ID", help="Pending or running jobs.")]) -> None:
    """Take pending jobs off their queue, ask running ones to stop."""
    from workers.engine.outcomes import cancel as cancel_job

    answers = {"cancelled": "cancelled", "running": "asked to stop; it does when its handler next looks up"}
    _each(
        job_ids,
        lambda app, tx, job_id: answers.get(cancel_job(tx, app.job_types, job_id) or ""),
        only="a pending or running job",
    )


def _each(job_ids: Sequence[UUID], act: "Callable[[App, Tx, UUID], str | None]", *, only: str) -> None:
    """Act on every job, each on its own; say of each what became of it, and fail if any was not in the right state."""
    from db.transaction import SYSTEM

    refused = 0
    with session() as current:
        for job_id in job_ids:
            try:
                with current.db.transaction(SYSTEM) as tx:
                    done = act(current, tx, job_id)
                row = _job(current, job_id)
                outcome = done or f"it is {_state(row)}, and only {only} can be"
            except UnknownJob:
                done, outcome = None, "there is no such job"
            refused += done is None
            console().print(f"{job_id}  {outcome}")
    if refused:
        raise typer.Exit(1)


def _job(current: "App", job_id: UUID) -> dict[str, Any]:
    from db.transaction import SYSTEM

    with current.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id) or tx.archive.get(job_id)
    if row is None:
        raise _unknown(job_id)
    return row


def _state(row: Mapping[str, Any]) -> str:
    return "archived" if "archived" in row else str(row["status"])


def _unknown(job_id: UUID) -> UnknownJob:
    return UnknownJob(f"no job has the id {job_id}; `viral jobs list` shows the newest")


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, without what is as with every other job."""
    return {
        name: None if name in RETIRED or (name in ORDINARY and ORDINARY[name] == value) else value
        for name, value in row.items()
    }
