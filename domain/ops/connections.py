"""The number of connections to Postgres that each process holds at most.

A thread of ours holds a connection for milliseconds, never during a call to the outside, and never two at once
(`db.transaction.SecondConnection`). So a pool is smaller than the threads that share it, and even one connection is
enough: then threads wait for each other, and work goes on.
"""

from enum import StrEnum
from typing import Final

PROCESSES, THREADS = 2, 8
"""The defaults of a worker dyno."""


class Role(StrEnum):
    WEB = "web"
    WORKER = "worker"
    SCHEDULER = "scheduler"


BESIDE_THE_POOL: Final = {Role.WEB: 3, Role.WORKER: 1, Role.SCHEDULER: 0}
"""Connections outside the pool, for work that must not wait for it: the webhook writer's, the usage writer's and the
readiness check's of web, and the heartbeat's of a worker."""


def usual_pool(role: Role, threads: int = THREADS) -> int:
    """Return the size of a process's pool without DB_POOL_SIZE. `threads` are those of a worker process."""
    match role:
        case Role.WEB:
            return 4
        case Role.WORKER:
            return max(2, (threads + 1) // 2)
        case Role.SCHEDULER:
            return 2


def of_process(role: Role, *, pool: int = 0, threads: int = THREADS) -> int:
    """Return the most that one process holds. `pool` is DB_POOL_SIZE; 0: the usual one."""
    return (pool or usual_pool(role, threads)) + BESIDE_THE_POOL[role]


def of_fleet(
    *,
    web: int = 1,
    workers: int = 1,
    schedulers: int = 1,
    processes: int = PROCESSES,
    threads: int = THREADS,
    pool: int = 0,
) -> int:
    """Return the most that so many dynos hold; each worker dyno runs `processes`."""
    return (
        web * of_process(Role.WEB, pool=pool)
        + workers * processes * of_process(Role.WORKER, pool=pool, threads=threads)
        + schedulers * of_process(Role.SCHEDULER, pool=pool)
    )
