"""`viral queues`"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason, act
from cli.arguments import among, one_of
from cli.output import AsJson, console, print_json, show, show_one
from cli.session import for_system, session
from cli.shell import Group
from domain.errors import ViralError
from domain.ops.actions import Outcome, Performed
from domain.text.readable import readable
from workers.engine.queues import QUEUES
from workers.ops import queues
from workers.ops.queues import QueueOverview

app = Group()

COLUMNS = ("queue", "waiting", "scheduled", "running", "oldest_age", "workers")
RARE_COLUMNS = ("late", "backoff", "next_try", "failed", "paused_at", "max_running", "max_running_per_tenant")
"""Columns that a list has if some queue has a value there."""
SHARES = ("tenant_id", "name", "subscription_tier", "waiting", "running", "oldest")
NEXT_JOBS = ("id", "job_type", "tenant_id", "priority", "scheduled_for")
TENANT_COLUMNS = ("queue", "tenant_id", "paused_at", "max_running")
MOST = 1_000_000

Queue = Annotated[
    str, typer.Argument(metavar="QUEUE", help="A queue; a wrong one lists them all.", autocompletion=among(QUEUES))
]
Tenant = Annotated[UUID | None, typer.Option("--tenant", metavar="ID", help="Only this tenant's jobs in it.")]


class NotPaused(ViralError):
    """There is nothing to resume."""


@app.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Show how much waits and runs, and what was decided of it.

    Waiting jobs are due, scheduled ones are not; `oldest_age` is how long the oldest has been due, and `workers` how
    many live processes work on the queue. `late`: the oldest has been due for longer than this, the queue's target.
    `backoff`: scheduled ones that failed and are tried again, the first of them at `next_try`. Below: what was decided
    of single tenants.

    \b
    viral queues list
    """
    with for_system() as tx:
        found = queues.overview(tx)
    if as_json:
        print_json(found)
        return
    show([_row(each) for each in found], (*COLUMNS, *RARE_COLUMNS), as_json=False, nothing="")
    of_tenants = [{"queue": each.queue, **vars(policy)} for each in found for policy in each.tenants]
    if of_tenants:
        console().print("\nDecided of single tenants", style="bold")
        show(of_tenants, TENANT_COLUMNS, as_json=False, nothing="")


@app.command("show")
def show_queue(queue: Queue, as_json: AsJson = False) -> None:
    """Show one queue: who waits in it, and which jobs are next.

    The next jobs are an estimate: as if none came in, ended or changed meanwhile.

    \b
    viral queues show llm
    """
    with session() as current:
        report = queues.report(current, queue)
    if as_json:
        print_json(report)
        return
    overview = report.overview
    show_one(_row(overview, whole=True), as_json=False)
    console().print("\nTenants with the most due jobs", style="bold")
    shares = [row | {"running": report.running.get(row["tenant_id"], 0)} for row in report.shares]
    show(shares, SHARES, as_json=False, nothing="No job is due and ready.")
    console().print("\nNext in dispatch order (an estimate)", style="bold")
    show(report.next_jobs, NEXT_JOBS, as_json=False, nothing="No job is next.")
    if overview.tenants:
        console().print("\nDecided of single tenants", style="bold")
        show([vars(policy) for policy in overview.tenants], TENANT_COLUMNS, as_json=False, nothing="")


def _row(each: QueueOverview, *, whole: bool = False) -> dict[str, object]:
    """Return what a person reads of a queue: rare numbers only if there are any, unless all of it is wanted."""
    row: dict[str, object] = dict(vars(each))
    del row["tenants"], row["at_least"]
    row |= {name: each.number(name) for name in ("waiting", "scheduled", "running")}
    row |= {name: each.number(name) if row[name] or whole else None for name in ("backoff", "failed")}
    row["late"] = f"over {readable(each.target)}" if each.late else None
    return row


@app.command()
def pause(queue: Queue, tenant: Tenant = None, reason: Reason = None) -> None:
    """Let no further job of a queue begin.

    Those that run go on, and new ones are taken in. With --tenant: only for this tenant's jobs.

    \b
    viral queues pause llm --reason "the provider is down"
    """
    console().print(_act("queue.pause", queue, tenant, reason=reason).says)


@app.command()
def resume(queue: Queue, tenant: Tenant = None, reason: Reason = None) -> None:
    """Let the jobs of a paused queue begin again.

    \b
    viral queues resume llm
    """
    done = _act("queue.resume", queue, tenant, reason=reason)
    if done.outcome is Outcome.UNCHANGED:
        raise NotPaused(done.says)
    console().print(done.says)


@app.command()
def limit(
    queue: Queue,
    running: Annotated[
        int | None, typer.Option("--running", metavar="N", min=1, max=MOST, help="At most so many jobs at once.")
    ] = None,
    per_tenant: Annotated[
        int | None, typer.Option("--per-tenant", metavar="N", min=1, max=MOST, help="At most so many of each tenant.")
    ] = None,
    tenant: Tenant = None,
    none: Annotated[bool, typer.Option("--none", help="Lift the limits.")] = False,
    reason: Reason = None,
) -> None:
    """Bound how many jobs of a queue run at once.

    A limit that is not named stays as it is. A tenant's own one replaces what --per-tenant says. What runs above a new
    limit runs on.

    \b
    viral queues limit llm --running 8 --per-tenant 2
    viral queues limit llm --tenant ID --running 4
    viral queues limit llm --none
    """
    if none == (running is not None or per_tenant is not None):
        raise typer.BadParameter(
            "give the first, the second or both; or the third", param_hint="--running, --per-tenant, --none"
        )
    if tenant is not None and per_tenant is not None:
        raise typer.BadParameter("a tenant's own limit is --running", param_hint="--per-tenant")
    limits = {"running": running, "per_tenant": per_tenant, "none": none}
    console().print(_act("queue.limit", queue, tenant, limits, reason=reason).says)


def _act(
    name: str, queue: str, tenant_id: UUID | None, arguments: Mapping[str, Any] | None = None, *, reason: str | None
) -> Performed:
    """Decide of a queue.

    Raises:
        typer.BadParameter: there is no such queue.
        ActionRefused: there is no such tenant.
    """
    with session() as current:
        one_of(queues.all_names(current, queue), queue, "QUEUE", "queue")
        return act(current, name, f"queue:{queue}" + (f"/{tenant_id}" if tenant_id else ""), arguments, reason=reason)
