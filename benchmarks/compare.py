"""`python -m benchmarks.compare 313bcf5 --runs 5`: what a release costs the drain, beside an older one.

Checks the older one out into a folder of its own, and lets each empty a full queue in turn, on servers of its own that
are made anew each time; the medians are compared. The order changes from round to round, so that what the machine does
beside it meets both alike. On a busy machine processor time is the fairer figure: that of all processes of a run, from
making the servers to their end, over its jobs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.servers import ROOT


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("before", help="the commit that is held against what lies here")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--only", default="drain", help="another measure of one figure without peers")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="viral-compare-") as folder, checked_out(asked.before, folder) as before:
        found: dict[Path, list[tuple[float, float]]] = {before: [], ROOT: []}
        for n in range(asked.runs):
            for tree in (before, ROOT) if n % 2 == 0 else (ROOT, before):
                found[tree].append(measured(tree, asked.only, asked.jobs, Path(folder) / "report.json"))
                rate, micros = found[tree][-1]
                name = "here" if tree == ROOT else asked.before
                print(f"{name}: {rate:.0f} jobs/s, {micros:.0f} µs of processors a job", flush=True)
    (earlier, cost), (now, costs) = (
        [median(figures) for figures in zip(*found[tree], strict=True)] for tree in (before, ROOT)
    )
    print(f"{asked.only}: {earlier:.0f} before, {now:.0f} now: {100 * (earlier / now - 1):+.1f} % of time a job")
    print(f"processors: {cost:.0f} µs a job before, {costs:.0f} now: {100 * (costs / cost - 1):+.1f} %")
    return 0


@contextmanager
def checked_out(commit: str, folder: str) -> Iterator[Path]:
    tree = Path(folder) / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", str(tree), commit], check=True, capture_output=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def measured(tree: Path, measure: str, jobs: int, report: Path) -> tuple[float, float]:
    """Return jobs a second, and microseconds of processor time a job."""
    command = [sys.executable, "-m", "benchmarks", "--only", measure, "--peers", "none", "--runs", "1"]
    command += ["--jobs", str(jobs), "--report", str(report)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    before = _processor_seconds()
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    spent = _processor_seconds() - before
    value: float = json.loads(report.read_text())["rows"][0]["ours"]
    return value, 1e6 * spent / jobs


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
