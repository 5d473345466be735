"""Jobs enqueued a second, by one thread: each in a transaction of its own, and in bulk."""

import time

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from benchmarks.plan import Plan
from benchmarks.servers import BenchError
from benchmarks.systems import OURS, System


def measure(plan: Plan) -> None:
    for _ in plan.rounds():
        for system in plan.systems():
            with plan.turn_of(system.name):
                enqueue(plan, system, "single", max(1000, round(plan.sizes.jobs / 4 * system.kind.share)))
                if system.kind.bulk:
                    enqueue(plan, system, "bulk", plan.sizes.jobs)
                if system.kind is OURS:
                    plan.report.add("enqueue-bulk", "copy", plan.sizes.jobs / copied(plan, system))


def enqueue(plan: Plan, system: System, how: str, jobs: int) -> None:
    system.fresh()
    plan.settle()
    seconds = system.fill(jobs, how)
    with system.connect() as connection:
        if system.kind.left is not None and system.left(connection, jobs) != jobs:
            raise BenchError(f"{system.name} enqueued other than {jobs} jobs")
    plan.report.add(f"enqueue-{how}", system.name, jobs / seconds)


def copied(plan: Plan, system: System) -> float:
    """Seconds that COPY takes for the very rows which the bulk enqueue has left, into a fresh table like theirs."""
    with system.connect() as connection:
        cursor = connection.execute("SELECT * FROM job_queue")
        rows = cursor.fetchall()
        named = [column.name for column in cursor.description or ()]
    # A column that is empty in every row need not be sent: its default is the same.
    sent = [n for n in range(len(named)) if any(row[n] is not None for row in rows)]
    values = [[Jsonb(row[n]) if isinstance(row[n], dict) else row[n] for n in sent] for row in rows]
    columns = SQL(", ").join(Identifier(named[n]) for n in sent)
    system.fresh()
    plan.settle()
    with psycopg.connect(system.urls.owner) as connection:
        # Postgres refuses COPY to whom row-level security binds; the table is this measure's own.
        connection.execute("ALTER TABLE job_queue NO FORCE ROW LEVEL SECURITY")
        connection.commit()
        began = time.perf_counter()
        with connection.cursor().copy(SQL("COPY job_queue ({}) FROM STDIN").format(columns)) as copy:
            for row in values:
                copy.write_row(row)
        connection.commit()
        return time.perf_counter() - began
