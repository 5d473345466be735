"""R6: processes that are stopped inside their handlers past their lease, and wake up when others have done the work."""

import os
import shutil
import signal
from pathlib import Path
from uuid import UUID

from db.transaction import SYSTEM
from tests.chaos.fleet import FAST, SHIPPED, Fleet
from tests.chaos.jobs.counted import hold
from tests.chaos.ledger import attempts
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, settle
from tests.wait import until

WAYS = ("before", "written", "nothing", "written")
"""Where a zombie of each round stands: see `hold`."""
SECOND_EFFECTS = "SELECT count(*) - count(DISTINCT job_id) FROM chaos_ledger WHERE job_id = ANY(%s)"


def zombies(stage: Stage, finding: Finding) -> None:
    """R6: every commit of a zombie is refused."""
    dynos, threads, rounds = stage.size((4, 8, 7), (1, 4, 2))
    if stage.sabotage:
        rounds = 1  # one is enough to be caught
    refused = trials = 0
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.scheduler()
        for n in range(rounds):
            trials += dynos * threads
            refused += one_round(system, fleet, n, dynos, threads)
        settle(finding, system, fleet, None)
        finding.saw("attempts lost", attempts(system, "lost"), least=trials)
    if stage.full and not stage.sabotage:
        with stage.system_and_fleet(**SHIPPED) as (system, fleet):
            fleet.scheduler()
            trials += threads
            refused += one_round(system, fleet, 1, 1, threads)
            part = Finding(finding.name, "as shipped")
            settle(part, system, fleet, None)
            finding.expect(part.verdict == "passed", f"as shipped: {'; '.join(part.broken)}")
            finding.figures["as_shipped"] = part.figures
    finding.trials = trials
    finding.saw("zombies woken", trials)
    finding.hit["refused"] = refused
    finding.expect(refused == trials, f"{trials - refused} of {trials} zombies were not refused")


def one_round(system: System, fleet: Fleet, number: int, dynos: int, threads: int) -> int:
    """Returns how many zombies said that they were refused."""
    folder = system.folder / f"round{number}"
    folder.mkdir()
    folder.chmod(0o755)
    way = WAYS[number % len(WAYS)]
    before = refused_finishes(fleet)
    # They sleep in the middle of their transactions: each thread needs a connection of the pool, and a place.
    sleepers = fleet.dynos(dynos, threads=threads, DB_POOL_SIZE=str(threads), WORKER_WAITING=str(threads))
    fleet.await_signed_on(dynos)
    ids = enqueue(system, folder, dynos * threads, way)
    until(lambda: len(list(folder.glob("*.held"))) == len(ids), "every thread to be inside a handler")
    pids = [pid for sleeper in sleepers for pid in fleet.processes(sleeper)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        others = fleet.dynos(1, threads=threads)
        done = "SELECT count(*) FROM job_queue WHERE id = ANY(%s) AND status = 'completed'"
        until(lambda: system.value(done, (ids,)) == len(ids), "others to do the work", seconds=100)
        (folder / "go").touch()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    # With the fence broken on purpose, a zombie's effect stays beside that of whoever did its work.
    until(
        lambda: refused_finishes(fleet) - before + system.value(SECOND_EFFECTS, (ids,)) >= len(ids),
        "every zombie to come to its end",
        seconds=60,
        every=0.1,
    )
    found = refused_finishes(fleet) - before
    for member in [*sleepers, *others]:
        member.restarted = True
        os.killpg(member.pid, signal.SIGKILL)
        for pid in fleet.processes(member):
            os.kill(pid, signal.SIGKILL)
    system.rows("UPDATE workers SET lease_until = now()")
    shutil.rmtree(folder)
    return found


def enqueue(system: System, folder: Path, number: int, way: str) -> list[UUID]:
    with system.app.db.transaction(SYSTEM) as tx:
        return [hold.enqueue(tx, folder=str(folder), name=str(n), how=way) for n in range(number)]


def refused_finishes(fleet: Fleet) -> int:
    """Jobs whose finish was refused, alone or together with others."""
    alone = together = 0
    for line in fleet.lines():
        alone += line.get("event") == "job.lease_lost"
        together += len(line["job_ids"]) if line.get("event") == "jobs.lease_lost" else 0
    return alone + together
