"""What drawing a video takes, and what it takes from the other queues of a worker dyno meanwhile."""

import sys
import tempfile
from pathlib import Path

import psycopg

from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import BenchError, answer, one, ours, until, until_idle
from benchmarks.systems import OURS

WARM_UP = 3
DRAWING = 2
"""Videos that are drawn at once: one in each process of the dyno."""
BEFORE, BETWEEN, JITTER = 1.0, 0.1, 0.2
"""Seconds that the drawing is given to begin, and between two jobs of another queue."""
RUNNING = "SELECT count(*) FROM job_queue WHERE job_type = 'bench.draw' AND status = 'running'"


def measure(plan: Plan) -> None:
    """The seconds and the memory are those of processes that draw one video and are gone, one after another; the waits
    are those of `latency`'s jobs on a dyno that draws all the while."""
    waits: list[float] = []
    for _ in plan.rounds():
        plan.settle()
        for how, system in (("storyboard", "ours"), ("static-slides", "static-slides")):
            with tempfile.TemporaryDirectory(dir=plan.folder) as folder:
                command = [sys.executable, "-m", "benchmarks.draw", how, folder, str(plan.sizes.render_seconds)]
                drawn = answer(command, ours(), Path(folder))
            plan.report.add("render", system, drawn["seconds"])
            plan.report.add("render-memory", system, drawn["own_mb"] + drawn["child_mb"])
        waits += beside(plan)
    for percent in (50, 99):
        plan.report.add(f"render-beside-p{percent}", "ours", percentile(waits, percent))
    plan.report.details["render_beside_ms"] = waits


def beside(plan: Plan) -> list[float]:
    """Milliseconds from asking for the commit that enqueues a job to the start of its handler, while others draw."""
    rng = plan.rng("render")
    system = plan.system(OURS)
    system.fresh()
    jobs = WARM_UP + plan.sizes.render_jobs
    pauses = [BEFORE, *(BETWEEN + rng.uniform(0, JITTER) for _ in range(jobs - 1))]
    # What is broken off at the end is left in the folder of this run.
    settings = {"RENDER_AT_ONCE": "1", "WORKER_GRACE_SECONDS": "1", "TMPDIR": str(plan.folder)}
    with system.connect() as connection, system.working("latency", **settings) as workers:
        until_idle(workers)
        system.fill(DRAWING * (2 + int(sum(pauses) / 3)), "bulk", job="draw")
        until(lambda: drawing(connection) == DRAWING, f"{DRAWING} videos to be drawn", within=30)
        sent = system.send(pauses)[WARM_UP:]
        # Between two videos a process draws none for a moment.
        until(lambda: drawing(connection) == DRAWING, "videos to be drawn still", within=30)
    return [(started - committing) / 1e6 for _, committing, started in sent]


def drawing(connection: psycopg.Connection) -> int:
    count: int = one(connection, RUNNING)
    if count > DRAWING:
        raise BenchError(f"{count} videos are drawn at once, by processes that draw {DRAWING}")
    return count
