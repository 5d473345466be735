"""What an experiment is given: the ground, its share of randomness and time, and whether it is the full form."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tests.chaos.fleet import Fleet, fleet_of
from tests.chaos.ledger import BAR, Audit, attempts, audit, await_finished, landed, retry_quarantined, stuck, suspected
from tests.chaos.load import Feeder
from tests.chaos.report import Finding
from tests.chaos.servers import Servers, System

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    servers: Servers
    name: str
    seed: int
    full: bool
    deadline: float
    sabotage: str = ""

    def rng(self) -> Random:
        return Random(f"{self.seed}/{self.name}")

    def size(self, full: T, slice_: T) -> T:
        return full if self.full else slice_

    def left(self) -> float:
        """Seconds of this experiment's budget."""
        return self.deadline - time.monotonic()

    def hold_to(self, bar: float, finding: Finding, *figures: str) -> None:
        """Compare figures, in seconds, with their bar. Only the full form is judged: the slice runs beside the rest of
        the suite, on whatever machine, where a time says nothing; each of its waits has a bound."""
        for figure in figures if self.full else ():
            took = finding.figures.get(figure, 0)
            finding.expect(took <= bar, f"{figure} is {took:.1f}, more than {bar:g}")

    @contextmanager
    def system_and_fleet(self, **environment: str) -> Iterator[tuple[System, Fleet]]:
        cheat = {"CHAOS_SABOTAGE": self.sabotage} if self.sabotage else {}
        with self.servers.system(self.name) as system, fleet_of(system, **environment, **cheat) as fleet:
            yield system, fleet


Experiment = Callable[[Stage, Finding], None]


def settle(
    finding: Finding, system: System, fleet: Fleet, feeder: Feeder | None, *, bar: float = BAR, restarting: bool = False
) -> Audit:
    """After the last fault: wait for the rest, count, and hold it against the bar.

    An innocent job that was near too many crashes stands in the dead letters, by design. Such are counted, retried as a
    person would, and must then happen exactly once like all others. `tended`: dynos that fall are started again.
    """
    meanwhile: Callable[[], object] = fleet.restart_fallen if restarting else (lambda: None)
    if feeder is not None:
        feeder.stop()
    finding.recovery_s = await_finished(system, bar, meanwhile=meanwhile)
    if finding.recovery_s is None:
        finding.figures["stuck"] = [f"{len(fleet.signed_on())} workers signed on", *stuck(system)]
    quarantined = retry_quarantined(system)
    if quarantined:
        finding.figures["quarantined_innocent"] = quarantined
        finding.notes.append(f"{quarantined} innocent jobs were quarantined, and completed when retried by hand")
        await_finished(system, 30, meanwhile=meanwhile)
    found = audit(system, [*feeder.promised, *feeder.promised_besides] if feeder else ())
    finding.lost, finding.doubled = found.lost, found.twice
    finding.figures |= {"jobs": found.jobs, "audit": vars(found), "respawns": fleet.restarts}
    finding.figures |= {"attempts_lost": attempts(system, "lost"), "suspected": suspected(system)}
    finding.figures["troubles"] = fleet.troubles()[:8]
    finding.expect(finding.recovery_s is not None, f"not everything was finished {bar:g} s after the last fault")
    finding.expect(found.lost == 0, f"{found.lost} lost: {found}")
    finding.expect(found.twice == 0, f"{found.twice} effects without their one completion: {found}")
    return found


__all__ = ["BAR", "Experiment", "Stage", "landed", "settle"]
