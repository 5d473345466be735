"""Outgoing webhooks: what tenants' own programs are notified of."""

from datetime import datetime, timedelta
from uuid import UUID

from domain.errors import NotSetUp
from domain.posting.outgoing import judge, message_id
from workers.engine.job import Context, Tx, job

LEASE = timedelta(minutes=10)
"""So long after a delivery was handed to a job another one may send it: longer than one waits and takes."""
CHUNK = 500
CHUNKS = 20


@job("webhooks.due", system=True, timeout=timedelta(minutes=5))
def find_due(ctx: Context) -> None:
    """Enqueue a job for each delivery that is due."""
    ctx.count(deliveries=0)
    for _ in range(CHUNKS):
        with ctx.begin() as tx:
            found = tx.outgoing.claim(now=ctx.now(), lease=LEASE, limit=CHUNK)
            deliver.enqueue_many(
                tx, [{"tenant_id": tenant_id, "delivery_id": delivery_id} for tenant_id, delivery_id in found]
            )
        ctx.count(deliveries=len(found))
        if len(found) < CHUNK:
            break
    with ctx.finish():
        pass


def anything_due(tx: Tx, now: datetime) -> bool:
    """Whether `find_due` may find anything to do."""
    return tx.outgoing.any_due(now)


@job("webhooks.deliver", queue="media", unique=("delivery_id",), timeout=timedelta(minutes=2))
def deliver(ctx: Context, tenant_id: UUID, delivery_id: UUID) -> None:
    """Send one event to one endpoint, once; what follows is a matter of its row. A process that dies after it has sent
    lets it be sent again, with the same id."""
    if ctx.ports.webhooks is None:
        raise NotSetUp("nothing here sends webhooks")
    with ctx.begin() as tx:
        found = tx.outgoing.begin(tenant_id, delivery_id, LEASE)
    if found is None:
        with ctx.finish() as tx:
            tx.outgoing.drop(tenant_id, delivery_id)
        return
    answer = ctx.ports.webhooks.send(
        found["url"],
        found["body"].encode(),
        secret=bytes(found["secret"]),
        message_id=message_id(found["event_id"]),
        at=ctx.now(),
    )
    ctx.report(status=answer.status, error=answer.says)
    verdict = judge(answer, attempts=found["attempts"], failing_since=found["failing_since"], now=ctx.now())
    if not verdict.counted:
        with ctx.finish() as tx:
            tx.outgoing.put_off(tenant_id, delivery_id, found["attempts"], answer.error, verdict.next_at)
        return
    with ctx.finish() as tx:
        # The endpoint before its deliveries, as everybody locks them.
        tx.outgoing.note_taken(tenant_id, found["endpoint_id"], taken=verdict.delivered)
        tx.outgoing.settle(
            tenant_id,
            delivery_id,
            found["attempts"],
            delivered=verdict.delivered,
            status=answer.status,
            error=answer.says,
            next_at=verdict.next_at,
        )
        if verdict.disable is not None:
            tx.outgoing.disable(tenant_id, found["endpoint_id"], verdict.disable)
