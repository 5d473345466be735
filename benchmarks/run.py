"""The measures, one after another: each within its time, and none at the cost of another."""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import NamedTuple

from benchmarks.measures import (
    api,
    apply,
    burst,
    collect,
    drain,
    enqueue,
    history,
    ingest,
    latency,
    learn,
    ops,
    posts,
    quota,
    render,
    scale,
    standing,
    storm,
    up,
    waiting,
)
from benchmarks.plan import Plan
from benchmarks.report import OURS
from benchmarks.servers import BenchError, TookTooLong, reason

PATIENCE = 2
"""How many times its budget a measure may take before it is broken off: a busy machine is no failure."""


class Measure(NamedTuple):
    """`budget`: seconds, on two idle cores. No round is begun that would not end within them."""

    run: Callable[[Plan], None]
    budget: float


# Together 40 minutes at most.
MEASURES = {
    "drain": Measure(partial(drain.measure, name="drain"), 150),
    "effect": Measure(partial(drain.measure, name="effect"), 110),
    "enqueue": Measure(enqueue.measure, 140),
    "latency": Measure(latency.measure, 140),
    "idle": Measure(standing.idle, 130),
    "memory": Measure(standing.memory, 60),
    "ingest": Measure(ingest.measure, 140),
    "api-history": Measure(api.measure, 60),
    "api-generate": Measure(api.generate, 30),
    "up": Measure(up.measure, 80),
    "growth": Measure(history.growth, 170),
    "quota": Measure(quota.measure, 150),
    "apply": Measure(apply.measure, 80),
    "burst": Measure(burst.measure, 90),
    "scale": Measure(scale.measure, 100),
    "storm": Measure(storm.measure, 40),
    "render": Measure(render.measure, 130),
    "posts": Measure(posts.measure, 100),
    "collect": Measure(collect.measure, 80),
    "learn": Measure(learn.measure, 120),
    "waiting": Measure(waiting.measure, 60),
    "ops": Measure(ops.measure, 240),
}


def attempt(plan: Plan, name: str, measure: Measure) -> None:
    """Make the measure. If it cannot be made, its rows say why. For the main thread."""
    print(f"{name}:", flush=True)
    plan.begin(name, measure.budget)
    try:
        with limited(PATIENCE * measure.budget):
            measure.run(plan)
    except Exception as error:
        if not isinstance(error, BenchError):
            traceback.print_exc(file=sys.stderr)
        plan.report.fail(name, OURS, reason(error))
        plan.report.details.setdefault("failures", {})[name] = traceback.format_exc()


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Bound the time that the block may take.

    Raises:
        TookTooLong: the block did not end in time.
    """

    def break_off(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"not done within {seconds:g} s")

    main = threading.main_thread().ident or 0
    before = signal.signal(signal.SIGUSR1, break_off)
    # Not an alarm: there is one timer a process, and pytest-timeout has it.
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)
