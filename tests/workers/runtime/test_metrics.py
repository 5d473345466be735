"""What processes count is summed in Postgres, each case once."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM, Contended
from domain.ops.metrics import METRICS, OTHER
from workers.app import App
from workers.runtime.metrics import Metrics, MetricsReport

SENT, WAIT = "viral_webhooks_total", "viral_job_wait_seconds"


def reporting(app: App, metrics: Metrics) -> MetricsReport:
    return MetricsReport(app.db, metrics, role="test", release="1")


def totals(app: App, name: str) -> dict[tuple[str, ...], Decimal]:
    with app.db.transaction(SYSTEM) as tx:
        found = tx.series.totals().get(name, [])
    return {tuple(row.labels[label] for label in METRICS[name].labels): row.value for row in found}


def rows(app: App, query: str) -> list[Any]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute(query.encode()).fetchall()


def test_what_is_counted_is_summed_over_processes_and_kept_by_the_minute(app: App) -> None:
    one, other = Metrics({"queue": ["default"]}), Metrics({"queue": ["default"]})
    reports = [reporting(app, one), reporting(app, other)]
    one.count(SENT, "stripe", "accepted", by=2)
    other.count(SENT, "stripe", "accepted")
    one.observe(WAIT, 0.3, "default")
    other.observe_all(WAIT, [0.3, 7200.0], "default")
    for each in reports:
        assert each.send()
        assert not each.send(), "nothing new is nothing to report"
    one.count(SENT, "clerk", "malformed")
    assert reports[0].send()
    assert totals(app, SENT) == {("stripe", "accepted"): 3, ("clerk", "malformed"): 1}
    with app.db.transaction(SYSTEM) as tx:
        [wait] = tx.series.totals()[WAIT]
    assert (wait.value, sum(wait.buckets or ()), (wait.buckets or ())[-1]) == (Decimal("7200.6"), 3, 1)
    assert len(wait.buckets or ()) == len(METRICS[WAIT].buckets) + 1
    kept = rows(app, "SELECT name, sum(value) FROM system_metrics WHERE step = 'minute' GROUP BY name")
    assert dict(kept) == {SENT: 4, WAIT: Decimal("7200.6")}


def test_a_report_that_comes_twice_or_late_counts_once(app: App) -> None:
    metrics = Metrics()
    report = reporting(app, metrics)
    metrics.count(SENT, "stripe", "accepted")
    [first] = metrics.counted()
    metrics.count(SENT, "stripe", "accepted")
    [second] = metrics.counted()
    reporter = vars(report)["_reporter"]
    for number, counted in ((1, first), (1, first), (2, first), (3, second), (2, first), (3, second)):
        with app.db.transaction(SYSTEM) as tx:
            tx.series.report(reporter, number, [counted], reported_before=False)
    assert totals(app, SENT) == {("stripe", "accepted"): 2}


def test_what_no_list_has_is_other(app: App) -> None:
    metrics = Metrics({"job_type": ["quota.reset_due"]})
    for name in ("quota.reset_due", "<script>", "drop", "drop"):
        metrics.count("viral_jobs_enqueued_total", name)
    reporting(app, metrics).send()
    assert totals(app, "viral_jobs_enqueued_total") == {("quota.reset_due",): 1, (OTHER,): 3}


def test_many_processes_that_report_at_once_lose_nothing(app: App) -> None:
    """Each counts in another order, so rows that were written in the order of counting would deadlock."""
    names = [("stripe", "accepted"), ("stripe", "duplicate"), ("clerk", "accepted"), ("clerk", "malformed")]
    processes = []
    for n in range(12):
        metrics = Metrics()
        for labels in names[n % 4 :] + names[: n % 4]:
            metrics.count(SENT, *labels)
        processes.append((metrics, reporting(app, metrics)))

    def work(process: tuple[Metrics, MetricsReport]) -> None:
        metrics, report = process
        for _ in range(10):
            metrics.count(SENT, *names[0])
            while not report.try_to_send():
                pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, processes))
    expected = Counter({("stripe", "accepted"): 12 * 11}) + Counter(dict.fromkeys(names[1:], 12))
    assert totals(app, SENT) == dict(expected)


def test_one_row_that_is_held_lets_a_report_wait_and_not_for_long(app: App) -> None:
    metrics = Metrics()
    report = reporting(app, metrics)
    metrics.count(SENT, "stripe", "accepted")
    report.send()
    metrics.count(SENT, "stripe", "accepted")
    holding = app.db.connect()
    holding.execute("SELECT set_config('app.tenant_id', '*', false)")
    holding.execute("SELECT FROM metric_totals FOR UPDATE")
    with pytest.raises(Contended):
        report.send()
    holding.close()
    assert report.send()
    assert totals(app, SENT) == {("stripe", "accepted"): 2}


def test_a_process_whose_row_is_gone_goes_on_without_counting_twice(app: App) -> None:
    """Of one that rested for longer than a day, the last report is deleted as that of a dead one."""
    metrics = Metrics({"queue": ["default"]})
    report = reporting(app, metrics)
    metrics.count(SENT, "stripe", "accepted", by=5)
    metrics.observe(WAIT, 1.0, "default")
    report.send()
    with app.db.transaction(SYSTEM) as tx:
        assert tx.series.forget_processes(tx.now() + timedelta(days=1)) == 1
    metrics.count(SENT, "stripe", "accepted")
    metrics.observe(WAIT, 2.0, "default")
    report.send()
    metrics.count(SENT, "stripe", "accepted")
    report.send()
    assert totals(app, SENT) == {("stripe", "accepted"): 7}
    with app.db.transaction(SYSTEM) as tx:
        [wait] = tx.series.totals()[WAIT]
    assert (wait.value, sum(wait.buckets or ())) == (3, 2)


KILLED = """
import json, sys
from workers.app import build
from workers.runtime.metrics import MetricsReport
from workers.settings import Settings
app = build(Settings.model_validate(json.loads(sys.stdin.readline())), name="killed")
report = MetricsReport(app.db, app.metrics, role="test", release="1")
n = 0
while True:
    app.metrics.count("viral_webhooks_total", "stripe", "accepted")
    n += 1
    report.send()
    print(n, flush=True)
