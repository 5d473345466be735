"""R8: several schedulers, killed at random, through a simulated day; and after an outage, what each schedule owes."""

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from scheduler.schedule import runs_between
from tests.chaos.fleet import FAST, Fleet, Order
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.simulated_scheduler import BETWEEN, SCHEDULES, set_clock
from tests.chaos.stage import Stage
from tests.wait import until

START = datetime(2026, 12, 31, 12, 0, 30, tzinfo=UTC)
"""A day over the turn of a year."""

OUTAGE = timedelta(hours=3)
# Schedulers of the product may be at work beside, by the calendar of the product and the clock on the wall.
OF_SCHEDULES = f"job_id IS NOT NULL AND schedule IN ({', '.join(repr(each.name) for each in SCHEDULES)})"
FIRED = f"SELECT schedule, fire_at, job_id FROM schedule_fires WHERE {OF_SCHEDULES}"
SCHEDULE_RUNS = f"SELECT count(*) FROM schedule_fires WHERE {OF_SCHEDULES}"
TWICE = """
SELECT count(*) FROM (
    SELECT payload ->> 'name' FROM job_queue WHERE payload ? 'name' GROUP BY 1 HAVING count(*) > 1
) AS names
"""
Fire = tuple[str, datetime]


def day(stage: Stage, finding: Finding) -> None:
    """R8, with two schedulers and with five; with three in the slice."""
    finding.lost = finding.doubled = 0
    for copies in stage.size((2, 5), (3,)):
        one_day(stage, finding, copies, hours=stage.size(24, 4))


def one_day(stage: Stage, finding: Finding, copies: int, hours: int) -> None:
    rng = stage.rng()
    with stage.system_and_fleet(**FAST) as (system, fleet):
        time_file, flags = clockwork(system, fleet)
        set_clock(time_file, START)
        order = Order("calendar", "tests.chaos.simulated_scheduler:run")
        for _ in range(copies):
            fleet.start(order)
        until(lambda: system.value("SELECT count(*) FROM schedule_fires") == len(SCHEDULES), "the first sight")
        expected: set[Fire] = set()
        kills = moments = 0
        now = START
        for _ in range(hours * 60):
            before, now = now, now + timedelta(minutes=1)
            due = {(each.name, at) for each in SCHEDULES for at in runs_between(each.trigger, before, now)}
            if not due:
                continue
            moments += 1
            if moments % 7 == 0:
                (flags / BETWEEN).touch()
            set_clock(time_file, now)
            if moments % 7 == 3:
                kills += kill_one(fleet, rng)
            expected |= due
            await_runs(system, fleet, len(expected))
        finding.trials += len(expected)
        finding.saw(f"schedulers killed at random ({copies})", kills)
        compare(system, finding, expected, f"{copies} schedulers")
        outage(system, fleet, finding, expected, now, time_file, copies)
        notes = len(list((flags / "hits").iterdir()))
        finding.saw("killed between fire and job", notes)


def clockwork(system: System, fleet: Fleet) -> tuple[Path, Path]:
    """The file that tells the time, and the folder of flags."""
    flags = system.folder / "flags"
    (flags / "hits").mkdir(parents=True)
    time_file = system.folder / "now"
    fleet.environment |= {"CHAOS_TIME": str(time_file), "CHAOS_FLAGS": str(flags)}
    return time_file, flags


def kill_one(fleet: Fleet, rng: Random) -> int:
    alive = fleet.up("calendar")
    with suppress(ProcessLookupError, IndexError):
        os.kill(rng.choice(alive).pid, signal.SIGKILL)
        return 1
    return 0


def await_runs(system: System, fleet: Fleet, number: int) -> None:
    until(
        lambda: (system.value(SCHEDULE_RUNS) >= number) or (fleet.restart_fallen() and False),
        f"{number} schedule runs to be made",
        seconds=60,
        every=0.002,
    )


def outage(
    system: System, fleet: Fleet, finding: Finding, expected: set[Fire], now: datetime, time_file: Path, copies: int
) -> None:
    """No scheduler for three hours; then each policy owes something else."""
    for member in fleet.up("calendar"):
        with suppress(ProcessLookupError):  # it has struck itself dead meanwhile
            os.kill(member.pid, signal.SIGKILL)
    until(lambda: not fleet.up("calendar"), "all schedulers to be dead")
    back = (now + OUTAGE).replace(second=0)
    owed: set[Fire] = set()
    for each in SCHEDULES:
        missed = list(runs_between(each.trigger, now, back))
        if each.catch_up == "latest":
            missed = missed[-1:]
        elif each.catch_up == "skip":
            missed = [at for at in missed if back - at <= each.grace]
        owed |= {(each.name, at) for at in missed}
    set_clock(time_file, back)
    fleet.restart_fallen()
    await_runs(system, fleet, len(expected | owed))
    compare(system, finding, expected | owed, f"after three hours without any of {copies}")
    finding.saw("schedule runs owed after an outage", len(owed))


def compare(system: System, finding: Finding, expected: set[Fire], when: str) -> None:
    rows = system.rows(FIRED)
    runs = {(name, at) for name, at, _ in rows}
    with_job = system.value("SELECT count(*) FROM job_queue WHERE id = ANY(%s)", ([job for _, _, job in rows],))
    names = {name for (name,) in system.rows("SELECT payload ->> 'name' FROM job_queue")}
    lost = len(expected - runs) + len(rows) - with_job
    doubled = len(runs - expected) + system.value(TWICE) + len(names - {f"{n}@{at.isoformat()}" for n, at in runs})
    finding.lost = (finding.lost or 0) + lost
    finding.doubled = (finding.doubled or 0) + doubled
    finding.expect(
        not lost, f"{when}: schedule runs lost: {sorted(expected - runs)[:5]}, jobs {with_job} of {len(rows)}"
    )
    finding.expect(not doubled, f"{when}: not owed or twice: {sorted(runs - expected)[:5]}")
