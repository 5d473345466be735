"""What the relay remembers of one queue: which of its jobs it has rung for, and since when they are missing in Redis.

A job that was rung and is still pending waits in Redis, or a worker has just popped it and is about to claim it. If
it does neither for longer than a claim takes, its ring is lost, however that came about (a worker died with it, the
set was evicted, deleted or left behind by a failover), and it is rung again. What waits in Redis is never sent again,
however long that lasts: twenty thousand jobs that no worker takes cost nothing but looks.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from db.queue.dispatch import ReadyJob

WINDOW = 16_384
"""Jobs of a queue that wait in Redis at most: what the workers get through in a second at their fastest. They wait in
order, and who comes later may be placed before them, so this is no line that somebody could be stuck behind."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 5.0
"""Seconds that a job which was rung may be missing in Redis and not claimed, before it is rung again. The wait doubles
each time: some jobs are popped and never claimed, as those of a type that only a newer release knows."""

LOOK_AGAIN = 2.0
"""Seconds after which the whole window is read again, though enough of it waits in Redis: somewhere in it a ring may
have been lost, or a tenant come to its turn."""

Scores = dict[str, float]


class Notified(NamedTuple):
    """`missing_since`: when it was first not found in Redis, since it was put there; None: it was, or has just been."""

    missing_since: float | None
    wait: float


class Window:
    """Memory only: another relay, or this one after a restart, rings a few jobs twice, which is ringing them once."""

    def __init__(self) -> None:
        self.backlog = False
        self._read_at = float("-inf")
        self._notified: dict[str, Notified] = {}

    def wants(self, waiting: int, now: float) -> bool:
        """Whether it is time to read on in the table, with so many waiting in Redis."""
        return waiting <= WINDOW // 2 or now - self._read_at > LOOK_AGAIN

    def place(self, dispatch: Sequence[ReadyJob], now: float, *, all_of_it: bool) -> tuple[Scores, Scores]:
        """Scores of the jobs that are to be rung now, and of those that have been.

        `all_of_it`: the turns are the whole window, so what is not among them need not be remembered.
        """
        new: Scores = {}
        known: Scores = {}
        notified = {} if all_of_it else self._notified
        for job_id, score, limited in dispatch:
            before = self._notified.get(job_id)
            if before is None:
                new[job_id] = score
                notified[job_id] = Notified(None, FIRST_WAIT)
            # A limit may have refused what it would admit now.
            elif limited or (before.missing_since is not None and now - before.missing_since >= before.wait):
                new[job_id] = score
                notified[job_id] = Notified(None, min(before.wait * 2, LONGEST_WAIT))
            else:
                known[job_id] = score
                notified[job_id] = before
        if all_of_it:
            self.backlog = len(dispatch) >= WINDOW
            self._read_at = now
        self._notified = notified
        return new, known

    def note(self, known: Collection[str], missing: Collection[str], now: float) -> None:
        """Remember which of the `known` jobs Redis did not have."""
        for job_id in known:
            before = self._notified[job_id]
            if (before.missing_since is not None) != (job_id in missing):
                self._notified[job_id] = before._replace(missing_since=now if job_id in missing else None)
