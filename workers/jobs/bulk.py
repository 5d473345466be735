"""An operator's action on many things, some at a time; how far it is stands in its items (docs/decisions/0057)."""

from datetime import timedelta
from uuid import UUID

from domain.errors import NotSetUp
from workers.engine.job import Context, FailedJob, Tx, job


def give_up(tx: Tx, failed: FailedJob) -> None:
    """A bulk action that nobody works on any more has ended, with what was done by then."""
    bulk_id = UUID(str(failed.arguments["bulk_id"]))
    tx.actions.cancel(bulk_id, f"job:{failed.id}")
    tx.actions.end_bulk(bulk_id, "failed", f"its job {failed.id} ended; what it had not come to is as it was")


@job(
    "ops.bulk",
    system=True,
    unique=("bulk_id",),
    priority=3,
    max_attempts=10,
    timeout=timedelta(hours=1),
    on_failure=give_up,
)
def act_on_many(ctx: Context, bulk_id: UUID) -> None:
    """Act on all items of a bulk action that nothing has become of yet, in their order."""
    many = ctx.ports.many
    if many is None:
        raise NotSetUp("this process performs no actions of operators")
    while many.act(bulk_id, ctx.now()):
        ctx.check()
    with ctx.finish():
        pass
