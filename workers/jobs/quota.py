"""A new month of concepts begins."""

from workers.engine.job import Context, job

TENANTS_PER_TRANSACTION = 1000


@job("quota.reset_due", system=True)
def reset_due(ctx: Context) -> None:
    """Begin the period that contains now for every tenant that is due, however long nobody asked.

    It asks who is due, so running it again, late or twice changes nothing. Each chunk is a commit of its own, short
    enough that nobody who consumes meanwhile waits long: tenants in use are left to the next chunk or the next hour.
    None waits for the disk: whom a crash of the server makes due again is found again.
    """
    reset = TENANTS_PER_TRANSACTION
    while reset == TENANTS_PER_TRANSACTION:
        with ctx.begin(durable=False) as tx:
            reset = tx.quota.reset_due(ctx.now(), TENANTS_PER_TRANSACTION, f"job:{ctx.job.id}")
        ctx.count(reset=reset)
    with ctx.finish():
        pass
