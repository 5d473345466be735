"""More dynos on the same Postgres and Redis: jobs a second of one, two and four, whose handlers wait."""

from contextlib import ExitStack
from uuid import UUID

import psycopg

from benchmarks.jobs.bench import wait
from benchmarks.measures.burst import WAL, transactions
from benchmarks.measures.drain import watch
from benchmarks.measures.history import producing
from benchmarks.plan import Plan
from benchmarks.report import OURS as OUR_NAME
from benchmarks.servers import BenchError, one, until_idle
from benchmarks.systems import OURS, System
from db.transaction import SYSTEM

DYNOS = {"one": 1, "two": 2, OUR_NAME: 4}
"""Of one process each: it differs from one on another machine in nothing but whose cores it uses."""

OTHERS, OF_EACH = 10, 5
"""Tenants whose jobs are enqueued behind a crowd of another tenant's, and how many jobs each has."""

TENANTS = "INSERT INTO tenants (name) SELECT n::text FROM generate_series(0, %s) AS n RETURNING id"
PART = 1000


def measure(plan: Plan) -> None:
    for _ in plan.rounds():
        for name, dynos in DYNOS.items():
            scale(plan, name, dynos)


def scale(plan: Plan, name: str, dynos: int) -> None:
    """The jobs are enqueued while the dynos, which have started, stand still."""
    system = plan.system(OURS)
    system.fresh()
    jobs = plan.sizes.scale_jobs * dynos
    crowd = jobs - OTHERS * OF_EACH
    with (
        system.connect() as connection,
        system.working("scale", dynos, WORKER_PROCESSES="1") as processes,
    ):
        until_idle(processes)
        with ExitStack() as stack:
            for dyno in processes[:-1]:
                stack.enter_context(dyno.suspended())
            enqueue(system, connection, crowd)
            system.vacuum()
            plan.settle()
            me = connection.info.backend_pid
            committed, wal = transactions(connection), one(connection, WAL)
            before = [sum(each.cpu() for each in processes), plan.servers.postgres_cpu(me)]
        rate = watch(system, connection, jobs, processes)
        after = [sum(each.cpu() for each in processes), plan.servers.postgres_cpu(me)]
        wal, committed = one(connection, WAL) - wal, transactions(connection) - committed
        system.check_done(connection, jobs)
    started = order_of_starts(system, jobs)
    plan.report.add("scale", name, rate)
    costs = [1000 * (now - then) / jobs for then, now in zip(before, after, strict=True)]
    for figure, cost in zip(("scale-cpu-worker", "scale-cpu-postgres"), costs, strict=True):
        plan.report.add(figure, name, cost)
    if name == OUR_NAME:
        plan.report.add("scale-wal", name, wal / jobs)
        plan.report.add("scale-transactions", name, committed / jobs)
        last = max(position for position, number in enumerate(started) if number > crowd)
        ahead = sum(number <= crowd for number in started[:last])
        plan.report.add("scale-behind", name, 100 * ahead / crowd)


def enqueue(system: System, connection: psycopg.Connection, crowd: int) -> None:
    tenants: list[UUID] = [row[0] for row in connection.execute(TENANTS, (OTHERS,))]
    owners = [tenants[0]] * crowd + tenants[1:] * OF_EACH
    payloads = [{"tenant_id": str(owner), "number": number} for number, owner in enumerate(owners, 1)]
    with producing(system) as app:
        for start in range(0, len(payloads), PART):
            with app.db.transaction(SYSTEM) as tx:
                wait.enqueue_many(tx, payloads[start : start + PART])


def order_of_starts(system: System, jobs: int) -> list[int]:
    """The numbers of the jobs in the order in which their handlers began.

    Raises:
        BenchError: one began twice, or never.
    """
    lines = [line.split() for line in system.marks.read_text().splitlines()]
    numbers = [int(number) for number, _ in sorted(lines, key=lambda line: int(line[1]))]
    if sorted(numbers) != list(range(1, jobs + 1)):
        raise BenchError(f"{jobs} jobs have begun {len(numbers)} times, {len(set(numbers))} of them at all")
    return numbers
