"""Jobs during which a process died: each might do it again, and whoever is near it then must not be blamed.

So a process has one of them in hand at a time, and claims it only when it is about to run it. Should the process die,
the table says of one suspect that it was running. Other jobs run beside it; those are suspects afterwards, and no more
than that. See docs/decisions/0013-one-quarantined-job-at-a-time.md.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from uuid import UUID

from db.transaction import SYSTEM, Database

SHARE = 0.25
"""Seconds for which a thread goes on with one suspect after another, before it lets others have the rest; and for which
another thread waits for that."""


class Quarantine:
    """Of one worker process. `run` claims a job and carries it to the end of its attempt, its completion written."""

    def __init__(
        self, db: Database, *, run: Callable[[UUID], object], put_back: Callable[[str, Sequence[UUID]], object]
    ) -> None:
        self._db = db
        self._run = run
        self._put_back = put_back
        self._stopwatch = monotonic
        self._turn = threading.Lock()

    def run(self, queue: str, job_ids: Sequence[UUID], stopping: threading.Event) -> None:
        """Run them one after another. If another thread is at a suspect that takes its time, they are rung again later.

        Raises:
            DatabaseUnavailable: those that are left stay pending.
        """
        if not self._turn.acquire(timeout=SHARE * 2):
            with self._db.transaction(SYSTEM) as tx:
                tx.claims.put_off(job_ids)
            return
        left = deque(job_ids)
        try:
            began = self._stopwatch()
            while left and not stopping.is_set() and self._stopwatch() - began < SHARE:
                self._run(left.popleft())
        finally:
            self._turn.release()
        if left:
            self._put_back(queue, left)
