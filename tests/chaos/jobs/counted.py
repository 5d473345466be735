"""Jobs whose effects are counted: each is one row of a ledger that has no unique constraint, so that one too many
would show."""

import os
import signal
from pathlib import Path
from time import sleep
from uuid import UUID

from db.transaction import Tx
from tests.chaos import crash_points
from tests.chaos.jobs.slow import wait_for
from workers.engine.job import Batch, BatchJob, Context, job


@job("chaos.effect", system=True, max_attempts=20)
def effect(ctx: Context, name: str, ms: int = 0) -> None:
    work(ctx, name, ms)


def note_many(batch: Batch) -> None:
    for each in batch.jobs:
        crash_points.reach("in_handler", each)
        note(batch.tx, each, each.arguments["name"])
    for each in batch.jobs:
        crash_points.reach("effects_written", each)
        crash_points.reach_commit(each, "commit_sent", "commit_answer_lost")


@job("chaos.grouped", system=True, many=note_many, max_attempts=20)
def grouped(ctx: Context, name: str) -> None:
    """Its commit is that of many."""
    crash_points.reach("in_handler", ctx)
    with ctx.finish() as tx:
        note(tx, ctx, name)


@job("chaos.alone", system=True, queue="llm", max_attempts=20)
def alone(ctx: Context, name: str, ms: int = 0) -> None:
    """On a queue whose jobs are claimed one by one."""
    work(ctx, name, ms)


@job("chaos.tenant", max_attempts=20)
def of_tenant(ctx: Context, tenant_id: UUID, name: str, ms: int = 0) -> None:
    work(ctx, name, ms)


def work(ctx: Context, name: str, ms: int) -> None:
    crash_points.reach("in_handler", ctx)
    sleep(ms / 1000)
    with ctx.finish() as tx:
        note(tx, ctx, name)
        crash_points.reach("effects_written", ctx)
        crash_points.reach_commit(ctx, "commit_sent", "commit_answer_lost")


@job("chaos.parent", system=True, queue="llm", max_attempts=20)
def parent(ctx: Context, name: str) -> None:
    """Enqueues another: its commit is an enqueuer's commit too."""
    with ctx.finish() as tx:
        note(tx, ctx, name)
        alone.enqueue(tx, name=f"{name}/child")
        crash_points.reach_commit(ctx, "before_enqueue_commit", "committed_not_notified")


@job("chaos.hold", system=True, queue="llm", max_attempts=20)
def hold(ctx: Context, folder: str, name: str, how: str) -> None:
    """The first attempt that comes so far stands still until the harness lets it go: before its effects, with them
    written and not committed, or with no effects in the database at all."""
    here = Path(folder)
    held = here / f"{name}.held"
    if how != "written" and is_first_at(held):
        wait_for(here / "go", seconds=120)
    with ctx.finish() as tx:
        if how == "nothing":
            return
        note(tx, ctx, name)
        if how == "written" and is_first_at(held):
            wait_for(here / "go", seconds=120)


def is_first_at(mark: Path) -> bool:
    """Whether no other attempt was there; on a busy machine a short lease can run out on the way."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@job("chaos.deadly", system=True, max_attempts=20)
def deadly(ctx: Context, way: str) -> None:
    """Takes its process down, as a leak or a broken C library would."""
    if way == "exit":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)


def note(tx: Tx, ctx: Context | BatchJob, name: str) -> None:
    tx.driver.execute(
        "INSERT INTO chaos_ledger (job_id, attempt, name, pid) VALUES (%s, %s, %s, %s)",
        (ctx.job.id, ctx.job.attempt, name, os.getpid()),
    )
