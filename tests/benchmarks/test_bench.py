"""The benchmark itself: that the measures can be made, that none costs another its rows, and that a run leaves nothing
running. Never how fast anything is."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from benchmarks.__main__ import absent, arguments
from benchmarks.figures import FIGURES, Comparison, Figure
from benchmarks.install import CannotInstall, run
from benchmarks.plan import QUICK, Plan
from benchmarks.report import OURS, Report, percentile
from benchmarks.run import MEASURES, Measure, attempt
from benchmarks.servers import BenchError, Servers
from local.embedded import Embedded, start_embedded
from local.postgres import SUPERUSER
from tests.seeds import seeded
from tests.wait import until

ROOT = Path(__file__).resolve().parents[2]
QUICKLY = [sys.executable, "-m", "benchmarks", "--quick"]
OUTSIDE = absent(peers=[])

ALIKE = (
    ("drain", "effect", "apply", "burst", "storm"),
    ("latency", "render", "scale"),
    ("idle", "memory", "growth"),
    ("ingest", "api-history", "api-generate"),
    ("enqueue", "quota"),
    ("up", "posts", "collect", "learn", "waiting"),
    ("ops",),
)
"""Measures that start the same machinery, or much of it. The suite makes one of each; `make bench ARGS=--quick` all."""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with start_embedded(tmp_path_factory.mktemp("bench") / "home") as embedded:
        yield embedded


@pytest.fixture(scope="module")
def shared(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return Plan(QUICK, Servers(embedded), Report([]), tmp_path_factory.mktemp("work"), seed=1)


@pytest.fixture
def plan(shared: Plan) -> Plan:
    """The smallest plan, without peers, on servers and migrated tables that all tests here share."""
    return replace(shared, report=Report([], OUTSIDE), by_kind=shared.by_kind)


# --- every measure ---------------------------------------------------------------------------------------


def test_the_measures_are_those_that_have_figures() -> None:
    assert MEASURES.keys() == FIGURES.keys()
    names = [figure.name for figures in FIGURES.values() for figure in figures]
    assert len(names) == len(set(names))
    assert sorted(name for names in ALIKE for name in names) == sorted(MEASURES)


@pytest.mark.proof(but=["enqueue-or-quota"])
@pytest.mark.timeout(300)
@pytest.mark.parametrize("alike", ALIKE, ids="-or-".join)
def test_a_measure_finds_its_figures(plan: Plan, alike: tuple[str, ...]) -> None:
    name = seeded(alike).choice(alike)
    plan.report.measures = [name]
    # A measure in which a job was lost, or done twice, fails.
    attempt(plan, name, MEASURES[name])
    assert plan.report.failures == {}, name
    rows = plan.report.rows()
    assert [row for row in rows if row["ours"] is None or row["verdict"].startswith("failed")] == []
    assert {row["peer"] for row in rows if row["verdict"].startswith("skipped")} <= OUTSIDE.keys()


def test_the_whole_bench_is_planned_to_end_within_40_minutes() -> None:
    assert sum(measure.budget for measure in MEASURES.values()) <= 40 * 60


@pytest.mark.parametrize("figure", [figure for figures in FIGURES.values() for figure in figures], ids=lambda f: f.name)
def test_every_figure_is_documented(figure: Figure) -> None:
    """`python -m benchmarks --figures` prints the lines."""
    assert figure.documented in (ROOT / "docs" / "performance.md").read_text().splitlines()


# --- one that breaks -------------------------------------------------------------------------------------


def broken(plan: Plan) -> None:
    plan.report.add("reset", OURS, 5)
    raise ValueError("no such tenant\nand more that is not for a table")


def test_a_measure_that_breaks_costs_only_its_own_rows(plan: Plan, capfd: pytest.CaptureFixture[str]) -> None:
    plan.report.measures = ["quota", "apply"]
    attempt(plan, "quota", Measure(broken, 60))
    attempt(plan, "apply", Measure(lambda plan: plan.report.add("apply-cpu-postgres", OURS, 300), 60))
    rows = plan.report.rows()
    assert {row["verdict"] for row in rows if row["measure"] == "quota"} == {"failed: ValueError: no such tenant"}
    assert {row["ours"]: row["verdict"] for row in rows if row["figure"] == "apply-cpu-postgres"} == {
        300: "skipped: not asked for"
    }
    assert "in broken" in plan.report.details["failures"]["quota"]
    assert "in broken" in capfd.readouterr().err


def test_a_measure_that_hangs_is_broken_off(plan: Plan) -> None:
    plan.report.measures = ["apply"]

    def hang(plan: Plan) -> None:
        # Also where it waits for a peer: then it is not the peer's failure.
        with plan.turn_of("pgqueuer"):
            threading.Event().wait()

    attempt(plan, "apply", Measure(hang, 0.1))
    assert {row["verdict"] for row in plan.report.rows()} == {"failed: not done within 0.2 s"}


def test_a_peer_that_breaks_costs_only_the_rows_beside_it(plan: Plan) -> None:
    plan.report = Report(["drain"], {"procrastinate": "the package index is out of reach"})
    plan.sizes = replace(QUICK, runs=3)
    turns = []

    def measure(plan: Plan) -> None:
        for _ in plan.rounds():
            for system in filter(plan.takes_part, (OURS, "pgqueuer", "procrastinate")):
                with plan.turn_of(system):
                    turns.append(system)
                    if system != OURS:
                        raise BenchError("ended by itself\nits log")
                    plan.report.add("drain", system, 10)

    attempt(plan, "drain", Measure(measure, 60))
    assert turns == [OURS, "pgqueuer", OURS, OURS]
    verdicts = {row["peer"]: (row["ours"], row["verdict"]) for row in plan.report.rows()}
    assert verdicts["procrastinate"] == (10, "skipped: the package index is out of reach")
    assert verdicts["pgqueuer"] == (10, "failed: pgqueuer: ended by itself")


def test_no_round_begins_that_the_budget_does_not_hold(plan: Plan) -> None:
    plan.sizes = replace(QUICK, runs=5)
    plan.begin("apply", budget=0)
    assert list(plan.rounds()) == [0]
    plan.begin("apply", budget=60)
    assert list(plan.rounds()) == [0, 1, 2, 3, 4]


def test_a_figure_that_nobody_declared_is_an_error() -> None:
    with pytest.raises(LookupError, match="does not know the figure speed"):
        Report(["apply"]).add("speed", OURS, 1)


def test_a_peer_that_cannot_be_installed_says_why() -> None:
    with pytest.raises(CannotInstall, match="no index here"):
        run([sys.executable, "-c", "import sys; sys.exit('much\\nno index here')"])


def test_a_database_that_a_superuser_sits_in_is_dropped_when_they_have_left(embedded: Embedded, plan: Plan) -> None:
    """Autovacuum is one, for as long as it looks at a table."""
    urls = plan.servers.create("bench_sat_in")
    assert embedded.postgres is not None
    with psycopg.connect(embedded.postgres.url(SUPERUSER, "bench_sat_in")) as sitting:
        with psycopg.connect(plan.servers.urls("postgres").owner, autocommit=True) as admin:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                admin.execute("DROP DATABASE bench_sat_in WITH (FORCE)")
        dropping = threading.Thread(target=plan.servers.drop, args=("bench_sat_in",))
        dropping.start()
        sitting.close()
    dropping.join(60)
    assert not dropping.is_alive()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(urls.owner)


# --- the verdicts ----------------------------------------------------------------------------------------


def report_of(*comparisons: Comparison, absent: dict[str, str] | None = None) -> Report:
    return Report(["m"], absent or {}, {"m": [Figure("speed", "jobs/s", "speed", comparisons)]})


def test_a_bar_is_held_against_the_ratio_of_medians() -> None:
    report = report_of(Comparison("peer", at_least=2), Comparison("other", at_least=1.5), Comparison(None, at_most=5))
    for ours, theirs in ((10, 5), (30, 5), (20, 50)):
        report.add("speed", OURS, ours)
        report.add("speed", "peer", theirs)
        report.add("speed", "other", 16)
    peer, other, alone = report.rows()
    assert (peer["ours"], peer["theirs"], peer["ratio"], peer["bar"], peer["verdict"]) == (20, 5, 4, ">= 2 x", "met")
    assert (other["ratio"], other["verdict"]) == (1.25, "missed")
    assert (alone["ours"], alone["peer"], alone["bar"], alone["verdict"]) == (20, None, "<= 5", "missed")
    assert report.unmet() == [other, alone]


def test_without_a_bar_a_figure_is_measured_and_without_a_figure_it_failed() -> None:
    report = report_of(Comparison(), Comparison("peer"), Comparison("gone"), absent={"gone": "no npm"})
    report.add("speed", OURS, 10)
    assert [row["verdict"] for row in report.rows()] == ["measured", "failed: not measured", "skipped: no npm"]
    assert [row["peer"] for row in report.unmet()] == ["peer"]


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 61)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (30, 60, 7)


# --- the command -----------------------------------------------------------------------------------------


@pytest.mark.proof
def test_a_quick_run_writes_its_report_and_strict_is_about_the_bars(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*QUICKLY, "--only", "enqueue", "--strict", "--report", tmp_path / "bench.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = {(row["figure"], row["peer"]): row for row in report["rows"]}
    beside_copy = rows["enqueue-bulk", "copy"]
    assert beside_copy["ratio"] == pytest.approx(beside_copy["ours"] / beside_copy["theirs"])
    assert beside_copy["verdict"] in ("met", "missed")
    assert {row["verdict"] for pair, row in rows.items() if pair[1] != "copy"} == {"skipped: not asked for"}
    assert ran.returncode == (beside_copy["verdict"] == "missed"), ran.stdout + ran.stderr
    assert all(figure["runs"] == [figure["median"]] and figure["median"] > 0 for figure in report["figures"])
    assert report["postgres"]["fsync"] == report["postgres"]["synchronous_commit"] == "on"
    assert report["sizes"]["jobs"] == 300
    assert report["machine"]["cpus"] == os.cpu_count()
    assert "verdict" in ran.stdout


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--only", "drain,speed"], "no measure speed; there are drain, "),
        (["--peers", "rq"], "no peer rq; there are pgqueuer, "),
        (["--runs", "0"], "not a number from 1 on: 0"),
    ],
)
def test_what_is_not_understood_is_named(words: list[str], answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments(words)
    assert answer in capsys.readouterr().err


def runs(module: str, process: psutil.Process) -> bool:
    try:
        return module in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.proof
@pytest.mark.parametrize(
    ("number", "amid"), [(signal.SIGINT, "benchmarks.ours setup"), (signal.SIGTERM, "benchmarks.worker:start")]
)
def test_a_run_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, amid: str) -> None:
    """By Ctrl-C while it makes its tables, and when workers are at work."""
    with (tmp_path / "out").open("wb") as out:
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        command = [*QUICKLY, "--only", "drain", "--jobs", "2000", "--report", tmp_path / "bench.json"]
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out)
    try:
        family = psutil.Process(run.pid)
        until(lambda: any(runs(amid, each) for each in family.children(recursive=True)), f"{amid} to run", seconds=90)
        begun = family.children(recursive=True)
        run.send_signal(number)
        assert run.wait(60) == 128 + number
        until(lambda: not any(alive(process) for process in begun), "all of them to end")
    finally:
        run.kill()
    assert [path.name for path in tmp_path.glob("viral-bench-*")] == []


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
