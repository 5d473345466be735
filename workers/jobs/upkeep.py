"""Nothing that is finished is kept for ever."""

from datetime import timedelta

from workers.job import Context, job

KEEP_FINISHED_JOBS = timedelta(days=30)
JOBS_PER_TRANSACTION = 1000


@job("upkeep.prune", system=True)
def prune(ctx: Context) -> None:
    """Delete jobs that finished well and are old. Events stay: their ids are what makes a duplicate known."""
    deleted = JOBS_PER_TRANSACTION
    while deleted == JOBS_PER_TRANSACTION:
        with ctx.begin() as tx:
            deleted = tx.jobs.prune(ctx.now() - KEEP_FINISHED_JOBS, JOBS_PER_TRANSACTION)
        ctx.count(deleted=deleted)
    with ctx.finish():
        pass
