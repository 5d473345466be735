"""Enqueuers under load: they remember what the database promised them, through every outage."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from uuid import UUID

from db.transaction import SYSTEM, CommitUnknown, DatabaseUnavailable, Tx
from tests.chaos.ground import Place
from tests.chaos.jobs.counted import alone, effect, grouped, parent

Enqueue = Callable[[Tx, str, Random], UUID]


def mixed(tx: Tx, name: str, rng: Random) -> UUID:
    """One of three shares its commit; one does nothing but its effect; the third takes 5 to 50 ms besides."""
    kind = rng.randrange(3)
    if kind == 0:
        return grouped.enqueue(tx, name=name)
    return effect.enqueue(tx, name=name, ms=0 if kind == 1 else rng.randint(5, 50))


def one_by_one(tx: Tx, name: str, rng: Random) -> UUID:
    """On the queue whose jobs are claimed singly; one of three enqueues another."""
    return parent.enqueue(tx, name=name) if rng.random() < 1 / 3 else alone.enqueue(tx, name=name, ms=2)


class Feeder:
    """Enqueues on a thread of its own, `per_second`, or as fast as it can until `target` jobs are promised."""

    def __init__(
        self,
        place: Place,
        rng: Random,
        enqueue: Enqueue = mixed,
        *,
        per_second: float = 0,
        target: int = 10**9,
        batch: int = 20,
    ) -> None:
        self.place = place
        self.promised: list[UUID] = []
        self.promised_besides: list[UUID] = []
        """By whoever enqueues beside this thread."""
        self.unknown: list[UUID] = []
        """Of transactions whose COMMIT was not answered: there or not there, but never half."""
        self.outages = 0
        self.target = target
        self.per_second = per_second
        self.failure: BaseException | None = None
        self._rng = rng
        self._enqueue = enqueue
        self._batch = batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Feeder":
        self._thread.start()
        return self

    def stop(self) -> None:
        """Raises whatever ended the feeding early."""
        self._stop.set()
        self._thread.join(60)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            began = time.monotonic()
            while not self._stop.is_set():
                owed = int((time.monotonic() - began) * self.per_second) if self.per_second else 10**9
                room = min(owed, self.target) - len(self.promised) - len(self.unknown)
                if room <= 0:
                    self._stop.wait(0.01)
                else:
                    self._one_transaction(min(room, self._batch))
        except BaseException as error:
            self.failure = error

    def _one_transaction(self, number: int) -> None:
        ids: list[UUID] = []
        try:
            with self.place.app.db.transaction(SYSTEM) as tx:
                first = len(self.promised)
                ids = [self._enqueue(tx, f"job{n}", self._rng) for n in range(first, first + number)]
        except DatabaseUnavailable:
            self.outages += 1
            self._stop.wait(0.1)
        except CommitUnknown:
            self.outages += 1
            self.unknown += ids
        else:
            self.promised += ids


@contextmanager
def feeding(place: Place, rng: Random, enqueue: Enqueue = mixed, **how: float) -> Iterator[Feeder]:
    feeder = Feeder(place, rng, enqueue, **how).start()  # type: ignore[arg-type]
    try:
        yield feeder
    finally:
        feeder.stop()
