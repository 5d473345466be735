"""What so many tenants need, computed from what was measured: `python -m benchmarks.scaling [reports/bench.json]`.

Prints the tables of docs/scaling.md. The report needs the measures `burst`, `scale`, `api-generate`, `posts`,
`collect`, `learn` and `render` (`make bench ARGS="--only …"`). What is assumed, and not measured, is in this file's
constants: how much a tenant does a day, and how unevenly.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs.bench import WAIT
from benchmarks.measures.scale import DYNOS
from benchmarks.report import OURS
from benchmarks.servers import ROOT
from domain.ops.connections import of_fleet

TENANTS = (1_000, 10_000, 100_000)
PEAK = 6
"""The busiest hour beside the day's mean."""
FULL = 0.6
"""Of a core, at the peak: what is left is for what comes unevenly within that hour."""
PROCESSES = 2
"""Of a worker dyno, as shipped; it has as many cores."""
PLACES = 100
"""Jobs of a queue that one worker process holds while they wait (WORKER_WAITING)."""
MODEL_SECONDS = 20.0
DAY = 86_400.0


@dataclass(frozen=True)
class Act:
    """Something that tenants do, so often a day each. Milliseconds of processor time in the web process, in worker and
    scheduler, and in Postgres; bytes of Postgres's log; seconds that a worker's place is held by waiting."""

    name: str
    a_day: float
    web: float
    worker: float
    postgres: float
    wal: float
    waits: float = 0.0
    draws: float = 0.0


Figures = Mapping[tuple[str, str], float]


def acts(found: Figures) -> Sequence[Act]:
    """A tenant's usual day. Of a post, its numbers and what is learned of them, only the sum of worker and Postgres was
    measured: it is divided as an event's is."""

    def ours(name: str) -> float:
        return found[name, OURS]

    worker, postgres = ours("burst-cpu-worker"), ours("burst-cpu-postgres")
    share = postgres / (worker + postgres)
    job = ours("scale-cpu-worker"), ours("scale-cpu-postgres"), ours("scale-wal")

    def divided(name: str, a_day: float, cost: float, waits: float = 0.0) -> Act:
        return Act(name, a_day, 0, cost * (1 - share), cost * share, job[2] * 2, waits)

    asked = ours("api-generate-cpu-web") / 1000, ours("api-generate-cpu-postgres") / 1000
    return (
        Act("events of Stripe and Clerk", 6, ours("burst-cpu-web"), worker, postgres, ours("burst-wal")),
        Act("requests of the API", 50, asked[0], 0, asked[1], 200),
        Act("generations by a language model", 1, 0, *job, waits=MODEL_SECONDS),
        Act("videos drawn here", 1, 0, *job, draws=ours("render")),
        divided("posts", 3, ours("posts-cpu"), waits=5),
        divided("numbers of posts", 15, ours("collect-cpu"), waits=1),
        divided("outcomes learned", 6, 2 * 1000 / ours("learn")),
    )


@dataclass(frozen=True)
class Need:
    """Of so many tenants at their peak. Cores, as if each could be used to the full; bytes a day; connections."""

    tenants: int
    jobs: float
    web: float
    worker: float
    postgres: float
    drawing: float
    waiting: float
    wal: float

    @property
    def web_dynos(self) -> int:
        return math.ceil(self.web / FULL)

    @property
    def worker_dynos(self) -> int:
        """By cores, and by places for jobs that wait."""
        return math.ceil(max(self.worker / FULL, self.waiting / PLACES) / PROCESSES)

    @property
    def drawing_dynos(self) -> int:
        return math.ceil(self.drawing / FULL / PROCESSES)

    @property
    def connections(self) -> int:
        return of_fleet(web=self.web_dynos, workers=self.worker_dynos + self.drawing_dynos, processes=PROCESSES)

    @property
    def postgres_cores(self) -> int:
        return max(1, math.ceil(self.postgres / FULL))


def need(day: Sequence[Act], tenants: int) -> Need:
    def at_peak(cost: Callable[[Act], float]) -> float:
        return PEAK * tenants / DAY * sum(act.a_day * cost(act) for act in day)

    return Need(
        tenants=tenants,
        jobs=PEAK * tenants / DAY * sum(act.a_day for act in day if act.worker),
        web=at_peak(lambda act: act.web) / 1000,
        worker=at_peak(lambda act: act.worker) / 1000,
        postgres=at_peak(lambda act: act.postgres) / 1000,
        drawing=at_peak(lambda act: act.draws),
        waiting=at_peak(lambda act: act.waits),
        wal=tenants * sum(act.a_day * act.wal for act in day),
    )


def tables(found: Figures, cores: int) -> Sequence[str]:
    day = acts(found)
    needs = [need(day, tenants) for tenants in TENANTS]
    return (
        table(
            "a tenant's day | a day | web, ms | worker, ms | Postgres, ms | log, bytes | waits, s | draws, s",
            [
                f"{act.name} | {act.a_day:g} | {act.web:.2f} | {act.worker:.2f} | {act.postgres:.2f} | {act.wal:,.0f}"
                f" | {act.waits:g} | {act.draws:.1f}"
                for act in day
            ],
        ),
        table(
            "tenants | jobs/s | web dynos | worker dynos | drawing dynos | jobs that wait | connections | "
            "Postgres: cores in use | cores to have | log, GB a day",
            [
                f"{each.tenants:,} | {each.jobs:,.1f} | {each.web_dynos} | {each.worker_dynos} | {each.drawing_dynos}"
                f" | {each.waiting:,.0f} | {each.connections} | {each.postgres:.2f} | {each.postgres_cores} | "
                f"{each.wal / 1e9:.2f}"
                for each in needs
            ],
        ),
        table(
            f"dynos of one process | by places | by {cores} cores | the model says, jobs/s | measured | off",
            [checked(found, name, dynos, cores) for name, dynos in DYNOS.items()],
        ),
    )


def checked(found: Figures, name: str, dynos: int, cores: int) -> str:
    """The model's jobs a second for `scale`, beside what was measured."""
    places = dynos * PLACES / WAIT
    by_cores = 1000 * cores / (found["scale-cpu-worker", name] + found["scale-cpu-postgres", name])
    says, measured = min(places, by_cores), found["scale", name]
    return f"{dynos} | {places:,.0f} | {by_cores:,.0f} | {says:,.0f} | {measured:,.0f} | {measured / says - 1:+.0%}"


def table(head: str, rows: Sequence[str]) -> str:
    line = " | ".join(["---"] * len(head.split(" | ")))
    return "\n".join(f"| {row} |" for row in (head, line, *rows))


def main(path: Path) -> None:
    report = json.loads(path.read_text())
    found = {(each["figure"], each["system"]): each["median"] for each in report["figures"]}
    try:
        print("\n\n".join(tables(found, report["machine"]["cpus"])))
    except KeyError as missing:
        sys.exit(f"{path} lacks the figure {missing}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "reports" / "bench.json")
