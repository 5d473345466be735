"""The model of docs/scaling.md: what it says follows from the figures, and a figure that is not there is named."""

import json
from pathlib import Path

import pytest

from benchmarks.figures import FIGURES
from benchmarks.report import OURS
from benchmarks.scaling import FULL, PEAK, PLACES, PROCESSES, acts, main, need, tables
from domain.ops.connections import of_fleet

FOUND = {(figure.name, OURS): 1.0 for all_of in FIGURES.values() for figure in all_of} | {
    (figure, system): 0.5
    for figure in ("scale", "scale-cpu-worker", "scale-cpu-postgres")
    for system in ("one", "two", OURS)
}


def test_ten_times_as_many_tenants_need_ten_times_as_much() -> None:
    day = acts(FOUND)
    few, many = need(day, 1000), need(day, 10_000)
    assert many.postgres == pytest.approx(10 * few.postgres)
    assert many.wal == pytest.approx(10 * few.wal)
    mean = sum(act.a_day * act.postgres for act in day) * 1000 / 86_400 / 1000
    assert few.postgres == pytest.approx(PEAK * mean)


def test_dynos_have_room_for_the_work_and_for_what_waits() -> None:
    for tenants in (1000, 10_000, 100_000):
        found = need(acts(FOUND), tenants)
        assert found.worker_dynos * PROCESSES * FULL >= found.worker
        assert found.worker_dynos * PROCESSES * PLACES >= found.waiting
        dynos = found.worker_dynos + found.drawing_dynos
        assert found.connections == of_fleet(web=found.web_dynos, workers=dynos, processes=PROCESSES)


def test_the_check_says_how_far_the_model_is_off() -> None:
    *_, last = tables(FOUND | {("scale", OURS): 400.0}, cores=2)[-1].splitlines()
    assert last == "| 4 | 800 | 2,000 | 800 | 400 | -50% |"


def test_a_figure_that_was_not_measured_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"figures": [], "machine": {"cpus": 2}}))
    with pytest.raises(SystemExit, match="burst-cpu-worker"):
        main(path)
