"""`learn-kill`: worker processes die at each commit of a job that learns: before it, while it is sent, after it. Then
what each tenant has learned is held against the fold of its log."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random

from db.transaction import SYSTEM
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from tests.chaos.crash_points import LEARNING_COMMITS, MOMENTS
from tests.chaos.experiments.calendar import clockwork
from tests.chaos.fleet import FAST, Fleet
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage
from tests.learning_stage import Learning, Seen, adjustments
from tests.wait import until
from workers.jobs import learning as jobs

POINTS = tuple(f"learn_{moment}_{number}" for number in range(1, LEARNING_COMMITS + 1) for moment in MOMENTS)
BACKLOG = jobs.BATCH + 50
"""Outcomes that come at once: two batches. With them a fold anew reads a page and more."""
LATE = 20

UNLEARNED = """
SELECT (SELECT count(*) FROM performance_feedback WHERE learned_at IS NULL)
    + (SELECT count(*) FROM job_queue WHERE job_type LIKE 'reflexion.%' AND status IN ('pending', 'running'))
"""
FAILED = "SELECT id, crashes FROM job_queue WHERE job_type LIKE 'reflexion.%' AND status = 'failed'"


def learning(stage: Stage, finding: Finding) -> None:
    """`learn-kill`."""
    rng = stage.rng()
    with stage.system_and_fleet(**FAST) as (system, fleet):
        _, flags = clockwork(system, fleet)
        fleet.workers(3, threads=2)
        histories = [History(system, Random(rng.random())) for _ in range(3)]
        wanted = Counter(dict.fromkeys(POINTS if stage.full else rng.sample(POINTS[3:12], 3), stage.size(4, 1)))
        struck = Counter[str]()
        while (missing := list((wanted - struck).elements())) and stage.left() > 30:
            for point in rng.sample(sorted(set(missing)), k=min(3, len(set(missing)))):
                (flags / point).touch()
            for each in histories:
                each.go_on()
            learn(system, fleet)
            for left in flags.glob("learn_*"):
                left.unlink(missing_ok=True)
            struck = Counter(note.name.partition(".")[0] for note in (flags / "hits").iterdir())
        for point, times in wanted.items():
            finding.saw(point, struck[point], least=times)
        finding.trials = struck.total()
        learn(system, fleet)
        judge(finding, system, histories)


def learn(system: System, fleet: Fleet) -> None:
    """Have everything learned that there is."""
    with system.app.db.transaction(SYSTEM) as tx:
        jobs.find_due.enqueue(tx)

    def done() -> bool:
        fleet.restart_fallen()
        # One that was near two deaths is in the dead letters, by design: a person would retry it.
        for job_id, crashes in system.rows(FAILED):
            assert crashes >= CRASHES_BEFORE_QUARANTINE, "a job was given up for another reason than deaths"
            with system.app.db.transaction(SYSTEM) as tx:
                tx.transitions.retry(job_id)
        return not system.value(UNLEARNED)

    until(done, "everything to be learned", seconds=60, every=0.05)


class History:
    """A tenant whose outcomes come in: many at once, and now and then some that come before what is learned."""

    def __init__(self, system: System, rng: Random) -> None:
        self.tenant = Learning(system.app)
        self._rng = rng
        self._minute = 0.0
        self._late = False

    def go_on(self) -> None:
        self.tenant.see(*(self._late_ones() if self._late else self._backlog()))
        self._late = not self._late

    def _backlog(self) -> Iterator[Seen]:
        for _ in range(BACKLOG):
            self._minute += 0.1
            yield self._seen(self._minute)

    def _late_ones(self) -> Iterator[Seen]:
        for _ in range(LATE):
            yield self._seen(self._rng.random() * self._minute)

    def _seen(self, minute: float) -> Seen:
        return Seen(minute, likes=self._rng.randrange(5, 650), category=self._rng.choice(("news", "tech", "food")))


def judge(finding: Finding, system: System, histories: list[History]) -> None:
    """Hold states against logs, to the bit; and the rows that say what has moved against one another."""
    finding.lost = finding.doubled = 0
    for each in histories:
        tenant = each.tenant
        log, states = tenant.log(), tenant.states()
        learned = sum(done and why is None for _, done, why in log)
        counted = sum(state["count"] for state in states.values())
        finding.lost += max(0, learned - counted) + sum(not done for _, done, _ in log)
        finding.doubled += max(0, counted - learned)
        finding.expect(states == tenant.folded(), f"the state of {tenant.id} is not the fold of its log")
        rows = adjustments(system.app, tenant.id)
        for category in {row["category"] for row in rows}:
            of_this = [row for row in rows if row["category"] == category]
            torn = [after for before, after in pairwise(of_this) if after["old_value"] != before["new_value"]]
            finding.expect(not torn, f"a score of {category} moved from where it was not: {torn[:1]}")
    finding.figures["learned"] = system.value("SELECT sum(outcomes) FROM learners")
    finding.figures["adjustments"] = system.value("SELECT count(*) FROM scoring_adjustments")
    finding.expect(finding.lost == 0, f"{finding.lost} outcomes are lost")
    finding.expect(finding.doubled == 0, f"{finding.doubled} outcomes were learned twice")
