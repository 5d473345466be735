"""What a worker dyno costs that has nothing to do: processor, Redis commands, memory."""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.plan import Plan
from benchmarks.servers import Running, until, until_idle
from benchmarks.systems import OURS


def idle(plan: Plan) -> None:
    """Per cent of one core, and Redis commands a second, of a dyno alone on all its queues; then of a scheduler."""
    system = plan.system(OURS)
    for _ in plan.rounds():
        system.fresh()
        with system.working("idle") as processes:
            until_idle(processes)
            dyno, scheduler = processes
            rates = watch(plan, [dyno, scheduler])
            plan.report.add("idle-cpu-scheduler", "ours", rates[1])
            plan.report.add("idle-redis-all", "ours", rates[2])
            scheduler.stop()
            rates = watch(plan, [dyno])
            plan.report.add("idle-cpu", "ours", rates[0])
            plan.report.add("idle-redis", "ours", rates[1])


def watch(plan: Plan, processes: Sequence[Running]) -> list[float]:
    """For a while: each one's share of a core, then the commands that Redis was given each second."""
    commands, used, began = redis_commands(plan), [each.cpu() for each in processes], time.perf_counter()
    time.sleep(plan.sizes.idle_seconds)
    seconds = time.perf_counter() - began
    shares = [100 * (each.cpu() - before) / seconds for each, before in zip(processes, used, strict=True)]
    # One command of the difference is the question itself.
    return [*shares, (redis_commands(plan) - commands - 1) / seconds]


def redis_commands(plan: Plan) -> int:
    stats: Any = plan.servers.redis.info("stats")
    return int(stats["total_commands_processed"])


def memory(plan: Plan) -> None:
    """Megabytes (PSS) of the dyno's processes together, started and not used yet, and after a thousand jobs."""
    system = plan.system(OURS)
    jobs = plan.sizes.memory_jobs
    for _ in plan.rounds():
        system.fresh()
        with system.connect() as connection, system.working("memory") as processes:
            until_idle(processes)
            plan.report.add("memory-started", "ours", processes[0].pss())
            system.fill(jobs, "bulk")
            until(lambda: system.left(connection, jobs) == 0, "the jobs", within=120, every=0.1)
            system.check_done(connection, jobs)
            until_idle(processes)
            plan.report.add("memory-worked", "ours", processes[0].pss())
            plan.report.add("memory-scheduler", "ours", processes[1].pss())
