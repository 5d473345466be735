"""R8: several schedulers, killed at random, through a simulated day; and after an outage, what each schedule owes."""

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from scheduler.schedule import runs_between
from tests.chaos.almanac import ALMANAC, BETWEEN, tell
from tests.chaos.fleet import FAST, Fleet, Order
from tests.chaos.ground import Place
from tests.chaos.report import Finding
from tests.chaos.stage import Stage
from tests.wait import until

START = datetime(2026, 12, 31, 12, 0, 30, tzinfo=UTC)
"""A day over the turn of a year."""

OUTAGE = timedelta(hours=3)
# Schedulers of the product may be at work beside, by the calendar of the product and the clock on the wall.
OF_ALMANAC = f"job_id IS NOT NULL AND schedule IN ({', '.join(repr(each.name) for each in ALMANAC)})"
FIRED = f"SELECT schedule, fire_at, job_id FROM schedule_fires WHERE {OF_ALMANAC}"
FIRES = f"SELECT count(*) FROM schedule_fires WHERE {OF_ALMANAC}"
TWICE = """
SELECT count(*) FROM (
    SELECT payload ->> 'name' FROM job_queue WHERE payload ? 'name' GROUP BY 1 HAVING count(*) > 1
) AS names
"""
Fire = tuple[str, datetime]


def day(stage: Stage, finding: Finding) -> None:
    """R8, with two schedulers and with five."""
    finding.lost = finding.doubled = 0
    for copies in (2, 5):
        one_day(stage, finding, copies, hours=stage.size(24, 4))


def one_day(stage: Stage, finding: Finding, copies: int, hours: int) -> None:
    rng = stage.rng()
    with stage.place_and_fleet(**FAST) as (place, fleet):
        time_file, flags = clockwork(place, fleet)
        tell(time_file, START)
        order = Order("almanac", "tests.chaos.almanac:run")
        for _ in range(copies):
            fleet.start(order)
        until(lambda: place.value("SELECT count(*) FROM schedule_fires") == len(ALMANAC), "the first sight")
        expected: set[Fire] = set()
        kills = moments = 0
        now = START
        for _ in range(hours * 60):
            before, now = now, now + timedelta(minutes=1)
            due = {(each.name, at) for each in ALMANAC for at in runs_between(each.trigger, before, now)}
            if not due:
                continue
            moments += 1
            if moments % 7 == 0:
                (flags / BETWEEN).touch()
            tell(time_file, now)
            if moments % 7 == 3:
                kills += kill_one(fleet, rng)
            expected |= due
            await_fires(place, fleet, len(expected))
        finding.trials += len(expected)
        finding.saw(f"schedulers killed at random ({copies})", kills)
        compare(place, finding, expected, f"{copies} schedulers")
        outage(place, fleet, finding, expected, now, time_file, copies)
        notes = len(list((flags / "hits").iterdir()))
        finding.saw("killed between fire and job", notes)


def clockwork(place: Place, fleet: Fleet) -> tuple[Path, Path]:
    """The file that tells the time, and the folder of flags."""
    flags = place.folder / "flags"
    (flags / "hits").mkdir(parents=True)
    time_file = place.folder / "now"
    fleet.environment |= {"CHAOS_TIME": str(time_file), "CHAOS_FLAGS": str(flags)}
    return time_file, flags


def kill_one(fleet: Fleet, rng: Random) -> int:
    alive = fleet.up("almanac")
    with suppress(ProcessLookupError, IndexError):
        os.kill(rng.choice(alive).pid, signal.SIGKILL)
        return 1
    return 0


def await_fires(place: Place, fleet: Fleet, number: int) -> None:
    until(
        lambda: (place.value(FIRES) >= number) or (fleet.tend() and False),
        f"{number} fires to be made",
        seconds=60,
        every=0.002,
    )


def outage(
    place: Place, fleet: Fleet, finding: Finding, expected: set[Fire], now: datetime, time_file: Path, copies: int
) -> None:
    """No scheduler for three hours; then each policy owes something else."""
    for member in fleet.up("almanac"):
        with suppress(ProcessLookupError):  # it has struck itself dead meanwhile
            os.kill(member.pid, signal.SIGKILL)
    until(lambda: not fleet.up("almanac"), "all schedulers to be dead")
    back = (now + OUTAGE).replace(second=0)
    owed: set[Fire] = set()
    for each in ALMANAC:
        missed = list(runs_between(each.trigger, now, back))
        if each.catch_up == "latest":
            missed = missed[-1:]
        elif each.catch_up == "skip":
            missed = [at for at in missed if back - at <= each.grace]
        owed |= {(each.name, at) for at in missed}
    tell(time_file, back)
    fleet.tend()
    await_fires(place, fleet, len(expected | owed))
    compare(place, finding, expected | owed, f"after three hours without any of {copies}")
    finding.saw("fires owed after an outage", len(owed))


def compare(place: Place, finding: Finding, expected: set[Fire], when: str) -> None:
    rows = place.rows(FIRED)
    fires = {(name, at) for name, at, _ in rows}
    with_job = place.value("SELECT count(*) FROM job_queue WHERE id = ANY(%s)", ([job for _, _, job in rows],))
    names = {name for (name,) in place.rows("SELECT payload ->> 'name' FROM job_queue")}
    lost = len(expected - fires) + len(rows) - with_job
    doubled = len(fires - expected) + place.value(TWICE) + len(names - {f"{n}@{at.isoformat()}" for n, at in fires})
    finding.lost = (finding.lost or 0) + lost
    finding.doubled = (finding.doubled or 0) + doubled
    finding.expect(not lost, f"{when}: fires lost: {sorted(expected - fires)[:5]}, jobs {with_job} of {len(rows)}")
    finding.expect(not doubled, f"{when}: not owed or twice: {sorted(fires - expected)[:5]}")
