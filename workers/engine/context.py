"""What a handler may do: read the time, ask the ports, `begin`, `step`, `snooze`, and `finish`.

def publish(ctx: Context, tenant_id: UUID, post_id: UUID) -> None:
    ctx.draw(f"tiktok:{account}", TIKTOK_POSTS)
    receipt = ctx.step("upload", lambda key: tiktok.upload(video, idempotency_key=key), look=tiktok.find)
    with ctx.finish() as tx:
        tx.posts.mark_published(post_id, receipt)
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import cached_property, partial
from random import Random
from time import monotonic, sleep
from typing import Any

import structlog

from db.queue.transitions import ClaimedJob, Done
from db.transaction import NO_ANSWER, SYSTEM, Database, LeaseMissing, Scope, Tx
from domain.errors import Rejected, Unavailable
from domain.ports import Ports
from domain.queue import rate
from domain.text.storable import to_json

TRY_AGAIN = 0.5
"""Seconds between attempts to reach a database that is away."""

OUTAGE_PATIENCE = timedelta(minutes=1)
"""How long the result of a step waits for the database."""

USUAL_STATEMENT = timedelta(seconds=30)
"""What a statement may take anyway; near a deadline it may take less."""


class LeaseLost(Exception):
    """Another worker owns the job by now. Everything of this attempt is rolled back."""


class JobCancelled(Exception):
    """Somebody asked for the job to be stopped."""


class Snoozed(Exception):
    """The handler wants to be called again later; this attempt does not count."""

    def __init__(self, after: timedelta, reason: str) -> None:
        super().__init__(reason)
        self.after = after


class StepUnknown(Rejected):
    """Nobody can tell whether an earlier attempt's step happened: a person has to look."""


class StepNotKept(Rejected):
    """A step happened, and Postgres does not take its result: another attempt would do it a second time."""


class Context:
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
        self.deferred = False
        self._db = db
        self._scope = scope
        self._clock = clock
        self._complete = complete
        self._claimed_at = monotonic()
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
    def begin(self) -> Iterator[Tx]:
        """A short transaction before the end (a reservation, a chunk), committed only if the job is still ours.

        Raises:
            JobCancelled: somebody asked for the job to be stopped; nothing of the block is kept.
        """
        with self._transaction() as tx:
            yield tx
            tx.work_as(SYSTEM)
            standing = tx.transitions.standing(self.job)
            if standing is None:
                raise LeaseLost
            if standing == "cancel requested":
                raise JobCancelled

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
        self.deferred = not tx.used
        if self.deferred:
            self._complete(self.done)

    def step(
        self,
        name: str,
        act: Callable[[str], Any],
        *,
        look: Callable[[str], Any] | None = None,
        keep: Callable[[Any, Tx], object] | None = None,
    ) -> Any:
        """Do something outside the database, at most once as far as anybody can tell. Returns its result.

        `act` is called with an idempotency key, the same in every attempt, and with no transaction open; what it
        returns (a JSON value) is kept, and a later attempt gets it without acting again. If an earlier attempt
        began and did not tell how it went, `look` is asked first, with the key: it returns the result, or None if
        nothing happened, or raises `StepUnknown`. Without `look` the other side is trusted to know its keys.
        `keep` is given the result and the transaction that keeps it, and writes what else follows from it: what it
        cost. It is called even if the result itself cannot be kept, or somebody wants the job stopped.

        Raises:
            StepUnknown: nobody can tell whether it happened; the job fails and waits for a person.
            StepNotKept: it happened, and its result cannot be kept.
            JobCancelled: somebody asked for the job to be stopped.
        """
        with self.begin() as tx:
            tx.work_as(SYSTEM)
            step = tx.steps.intend(self.job.id, name)
        if step.status == "confirmed":
            return step.result
        result = None
        if step.begun_before and look is not None:
            try:
                result = look(step.idempotency_key)
            except StepUnknown:
                self._record_step(name, "unknown")
                raise
        if result is None:
            result = act(step.idempotency_key)
        return self._confirm(name, result, None if keep is None else partial(keep, result))

    def snooze(self, after: timedelta, reason: str) -> None:
        """End this attempt, uncounted, and be called again `after` that long.

        Raises:
            Snoozed: always.
        """
        raise Snoozed(after, reason)

    def draw(self, bucket: str, at: rate.Rate, *, cost: int = 1) -> None:
        """Draw from a rate that all jobs of an account share; if it is used up, come back when this job may.

        Raises:
            Snoozed: until the moment that is promised to this job.
        """
        decide = partial(_draw, at=at, cost=cost, promised=self.job.snoozes > 0)
        with self._open(SYSTEM) as tx:
            wait = tx.rates.change(bucket, decide)
        if wait is not None:
            raise Snoozed(wait, f"{bucket} is used up")

    def hold_off(self, bucket: str, wait: timedelta) -> None:
        """Let every job of the account wait, not only this one, since the other side refused and named a time.

        Raises:
            Snoozed: for that long.
        """
        with self._open(SYSTEM) as tx:
            tx.rates.change(bucket, lambda found, now: (rate.hold_off(found, now + wait), None))
        raise Snoozed(wait, f"{bucket} is held off")

    def check(self) -> None:
        """End a long computation that is not wanted any more; to be called now and then.

        Raises:
            JobCancelled: somebody asked for the job to be stopped.
            LeaseLost: the job is not ours any more.
        """
        with self.begin():
            pass

    def _transaction(self) -> AbstractContextManager[Tx]:
        left = self.remaining
        return self._open(self._scope, timeout=left if left < USUAL_STATEMENT else None)

    def _open(self, scope: Scope, timeout: timedelta | None = None) -> AbstractContextManager[Tx]:
        return self._db.transaction(scope, timeout=timeout)

    def _confirm(self, step: str, result: Any, keep: Callable[[Tx], object] | None) -> Any:
        """Keep the result of a step that was just taken; return it as every later attempt will get it."""
        try:
            text = to_json(result)
            self._record_step(step, "confirmed", text, keep)
        except Unavailable:
            raise
        except Exception as error:
            self._record_step(step, "unknown", keep=keep)
            raise StepNotKept(f"{step!r} was done, and its result cannot be kept: {error}") from error
        return json.loads(text)

    def _record_step(
        self, step: str, status: str, result: str | None = None, keep: Callable[[Tx], object] | None = None
    ) -> None:
        """An outage of the database is waited out: what was done outside, and paid, must not be forgotten."""
        until = monotonic() + min(OUTAGE_PATIENCE, self.remaining).total_seconds()
        while True:
            try:
                with self._open(SYSTEM) as tx:
                    tx.steps.record(self.job.id, step, status, result)
                    if keep is not None:
                        tx.work_as(self._scope)
                        keep(tx)
            except NO_ANSWER:
                if monotonic() > until:
                    raise
                sleep(TRY_AGAIN)
            else:
                return

    def _real_now(self) -> datetime:
        return self.job.now + timedelta(seconds=monotonic() - self._claimed_at)


def _draw(
    bucket: rate.Bucket, now: datetime, *, at: rate.Rate, cost: int, promised: bool
) -> tuple[rate.Bucket, timedelta | None]:
    bucket, come_back = rate.draw(bucket, at, now, cost=cost, promised=promised)
    return bucket, None if come_back is None else come_back - now
