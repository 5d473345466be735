"""`make bench`, or `python -m benchmarks --only drain,latency --runs 5 --jobs 20000 [--quick]`.

Starts a Postgres and a Redis of its own, installs the peers into .bench, measures ours and theirs on the same servers
in turn, prints a table and writes reports/bench.json.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from types import FrameType

from benchmarks import install
from benchmarks.measures import api, apply, drain, enqueue, history, ingest, latency, quota, standing, up
from benchmarks.plan import QUICK, Plan, Sizes
from benchmarks.report import Report, machine
from benchmarks.servers import ROOT, BenchError, Servers
from benchmarks.systems import GRAPHILE, ONE_COMMIT, OURS, RIVALS, Kind
from cli.local.embedded import start_embedded

Measures = dict[str, Callable[[Plan], None]]

DRAINS = tuple(drain.CONTESTS)
OTHERS: Measures = {
    "enqueue": enqueue.measure,
    "latency": latency.measure,
    "idle": standing.idle,
    "memory": standing.memory,
    "ingest": ingest.measure,
    "api-history": api.measure,
    "up": up.measure,
    "bloat": history.bloat,
    "growth": history.growth,
    "quota": quota.measure,
    "apply": apply.measure,
}
BARS = tuple(bar for module in (drain, enqueue, latency, standing, ingest, api, up, history) for bar in module.BARS)
OWN_LIBRARIES = ("dramatiq", "psycopg", "redis", "hiredis", "sqlalchemy", "starlette", "uvicorn", "uvloop", "orjson")


def main(words: Sequence[str] | None = None) -> int:
    asked = arguments(words)
    signal.signal(signal.SIGTERM, _leave)
    peers = chosen(asked.peers)
    base = QUICK if asked.quick else Sizes()
    given = {"runs": asked.runs, "jobs": asked.jobs, "bloat_seconds": asked.bloat_seconds}
    sizes = replace(base, **{name: value for name, value in given.items() if value is not None})
    report = Report(BARS)
    with tempfile.TemporaryDirectory(prefix="viral-bench-") as folder:
        # Postgres, run by root, becomes somebody else, who has to find its data here.
        Path(folder).chmod(0o755)
        with start_embedded(Path(folder) / "home") as embedded:
            servers = Servers(embedded)
            plan = Plan(sizes, servers, report, Path(folder), peers, asked.seed)
            report.facts |= facts(plan, asked.only)
            try:
                measure_all(plan, asked.only)
            finally:
                report.write(asked.report)
    print(f"\n{report.table()}\n\nwritten to {asked.report}")
    return 0


def measure_all(plan: Plan, only: Sequence[str]) -> None:
    wanted: Measures = {}
    if drains := [name for name in DRAINS if name in only]:
        wanted["drain"] = lambda plan: drain.measure(plan, drains)
    wanted |= {name: measure for name, measure in OTHERS.items() if name in only}
    for name, measure in wanted.items():
        print(f"{name}:", flush=True)
        measure(plan)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    names = (*DRAINS, *OTHERS)

    def measures(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(names):
            raise argparse.ArgumentTypeError(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(names)}")
        return given

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=measures, default=list(names), help=f"comma-separated, of {', '.join(names)}")
    parser.add_argument("--runs", type=int, help=f"of everything, in turn (default: {Sizes.runs})")
    parser.add_argument("--jobs", type=int, help=f"in a full queue (default: {Sizes.jobs})")
    parser.add_argument("--bloat-seconds", type=float, help=f"age of the open transaction ({Sizes.bloat_seconds:g})")
    parser.add_argument("--quick", action="store_true", help="one small run of each, without peers unless asked for")
    parser.add_argument("--peers", help="comma-separated, or `all`, or `none`")
    parser.add_argument("--seed", type=int, default=1, help="of everything random")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "bench.json")
    asked = parser.parse_args(words)
    asked.peers = asked.peers or ("none" if asked.quick else "all")
    return asked


def chosen(peers: str) -> tuple[Kind, ...]:
    """The peers asked for, installed."""
    if peers == "none":
        return ()
    has_graphile = install.install_peers()
    asked = [kind.name for kind in RIVALS] if peers == "all" else peers.split(",")
    return tuple(kind for kind in RIVALS if kind.name in asked and (kind is not GRAPHILE or has_graphile))


def facts(plan: Plan, only: Sequence[str]) -> dict[str, object]:
    """All that somebody needs who wants to see the same figures."""
    return {
        "machine": machine(),
        "measures": list(only),
        "sizes": asdict(plan.sizes),
        "seed": plan.seed,
        "postgres": plan.servers.settings(),
        "redis": plan.servers.redis_version(),
        "versions": {name: metadata.version(name) for name in OWN_LIBRARIES},
        "peers": install.versions() if plan.peers else {},
        "systems": {kind.name: kind.config for kind in (OURS, ONE_COMMIT, *plan.peers)},
    }


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: every `with` is left, and so every process ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
