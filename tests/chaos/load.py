"""Enqueuers under load: they remember what the database promised them, through every outage."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import httpx

from db.transaction import SYSTEM, CommitUnknown, DatabaseUnavailable, Tx
from integrations.stripe import webhooks as stripe
from simulators.kinds import KINDS
from simulators.personas import random_persona
from tests.chaos.fleet import Fleet
from tests.chaos.jobs.counted import alone, effect, grouped, parent
from tests.chaos.report import Finding
from tests.chaos.servers import STRIPE_SECRET, System
from tests.wait import until

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
        system: System,
        rng: Random,
        enqueue: Enqueue = mixed,
        *,
        per_second: float = 0,
        target: int = 10**9,
        batch: int = 20,
    ) -> None:
        self.system = system
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
            with self.system.app.db.transaction(SYSTEM) as tx:
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
def feeding(system: System, rng: Random, enqueue: Enqueue = mixed, **how: float) -> Iterator[Feeder]:
    feeder = Feeder(system, rng, enqueue, **how).start()  # type: ignore[arg-type]
    try:
        yield feeder
    finally:
        feeder.stop()


class Deliveries:
    """Distinct signed Stripe events, each sent until it is answered with 200, as Stripe does, by several at once; as
    fast as they can, or `per_second`."""

    def __init__(self, origin: str, rng: Random, number: int, *, threads: int, per_second: float = 0) -> None:
        self._url = f"{origin}/webhooks/stripe"
        self._number = number
        self._every = 1 / per_second if per_second else 0.0
        self._began = time.monotonic()
        self._bodies = [
            json.dumps(KINDS["stripe"]["customer.deleted"].build(random_persona(rng), datetime.now(UTC))).encode()
            for _ in range(number)
        ]
        self._turn = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[int] = Counter()
        """How often each status was answered; 0 is no answer at all."""
        self._threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(threads)]

    @property
    def accepted(self) -> int:
        return self.answers[200]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _send_all(self) -> None:
        with httpx.Client(timeout=10) as client:
            while (n := next(self._turn)) < self._number and not self._stop.is_set():
                self._stop.wait(max(0.0, self._began + n * self._every - time.monotonic()))
                while self._send(client, self._bodies[n]) != 200 and not self._stop.wait(0.05):
                    pass

    def _send(self, client: httpx.Client, body: bytes) -> int:
        headers = {stripe.SIGNATURE_HEADER: stripe.sign(body, STRIPE_SECRET, int(time.time()))}
        try:
            status = client.post(self._url, content=body, headers=headers).status_code
        except httpx.TransportError:
            status = 0
        with self._lock:
            self.answers[status] += 1
        return status

    def judge(self, finding: Finding, system: System) -> None:
        """Each accepted event is stored once, and its one job is completed; nothing was answered but 200 and 503."""
        finding.figures["webhooks"] = dict(self.answers)
        events, jobs = system.rows(EVENTS_AND_JOBS)[0]
        finding.lost = (finding.lost or 0) + max(0, self.accepted - jobs)
        finding.doubled = (finding.doubled or 0) + max(0, jobs - self.accepted)
        finding.expect(events == self.accepted == jobs, f"{self.accepted} accepted, {events} stored, {jobs} completed")
        finding.expect(set(self.answers) <= {0, 200, 503}, f"webhook answers, by status: {dict(self.answers)}")


EVENTS_AND_JOBS = """
SELECT (SELECT count(*) FROM webhook_events),
       (SELECT count(*) FROM job_queue WHERE job_type = 'billing.apply_stripe_event' AND status = 'completed')
"""


@contextmanager
def delivering(
    origin: str, rng: Random, number: int, *, threads: int = 8, per_second: float = 0
) -> Iterator[Deliveries]:
    deliveries = Deliveries(origin, rng, number, threads=threads, per_second=per_second)
    deliveries.start()
    try:
        yield deliveries
    finally:
        deliveries.stop()


@dataclass(frozen=True)
class Traffic:
    """Webhooks and jobs come to a system at work until `events` webhooks are accepted and every job is promised."""

    origin: str
    feeder: Feeder
    deliveries: Deliveries
    events: int

    def await_accepted(self, share: float) -> None:
        until(lambda: self.deliveries.accepted >= share * self.events, "webhooks to be accepted", seconds=180)

    def await_next_webhook(self) -> float:
        """Wait until one more webhook is accepted; returns the seconds that it took."""
        began, before = time.monotonic(), self.deliveries.accepted
        until(lambda: self.deliveries.accepted > before, "a webhook to be accepted", seconds=60)
        return time.monotonic() - began

    def await_end(self) -> None:
        self.await_accepted(1)
        self.deliveries.stop()
        feeder = self.feeder
        until(
            lambda: len(feeder.promised) + len(feeder.unknown) >= feeder.target, "every job to be promised", seconds=60
        )


@contextmanager
def traffic(
    system: System,
    fleet: Fleet,
    rng: Random,
    jobs: int,
    events: int,
    *,
    jobs_per_second: float,
    events_per_second: float = 0,
    spare: int = 1,
) -> Iterator[Traffic]:
    """A web process, a scheduler and two workers, fed with jobs and webhooks. `spare` times as many webhooks come as
    are awaited, so that there are some to the end."""
    origin = fleet.web()
    fleet.workers(2)
    with (
        feeding(system, rng, target=jobs, per_second=jobs_per_second) as feeder,
        delivering(origin, rng, spare * events, threads=16, per_second=events_per_second) as deliveries,
    ):
        yield Traffic(origin, feeder, deliveries, events)
