"""Our own system, driven like a peer (see `benchmarks/peers/driving.py`): `python -m benchmarks.ours fill 2000 bulk`.

DATABASE_URL is the engine's role, DIRECT_URL the owner; BENCH_JOB names the job type that `fill` enqueues.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks import worker
from benchmarks.jobs import bench, drawing
from benchmarks.peers.driving import drive, paced, parts, timed
from db.migrate import upgrade as migrate
from db.transaction import SYSTEM
from workers.app import App, build
from workers.engine.job import JobType
from workers.settings import load


@contextmanager
def producer() -> Iterator[App]:
    app = build(load(), name="bench producer")
    try:
        with app.db.transaction(SYSTEM) as tx:
            tx.now()
        app.start()
        yield app
    finally:
        app.close()


def setup() -> None:
    migrate.upgrade(os.environ["DIRECT_URL"])


def fill(jobs: int, how: str) -> None:
    job_types: dict[str, JobType[[]]] = {
        "noop": bench.noop,
        "effect": bench.effect,
        "together": bench.together,
        "draw": drawing.draw,
    }
    job_type = job_types[os.environ.get("BENCH_JOB", "noop")]

    def bulk(app: App) -> None:
        for part in parts(jobs):
            with app.db.transaction(SYSTEM) as tx:
                job_type.enqueue_many(tx, [{}] * part)

    def single(app: App) -> None:
        for _ in range(jobs):
            with app.db.transaction(SYSTEM) as tx:
                job_type.enqueue(tx)

    with producer() as app:
        timed(lambda: bulk(app) if how == "bulk" else single(app))


def send(pauses: Sequence[float]) -> list[tuple[int, int]]:
    with producer() as app:

        def enqueue(number: int) -> int:
            with app.db.transaction(SYSTEM) as tx:
                bench.stamp.enqueue(tx, number)
                return time.monotonic_ns()

        return paced(pauses, enqueue, says_when=True)


def work(purpose: str) -> None:
    arguments, environment = worker.dyno()
    os.execve(arguments[0], arguments, os.environ | environment)  # noqa: S606 - Dramatiq takes this process over


if __name__ == "__main__":
    drive(setup=setup, fill=fill, send=send, work=work)
