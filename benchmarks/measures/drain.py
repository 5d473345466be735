"""A full queue is worked off: jobs a second, by the database's own count of completions."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from benchmarks.plan import Plan
from benchmarks.servers import BenchError, Running
from benchmarks.systems import CELERY, DRAMATIQ, GRAPHILE, OURS, PGQUEUER, PROCRASTINATE, Kind, System

WITHIN = 300.0


class Contest(NamedTuple):
    figure: str
    kind: Kind
    job: str = "noop"


CONTESTS = {
    "drain": [Contest("drain", kind) for kind in (OURS, PGQUEUER, GRAPHILE, PROCRASTINATE, CELERY, DRAMATIQ)],
    "effect": [
        Contest("effect", OURS, "together"),
        Contest("effect-alone", OURS, "effect"),
        Contest("effect", PROCRASTINATE),
    ],
}


def measure(plan: Plan, name: str) -> None:
    for _ in plan.rounds():
        for contest in CONTESTS[name]:
            system = contest.kind.name
            if plan.takes_part(system):
                with plan.turn_of(system):
                    plan.report.add(contest.figure, system, drained(plan, contest))


def drained(plan: Plan, contest: Contest) -> float:
    system = plan.system(contest.kind)
    jobs = round(plan.sizes.jobs * contest.kind.share)
    system.fresh()
    system.fill(jobs, "bulk" if contest.kind.bulk else "single", contest.job)
    system.vacuum()
    plan.settle()
    with system.connect() as connection, system.working("drain") as workers:
        rate = watch(system, connection, jobs, workers)
        system.check_done(connection, jobs, effects=contest.job in ("effect", "together"))
    return rate


def watch(system: System, connection: psycopg.Connection, jobs: int, workers: Sequence[Running]) -> float:
    """From the first completion that is seen to the last: what had been completed by the first look is not counted,
    nor is the start of the workers. Looking costs a little, so it is frequent only near the end."""
    deadline = time.monotonic() + WITHIN
    began, at_first, left = 0.0, jobs, jobs
    while left > 0:
        time.sleep(0.1 if jobs / 4 < left < jobs else 0.01)
        left = system.left(connection, jobs)
        if left < jobs and not began:
            began, at_first = time.perf_counter(), left
        if time.monotonic() > deadline:
            raise BenchError(f"{system.name} still has {left} jobs of {jobs}\n{workers[0].log_tail()}")
        for worker in workers:
            worker.check()
    return at_first / (time.perf_counter() - began)
