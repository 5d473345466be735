"""A quiet system is given a job: milliseconds from asking for the commit that enqueues it to the start of its handler;
and, as `latency-call`, from the beginning of the call that enqueues it."""

from collections import defaultdict

from benchmarks.plan import Plan
from benchmarks.report import percentile
from benchmarks.servers import until_idle
from benchmarks.systems import DRAMATIQ, GRAPHILE, PROCRASTINATE

WARM_UP = 3
"""Jobs that find cold caches and connections yet to be made; not counted."""


def measure(plan: Plan) -> None:
    """Percentiles are of all runs together: there are few jobs in each, for they come 0.5 to 1 s apart."""
    rng = plan.rng("latency")
    pauses = [rng.uniform(0.5, 1.0) for _ in range(WARM_UP + plan.sizes.latency_jobs)]
    waits: defaultdict[str, dict[str, list[float]]] = defaultdict(lambda: {"latency": [], "latency-call": []})
    for _ in plan.rounds():
        for system in plan.systems(GRAPHILE, PROCRASTINATE, DRAMATIQ):
            with plan.turn_of(system.name):
                system.fresh()
                with system.working("latency") as workers:
                    until_idle(workers)
                    for called, committing, started in system.send(pauses)[WARM_UP:]:
                        waits[system.name]["latency"].append((started - committing) / 1e6)
                        waits[system.name]["latency-call"].append((started - called) / 1e6)
    for name, found in waits.items():
        for figure, values in found.items():
            for percent in (50, 99):
                plan.report.add(f"{figure}-p{percent}", name, percentile(values, percent))
    plan.report.details["latency_ms"] = waits
