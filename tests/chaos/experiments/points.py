"""R2: a process dies at each named moment of the protocol, many times over (see `crash_points`)."""

import os
import signal
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

from scheduler.schedule import runs_between
from tests.chaos.experiments.calendar import SCHEDULE_RUNS, START, TWICE, clockwork
from tests.chaos.fleet import FAST, Fleet, Order
from tests.chaos.ledger import COUNTED
from tests.chaos.load import Feeder, feeding, one_by_one
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.simulated_scheduler import BETWEEN, SCHEDULES, set_clock
from tests.chaos.stage import Stage, settle
from tests.wait import until

IN_WORKERS = (
    "before_enqueue_commit",
    "committed_not_notified",
    "fetched_not_claimed",
    "claim_answer_lost",
    "claimed_before_handler",
    "in_handler",
    "effects_written",
    "commit_sent",
    "commit_answer_lost",
    "finished_not_acked",
)
IN_SCHEDULERS = ("dispatcher_before_notify", BETWEEN)
AHEAD = 150
"""Jobs that are enqueued and not finished: some for every process, and no backlog."""

ENDED = "SELECT count(*) FROM job_queue WHERE job_type IN ('chaos.alone', 'chaos.parent') AND status = 'completed'"
BY_THE_HARNESS = "notified_not_fetched"

# Of the jobs that leave an effect: the product's own calendar runs beside them, and a message may carry its jobs too.
AFTERWARDS = f"""
SELECT count(*) FROM job_queue q WHERE id::text = ANY(%s) AND job_type IN {COUNTED}
AND (status <> 'completed' OR 1 <> (SELECT count(*) FROM chaos_ledger l WHERE l.job_id = q.id))
"""


def points(stage: Stage, finding: Finding) -> None:
    """R2."""
    rng = stage.rng()
    times = stage.size(50, 1)
    with stage.system_and_fleet(**FAST) as (system, fleet):
        time_file, flags = clockwork(system, fleet)
        set_clock(time_file, START)
        for _ in range(2):
            fleet.start(Order("calendar", "tests.chaos.simulated_scheduler:run"))
        fleet.scheduler()
        fleet.workers(5, threads=2)
        with feeding(system, rng, one_by_one, target=AHEAD, batch=5) as feeder:
            crashes = Crashes(stage, system, fleet, flags, time_file, rng)
            crashes.all_of_them(times, feeder)
            until(
                lambda: system.value(SCHEDULE_RUNS) >= crashes.runs or (fleet.restart_fallen() and False),
                "the last schedule runs",
            )
            for member in fleet.up("calendar"):
                member.restarted = True
                with suppress(ProcessLookupError):  # it has struck itself dead meanwhile
                    os.kill(member.pid, signal.SIGKILL)
            settle(finding, system, fleet, feeder, restarting=True)
        for point in (*IN_WORKERS, *IN_SCHEDULERS, BY_THE_HARNESS):
            finding.saw(point, crashes.hits(point), least=times)
        finding.trials = sum(finding.hit.values())
        finding.figures["schedule_runs"] = system.value(SCHEDULE_RUNS)
        finding.expect(
            system.value(SCHEDULE_RUNS) == crashes.runs,
            f"{system.value(SCHEDULE_RUNS)} schedule runs, {crashes.runs} were owed",
        )
        finding.expect(system.value(TWICE) == 0, "a fire, or an enqueuer's retry, made its job twice")
        struck = [job for note in (flags / "hits").iterdir() for job in note.read_text().replace(",", " ").split()]
        wrong = system.value(AFTERWARDS, (struck,))
        finding.expect(wrong == 0, f"{wrong} of the very jobs that were struck did not happen exactly once")
        finding.figures["jobs_struck"] = len(struck)


class Crashes:
    """Places flags, a few at a time, and sees that each is taken."""

    def __init__(self, stage: Stage, system: System, fleet: Fleet, flags: Path, time_file: Path, rng: Random) -> None:
        self.stage = stage
        self.system = system
        self.fleet = fleet
        self.flags = flags
        self.time_file = time_file
        self.rng = rng
        self.now = START
        self.runs = 0
        self.thrown = 0
        """Times that Redis lost messages between notification and fetch."""

    def hits(self, point: str) -> int:
        return self.thrown if point == BY_THE_HARNESS else len(list((self.flags / "hits").glob(f"{point}.*")))

    def all_of_them(self, times: int, feeder: Feeder) -> None:
        points = (*IN_WORKERS, *IN_SCHEDULERS, BY_THE_HARNESS)
        while self.stage.left() > 0:
            missing = [point for point in points if self.hits(point) < times]
            if not missing:
                return
            for point in self.rng.sample(missing, k=min(3, len(missing))):
                if point == BY_THE_HARNESS:
                    self.thrown += bool(self.stage.servers.forget_redis())
                else:
                    (self.flags / point).touch()
            feeder.target = self.system.value(ENDED) + AHEAD
            self.next_minutes()
            self.await_taken()
            if feeder.failure is not None:
                raise feeder.failure

    def next_minutes(self) -> None:
        """Five simulated minutes: the calendar owes what fires in them."""
        until(
            lambda: self.system.value(SCHEDULE_RUNS) >= self.runs or (self.fleet.restart_fallen() and False),
            "the schedule runs",
        )
        before, self.now = self.now, self.now + timedelta(minutes=5)
        self.runs += sum(len(list(runs_between(each.trigger, before, self.now))) for each in SCHEDULES)
        set_clock(self.time_file, self.now)

    def await_taken(self) -> None:
        """Until all flags are taken, or for two seconds: some points need a job of the right kind to come by."""
        deadline = time.monotonic() + 2
        with suppress(AssertionError):
            until(
                lambda: (
                    (self.fleet.restart_fallen(), not any(path.is_file() for path in self.flags.iterdir()))[1]
                    or time.monotonic() > deadline
                ),
                "the flags to be taken",
                every=0.01,
            )
