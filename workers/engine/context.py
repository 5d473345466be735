"""What a handler may do: read the time, ask the ports, `begin`, `snooze`, and `finish`. The part that acts outside the
database (`step`, `draw`, `hold_off`) is in `workers/engine/effects.py`.

def publish(ctx: Context, tenant_id: UUID, post_id: UUID) -> None:
    ctx.draw(f"tiktok:{account}", TIKTOK_POSTS)
    receipt = ctx.step("upload", lambda key: tiktok.upload(video, idempotency_key=key), look=tiktok.find)
    with ctx.finish() as tx:
        tx.posts.mark_published(post_id, receipt)
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from typing import Any

import structlog

from db.queue.transitions import ClaimedJob, Done
from db.transaction import SYSTEM, Database, LeaseMissing, Scope, Tx
from domain.ports import Ports
from domain.text.storable import to_json
from workers.engine.clocks import elapsed
from workers.engine.effects import Effects, Snoozed

USUAL_STATEMENT = timedelta(seconds=30)
"""What a statement may take anyway; near a deadline it may take less."""


class LeaseLost(Exception):
    """Another worker owns the job by now. Everything of this attempt is rolled back."""


class JobCancelled(Exception):
    """Somebody asked for the job to be stopped."""


class Context(Effects):
    """One attempt at one job, as its handler sees it.

    `ports` is everything outside; `rng` is seeded by the job's id, so a retry draws the same numbers. `complete`
    completes, together with others, a job whose finish did nothing in the database.
    """

    def __init__(
        self,
        db: Database,
        claimed: ClaimedJob,
        *,
        scope: Scope,
        ports: Ports,
        clock: Callable[[], datetime] | None,
        complete: Callable[[Done], object],
    ) -> None:
        self.job = claimed
        self.ports = ports
        self.finished = False
        self.completes_later = False
        self._db = db
        self._scope = scope
        self._clock = clock
        self._complete = complete
        self._claimed_at = elapsed()
        self._result: dict[str, Any] = {}

    @cached_property
    def log(self) -> Any:
        return structlog.get_logger()

    def now(self) -> datetime:
        """Return the database's time: that of the claim, plus the time gone by since."""
        return self._clock() if self._clock is not None else self._real_now()

    @property
    def remaining(self) -> timedelta:
        """The time that this attempt may still take: give it to whatever waits for the outside."""
        deadline = self.job.deadline_at
        return timedelta.max if deadline is None else deadline - self._real_now()

    @property
    def done(self) -> Done:
        return Done(self.job, to_json(self._result) if self._result else None)

    @cached_property
    def rng(self) -> Random:
        return Random(self.job.id.int)  # noqa: S311 - reproducible on purpose, nothing secret

    def report(self, **facts: Any) -> None:
        """Add facts to the job's `result`, which is kept when it completes. JSON values only."""
        self._result |= facts

    def count(self, **more: int) -> None:
        """Add to counters of the result."""
        for name, n in more.items():
            self._result[name] = self._result.get(name, 0) + n

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[Tx]:
        """A short transaction before the end (a reservation, a chunk), committed only if the job is still ours.

        `durable=False` does not wait for the disk: for what the job would find and do again if a crash of the server
        forgot it. No commit that comes later is kept without it.

        Raises:
            JobCancelled: somebody asked for the job to be stopped; nothing of the block is kept.
        """
        with self._transaction(durable=durable) as tx:
            yield tx
            tx.work_as(SYSTEM)
            _heed(tx.transitions.standing(self.job))

    @contextmanager
    def finish(self) -> Iterator[Tx]:
        """The last block of every handler: its effects and the job's completion are one commit, or nothing."""
        try:
            with self._transaction() as tx:
                yield tx
                if tx.used:
                    tx.complete(self.done)
        except LeaseMissing as error:
            raise LeaseLost from error
        self.finished = True
        self.completes_later = not tx.used
        if self.completes_later:
            self._complete(self.done)

    def snooze(self, after: timedelta, reason: str) -> None:
        """End this attempt, uncounted, and be called again `after` that long.

        Raises:
            Snoozed: always.
        """
        raise Snoozed(after, reason)

    def check(self) -> None:
        """End a long computation that is not wanted any more; to be called now and then.

        Raises:
            JobCancelled: somebody asked for the job to be stopped.
            LeaseLost: the job is not ours any more.
        """
        with self.begin():
            pass

    def _transaction(self, *, durable: bool = True) -> AbstractContextManager[Tx]:
        left = self.remaining
        return self._open(self._scope, timeout=left if left < USUAL_STATEMENT else None, durable=durable)

    def _open(
        self, scope: Scope, timeout: timedelta | None = None, *, durable: bool = True
    ) -> AbstractContextManager[Tx]:
        return self._db.transaction(scope, timeout=timeout, durable=durable)

    def _real_now(self) -> datetime:
        return self.job.now + timedelta(seconds=elapsed() - self._claimed_at)


def _heed(standing: str | None) -> None:
    if standing is None:
        raise LeaseLost
    if standing == "cancel requested":
        raise JobCancelled
