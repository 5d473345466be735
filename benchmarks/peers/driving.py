"""How a queue is driven from outside: one small script a system, run by that system's own Python.

    SCRIPT setup                   make the tables
    SCRIPT fill JOBS bulk|single   enqueue no-op jobs; answers {"seconds": …}
    SCRIPT send PAUSES             enqueue job 1, 2, … after these pauses; answers {"sent": [[called, committing], …]}
    SCRIPT work drain|latency      be a worker until SIGTERM

DATABASE_URL and REDIS_URL say where. The answer is the last line of standard output, as JSON. Standard library only:
this is imported by every environment. Instants are CLOCK_MONOTONIC in nanoseconds, which all processes share.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

MARKS = "BENCH_MARKS"
"""The file that handlers append to: a dot for each job, or number and instant of those whose latency is measured."""

COUNTED = "BENCH_COUNTED"
"""Set if no-op jobs too are to leave their dot: for systems that keep no durable trace of what they completed."""


def drive(
    *,
    setup: Callable[[], None],
    fill: Callable[[int, str], None],
    send: Callable[[Sequence[float]], list[tuple[int, int]]],
    work: Callable[[str], None],
) -> None:
    """Do what the command line says. `fill` answers by itself, through `timed`: connecting is not part of its time."""
    match sys.argv[1:]:
        case ["setup"]:
            setup()
            answer({})
        case ["fill", jobs, how]:
            fill(int(jobs), how)
        case ["send", pauses]:
            answer({"sent": send(json.loads(pauses))})
        case ["work", purpose]:
            work(purpose)
        case words:
            raise SystemExit(f"not understood: {words}")


def answer(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def timed(act: Callable[[], object]) -> None:
    """Do it, and answer with the seconds that it took."""
    began = time.perf_counter()
    act()
    answer({"seconds": time.perf_counter() - began})


def paced(pauses: Sequence[float], enqueue: Callable[[int], Any], *, says_when: bool = False) -> list[tuple[int, int]]:
    """Enqueue the jobs 1, 2, … each after its pause: the instants of each call, and of its asking for the commit. If
    `says_when`, the call returns the latter; else it is one statement, and both instants are one."""
    sent = []
    for number, pause in enumerate(pauses, 1):
        time.sleep(pause)
        called = time.monotonic_ns()
        returned = enqueue(number)
        sent.append((called, returned if says_when else called))
    return sent


def parts(jobs: int, size: int = 1000) -> list[int]:
    """The sizes of the calls that enqueue so many jobs in bulk."""
    return [min(size, jobs - start) for start in range(0, jobs, size)]


def started(number: int) -> None:
    """What every handler does: nothing, unless the job is to be counted here or its latency is measured."""
    if number:
        os.write(_marks(), b"%d %d\n" % (number, time.monotonic_ns()))
    elif _counted():
        os.write(_marks(), b".")


@cache
def _counted() -> bool:
    return COUNTED in os.environ


@cache
def _marks() -> int:
    return os.open(os.environ[MARKS], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
