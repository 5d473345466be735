"""What the relay remembers of one queue: which of its jobs it has rung for, and when."""

from collections.abc import Sequence

from db.turns import Turn

WINDOW = 16_384
"""Jobs of a queue that wait in Redis at most: what the workers get through in a second at their fastest. They wait in
order, and who comes later may be placed before them, so this is no line that somebody could be stuck behind."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 600.0
"""Seconds after which a job that has been rung and is still pending is rung again; the wait doubles each time."""

LOOK_AGAIN = 2.0
"""Seconds after which the whole window is read again, though enough of it waits in Redis: somewhere in it a ring may
have been lost, or a tenant come to its turn."""

Scores = dict[str, float]


class Line:
    """Memory only: another relay, or this one after a restart, rings a few jobs twice, which is ringing them once."""

    def __init__(self) -> None:
        self.backlog = False
        self._read_at = float("-inf")
        self._again: dict[str, tuple[float, float]] = {}

    def wants(self, waiting: int, now: float) -> bool:
        """Whether it is time to read on in the table, with so many waiting in Redis."""
        return waiting <= WINDOW // 2 or now - self._read_at > LOOK_AGAIN

    def place(self, turns: Sequence[Turn], now: float, *, all_of_it: bool) -> tuple[Scores, Scores]:
        """Scores of the jobs that are to be rung now, and of those that have been.

        `all_of_it`: the turns are the whole window, so what is not among them need not be remembered.
        """
        new: Scores = {}
        known: Scores = {}
        again = {} if all_of_it else self._again
        for job_id, score, limited in turns:
            ring_at, wait = self._again.get(job_id, (now, FIRST_WAIT))
            # A limit may have refused what it would admit now.
            if ring_at <= now or limited:
                new[job_id] = score
                again[job_id] = (now + wait, min(wait * 2, LONGEST_WAIT))
            else:
                known[job_id] = score
                again[job_id] = (ring_at, wait)
        if all_of_it:
            self.backlog = len(turns) >= WINDOW
            self._read_at = now
        self._again = again
        return new, known
