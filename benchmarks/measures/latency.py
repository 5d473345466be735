"""A quiet system is given a job: milliseconds from the call that enqueues it to the start of its handler."""

from benchmarks.plan import Plan
from benchmarks.report import Bar, percentile
from benchmarks.servers import until_idle
from benchmarks.systems import DRAMATIQ, GRAPHILE, PROCRASTINATE

WARM_UP = 3
"""Jobs that find cold caches and connections yet to be made; not counted."""

BARS = (Bar("latency-p50", at_most=4), Bar("latency-p99", at_most=20))


def measure(plan: Plan) -> None:
    """Percentiles are of all runs together: there are few jobs in each, for they come 0.5 to 1 s apart."""
    rng = plan.rng("latency")
    pauses = [rng.uniform(0.5, 1.0) for _ in range(WARM_UP + plan.sizes.latency_jobs)]
    waits: dict[str, list[float]] = {}
    after_commit: dict[str, list[float]] = {}
    for _ in plan.rounds():
        for system in plan.systems(GRAPHILE, PROCRASTINATE, DRAMATIQ):
            system.fresh()
            with system.working("latency") as workers:
                until_idle(workers)
                stamps = system.send(pauses)[WARM_UP:]
            waits.setdefault(system.name, []).extend((start - before) / 1e6 for before, _, start in stamps)
            after_commit.setdefault(system.name, []).extend((start - after) / 1e6 for _, after, start in stamps)
    for name, values in waits.items():
        for percent in (50, 99):
            plan.report.add(f"latency-p{percent}", name, percentile(values, percent), "ms")
    plan.report.details["latency"] = {
        name: {"from_call_ms": values, "from_return_of_call_ms": after_commit[name]} for name, values in waits.items()
    }
