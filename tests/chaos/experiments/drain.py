"""R12: a platform stops a dyno by a SIGTERM to every process at once, and SIGKILL thirty seconds later."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import redis

from db.transaction import SYSTEM
from tests.chaos.fleet import FAST, SHIPPED, Fleet
from tests.chaos.fork_server import ROOT
from tests.chaos.jobs.counted import alone, hold
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, settle
from tests.wait import until

BUDGET = 30
NAP = 3.0

BURNED = """
SELECT coalesce(sum(attempts), 0)::int, coalesce(sum(crashes), 0)::int FROM job_queue
WHERE id = ANY(%s) AND status <> 'completed'
"""
RUNNING = "SELECT id FROM job_queue WHERE id = ANY(%s) AND status = 'running'"
LEASES = "SELECT (SELECT count(*) FROM workers) + (SELECT count(*) FROM job_queue WHERE status = 'running')"


def drain(stage: Stage, finding: Finding) -> None:
    """R12, and the same done to a plain Dramatiq worker."""
    ours(stage, finding)
    control(stage, finding)


def ours(stage: Stage, finding: Finding) -> None:
    """Of the jobs that run, half end within the grace; the others outlast it, and are given back."""
    grace = stage.size(20, 3)
    with stage.system_and_fleet(**(SHIPPED if stage.full else FAST)) as (system, fleet):
        fleet.web()
        fleet.scheduler(warm=False)
        fleet.dynos(2, processes=2, threads=4, grace_s=grace, warm=False)
        fleet.await_signed_on(4)
        with system.app.db.transaction(SYSTEM) as tx:
            long = [hold.enqueue(tx, folder=str(system.folder), name=str(n), how="before") for n in range(8)]
        until(lambda: len(list(system.folder.glob("*.held"))) == len(long), "the long jobs to run")
        with system.app.db.transaction(SYSTEM) as tx:
            short = [alone.enqueue(tx, name=f"short{n}", ms=1500) for n in range(8)]
        until(lambda: len(system.rows(RUNNING, (short,))) >= 4, "short jobs to run", every=0.005)
        with system.app.db.transaction(SYSTEM) as tx:
            waiting = [alone.enqueue(tx, name=f"waiting{n}", ms=10) for n in range(20)]
        caught = [job_id for (job_id,) in system.rows(RUNNING, (short,))]
        took = stop_everything(fleet, repeat=True)
        finding.trials = 1
        finding.saw("processes stopped", len(took))
        finding.saw("short jobs caught in the middle", len(caught))
        finding.figures["exit_s"] = took
        finding.figures["exit_codes"] = {member.log.stem: fleet.exit_code(member) for member in fleet.members}
        finding.figures["slowest_exit_s"] = max(took.values())
        stage.hold_to(25, finding, "slowest_exit_s")
        # The web server ends itself by the signal that it was asked to end by, when all is served.
        codes = {fleet.exit_code(member) for member in fleet.members if member.order.role != "web"}
        finding.expect(codes == {0}, f"exit codes of workers and scheduler: {codes}")
        burned, crashes = system.rows(BURNED, ([*long, *short, *waiting],))[0]
        finding.expect((burned, crashes) == (0, 0), f"{burned} attempts burned, {crashes} crashes counted")
        finding.figures["attempts_burned"] = burned
        ended = system.value("SELECT count(*) FROM job_queue WHERE id = ANY(%s) AND status = 'completed'", (caught,))
        finding.expect(ended == len(caught), f"{len(caught) - ended} jobs that could have finished did not")
        leases = system.value(LEASES)
        finding.expect(leases == 0, f"{leases} leases were not released")
        finding.saw("jobs given back", system.value("SELECT count(*) FROM job_attempts WHERE outcome = 'returned'"), 8)
        (system.folder / "go").touch()
        fleet.scheduler()
        fleet.dynos(1)
        settle(finding, system, fleet, None)


def stop_everything(fleet: Fleet, *, repeat: bool) -> dict[str, float]:
    """SIGTERM to every process; parents pass theirs on, so workers hear two, and here a third. Returns the
    seconds until each member had exited; those that the budget did not suffice for are killed."""
    everybody = [pid for member in fleet.members for pid in (member.pid, *fleet.processes(member))]
    began = time.monotonic()
    signalled(everybody)
    took: dict[str, float] = {}

    def look() -> bool:
        for member in fleet.members:
            if member.log.stem not in took and not fleet.runs(member):
                took[member.log.stem] = round(time.monotonic() - began, 2)
        return len(took) == len(fleet.members)

    if repeat:
        until(lambda: look() or time.monotonic() - began > 1, "a moment to pass")
        signalled(everybody)
    try:
        until(look, "everything to exit", seconds=BUDGET)
    except AssertionError:
        for member in fleet.members:
            took.setdefault(member.log.stem, 999.0)
    return took


def signalled(pids: list[int]) -> None:
    for pid in pids:
        if psutil.pid_exists(pid):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue


def control(stage: Stage, finding: Finding) -> None:
    """The plain worker: what is in the middle of a job when every process hears SIGTERM?"""
    with stage.servers.system(stage.name + "c") as system:
        politely = plain(system, "politely", lambda parent: [parent])
        # One signal that comes while another is still pending is none: so the parent hears it last, and more than once.
        dynos = [plain(system, f"dyno{n}", everybody) for n in range(stage.size(3, 2))]
        dyno = max(dynos, key=lambda each: int(each["begun"] - each["ended"]))
    finding.figures["plain_dramatiq"] = {"sigterm_to_the_parent_only": politely, "sigterm_to_all": dynos}
    finding.notes.append(
        f"control, plain Dramatiq: SIGTERM to the parent alone ended {politely['ended']} of {politely['begun']} jobs;"
        f" to all processes {dyno['ended']} of {dyno['begun']} (exit {dyno['exit_code']} after {dyno['exit_s']} s)"
    )
    finding.expect(politely["ended"] == politely["begun"], "control: even a polite SIGTERM lost jobs; proves nothing")
    finding.saw("control jobs killed", sum(each["begun"] - each["ended"] for each in dynos))


def everybody(parent: int) -> list[int]:
    return [*(child.pid for child in psutil.Process(parent).children()), parent]


def plain(system: System, name: str, whom: Callable[[int], list[int]]) -> dict[str, Any]:
    folder = system.folder / name
    folder.mkdir()
    env = {"REDIS_URL": system.settings.redis_url, "CHAOS_PLAIN": str(folder), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "dramatiq", "tests.chaos.plain", "--processes=2", "--threads=2"]
    with (folder / "log").open("wb") as log:
        dyno = subprocess.Popen(argv, cwd=ROOT, env=os.environ | env, stdout=log, stderr=log, start_new_session=True)
    client = redis.Redis.from_url(system.settings.redis_url)
    try:
        send(env, 4)
        until(lambda: len(list(folder.glob("*.begun"))) == 4, "the plain worker to be busy")
        began = time.monotonic()
        for pid in whom(dyno.pid):
            os.kill(pid, signal.SIGTERM)
        code = dyno.wait(BUDGET)
        took = time.monotonic() - began
    finally:
        client.flushall()
        client.close()
        if dyno.poll() is None:
            os.killpg(dyno.pid, signal.SIGKILL)
            dyno.wait()
    ended = len(list(folder.glob("*.ended")))
    return {"begun": 4, "ended": ended, "exit_code": code, "exit_s": round(took, 2)}


def send(env: dict[str, str], number: int) -> None:
    """In another process: a broker set here would be this process's for good."""
    code = f"from tests.chaos.plain import nap\nfor n in range({number}): nap.send(str(n), {NAP})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, check=True)
