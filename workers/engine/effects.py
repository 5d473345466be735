"""What a handler does outside the database: steps, each of which happens at most once, and draws from shared rates."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from time import monotonic, sleep
from typing import Any, TypeVar

from db.queue.transitions import ClaimedJob
from db.transaction import NO_ANSWER, SYSTEM, Contended, Scope, Tx
from domain.errors import Rejected, Unavailable
from domain.queue import rate
from domain.text.storable import to_json

TRY_AGAIN = 0.5
"""Seconds between attempts to reach a database that is away."""

OUTAGE_PATIENCE = timedelta(minutes=1)
"""How long what was done outside waits for the database."""

Kept = TypeVar("Kept")


class Snoozed(Exception):
    """The handler wants to be called again later; this attempt does not count."""

    def __init__(self, after: timedelta, reason: str) -> None:
        super().__init__(reason)
        self.after = after


class StepUnknown(Rejected):
    """Nobody can tell whether an earlier attempt's step happened: a person has to look."""


class StepNotKept(Rejected):
    """A step happened, and Postgres does not take its result: another attempt would do it a second time."""


class Effects(ABC):
    """The part of a handler's context that acts outside the database."""

    job: ClaimedJob
    _scope: Scope

    @property
    @abstractmethod
    def remaining(self) -> timedelta:
        """The time that this attempt may still take: give it to whatever waits for the outside."""

    @abstractmethod
    def begin(self) -> AbstractContextManager[Tx]:
        """Begin a transaction of the job's scope, which commits only if the job is still ours."""

    @abstractmethod
    def _open(self, scope: Scope, timeout: timedelta | None = None) -> AbstractContextManager[Tx]: ...

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

    def draw(self, bucket: str, at: rate.Rate, *, cost: int = 1, spare: int = 0) -> None:
        """Draw from a rate that all jobs of an account share; if it is used up, come back when this job may. With
        `spare` so many uses are left to others, and nobody waits behind this job.

        Raises:
            Snoozed: until the moment that is promised to this job, or (with `spare`) may be its.
        """
        self.draw_all([rate.Draw(bucket, at, cost, spare)])

    def draw_all(self, draws: Sequence[rate.Draw]) -> None:
        """Draw from several buckets in one transaction: from all of them, or from none.

        Raises:
            Snoozed: until all of them have, or promise, a moment for this job.
        """
        if not draws:
            return
        decide = partial(_draw, draws, promised=self.job.snoozes > 0)
        with self._open(SYSTEM) as tx:
            used_up = tx.rates.change({each.bucket for each in draws}, decide)
        if used_up is not None:
            wait, buckets = used_up
            raise Snoozed(wait, f"{' and '.join(buckets)} {'is' if len(buckets) == 1 else 'are'} used up")

    def may_draw(self, draws: Sequence[rate.Draw]) -> bool:
        """Draw as `draw_all` does, and return whether that was possible now. For draws that spare others."""
        try:
            self.draw_all(draws)
        except Snoozed:
            return False
        return True

    def hold_off(self, bucket: str, wait: timedelta) -> None:
        """Let every job of the account wait, not only this one, since the other side refused and named a time, or does
        not answer. This job is the first to come back; the others come after it, at the rate that they draw by.

        Raises:
            Snoozed: for that long.
        """

        def decide(found: Mapping[str, rate.Bucket], now: datetime) -> tuple[Mapping[str, rate.Bucket], None]:
            return {bucket: rate.hold_off(found[bucket], now + wait, returns=True)}, None

        with self._open(SYSTEM) as tx:
            tx.rates.change([bucket], decide)
        raise Snoozed(wait, f"{bucket} is held off")

    def keep(self, write: Callable[[Tx], Kept]) -> Kept:
        """Write down what has happened outside and is told once only, such as new tokens: in the scope of the job, also
        if it is not ours any more, and after an outage of the database that is short. `write` guards itself against
        others, by a compare-and-set; it may be called again if nobody can tell whether its commit went through."""
        until = monotonic() + min(OUTAGE_PATIENCE, self.remaining).total_seconds()
        while True:
            try:
                with self._open(self._scope) as tx:
                    return write(tx)
            except (*NO_ANSWER, Contended):
                if monotonic() > until:
                    raise
                sleep(TRY_AGAIN)

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

        def write(tx: Tx) -> None:
            tx.work_as(SYSTEM)
            tx.steps.record(self.job.id, step, status, result)
            if keep is not None:
                tx.work_as(self._scope)
                keep(tx)

        self.keep(write)


def _draw(
    draws: Sequence[rate.Draw], buckets: Mapping[str, rate.Bucket], now: datetime, *, promised: bool
) -> tuple[Mapping[str, rate.Bucket], tuple[timedelta, Sequence[str]] | None]:
    changed, come_back = rate.draw_all(buckets, draws, now, promised=promised)
    return changed, None if come_back is None else (come_back - now, list(changed))
