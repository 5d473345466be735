"""`make bench`, or `python -m benchmarks --only drain,latency --runs 5 --jobs 20000 [--quick] [--strict]`.

Starts a Postgres and a Redis of its own, installs the peers into .bench, measures ours and theirs on the same servers
in turn, prints a table and writes reports/bench.json. docs/performance.md says what each row is.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from types import FrameType

from benchmarks import install
from benchmarks.figures import FIGURES
from benchmarks.measures.ingest import FORMS
from benchmarks.plan import QUICK, Plan, Sizes
from benchmarks.report import Report, machine, markdown
from benchmarks.run import MEASURES, attempt
from benchmarks.servers import ROOT, BenchError, Servers
from benchmarks.systems import GRAPHILE, OURS, RIVALS, STRIPE_SYNC
from local.embedded import start_embedded

PEERS = (*(kind.name for kind in (*RIVALS, STRIPE_SYNC)), *FORMS)
OF_NODE = {GRAPHILE.name, STRIPE_SYNC.name}
OWN_LIBRARIES = ("dramatiq", "psycopg", "redis", "hiredis", "sqlalchemy", "starlette", "uvicorn", "uvloop", "orjson")


def main(words: Sequence[str] | None = None) -> int:
    asked = arguments(words)
    if asked.figures:
        print("\n".join(figure.documented for all_of in FIGURES.values() for figure in all_of))
        return 0
    if asked.markdown:
        print(markdown(json.loads(asked.report.read_text())))
        return 0
    signal.signal(signal.SIGTERM, _leave)
    base = QUICK if asked.quick else Sizes()
    changes = {"runs": asked.runs, "jobs": asked.jobs, "learn_tenants": asked.learn_tenants}
    sizes = replace(base, **{name: value for name, value in changes.items() if value is not None})
    # A larger log takes as much longer.
    learn = MEASURES["learn"]
    size = max(1.0, sizes.learn_tenants / Sizes.learn_tenants)
    measures = MEASURES | {"learn": learn._replace(budget=learn.budget * size)}
    report = Report(asked.only, absent(asked.peers))
    with tempfile.TemporaryDirectory(prefix="viral-bench-") as folder:
        # Postgres, run by root, becomes somebody else, who has to find its data here.
        Path(folder).chmod(0o755)
        with start_embedded(Path(folder) / "home") as embedded:
            plan = Plan(sizes, Servers(embedded), report, Path(folder), asked.seed)
            report.facts |= facts(plan)
            for name in asked.only:
                attempt(plan, name, measures[name])
                # What is measured is kept, whatever becomes of the next one.
                report.write(asked.report)
    print(f"\n{report.table()}\n\nwritten to {asked.report}")
    return 1 if asked.strict and report.unmet() else 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    def several(what: str, names: Sequence[str]) -> Callable[[str], list[str]]:
        def parsed(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := set(chosen) - set(names):
                raise argparse.ArgumentTypeError(
                    f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(names)}"
                )
            return [name for name in names if name in chosen]

        return parsed

    def peers(text: str) -> list[str]:
        words: dict[str, list[str]] = {"all": list(PEERS), "none": []}
        return words[text] if text in words else several("peer", PEERS)(text)

    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"not a number from 1 on: {text}")
        return int(text)

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measures = several("measure", list(MEASURES))
    parser.add_argument("--only", type=measures, default=list(MEASURES), help=f"some of {', '.join(MEASURES)}")
    parser.add_argument("--runs", type=positive, help=f"of everything, in turn, as time allows (default: {Sizes.runs})")
    parser.add_argument("--jobs", type=positive, help=f"in a full queue (default: {Sizes.jobs})")
    parser.add_argument(
        "--learn-tenants",
        type=positive,
        help=f"whose outcomes are learned, of each a hundred (default: {Sizes.learn_tenants})",
    )
    parser.add_argument(
        "--quick", action="store_true", help="the smallest run of each, without peers unless asked for (2 minutes)"
    )
    parser.add_argument("--peers", type=peers, help=f"`all`, `none`, or some of {', '.join(PEERS)}")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed or a measure failed")
    parser.add_argument("--seed", type=int, default=1, help="of everything random")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "bench.json")
    parser.add_argument("--figures", action="store_true", help="measure nothing; list the figures as the docs do")
    parser.add_argument("--markdown", action="store_true", help="measure nothing; print the last report's table")
    asked = parser.parse_args(words)
    if asked.peers is None:
        asked.peers = [] if asked.quick else list(PEERS)
    return asked


def absent(peers: Sequence[str]) -> dict[str, str]:
    """The peers that take no part, each with the reason. Those that do are installed."""
    left_out = {name: "not asked for" for name in PEERS if name not in peers}
    if not peers:
        return left_out
    try:
        install.install_python()
    except install.CannotInstall as error:
        # All of them are driven by scripts of that environment.
        return left_out | dict.fromkeys(peers, str(error))
    if of_node := OF_NODE.intersection(peers):
        try:
            install.install_node()
        except install.CannotInstall as error:
            left_out |= dict.fromkeys(of_node, str(error))
    return left_out


def facts(plan: Plan) -> dict[str, object]:
    """All that somebody needs who wants to see the same figures."""
    report = plan.report
    kinds = [OURS, *(kind for kind in (*RIVALS, STRIPE_SYNC) if kind.name not in report.absent)]
    return {
        "machine": machine(),
        "measures": list(report.measures),
        "absent": dict(report.absent),
        "sizes": asdict(plan.sizes),
        "seed": plan.seed,
        "postgres": plan.servers.settings(),
        "redis": plan.servers.redis_version(),
        "versions": {name: metadata.version(name) for name in OWN_LIBRARIES},
        "peers": install.versions() if len(report.absent) < len(PEERS) else {},
        "systems": {kind.name: kind.config for kind in kinds},
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
