"""`viral queues`"""

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from cli.output import AsJson, console, print_json, show
from cli.session import session
from cli.shell import Group
from domain.errors import ViralError
from workers.ops.processes import serving

if TYPE_CHECKING:
    from db.transaction import Tx

app = Group()

COLUMNS = (
    *("queue", "waiting", "scheduled", "running", "oldest_age", "workers"),
    *("paused_at", "max_running", "max_running_per_tenant"),
)
MOST = 1_000_000
DECISIONS = ("queue", "tenant_id", "paused_at", "max_running")

Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="A queue; a wrong one lists them all.")]
Tenant = Annotated[UUID | None, typer.Option("--tenant", metavar="ID", help="Only this tenant's jobs in it.")]


class NotPaused(ViralError):
    """There is nothing to resume."""


@app.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """How much waits and runs, and what was decided of it.

    Waiting jobs are due, scheduled ones are not; `oldest_age` is how long the oldest has been due, and `workers` how
    many live processes work on the queue. Below: what was decided of single tenants.
    """
    from db.transaction import SYSTEM
    from workers.engine.queues import QUEUES

    with session() as current, current.db.transaction(SYSTEM) as tx:
        now, workers = tx.now(), tx.workers.all()
        live = {row["queue"]: row for row in tx.queues.overview()}
        policies = tx.queues.policies()
    own = {row["queue"]: row for row in policies if row["tenant_id"] is None}
    of_tenants = [row for row in policies if row["tenant_id"] is not None]
    rows = []
    for queue in dict.fromkeys([*QUEUES, *sorted(live), *(row["queue"] for row in policies)]):
        found, decided = live.get(queue, {}), own.get(queue, {})
        oldest = found.get("oldest")
        rows.append(
            {
                "queue": queue,
                **{state: found.get(state, 0) for state in ("waiting", "scheduled", "running")},
                "oldest_due": oldest,
                "oldest_age": None if oldest is None else now - oldest,
                "workers": serving(workers, queue),
                **{name: decided.get(name) for name in ("paused_at", "max_running", "max_running_per_tenant")},
                "tenants": [{name: row[name] for name in DECISIONS[1:]} for row in of_tenants if row["queue"] == queue],
            }
        )
    if as_json:
        print_json(rows)
        return
    show(rows, COLUMNS, as_json=False, nothing="")
    if of_tenants:
        console().print("\nDecided of single tenants", style="bold")
        show(of_tenants, DECISIONS, as_json=False, nothing="")


@app.command()
def pause(queue: Queue, tenant: Tenant = None) -> None:
    """Let no further job of a queue begin.

    Those that run go on, and new ones are taken in. With --tenant: only for this tenant's jobs.
    """
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        _check(tx, queue, tenant)
        before = _decided(tx, queue, tenant).get("paused_at")
        tx.queues.pause(queue, tenant)
    undo = f"viral queues resume {queue}" + (f" --tenant {tenant}" if tenant else "")
    since = "is paused" if before is None else "has been paused already"
    console().print(f"{_place(queue, tenant)} {since}; what runs goes on. To undo it: `{undo}`")


@app.command()
def resume(queue: Queue, tenant: Tenant = None) -> None:
    """Let the jobs of a paused queue begin again."""
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        _check(tx, queue, tenant)
        resumed = tx.queues.resume(queue, tenant)
        paused_still = tenant is not None and _decided(tx, queue, None).get("paused_at") is not None
    if not resumed:
        raise NotPaused(f"{_place(queue, tenant)} is not paused; `viral queues list` shows what is")
    but = f", but the whole queue is paused: `viral queues resume {queue}`" if paused_still else ""
    console().print(f"{_place(queue, tenant)} goes on{but}")


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
) -> None:
    """Bound how many jobs of a queue run at once.

    A limit that is not named stays as it is. A tenant's own one replaces what --per-tenant says. What runs above a new
    limit runs on.

    \b
    viral queues limit llm --running 8 --per-tenant 2
    viral queues limit llm --tenant ID --running 4
    viral queues limit llm --none
    """
    from db.transaction import SYSTEM

    if none == (running is not None or per_tenant is not None):
        raise typer.BadParameter(
            "give the first, the second or both; or the third", param_hint="--running, --per-tenant, --none"
        )
    if tenant is not None and per_tenant is not None:
        raise typer.BadParameter("a tenant's own limit is --running", param_hint="--per-tenant")
    with session() as current, current.db.transaction(SYSTEM) as tx:
        _check(tx, queue, tenant)
        before = {} if none else _decided(tx, queue, tenant)
        limits = {
            "max_running": before.get("max_running") if running is None else running,
            "per_tenant": before.get("max_running_per_tenant") if per_tenant is None else per_tenant,
        }
        tx.queues.limit(queue, tenant, **limits)
    said = {"max_running": "at most {} at once", "per_tenant": "at most {} of each tenant"}
    bounds = [said[name].format(count) for name, count in limits.items() if count is not None]
    console().print(f"{_place(queue, tenant)}: {', '.join(bounds) or 'no limit'}")


def _check(tx: "Tx", queue: str, tenant: UUID | None) -> None:
    """Raises:
    typer.BadParameter: nobody knows the queue.
    UnknownTenant: nobody knows the tenant.
    """
    from workers.engine.queues import QUEUES

    if queue not in QUEUES:
        # Another program may have put a job on a queue of its own.
        named = [row["queue"] for row in (*tx.queues.overview(), *tx.queues.policies())]
        if queue not in named:
            known = ", ".join(dict.fromkeys([*QUEUES, *named]))
            raise typer.BadParameter(f"no such queue; there are {known}", param_hint="QUEUE")
    if tenant is not None:
        tx.tenants.get(tenant)


def _decided(tx: "Tx", queue: str, tenant: UUID | None) -> dict[str, Any]:
    rows = tx.queues.policies()
    return next((row for row in rows if (row["queue"], row["tenant_id"]) == (queue, tenant)), {})


def _place(queue: str, tenant: UUID | None) -> str:
    return queue if tenant is None else f"tenant {tenant} in {queue}"
