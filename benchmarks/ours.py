"""Our own system, driven like a peer (see `benchmarks/peers/driving.py`): `python -m benchmarks.ours fill 2000 bulk`.

DATABASE_URL is the engine's role, DIRECT_URL the owner; BENCH_JOB names the job type that `fill` enqueues.
"""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import worker
from benchmarks.jobs import bench
from benchmarks.peers.driving import drive, paced, parts, timed
from db import migrate
from db.transaction import SYSTEM, Tx
from workers.app import App, build
from workers.job import JobType
from workers.settings import load

LEFT = """
SELECT (SELECT count(*) FROM job_queue WHERE status = 'pending')
     + (SELECT count(*) FROM job_queue WHERE status = 'running')
"""
"""How many jobs are not finished: one index for each half, however many rows of history there are."""

DONE = "SELECT count(*) FROM job_queue WHERE job_type LIKE 'bench.%' AND status = 'completed' AND attempts = 1"
"""How many have completed at their first attempt; wherever finished jobs are kept."""

EFFECTS = "SELECT count(*) FROM system_metrics WHERE name = 'bench'"


def enqueue_many(tx: Tx, job_type: JobType[Any], arguments: Sequence[dict[str, Any]]) -> None:
    """In bulk, if the engine knows how."""
    if (in_bulk := getattr(job_type, "enqueue_many", None)) is not None:
        in_bulk(tx, arguments)
        return
    for each in arguments:
        job_type.enqueue(tx, **each)


@contextmanager
def producer() -> Any:
    app = build(load(), name="bench producer")
    try:
        with app.db.transaction(SYSTEM) as tx:
            tx.now()
        yield app
    finally:
        app.close()


def setup() -> None:
    migrate.upgrade(os.environ["DIRECT_URL"])


def fill(jobs: int, how: str) -> None:
    job_type: JobType[[]] = {"noop": bench.noop, "effect": bench.effect}[os.environ.get("BENCH_JOB", "noop")]

    def bulk(app: App) -> None:
        for part in parts(jobs):
            with app.db.transaction(SYSTEM) as tx:
                enqueue_many(tx, job_type, [{}] * part)

    def single(app: App) -> None:
        for _ in range(jobs):
            with app.db.transaction(SYSTEM) as tx:
                job_type.enqueue(tx)

    with producer() as app:
        timed(lambda: bulk(app) if how == "bulk" else single(app))


def send(pauses: Sequence[float]) -> list[tuple[int, int]]:
    with producer() as app:

        def enqueue(number: int) -> None:
            with app.db.transaction(SYSTEM) as tx:
                bench.stamp.enqueue(tx, number)

        return paced(pauses, enqueue)


def work(purpose: str) -> None:
    arguments, environment = worker.dyno()
    os.execve(arguments[0], arguments, os.environ | environment)  # noqa: S606 - Dramatiq takes this process over


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)
