"""A job that pays as real ones do: hold, work with no transaction open, settle with what was made."""

from pathlib import Path
from uuid import UUID

from tests.chaos.jobs.slow import wait_for
from workers.engine.job import Context, job


@job("chaos.paid")
def paid(ctx: Context, tenant_id: UUID, folder: str, count: int) -> None:
    with ctx.begin() as tx:
        tx.quota.hold(tenant_id, ctx.job.id, count, ctx.now())
    here = Path(folder)
    (here / f"held.{ctx.job.attempt}").touch()
    wait_for(here / "go")
    with ctx.finish() as tx:
        tx.quota.settle(tenant_id, ctx.job.id, count - 1)
        (here / f"settled.{ctx.job.attempt}").touch()
        wait_for(here / "commit")
