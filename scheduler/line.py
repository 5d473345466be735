"""What the relay remembers of one queue: what it has rung, and how much of it may wait in Redis."""

from collections.abc import Sequence
from uuid import UUID

from db.turns import Turn
from workers.broker import FEW, score

MOST = 16_384
FIRST_WAIT, LONGEST_WAIT = 1.0, 600.0
"""Seconds after which a job that has been rung and is still pending is rung again; the wait doubles each time."""

TOO_LONG = 1.0
"""Seconds that half a window may last: what waits in Redis cannot be overtaken by much."""

Scores = dict[UUID, float]


class Line:
    """Memory only: another relay, or this one after a restart, rings a few jobs twice, which is ringing them once."""

    def __init__(self) -> None:
        self.window = FEW
        self.backlog = False
        self._filled_at = float("-inf")
        self._again: dict[UUID, tuple[float, float]] = {}

    def forget(self) -> None:
        """Whatever has been rung may be lost."""
        self._again.clear()

    def wants(self, waiting: int) -> bool:
        """Whether it is time to read on in the table, with so many waiting in Redis."""
        return waiting <= self.window // 2

    def resize(self, waiting: int, now: float) -> None:
        """Before reading on: as much as the workers take in a moment, by how long the last helping lasted."""
        if self.backlog and waiting == 0:
            self.window = min(self.window * 2, MOST)
        elif now - self._filled_at > TOO_LONG:
            self.window = max(self.window // 2, FEW)
        self._filled_at = now

    def place(self, turns: Sequence[Turn], now: float, *, all_of_it: bool) -> tuple[Scores, Scores]:
        """Scores of the jobs that are to be rung now, and of those that have been.

        `all_of_it`: the turns are the whole window, so what is not among them need not be remembered.
        """
        new: Scores = {}
        known: Scores = {}
        again = {} if all_of_it else self._again
        for turn in turns:
            ring_at, wait = self._again.get(turn.job_id, (now, FIRST_WAIT))
            # A limit may have refused what it would admit now.
            if ring_at <= now or turn.limited:
                new[turn.job_id] = score(turn.priority, turn.rank)
                again[turn.job_id] = (now + wait, min(wait * 2, LONGEST_WAIT))
            else:
                known[turn.job_id] = score(turn.priority, turn.rank)
                again[turn.job_id] = (ring_at, wait)
        if all_of_it:
            self.backlog = len(turns) >= self.window
        self._again = again
        return new, known
