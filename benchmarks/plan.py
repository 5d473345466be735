"""How much is measured, and with what: handed to every measure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.report import Report
from benchmarks.servers import Servers, settle
from benchmarks.systems import OURS, RIVALS, Kind, System


@dataclass(frozen=True)
class Sizes:
    """How much of everything. Seconds, rows, jobs."""

    runs: int = 5
    jobs: int = 20_000
    latency_jobs: int = 12
    idle_seconds: float = 20.0
    load_seconds: float = 5.0
    memory_jobs: int = 1000
    bloat_rows: int = 1_000_000
    bloat_seconds: float = 600.0
    bloat_window: float = 10.0
    growth_rows: int = 10_000_000
    tenants: int = 1_000_000
    walks: int = 12
    patience: float = 5.0


QUICK = Sizes(
    runs=1,
    jobs=2000,
    latency_jobs=5,
    idle_seconds=5,
    load_seconds=2,
    bloat_rows=100_000,
    bloat_seconds=60,
    growth_rows=1_000_000,
    tenants=20_000,
    walks=5,
    patience=0,
)


@dataclass
class Plan:
    """One run of the benchmark."""

    sizes: Sizes
    servers: Servers
    report: Report
    folder: Path
    peers: tuple[Kind, ...]
    seed: int
    known: dict[str, System] = field(default_factory=dict)

    def system(self, kind: Kind) -> System:
        """The one of this kind on these servers."""
        return self.known.setdefault(kind.name, System(kind, self.servers, self.folder))

    def systems(self, *wanted: Kind) -> list[System]:
        """Ours, and those of the wanted (or all) peers that are to be measured."""
        return [self.system(kind) for kind in (OURS, *(wanted or RIVALS)) if kind is OURS or kind in self.peers]

    def rounds(self) -> Iterator[int]:
        """One for each run; within it every system has its turn, so that the noise of the hour meets all alike."""
        yield from range(self.sizes.runs)

    def settle(self) -> None:
        settle(self.sizes.patience)

    def rng(self, what: str) -> Random:
        return Random(f"{self.seed} {what}")
