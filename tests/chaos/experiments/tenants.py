"""R10: one tenant floods the queue; the others must hardly notice, and nobody may run more than is allowed."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.chaos.fleet import FAST
from tests.chaos.jobs.counted import of_tenant
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, settle
from tests.wait import until

QUEUE, MOST, MOST_OF_ONE = "default", 12, 6
SAMPLE_EVERY = 0.1
RUNNING = f"SELECT tenant_id, count(*) FROM job_queue WHERE status = 'running' AND queue = '{QUEUE}' GROUP BY 1"
PACE = """
SELECT count(*), extract(epoch FROM clock_timestamp() - min(started_at))::float FROM job_queue
WHERE tenant_id = %s AND created_at > %s AND status = 'completed'
"""
UNNOTICED = 0.05
"""Seconds of waiting that count as none: on a machine whose cores are all busy, single milliseconds say nothing."""

P95 = """
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at))::float FROM job_queue
WHERE tenant_id = ANY(%s) AND created_at > %s AND started_at IS NOT NULL
"""


def noisy(stage: Stage, finding: Finding) -> None:
    """R10."""
    with stage.system_and_fleet(**FAST) as (system, fleet):
        if system.value("SELECT to_regclass('queue_policies') IS NULL"):
            finding.skip("there are no limits yet (no table queue_policies)")
            return
        loud, *others = [a_tenant(system.app, name=f"tenant {letter}") for letter in "ABCDEFGHIJ"]
        with system.app.db.transaction(SYSTEM) as tx:
            tx.queues.limit(QUEUE, max_running=MOST, per_tenant=MOST_OF_ONE)
        fleet.workers(2, threads=8)
        jobs, seconds = stage.size((50_000, 20), (600, 3))
        with Samples(system) as samples, murmur(system, others) as promised:
            began = system.value("SELECT clock_timestamp()")
            until(lambda: len(promised) >= seconds * len(others), "the quiet time", seconds=seconds * 3 + 5)
            unloaded = system.value(P95, (others, began))
            began = system.value("SELECT clock_timestamp()")
            for first in range(0, jobs, 500):
                with system.app.db.transaction(SYSTEM) as tx:
                    for n in range(first, min(first + 500, jobs)):
                        of_tenant.enqueue(tx, tenant_id=loud, name=f"loud{n}", ms=5)
            backlog = system.value(
                "SELECT count(*) FROM job_queue WHERE status = 'pending' AND tenant_id = %s", (loud,)
            )
            finding.saw("jobs of A in the queue at once", backlog, least=jobs // 4)
            goal = len(promised) + seconds * len(others)
            until(lambda: len(promised) >= goal, "the loud time", seconds=seconds * 3 + 5)
            loaded = system.value(P95, (others, began))
            done, took = system.rows(PACE, (loud, began))[0]
            finding.figures["jobs_per_second_of_a"] = round(done / took)
        # What is left of A's jobs has nothing to add: away with it, without limits.
        with system.app.db.transaction(SYSTEM) as tx:
            tx.queues.limit(QUEUE)
        settle(finding, system, fleet, None)
        finding.trials = samples.taken
        finding.saw("samples", samples.taken, least=20)
        finding.saw("samples at the cap of one tenant", samples.at_cap)
        finding.figures |= {"p95_unloaded_s": unloaded, "p95_loaded_s": loaded, "most_running": samples.most}
        finding.figures["mean_running"] = round(samples.running / samples.taken, 1)
        finding.notes.append(f"p95 wait of B..J {unloaded * 1000:.0f} -> {loaded * 1000:.0f} ms")
        finding.expect(not samples.violations, f"{len(samples.violations)} violations: {samples.violations[:3]}")
        finding.expect(
            loaded <= max(2 * unloaded, UNNOTICED), f"p95 wait of B..J rose from {unloaded:.3f} to {loaded:.3f} s"
        )


class Samples:
    """Looks ten times a second how many jobs run, of whom."""

    def __init__(self, system: System) -> None:
        self.taken = self.at_cap = self.running = 0
        self.most: dict[str, int] = {"queue": 0, "tenant": 0}
        self.violations: list[str] = []
        self._place = system
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self._place.app.db.connect(autocommit=True) as connection:
            connection.execute("SET app.tenant_id = '*'")
            while not self._stop.wait(SAMPLE_EVERY):
                self._look(connection.execute(RUNNING).fetchall())

    def _look(self, rows: Sequence[tuple[Any, ...]]) -> None:
        together = sum(count for _, count in rows)
        of_one = max((count for _, count in rows), default=0)
        self.taken += 1
        self.at_cap += of_one == MOST_OF_ONE
        self.running += together
        self.most = {"queue": max(self.most["queue"], together), "tenant": max(self.most["tenant"], of_one)}
        if together > MOST or of_one > MOST_OF_ONE:
            self.violations.append(f"{together} running, {of_one} of one tenant")

    def __enter__(self) -> "Samples":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


@contextmanager
def murmur(system: System, tenants: Sequence[UUID]) -> Iterator[list[UUID]]:
    """One job a second from each of the quiet tenants."""
    promised: list[UUID] = []
    stop = threading.Event()

    def enqueue() -> None:
        while not stop.is_set():
            for tenant_id in tenants:
                with system.app.db.transaction(SYSTEM) as tx:
                    promised.append(of_tenant.enqueue(tx, tenant_id=tenant_id, name=f"quiet{time.time_ns()}"))
                stop.wait(1 / len(tenants))

    thread = threading.Thread(target=enqueue, daemon=True)
    thread.start()
    try:
        yield promised
    finally:
        stop.set()
        thread.join(10)