"""


def test_a_process_that_is_killed_has_counted_what_it_reported(app: App, database_url: str, redis_url: str) -> None:
    command, pipe = [sys.executable, "-c", KILLED], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=dict(os.environ), text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({"database_url": database_url, "redis_url": redis_url}) + "\n")
        child.stdin.flush()
        for _ in range(20):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        printed = 20 + len(child.stdout.read().split())
    found = totals(app, SENT)[("stripe", "accepted")]
    assert found in (printed, printed + 1), "the last one may have been kept and not printed"
    by_minute = rows(app, "SELECT sum(value) FROM system_metrics WHERE step = 'minute'")
    assert by_minute == [(found,)]


ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["count", "wait", "report", "again", "forget"]), st.integers(1, 400)),
    max_size=40,
)


@given(acts=ACTS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_totals_are_what_was_counted_and_reported(app: App, acts: list[tuple[int, str, int]]) -> None:
    """Whatever is counted, reported, reported again and forgotten, in any order; minutes and totals say the same."""
    with app.db.transaction(SYSTEM) as tx:
        for table in ("metric_totals", "system_metrics", "process_metrics"):
            tx.driver.execute(f"DELETE FROM {table}".encode())
    processes = [Metrics({"queue": ["default"]}) for _ in range(3)]
    reports = [reporting(app, each) for each in processes]
    counted, waited = [[0, 0] for _ in processes], [[0, 0, 0] for _ in processes]
    for which, act, size in acts:
        match act:
            case "count":
                processes[which].count(SENT, "stripe", "accepted", by=size)
                counted[which][0] += size
            case "wait":
                processes[which].observe(WAIT, size / 8, "default")
                waited[which][0] += size
                waited[which][1] += 1
            case "report" | "again":
                reports[which].send()
                if act == "again":
                    reports[which].send()
                counted[which][1] = counted[which][0]
                waited[which][2] = waited[which][1]
            case _:
                with app.db.transaction(SYSTEM) as tx:
                    tx.series.forget_processes(tx.now() + timedelta(days=1))
    for report in reports:
        report.send()
    sums = {
        SENT: (sum(each[0] for each in counted), None),
        WAIT: (Decimal(sum(each[0] for each in waited)) / 8, sum(each[1] for each in waited)),
    }
    with app.db.transaction(SYSTEM) as tx:
        found = tx.series.totals()
    for name, (value, cases) in sums.items():
        rows_ = found.get(name, [])
        assert sum(row.value for row in rows_) == value
        assert cases is None or sum(sum(row.buckets or ()) for row in rows_) == cases
        [(minutes,)] = rows(app, f"SELECT coalesce(sum(value), 0) FROM system_metrics WHERE name = '{name}'")
        assert minutes == value
