"""Jobs that use the database in every way that a handler can. Each marks its end once."""

from datetime import timedelta
from time import sleep
from uuid import UUID

from domain.errors import Rejected
from domain.queue.rate import Rate
from tests.chaos.jobs.slow import mark
from workers.engine.job import Batch, Context, FailedJob, Tx, job

PLENTY = Rate(timedelta(milliseconds=1), burst=1000)


def outside(key: str) -> str:
    """Somebody outside takes a moment, with no transaction open."""
    sleep(0.02)
    return key


@job("chaos.stepping", system=True, queue="llm")
def stepping(ctx: Context, name: str) -> None:
    ctx.draw("chaos", PLENTY)
    for step in ("ask", "ask again"):
        ctx.step(step, outside)
    ctx.check()
    with ctx.finish() as tx:
        mark(tx, name)


@job("chaos.chunked", system=True, ordering="key")
def chunked(ctx: Context, name: str, key: str) -> None:
    for _ in range(3):
        with ctx.begin() as tx:
            tx.jobs.due_now(1)
            tx.billing.tenants_of_customers()
    with ctx.finish() as tx:
        mark(tx, name)


def mark_many(batch: Batch) -> None:
    for each in batch.jobs:
        mark(batch.tx, each.arguments["name"])


@job("chaos.shared", system=True, many=mark_many)
def shared(ctx: Context, name: str) -> None:
    with ctx.finish() as tx:
        mark(tx, name)


@job("chaos.nothing", system=True)
def nothing(ctx: Context) -> None:
    """Its completion is merged with others'."""
    with ctx.finish():
        pass


@job("chaos.branching", system=True, queue="media")
def branching(ctx: Context, name: str) -> None:
    """Enqueues two jobs as it finishes."""
    with ctx.finish() as tx:
        mark(tx, name)
        for n in range(2):
            shared.enqueue(tx, name=f"{name}/{n}")


@job("chaos.snoozing", system=True, queue="social")
def snoozing(ctx: Context, name: str) -> None:
    if not ctx.job.snoozes:
        ctx.snooze(timedelta(milliseconds=100), "the first time")
    with ctx.finish() as tx:
        mark(tx, name)


def mark_failure(tx: Tx, failed: FailedJob) -> None:
    mark(tx, failed.arguments["name"])


@job("chaos.refused", system=True, on_failure=mark_failure)
def refused(ctx: Context, name: str) -> None:
    with ctx.begin() as tx:
        tx.jobs.due_now(1)
    raise Rejected("never again")


@job("chaos.buying", queue="llm")
def buying(ctx: Context, tenant_id: UUID) -> None:
    with ctx.begin() as tx:
        tx.quota.hold(tenant_id, ctx.job.id, 1, ctx.now())
    ctx.step("buy", outside)
    with ctx.finish() as tx:
        tx.quota.settle(tenant_id, ctx.job.id, 1)
