"""A new month of concepts begins."""

from domain.quota import reset
from workers.job import Context, job

TENANTS_PER_TRANSACTION = 500


@job("quota.reset_due", system=True)
def reset_due(ctx: Context) -> None:
    """Begin the period that contains now for every tenant that is due, however long nobody asked.

    It asks who is due, so running it again, late or twice changes nothing. Each chunk is a commit of its own: tenants
    in use are waited for by the next chunk or the next hour, and a crash loses no chunk.
    """
    while True:
        with ctx.begin() as tx:
            now = ctx.now()
            due = tx.tenants.lock_due(now, TENANTS_PER_TRANSACTION)
            resets = [(tenant_id, quota, reset(quota, now)) for tenant_id, quota in due]
            tx.tenants.save_resets(resets)
            tx.tenants.record("reset", f"job:{ctx.job.id}", resets)
        ctx.count(reset=len(resets))
        if len(due) < TENANTS_PER_TRANSACTION:
            break
    with ctx.finish():
        pass
