"""The benchmark itself: that it measures what it says, and leaves nothing running. Never how fast anything is."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.report import Bar, Report, percentile
from tests.wait import until

ROOT = Path(__file__).resolve().parents[2]
QUICK = [sys.executable, "-m", "benchmarks", "--quick"]


def test_a_quick_run_counts_every_job_once_and_reports_it(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*QUICK, "--only", "drain,enqueue", "--report", tmp_path / "bench.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # A run in which a job was lost, or done twice, is an error and no figure.
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    found = {(figure["measure"], figure["system"]): figure for figure in report["figures"]}
    assert found.keys() == {
        ("drain", "ours"),
        ("enqueue-single", "ours"),
        ("enqueue-bulk", "ours"),
        ("enqueue-bulk", "copy"),
    }
    assert all(figure["runs"] == [figure["median"]] and figure["median"] > 0 for figure in found.values())
    assert report["postgres"]["fsync"] == report["postgres"]["synchronous_commit"] == "on"
    assert report["sizes"]["jobs"] == 2000
    assert report["machine"]["cpus"] == os.cpu_count()
    (against_copy,) = (row for row in report["compared"] if row["bar"])
    assert against_copy["ratio"] == pytest.approx(against_copy["ours"] / against_copy["theirs"])
    assert against_copy["met"] is (against_copy["ratio"] >= 0.8)
    assert "enqueue-bulk" in ran.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with (tmp_path / "out").open("wb") as out:
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        command = [*QUICK, "--only", "drain", "--jobs", "4000", "--report", tmp_path / "bench.json"]
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out)
    try:
        family = psutil.Process(run.pid)
        until(lambda: any(map(works, family.children(recursive=True))), "servers and workers", seconds=90)
        begun = family.children(recursive=True)
        run.send_signal(number)
        assert run.wait(60) == 128 + number
        until(lambda: not any(alive(process) for process in begun), "all of them to end")
    finally:
        run.kill()
    assert [path.name for path in tmp_path.glob("viral-bench-*")] == []


def works(process: psutil.Process) -> bool:
    try:
        return "benchmarks.worker:start" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_bar_is_held_against_the_ratio_of_medians() -> None:
    report = Report((Bar("speed", at_least=2, against=("speed", "peer")), Bar("wait", at_most=5)))
    for ours, theirs in ((10, 5), (30, 5), (20, 50)):
        report.add("speed", "ours", ours, "jobs/s")
        report.add("speed", "peer", theirs, "jobs/s")
    report.add("wait", "ours", 6, "ms")
    speed, wait = report.rows()
    assert (speed["ours"], speed["theirs"], speed["ratio"], speed["met"]) == (20, 5, 4, True)
    assert (wait["ours"], wait["peer"], wait["met"]) == (6, None, False)


def test_a_bar_whose_peer_was_not_measured_is_not_met_either_way() -> None:
    report = Report((Bar("speed", at_least=2, against=("speed", "peer")),))
    report.add("speed", "ours", 10, "jobs/s")
    (row,) = report.rows()
    assert row["met"] is None


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 61)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (30, 60, 7)
