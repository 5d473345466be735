"""How much is measured, and with what: handed to every measure."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.report import OURS as OUR_NAME
from benchmarks.report import Report
from benchmarks.servers import Servers, TookTooLong, reason, settle
from benchmarks.systems import OURS, RIVALS, Kind, System


@dataclass(frozen=True)
class Sizes:
    """How much of everything. Seconds, rows, jobs."""

    runs: int = 5
    jobs: int = 20_000
    buyers: int = 2000
    burst_buyers: int = 6667
    scale_jobs: int = 1000
    latency_jobs: int = 12
    idle_seconds: float = 60.0
    load_seconds: float = 5.0
    memory_jobs: int = 1000
    growth_rows: int = 10_000_000
    generations: int = 100_000
    requests: int = 100
    render_jobs: int = 40
    render_seconds: int = 15
    tenants: int = 1_000_000
    holds: int = 2000
    walks: int = 12
    posting_accounts: int = 500
    posting_crowd: int = 2000
    posting_rows: int = 100_000
    posting_polls: int = 1
    collect_accounts: int = 50
    collect_steps: int = 120
    learn_tenants: int = 2000
    learn_ones: int = 300
    waiting_jobs: int = 200
    waiting_seconds: float = 20.0
    waiting_beside: int = 30
    ops_part: int = 1
    ops_rounds: int = 3
    ops_viewers: int = 50
    ops_seconds: float = 30.0
    patience: float = 5.0


QUICK = Sizes(
    runs=1,
    jobs=300,
    buyers=30,
    burst_buyers=30,
    scale_jobs=120,
    latency_jobs=2,
    idle_seconds=0.5,
    load_seconds=0.5,
    memory_jobs=50,
    growth_rows=20_000,
    generations=5000,
    requests=5,
    render_jobs=2,
    render_seconds=3,
    tenants=1000,
    holds=20,
    walks=1,
    posting_accounts=10,
    posting_crowd=20,
    posting_rows=1000,
    posting_polls=0,
    collect_accounts=10,
    collect_steps=6,
    learn_tenants=20,
    learn_ones=5,
    waiting_jobs=20,
    waiting_seconds=1.0,
    waiting_beside=2,
    ops_part=1000,
    ops_rounds=1,
    ops_viewers=5,
    ops_seconds=12.0,
    patience=0,
)
"""The smallest run in which a measure still takes all its steps: the suite makes some so. Its figures say little."""


@dataclass
class Plan:
    """One run of the benchmark."""

    sizes: Sizes
    servers: Servers
    report: Report
    folder: Path
    seed: int
    measure: str = ""
    by_kind: dict[str, System] = field(default_factory=dict)
    deadline: float = float("inf")

    def begin(self, measure: str, budget: float) -> None:
        """From now on it is this measure's turn, for about so many seconds."""
        self.measure = measure
        self.deadline = time.monotonic() + budget

    def system(self, kind: Kind) -> System:
        """The one of this kind on these servers."""
        return self.by_kind.setdefault(kind.name, System(kind, self.servers, self.folder))

    def systems(self, *wanted: Kind) -> list[System]:
        """Ours, and those of the wanted (or all) peers that take part."""
        return [self.system(kind) for kind in (OURS, *(wanted or RIVALS)) if self.takes_part(kind.name)]

    def takes_part(self, system: str) -> bool:
        """Whether the system is here, and has not failed in this measure."""
        return system not in self.report.absent and (self.measure, system) not in self.report.failures

    @contextmanager
    def turn_of(self, system: str) -> Iterator[None]:
        """A peer that fails in the block costs its own rows only; a failure of ours ends the measure."""
        try:
            yield
        except TookTooLong:
            raise
        except Exception as error:
            if system == OUR_NAME:
                raise
            self.report.fail(self.measure, system, reason(error))

    def rounds(self) -> Iterator[int]:
        """One for each run; within it every system has its turn, so that the noise of the hour meets all alike. A round
        is left out if the measure's budget would not last for one like the last one."""
        for n in range(self.sizes.runs):
            began = time.monotonic()
            yield n
            now = time.monotonic()
            if n + 1 < self.sizes.runs and now + (now - began) > self.deadline:
                print(f"  {n + 1} of {self.sizes.runs} runs: the time for {self.measure} is used up", flush=True)
                return

    def settle(self) -> None:
        settle(self.sizes.patience)

    def rng(self, what: str) -> Random:
        return Random(f"{self.seed} {what}")
