"""R5: Postgres is restarted in immediate mode, and connections are cut right behind a COMMIT."""

import time

from tests.chaos.faults import Wire
from tests.chaos.fleet import FAST
from tests.chaos.load import feeding
from tests.chaos.report import Finding
from tests.chaos.stage import Stage, settle
from tests.wait import until


def patience(stage: Stage) -> dict[str, str]:
    """How long a process waits for the answer to a claim until it disowns the job: 30 s as shipped."""
    return stage.size({}, {"CHAOS_IN_FLIGHT": "4"})


def restarts(stage: Stage, finding: Finding) -> None:
    """R5, both halves."""
    crash_recovery(stage, finding)
    cut_commits(stage, finding)


def crash_recovery(stage: Stage, finding: Finding) -> None:
    rng = stage.rng()
    number = stage.size(20, 1)
    with stage.system_and_fleet(**FAST, **patience(stage)) as (system, fleet):
        fleet.workers(2)
        with feeding(system, rng, per_second=150) as feeder:
            for _ in range(number):
                before = system.value("SELECT count(*) FROM chaos_ledger")
                until(
                    lambda n=before: system.value("SELECT count(*) FROM chaos_ledger") > n + 30,  # type: ignore[misc]
                    "jobs to be done between two crashes",
                    seconds=90,
                )
                time.sleep(rng.uniform(0, 0.3))
                stage.servers.crash_postgres()
                fleet.restart_fallen()
            finding.trials = number
            settle(finding, system, fleet, feeder)
        finding.saw("transactions of the enqueuer cut off", feeder.outages)
        noticed = fleet.logged("job.postponed", "worker.heartbeat_missed", "job.runner_failed")
        finding.saw("outages noticed by workers", noticed)
        there = system.value("SELECT count(*) FROM job_queue WHERE id = ANY(%s)", (feeder.unknown,))
        finding.figures["enqueues_unknown"] = {"asked": len(feeder.unknown), "there": there}
        finding.figures["ambiguous_by_crash"] = fleet.logged("job.commit_unknown")


def cut_commits(stage: Stage, finding: Finding) -> None:
    """The wire delivers the COMMIT and swallows its answer: ambiguous for sure, for finishes and for claims."""
    rng = stage.rng()
    wanted = stage.size(100, 3)
    part = Finding(finding.name, "cut commits")
    with (
        Wire(stage.servers.postgres.port, rng) as wire,
        stage.system_and_fleet(**FAST, **patience(stage)) as (system, fleet),
    ):
        fleet.environment["DATABASE_URL"] = wire.url(system.settings.database_url, "sslmode=disable")
        fleet.workers(2)
        with feeding(system, rng, per_second=80) as feeder:
            wire.cut_commits = 0.02
            # Chance decides whose COMMIT is cut: there must have been a finish among them.
            until(
                lambda: wire.cuts >= wanted and fleet.logged("job.commit_unknown"),
                "enough answers to be swallowed",
                seconds=60,
                every=0.2,
            )
            wire.cut_commits = 0
            settle(part, system, fleet, feeder)
        finding.trials += wire.cuts
        finding.saw("answers to COMMIT swallowed", wire.cuts, least=wanted)
        resolved = [line["completed"] for line in fleet.lines() if line.get("event") == "job.commit_unknown"]
        finding.saw("ambiguous finishes resolved", len(resolved))
        finding.figures["found_completed"] = sum(resolved)
        # The others were claims, heartbeats and sweeps: whoever sent them was told that nobody knows.
        unknown = sum("CommitUnknown" in str(line.get("exception")) for line in fleet.lines())
        finding.figures["answers_accounted_for"] = f"{len(resolved)} finishes + {unknown} others, of {wire.cuts}"
        if stage.full:
            finding.saw("unknown claims taken back", fleet.logged("jobs.claim_unknown"))
    finding.lost = (finding.lost or 0) + (part.lost or 0)
    finding.doubled = (finding.doubled or 0) + (part.doubled or 0)
    finding.recovery_s = max(finding.recovery_s or 0, part.recovery_s or 0)
    finding.figures["cut_commits"] = part.figures
    finding.expect(part.verdict == "passed", f"cut commits: {'; '.join(part.broken)}")
