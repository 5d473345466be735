"""R9: somebody's forgotten transaction holds back vacuum, on a table with a million finished rows."""

import time
from pathlib import Path

import psycopg

from tests.chaos.fleet import FAST
from tests.chaos.load import Feeder, feeding
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, settle
from tests.wait import until

FINISHED = """
INSERT INTO job_queue (id, job_type, status, attempts, created_at, scheduled_for, started_at, completed_at)
SELECT gen_random_uuid(), 'upkeep.prune', 'completed', 1, at, at, at, at
FROM (SELECT now() - interval '6 hours' + n * interval '1 millisecond' AS at FROM generate_series(1, %s) AS n) AS times
"""
BEHIND = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'job_queue'"


def bloated(stage: Stage, finding: Finding) -> None:
    """R9: the p99 of the claim statement, as the workers see it, quiet and then with the transaction open."""
    rng = stage.rng()
    rows, quiet_s, open_s, rate = stage.size((1_000_000, 30, 100, 200), (20_000, 3, 5, 100))
    with stage.system_and_fleet(**FAST) as (system, fleet):
        timings = system.folder / "claims"
        fleet.environment["CHAOS_TIMINGS"] = str(timings)
        system.rows(FINISHED, (rows,))
        system.rows("VACUUM ANALYZE job_queue")
        fleet.workers(2)
        with feeding(system, rng, per_second=rate, batch=4) as feeder:
            pass_by(5 if stage.full else 1, feeder, rate)
            quiet = window(timings, quiet_s, feeder, rate)
            with psycopg.connect(system.owner_url) as forgotten:
                forgotten.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                forgotten.execute("SELECT count(*) FROM tenants")
                crowded = window(timings, open_s, feeder, rate)
                finding.saw("dead rows that vacuum had to leave", await_dead(system), least=rate)
            finding.trials = len(quiet) + len(crowded)
            settle(finding, system, fleet, feeder)
        p99 = [round(percentile(each, 0.99), 2) for each in (quiet, crowded)]
        p50 = [round(percentile(each, 0.50), 2) for each in (quiet, crowded)]
        finding.figures |= {"claim_ms_p99": p99, "claim_ms_p50": p50, "claims": [len(quiet), len(crowded)]}
        finding.notes.append(f"claim p50 {p50[0]} -> {p50[1]} ms, p99 {p99[0]} -> {p99[1]} ms")
        if stage.full:
            finding.expect(p99[1] < 2 * p99[0], f"claim p99 rose from {p99[0]} to {p99[1]} ms")


def pass_by(seconds: float, feeder: Feeder, rate: float) -> None:
    goal = len(feeder.promised) + seconds * rate
    until(lambda: len(feeder.promised) >= goal, "the load to run", seconds=seconds * 4 + 10, every=0.2)


def window(timings: Path, seconds: float, feeder: Feeder, rate: float) -> list[float]:
    """Milliseconds of each claim within the next while."""
    began = time.time()
    pass_by(seconds, feeder, rate)
    ended = time.time()
    lines = [line.split() for line in timings.read_text().splitlines()]
    return [float(line[1]) for line in lines if len(line) == 2 and began <= float(line[0]) <= ended]


def await_dead(system: System) -> int:
    """The statistics are a little behind."""
    until(lambda: system.value(BEHIND) > 0, "dead rows to be counted", seconds=15, every=0.5)
    return int(system.value(BEHIND))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
