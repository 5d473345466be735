"""What a long past does to the present: many finished jobs, and a transaction that keeps the dead ones from vacuum."""

import contextlib
import os
import time
from collections.abc import Iterator
from uuid import uuid4

from benchmarks.engine import HISTORY, claim, complete, enqueue_many
from benchmarks.jobs import bench
from benchmarks.measures.drain import WITHIN
from benchmarks.ours import producer
from benchmarks.peers.driving import parts
from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import until, until_idle
from benchmarks.systems import OURS, System
from db.transaction import SYSTEM
from workers.app import App

FEW = 10_000
"""Rows of history that the growth is held against."""

CLAIMED_AT_ONCE = 20
EVERY = 0.02
"""Seconds between claims: a thousand jobs a second, which the machine can do on the side."""


def add_history(system: System, rows: int, part: int = 500_000) -> None:
    with system.connect() as connection:
        for first in range(1, rows + 1, part):
            connection.execute(HISTORY, {"first": first, "last": min(first + part - 1, rows), "rows": rows})
        connection.execute("VACUUM ANALYZE")


# --- bloat -----------------------------------------------------------------------------------------------


def bloat(plan: Plan) -> None:
    """Milliseconds of a claim beside much history and a transaction so old that nothing dead since could be vacuumed;
    in turn with a quiet database, whose dead are its own affair."""
    quiet = System(OURS, plan.servers, plan.folder, suffix="_quiet")
    full = System(OURS, plan.servers, plan.folder, suffix="_full")
    quiet.fresh()
    full.fresh()
    add_history(full, plan.sizes.bloat_rows)
    with full.connect() as reader, reader.transaction():
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT FROM job_queue LIMIT 1")
        churn(full, plan.sizes.bloat_jobs)
        for _ in plan.rounds():
            for name, system in (("ours", full), ("quiet", quiet)):
                waits = claims(system, plan.sizes.bloat_window)
                for percent in (50, 99):
                    plan.report.add(f"bloat-claim-p{percent}", name, percentile(waits, percent) * 1000)
    plan.servers.drop(full.database)


def churn(system: System, jobs: int) -> None:
    """Enqueue, claim and complete so many jobs, as fast as one thread can: dead rows are made, and nothing measured."""
    worker_id = uuid4()
    with producing(system) as app:
        for part in parts(jobs):
            with app.db.transaction(SYSTEM) as tx:
                job_ids = enqueue_many(tx, bench.noop, [{}] * part)
            with app.db.transaction(SYSTEM) as tx:
                claimed = claim(tx, job_ids, worker_id)
            with app.db.transaction(SYSTEM) as tx:
                complete(tx, claimed)


def claims(system: System, seconds: float) -> list[float]:
    """Enqueue, claim and complete at a steady pace; the seconds that each claim took."""
    took: list[float] = []
    worker_id = uuid4()
    with producing(system) as app:
        began = time.perf_counter()
        for n in range(round(seconds / EVERY)):
            time.sleep(max(0.0, began + n * EVERY - time.perf_counter()))
            with app.db.transaction(SYSTEM) as tx:
                job_ids = enqueue_many(tx, bench.noop, [{}] * CLAIMED_AT_ONCE)
            with app.db.transaction(SYSTEM) as tx:
                tx.now()
                before = time.perf_counter()
                claimed = claim(tx, job_ids, worker_id)
                took.append(time.perf_counter() - before)
            with app.db.transaction(SYSTEM) as tx:
                complete(tx, claimed)
    return took


@contextlib.contextmanager
def producing(system: System) -> Iterator[App]:
    settings = {"DATABASE_URL": system.urls.app, "REDIS_URL": system.urls.redis}
    os.environ |= settings
    try:
        with producer() as app:
            yield app
    finally:
        for name in settings:
            del os.environ[name]


# --- growth ----------------------------------------------------------------------------------------------


def growth(plan: Plan) -> None:
    """Microseconds of processor time that a job costs worker, scheduler and Postgres, from enqueueing to completion,
    with much history and with little."""
    much = System(OURS, plan.servers, plan.folder, suffix="_much")
    little = System(OURS, plan.servers, plan.folder, suffix="_little")
    much.fresh()
    add_history(much, plan.sizes.growth_rows)
    for _ in plan.rounds():
        plan.report.add("growth", "ours", cpu_per_job(plan, much) * 1e6)
        # Anew each time: the jobs of a round would be more history than there was.
        little.fresh()
        add_history(little, FEW)
        plan.report.add("growth", "little", cpu_per_job(plan, little) * 1e6)
    plan.servers.drop(much.database)


def cpu_per_job(plan: Plan, system: System) -> float:
    jobs = plan.sizes.jobs
    plan.servers.redis.flushall()
    with system.connect() as connection, system.working("growth") as processes:

        def used() -> float:
            return sum(each.cpu() for each in processes) + plan.servers.postgres_cpu(connection.info.backend_pid)

        until_idle(processes)
        plan.settle()
        before = used()
        system.fill(jobs, "bulk")
        until(lambda: system.left(connection, jobs) == 0, "the jobs", within=WITHIN, every=0.25)
        return (used() - before) / jobs
