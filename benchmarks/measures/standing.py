"""What the system costs that has nothing to do: processor, memory, and what hosts bill by: Redis commands, and a
database that is not left alone."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.plan import Plan
from benchmarks.servers import Running, ours, running, until, until_idle
from benchmarks.systems import OURS
from workers.engine.notifier import ACTIVE_KEY

LONG = {"IDLE_INTERVAL": "300"}
"""How long a database may have to be left alone before its host puts it to sleep."""


def idle(plan: Plan) -> None:
    """Web, a worker dyno on all its queues, and a scheduler, for a minute: as shipped, and with a long IDLE_INTERVAL.

    A minute is just enough for each schedule of every minute to come once.
    """
    system = plan.system(OURS)
    for _ in plan.rounds():
        for suffix, settings in (("", {}), ("-long", LONG)):
            system.fresh()
            with plan.servers.without_autovacuum(), system.working("idle", **settings) as (dyno, scheduler):
                urls = system.urls
                environment = ours(DATABASE_URL=urls.app, REDIS_URL=urls.redis, HOST="127.0.0.1", PORT="0", **settings)
                with web_process(plan, environment) as web:
                    processes = {"worker": dyno, "scheduler": scheduler, "web": web}
                    until_idle(list(processes.values()))
                    until(lambda: not plan.servers.redis.exists(ACTIVE_KEY), "the dispatcher to rest", within=30)
                    # A session of Postgres that rests reports what it did after ten seconds.
                    time.sleep(3 * plan.sizes.patience)
                    watch(plan, processes, suffix)


def watch(plan: Plan, processes: dict[str, Running], suffix: str) -> None:
    """For a while: each one's share of a core, the commands and transactions of a minute, and the memory of all."""
    database = plan.system(OURS).database
    used, began = {name: each.cpu() for name, each in processes.items()}, time.perf_counter()
    commands, transactions = plan.servers.redis_commands(), plan.servers.transactions(database)
    time.sleep(plan.sizes.idle_seconds)
    seconds = time.perf_counter() - began
    # One command of the difference is the question itself.
    found = {
        "redis": plan.servers.redis_commands() - commands - 1,
        "postgres": plan.servers.transactions(database) - transactions,
    }
    for name, count in found.items():
        plan.report.add(f"idle-{name}{suffix}", "ours", 60 * count / seconds)
    if not suffix:
        for name, each in processes.items():
            plan.report.add(f"idle-cpu-{name}", "ours", 100 * (each.cpu() - used[name]) / seconds)
        plan.report.add("idle-memory", "ours", sum(each.pss() for each in processes.values()))


@contextmanager
def web_process(plan: Plan, environment: dict[str, str]) -> Iterator[Running]:
    with running([sys.executable, "-m", "cli.main", "web"], environment, plan.folder) as web:
        until(lambda: b"web.ready" in web.log.read_bytes(), "web to be ready", within=60)
        yield web


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
