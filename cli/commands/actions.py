"""`viral actions`"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import me
from cli.arguments import among, one_of
from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.ops.action_list import ACTIONS
from domain.ops.actions import target as read_target
from workers.ops import actions, bulk

app = Group()

COLUMNS = ("id", "at", "who", "action", "target", "outcome", "reason", "says")
REFUSED = ("target", "outcome", "says")

ActionId = Annotated[UUID, typer.Argument(metavar="ID", help="An action's id, or a bulk action's.")]


@app.command("list")
def list_actions(
    target: Annotated[str | None, typer.Option(help="Done to this: job:ID, queue:NAME, tenant:ID, ….")] = None,
    who: Annotated[str | None, typer.Option(help="Done by them: person:ada, operator:ops.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only these: job.retry, queue.pause, ….", autocompletion=among(ACTIONS))
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List who did what, and why, newest first.

    One that stays `begun` was cut short: what became of it is seen at its target.

    \b
    viral actions list --who person:ada
    viral actions list --target queue:llm
    """
    with session() as current:
        of = None if target is None else read_target(target)
        rows = actions.audit(current, target=of, who=who, action=action, limit=limit)
    if not rows:
        one_of(ACTIONS, action, "--action", "action")
    show(rows, COLUMNS, as_json=as_json, nothing="Nobody has done anything yet.")


@app.command("show")
def show_action(action_id: ActionId, as_json: AsJson = False) -> None:
    """Show an action; of one on many things how far it is.

    \b
    viral actions show 01a20417-5ccc-7850-9558-0a37b805228c
    """
    with session() as current:
        row = actions.find_action(current, action_id)
        found = None if row is not None and row["bulk_id"] is None else bulk.bulk(current, _bulk_id(row, action_id))
    if found is None:
        show_one(row or {}, as_json=as_json)
        return
    values = {name: getattr(found, name) for name in ("id", "at", "who", "reason", "state", "items", "counts")}
    values |= {"action": found.action.name, "shell": found.shell, "started_at": found.started_at}
    values |= {"ended_at": found.ended_at, "cancelled_by": found.cancelled_by, "job_id": found.job_id}
    if as_json:
        print_json(values | {"chosen": found.chosen, "refused": found.refused})
        return
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(found.counts.items()))
    show_one(values | {"counts": counts}, as_json=False)
    if found.refused:
        console().print("\nrefused or failed", style="bold")
        show(found.refused, REFUSED, as_json=False, nothing="")


def _bulk_id(row: Mapping[str, Any] | None, action_id: UUID) -> UUID:
    of_many: UUID | None = None if row is None else row["bulk_id"]
    return action_id if of_many is None else of_many


@app.command("cancel")
def cancel_action(action_id: ActionId) -> None:
    """Stop an action on many things; what was done stays done.

    \b
    viral actions cancel 01a20417-5ccc-7850-9558-0a37b805228c
    """
    with session() as current:
        row = actions.find_action(current, action_id)
        found = bulk.cancel_bulk(current, _bulk_id(row, action_id), who=me())
    console().print(f"{found.id}  {found.state}")
