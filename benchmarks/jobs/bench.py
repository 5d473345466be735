"""What is measured when the engine itself is: jobs that do nothing, write one row, note when they started, or wait."""

import time
from uuid import UUID

from benchmarks.peers.driving import started
from workers.engine.job import Batch, Context, job


@job("bench.noop", system=True)
def noop(ctx: Context) -> None:
    with ctx.finish():
        pass


# Each row has a label of its own: two of one microsecond would be one measure's, and the table has each once.
ROW = "INSERT INTO system_metrics (name, value, labels) SELECT 'bench', 1, to_jsonb(id) FROM unnest(%s::uuid[]) AS id"


@job("bench.effect", system=True)
def effect(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.driver.execute(ROW, ([ctx.job.id],))


def effects(batch: Batch) -> None:
    batch.tx.driver.execute(ROW, ([each.job.id for each in batch.jobs],))


@job("bench.together", system=True, many=effects)
def together(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.driver.execute(ROW, ([ctx.job.id],))


@job("bench.stamp", system=True)
def stamp(ctx: Context, number: int) -> None:
    started(number)
    with ctx.finish():
        pass


WAIT = 0.5
"""Seconds."""


@job("bench.wait", queue="llm")
def wait(ctx: Context, tenant_id: UUID, number: int) -> None:
    started(number)
    time.sleep(WAIT)
    with ctx.finish():
        pass
