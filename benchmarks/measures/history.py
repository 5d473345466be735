"""Many finished jobs in the table do not make a new one dearer."""

import contextlib
import os
from collections.abc import Iterator

from benchmarks.measures.drain import WITHIN
from benchmarks.ours import producer
from benchmarks.plan import Plan
from benchmarks.servers import until, until_idle
from benchmarks.systems import OURS, System
from workers.app import App

FEW = 10_000
"""Rows of history that the growth is held against."""

HISTORY = """
INSERT INTO job_queue (id, job_type, status, attempts, created_at, scheduled_for, wake_at, started_at, completed_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       'history.noop', 'completed', 1, at, at, at, at, at + interval '5 milliseconds'
FROM generate_series(%(first)s::bigint, %(last)s) AS n, LATERAL (
    SELECT now() - interval '1 day' + interval '1 day' * (n::float / %(rows)s) AS at
) AS moment
"""
"""Jobs that finished during the last day, with ids that grow with time as ours do."""


def growth(plan: Plan) -> None:
    """Microseconds of processor time that a job costs worker, scheduler and Postgres, from enqueueing to completion,
    with much history and with little."""
    ours = plan.system(OURS)
    much = System(OURS, plan.servers, plan.folder, suffix="_much", like=ours)
    little = System(OURS, plan.servers, plan.folder, suffix="_little", like=ours)
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


def add_history(system: System, rows: int, part: int = 500_000) -> None:
    with system.connect() as connection:
        for first in range(1, rows + 1, part):
            connection.execute(HISTORY, {"first": first, "last": min(first + part - 1, rows), "rows": rows})
        connection.execute("VACUUM ANALYZE")


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
