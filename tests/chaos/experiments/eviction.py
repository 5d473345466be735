"""eviction: Redis throws away what waits there, and keeps the mark by which its loss would be seen; then its memory is
full, and it refuses writes."""

import time
from contextlib import suppress
from uuid import UUID

import redis

from db.transaction import SYSTEM
from tests.chaos.experiments.redis_failover import ask
from tests.chaos.fleet import FAST
from tests.chaos.jobs.counted import alone
from tests.chaos.load import Feeder, feeding
from tests.chaos.report import Finding
from tests.chaos.servers import Servers, System
from tests.chaos.stage import Stage, settle
from tests.wait import until
from workers.engine.notifier import EPOCH_KEY
from workers.engine.queues import notifications_key

RECOVERY_BAR = 5.0
"""Seconds until what had waited in Redis is begun beside free workers, and until the first job moves in a Redis that
takes writes again."""

STILL_THERE = "SELECT count(*) FROM job_queue WHERE id = ANY(%s) AND status = 'pending'"


def evicted(stage: Stage, finding: Finding) -> None:
    rng = stage.rng()
    rounds, full_s = stage.size((12, 10.0), (2, 2.0))
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.workers(2)
        with feeding(system, rng, per_second=60) as feeder:
            try:
                for _ in range(rounds):
                    waited = burst(system, feeder)
                    thrown = evict(stage.servers)
                    finding.saw("jobs that waited in an evicted set", thrown)
                    began = time.monotonic()
                    until(lambda waited=waited: not system.value(STILL_THERE, (waited,)), "what had waited to be begun")  # type: ignore[misc]
                    finding.worst("evicted_begun_s", time.monotonic() - began)
                set_memory(stage.servers, "noeviction", 1)
                waited = burst(system, feeder)
                began = time.monotonic()
                until(lambda: time.monotonic() - began > full_s, "the memory to be full for a while")
                finding.saw("jobs that waited for memory", system.value(STILL_THERE, (waited,)))
            finally:
                set_memory(stage.servers, "noeviction", 0)
            back = system.value("SELECT clock_timestamp()")
            moved = "SELECT min(started_at) FROM job_queue WHERE started_at > %s"
            until(lambda: system.value(moved, (back,)), "the first job to move")
            finding.worst("first_move_s", (system.value(moved, (back,)) - back).total_seconds())
            settle(finding, system, fleet, feeder)
        finding.trials = rounds + 1
        finding.saw("refusals that a process noticed", fleet.logged("redis.refuses_writes"))
        stage.hold_to(RECOVERY_BAR, finding, "evicted_begun_s", "first_move_s")


def burst(system: System, feeder: Feeder, number: int = 80) -> list[UUID]:
    """More jobs than threads, on the queue where each is a message, so that some wait in Redis."""
    with system.app.db.transaction(SYSTEM) as tx:
        ids = [alone.enqueue(tx, name=f"burst{n}", ms=20) for n in range(number)]
    feeder.promised_besides += ids
    return ids


def evict(servers: Servers) -> int:
    """Redis is so small for a moment that it evicts all it has. Returns how many jobs waited in what it threw away."""
    sets = [notifications_key(queue) for queue in ("llm", "default")]
    until(lambda: sum(int(ask(servers.redis, "ZCARD", key)) for key in sets) > 10, "jobs to wait in Redis")
    mark = ask(servers.redis, "GET", EPOCH_KEY)
    waiting = sum(int(ask(servers.redis, "ZCARD", key)) for key in sets)
    set_memory(servers, "allkeys-random", 1)
    with suppress(redis.exceptions.OutOfMemoryError):  # nothing is left to evict
        ask(servers.redis, "SET", "junk", "1")
    set_memory(servers, "noeviction", 0)
    if mark is not None:
        ask(servers.redis, "SET", EPOCH_KEY, mark)
    return waiting


def set_memory(servers: Servers, policy: str, most: int) -> None:
    ask(servers.redis, "CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", most)
