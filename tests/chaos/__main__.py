"""`make chaos`, or `python -m tests.chaos [--seed N] [--only R1,R3] [--slice] [--sabotage fence]`: breaks all
that can break, on servers of its own, and counts what came of it. The report is `reports/chaos.json`."""

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from random import SystemRandom

from tests.chaos.catalogue import CATALOGUE, Entry
from tests.chaos.experiments.sabotage import CASES
from tests.chaos.fork_server import ROOT
from tests.chaos.report import FAILED, HEADINGS, Finding, line, row, write
from tests.chaos.servers import Servers, quiet_logs
from tests.chaos.stage import Stage

FULL, SLICE = 60 * 60, 4 * 60
"""Seconds that a run may take, all in all."""


class OutOfTime(Exception):
    """The budget of the whole run is used up."""


def main() -> int:
    asked = arguments()
    seed = asked.seed if asked.seed is not None else SystemRandom().randrange(2**32)
    chosen = select(asked.only, asked.sabotage)
    quiet_logs()
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SLICE if asked.slice else FULL)
    began = time.monotonic()
    say(f"seed {seed}   ({'slice' if asked.slice else 'full'} run; the same again: --seed {seed})\n")
    say(line(HEADINGS))
    findings: list[Finding] = []
    with suppress(OutOfTime), Servers() as servers:
        for entry in chosen:
            finding = Finding(entry.name, entry.summary)
            findings.append(finding)
            try:
                run(entry, finding, servers, seed, full=not asked.slice)
            finally:
                say(row(finding))
                facts = {
                    "seed": seed,
                    "form": "slice" if asked.slice else "full",
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "took_s": round(time.monotonic() - began),
                    "python": platform.python_version(),
                    "cores": os.cpu_count(),
                    "complete": len(findings) == len(chosen),
                }
                write(ROOT / "reports" / "chaos.json", facts, findings)
    failed = [finding.name for finding in findings if finding.verdict == FAILED]
    say(
        f"\n{len(findings)} experiments in {time.monotonic() - began:.0f} s, seed {seed}: "
        + (f"FAILED: {', '.join(failed)}" if failed else "all hold")
    )
    return 1 if failed or len(findings) < len(chosen) else 0


def run(entry: Entry, finding: Finding, servers: Servers, seed: int, *, full: bool) -> None:
    """One experiment, to its end or its failure; whatever it raises is in its finding."""
    began = time.monotonic()
    stage = Stage(servers, entry.name, seed, full, began + entry.budget_s, entry.sabotage)
    try:
        entry.experiment(stage, finding)
    except OutOfTime:
        finding.expect(False, "the time of the whole run was up")
        raise
    except (KeyboardInterrupt, SystemExit):
        finding.expect(False, "interrupted")
        raise
    except Exception as error:
        finding.expect(False, f"{type(error).__name__}: {error}")
        if os.environ.get("CHAOS_DEBUG"):
            traceback.print_exc()
    finally:
        finding.took_s = round(time.monotonic() - began, 1)


def select(only: str, sabotage: str) -> list[Entry]:
    if sabotage:
        return [entry for entry in CATALOGUE if entry.sabotage == sabotage]
    names = {name.strip().upper() for name in only.split(",") if name.strip()}
    unknown = names - {entry.name.upper() for entry in CATALOGUE}
    if unknown:
        raise SystemExit(f"no such experiment: {', '.join(sorted(unknown))}")
    return [entry for entry in CATALOGUE if not names or entry.name.upper() in names]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of victims and moments; by default a random one, which is printed")
    parser.add_argument("--only", default="", metavar="R1,R3", help="these experiments")
    parser.add_argument("--slice", action="store_true", help="the short form of each")
    parser.add_argument("--sabotage", default="", choices=["", *CASES], help="only: is this breach noticed?")
    return parser.parse_args()


def interrupted(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def out_of_time(signum: int, frame: object) -> None:
    raise OutOfTime


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
