"""R1: worker processes are killed at random while they work. R11: jobs that take their process down with them."""

import os
import signal
import time
from contextlib import suppress
from random import Random

import psutil

from db.transaction import SYSTEM
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from tests.chaos.fleet import FAST, SHIPPED, Fleet, Member
from tests.chaos.jobs.counted import deadly, effect
from tests.chaos.ledger import attempts, await_finished
from tests.chaos.load import feeding
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, landed, settle
from tests.wait import until

BACKLOG = 400
"""Jobs that wait while the kills go on, so that most of those killed are in the middle of something."""

BUSY = "SELECT w.pid FROM workers w JOIN job_queue q ON q.worker_id = w.id AND q.status = 'running'"
STATUS = "SELECT status FROM job_queue WHERE id = %s"
P95_WAIT = """
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY started_at - created_at) FROM job_queue WHERE id = ANY(%s)
"""


def kills(stage: Stage, finding: Finding) -> None:
    """R1 with a short lease; then again, a few kills with everything as shipped."""
    rng = stage.rng()
    number, jobs = stage.size((200, 20_000), (8, 600))
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.scheduler()
        fleet.dynos(2, processes=2)
        fleet.dynos(2)
        fleet.await_signed_on(6)
        with feeding(system, rng, target=BACKLOG) as feeder:
            for n in range(number):
                time.sleep(rng.uniform(0.05, 0.35))  # the moment of the kill is left to chance
                feeder.target = BACKLOG + round((jobs - BACKLOG) * (n + 1) / number)
                # Every other kill is of a process that runs something: some of what is enqueued just now.
                if n % 2:
                    kill_a_busy_one(system, fleet)
                else:
                    kill_one(fleet, rng)
                fleet.restart_fallen()
                until(lambda: fleet.restart_fallen() or len(fleet.signed_on()) >= 2, "a worker to be left")
                if stage.left() < 0:
                    break
            finding.trials = n + 1
            until(lambda: len(feeder.promised) >= feeder.target, "all jobs to be enqueued")
            settle(finding, system, fleet, feeder, restarting=True)
        finding.saw("kills amid jobs", landed(system), least=number // 8)
        finding.saw("attempts lost", attempts(system, "lost"))
    if stage.full and not stage.sabotage:
        shipped(stage, finding, rng)


def shipped(stage: Stage, finding: Finding, rng: Random) -> None:
    part = Finding(finding.name, "as shipped")
    with stage.system_and_fleet(**SHIPPED) as (system, fleet):
        fleet.scheduler(warm=False)
        fleet.dynos(2, processes=2, warm=False)
        fleet.await_signed_on(4)
        with feeding(system, rng, per_second=100) as feeder:
            for n in range(3):
                until(lambda n=n: len(feeder.promised) > 300 * (n + 1), "some load")  # type: ignore[misc]
                kill_a_busy_one(system, fleet)
            settle(part, system, fleet, feeder, restarting=True)
        part.saw("kills amid jobs, lease as shipped", landed(system), least=2)
    finding.hit |= part.hit
    finding.figures["as_shipped"] = {"recovery_s": part.recovery_s, **part.figures}
    finding.expect(part.verdict == "passed", f"as shipped: {'; '.join(part.broken)}")
    finding.recovery_s = max(finding.recovery_s or 0, part.recovery_s or 0)


def kill_one(fleet: Fleet, rng: Random) -> None:
    """A worker process, usually; one time in ten a whole dyno at once, one time in twenty the parent."""
    dynos = fleet.up()
    if not dynos:
        return
    dyno: Member = rng.choice(dynos)
    chance = rng.random()
    with suppress(ProcessLookupError):
        if chance < 0.1:
            os.killpg(dyno.pid, signal.SIGKILL)
        elif chance < 0.15:
            os.kill(dyno.pid, signal.SIGKILL)
        elif processes := fleet.processes(dyno):
            os.kill(rng.choice(processes), signal.SIGKILL)


def kill_a_busy_one(system: System, fleet: Fleet) -> None:
    """A process that lives and runs something at this moment; dynos that have fallen before are started again."""
    until(lambda: kill_if_busy(system) or (fleet.restart_fallen() and False), "a worker to be busy", every=0.001)


def kill_if_busy(system: System) -> bool:
    for (pid,) in system.rows(BUSY):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def poison(stage: Stage, finding: Finding) -> None:
    """R11: each poison job is away after two crashes, and the others finish after the restart."""
    rng = stage.rng()
    number = stage.size(10, 2)
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.workers(2)
        with feeding(system, rng, per_second=40) as feeder:
            ids = []
            for n in range(number):
                with system.app.db.transaction(SYSTEM) as tx:
                    ids.append(deadly.enqueue(tx, way="exit" if n % 2 else "kill"))
                until(
                    lambda: (fleet.restart_fallen(), system.value(STATUS, (ids[-1],)) == "failed")[1],
                    "the poison job to be quarantined",
                    seconds=60,
                )
            until(lambda: (fleet.restart_fallen(), len(fleet.signed_on()) >= 2)[1], "both dynos to be back")
            with system.app.db.transaction(SYSTEM) as tx:
                after = [effect.enqueue(tx, name=f"after{n}") for n in range(200)]
            await_finished(system, 60)
            settle(finding, system, fleet, feeder, restarting=True)
        finding.trials = number
        crashes = system.rows("SELECT crashes, attempts, error_message FROM job_queue WHERE id = ANY(%s)", (ids,))
        enough = CRASHES_BEFORE_QUARANTINE
        finding.expect(all(row[0] == enough for row in crashes), f"not after {enough} crashes each: {crashes}")
        finding.expect(all("quarantined" in row[2] for row in crashes), f"not quarantined: {crashes}")
        finding.saw("poison crashes", sum(row[0] for row in crashes), least=enough * number)
        p95 = system.value(P95_WAIT, (after,)).total_seconds()
        finding.figures["p95_wait_after_restart_s"] = round(p95, 3)
        stage.hold_to(2, finding, "p95_wait_after_restart_s")
