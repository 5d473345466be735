"""The harness itself, tried: with a promise of the protocol broken on purpose, the same experiments must fail."""

import time

from tests.chaos.experiments.kills import kill_a_busy_one
from tests.chaos.experiments.posting import posting
from tests.chaos.experiments.rendering import rendering
from tests.chaos.experiments.zombies import zombies
from tests.chaos.fleet import FAST
from tests.chaos.load import feeding
from tests.chaos.report import CAUGHT, FAILED, Finding
from tests.chaos.stage import Experiment, Stage, settle
from tests.wait import until

PATIENCE = 15
"""Seconds that an honest system needs by far less than, with the short lease."""


def forgotten(stage: Stage, finding: Finding) -> None:
    """Redis forgets its messages under load."""
    rng = stage.rng()
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.workers(1)
        with feeding(system, rng, per_second=300) as feeder:
            thrown = 0
            until(lambda: stage.left() < 0 or len(feeder.promised) > 200, "jobs to be enqueued")
            for _ in range(50):
                time.sleep(rng.uniform(0, 0.1))
                thrown += stage.servers.forget_redis()
                if thrown > 3:
                    break
            finding.saw("messages thrown away", thrown)
            settle(finding, system, fleet, feeder, bar=PATIENCE)


def killed(stage: Stage, finding: Finding) -> None:
    """Workers are killed in the middle of jobs."""
    rng = stage.rng()
    with stage.system_and_fleet(**FAST) as (system, fleet):
        fleet.workers(2)
        with feeding(system, rng, per_second=200) as feeder:
            for n in range(4):
                until(lambda n=n: len(feeder.promised) > 100 * (n + 1), "jobs to be enqueued")  # type: ignore[misc]
                kill_a_busy_one(system, fleet)
                until(lambda: (fleet.restart_fallen(), len(fleet.up()) == 2)[1], "both dynos to be back")
            finding.saw("kills amid jobs", 4)
            settle(finding, system, fleet, feeder, bar=PATIENCE, restarting=True)


CASES: dict[str, tuple[Experiment, str]] = {
    "fence": (zombies, "doubled"),
    "sweeper": (forgotten, "lost"),
    "reaper": (killed, "lost"),
    "resend": (rendering, "doubled"),
    "no-handle": (posting, "doubled"),
    "retry": (posting, "doubled"),
}
"""What each kind of sabotage is tried on, and how it must show."""


def caught(stage: Stage, finding: Finding) -> None:
    """Runs the case of `stage.sabotage`; its failure is our success."""
    experiment, shows_as = CASES[stage.sabotage]
    inner = Finding(finding.name, finding.summary)
    try:
        experiment(stage, inner)
    except AssertionError as error:
        inner.expect(False, str(error))
    shown = getattr(inner, shows_as) or 0
    finding.trials, finding.hit = inner.trials, inner.hit
    finding.lost, finding.doubled = inner.lost, inner.doubled
    finding.figures = {"noticed_as": inner.broken, **inner.figures}
    finding.verdict = CAUGHT if shown else FAILED
    if not shown:
        finding.broken.append(f"the harness did not notice: nothing was {shows_as}")
