"""R7: the clocks of worker and scheduler hosts are wrong by ten minutes, both ways. Only Postgres's may count."""

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any

from db.transaction import SYSTEM
from tests.chaos.clock import EVERY_SECOND_ONE
from tests.chaos.fleet import FAST, Fleet
from tests.chaos.jobs.counted import effect, hold
from tests.chaos.ledger import attempts
from tests.chaos.report import Finding
from tests.chaos.stage import Stage, settle
from tests.wait import until

SKEW = 600
LATE = 4.0
"""Seconds after its moment in which a delayed job, a rescue or a fire must have happened: a sweep, and busy cores."""

DELAYS = """
SELECT min(late)::float, max(late)::float
FROM (SELECT extract(epoch FROM started_at - scheduled_for) AS late FROM job_queue WHERE id = ANY(%s)) AS jobs
"""
RESCUES = """
SELECT min(late)::float, max(late)::float, count(*) FROM (
    SELECT extract(epoch FROM a.ended_at - w.lease_until) AS late
    FROM job_attempts a JOIN workers w ON w.id = a.worker_id WHERE a.outcome = 'lost'
) AS rescued
"""
SCHEDULE_RUNS = (
    "SELECT fire_at, extract(epoch FROM created_at - fire_at)::float FROM schedule_fires WHERE job_id IS NOT NULL"
)


def skewed(stage: Stage, finding: Finding) -> None:
    """R7."""
    with stage.system_and_fleet(**FAST) as (system, fleet):
        library = compiled(system.folder)
        if library is None:
            finding.skip(
                "there is no C compiler here to make a wrong clock with (Debian: apt-get install gcc libc6-dev)"
            )
            return

        def at(seconds: int) -> dict[str, Any]:
            return {"LD_PRELOAD": str(library), "CHAOS_SKEW": str(seconds)}

        for skew in (SKEW, -SKEW):
            fleet.scheduler(warm=False, CHAOS_CALENDAR="0.5", **at(skew))
        fast = fleet.dyno(threads=8, warm=False, **at(SKEW))
        slow = fleet.dyno(threads=8, warm=False, **at(-SKEW))
        fleet.await_signed_on(2)
        began = system.value("SELECT clock_timestamp()")
        with system.app.db.transaction(SYSTEM) as tx:
            held = [hold.enqueue(tx, folder=str(system.folder), name=str(n), how="before") for n in range(8)]
            later = [
                effect.with_options(delay=timedelta(seconds=1 + n / 4)).enqueue(tx, name=f"later{n}") for n in range(24)
            ]
        until(lambda: len(list(system.folder.glob("*.held"))) == len(held), "the long jobs to run")
        # Longer than three leases: a lease that somebody measured by a wrong clock would be over, or never be.
        past = began + timedelta(seconds=8)
        until(lambda: system.value("SELECT clock_timestamp() > %s", (past,)), "three leases to pass", every=0.2)
        finding.expect(attempts(system, "lost") == 0, "a live worker's lease was held to be over")
        finding.trials = len(held) + len(later)
        for dyno in (fast, slow):
            for pid in fleet.processes(dyno):
                os.kill(pid, signal.SIGKILL)
            dyno.restarted = True
        (system.folder / "go").touch()
        fleet.dyno(threads=8, warm=False, **at(SKEW))
        settle(finding, system, fleet, None)
        early, late, rescued = system.rows(RESCUES)[0]
        finding.saw("leases run out", rescued, least=len(held))
        finding.figures["rescued_after_lease_s"] = (round(early or 0, 2), round(late or 0, 2))
        finding.expect(rescued and early >= 0 and late <= LATE, f"rescued {early} to {late} s after the lease was over")
        early, late = system.rows(DELAYS, (later,))[0]
        finding.figures["delayed_started_after_s"] = (round(early, 2), round(late, 2))
        finding.expect(early >= 0 and late <= LATE, f"delayed jobs began {early} to {late} s after their moment")
        runs(finding, system.rows(SCHEDULE_RUNS))
        finding.saw("processes with a wrong clock", wrong_clocks(fleet), least=4)


def compiled(folder: Path) -> Path | None:
    """The wrong clock as a library to be preloaded (libfaketime 0.9.10 makes Python's sleep fail, or hang)."""
    compiler = which("cc")
    if compiler is None:
        return None
    library = folder / "skew.so"
    source = Path(__file__).resolve().parents[1] / "skew.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def runs(finding: Finding, rows: list[tuple[datetime, float]]) -> None:
    moments = sorted(at for at, _ in rows)
    finding.saw("schedule runs", len(moments), least=3)
    if not moments:
        return
    step = timedelta(seconds=EVERY_SECOND_ONE)
    expected = [moments[0] + n * step for n in range(len(moments))]
    finding.expect(moments == expected, f"schedule runs are missing or not on time: {moments}")
    lateness = [late for _, late in rows]
    finding.figures["fires_late_s"] = (round(min(lateness), 2), round(max(lateness), 2))
    finding.expect(
        min(lateness) >= 0 and max(lateness) <= LATE, f"schedule runs came {min(lateness)} to {max(lateness)} s late"
    )


def wrong_clocks(fleet: Fleet) -> int:
    """Processes whose own log lines are minutes away from the true time."""
    wrong = set()
    for line in fleet.lines():
        if stamp := line.get("timestamp"):
            away = datetime.fromisoformat(stamp) - datetime.now(UTC)
            if abs(away.total_seconds()) > SKEW / 2:
                wrong.add(line["process"])
    return len(wrong)
