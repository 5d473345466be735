"""Says every ten seconds that this process lives, and returns what the table believes it runs and it does not.

While it runs nothing it says so hardly ever, for a longer time: nobody waits for jobs that it does not have. The claim
that ends such a rest renews the lease in its own transaction, so whoever dies with a job is missed as soon as ever.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from db.transaction import NO_ANSWER, SYSTEM, Database, Tx
from workers.engine.runner import Runner

INTERVAL = timedelta(seconds=10)
AGAIN = timedelta(seconds=1)
LEASE = timedelta(seconds=30)
CLAIM_IN_FLIGHT = timedelta(seconds=30)
"""Longest that the answer to a claim can be on its way: the pool's own waits end before."""

log = structlog.get_logger()


class Heartbeat:
    """A thread of its own, so that busy handlers cannot keep it from beating; for the same reason `db` should be a pool
    of its own."""

    def __init__(
        self,
        db: Database,
        runner: Runner,
        *,
        queues: Sequence[str],
        version: str,
        interval: timedelta = INTERVAL,
        lease: timedelta = LEASE,
        rest: timedelta = INTERVAL,
        report: Callable[[], object] = lambda: None,
    ) -> None:
        """`rest` is the interval while the process runs nothing, if that is longer. `report` is called after each beat
        that was written, and at the end; it does not raise."""
        self._db = db
        self._runner = runner
        self._queues = queues
        self._version = version
        self._interval = interval
        self._lease = lease
        self._rest = max(rest, interval)
        self._report = report
        self._resting = False
        self._claims = self._claims_seen = 0
        """Claims so far (or fewer, if two came at once), now and at the last beat."""
        self._written = True
        runner.on_claim = self.renew
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def worker_id(self) -> UUID:
        return self._runner.worker_id

    def start(self) -> None:
        """Beat once before any job is claimed, then go on in the background.

        Raises:
            DatabaseUnavailable: the first beat could not be written.
        """
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Renew the lease, and disown jobs that no thread of this process runs."""
        claims = self._claims
        resting = claims == self._claims_seen and not self._runner.leases
        self._claims_seen, self._resting = claims, resting
        # Written without waiting for the disk or a standby: a server whose commits hang must not make it look dead, and
        # one that crashed forgets at most that it lives a few seconds longer.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            self._renew(tx, self._lease + (self._rest - self._interval if resting else timedelta(0)))
            runs_more = tx.transitions.runs_more(self.worker_id, self._runner.leases, CLAIM_IN_FLIGHT)
        if resting and self._claims != claims:  # meanwhile, and the claim's lease may have been lengthened here
            self._resting = False
            return self.beat()
        if not runs_more:
            return None
        # By itself: a row that cannot be given up must not keep the lease from being renewed.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            disowned = tx.transitions.disown(self.worker_id, self._runner.leases, CLAIM_IN_FLIGHT)
        if disowned:
            log.warning("worker.disowned", job_ids=[str(job_id) for job_id in disowned])
        return None

    def renew(self, tx: Tx) -> None:
        """Called in the transaction of each claim, which ends a rest: the lease of one is too long for a process that
        runs a job, and may be over where a beat was missed."""
        self._claims += 1
        if self._resting or not self._written:
            self._renew(tx, self._lease)
            self._resting = False
            self._woken.set()

    def _renew(self, tx: Tx, lease: timedelta) -> None:
        tx.workers.beat(
            self.worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
            version=self._version,
            lease=lease,
        )

    def drain(self) -> None:
        """Show that this process is stopping. It goes on beating while its jobs run out."""
        with self._db.transaction(SYSTEM) as tx:
            tx.workers.set_draining(self.worker_id)

    def sign_off(self) -> list[UUID]:
        """Stop beating, give back what still runs (attempt uncounted), and sign off. Returns the jobs given back."""
        self._stop.set()
        self._woken.set()
        self._thread.join(timeout=5)
        with self._db.transaction(SYSTEM) as tx:
            returned = tx.transitions.give_back_all(self.worker_id)
            tx.workers.delete(self.worker_id)
        self._report()
        return returned

    def _run(self) -> None:
        while not self._wait():
            try:
                self.beat()
            except NO_ANSWER as error:
                if self._written:
                    log.warning("worker.heartbeat_missed", reason=str(error))
                self._written = False
            except Exception:
                log.exception("worker.heartbeat_failed")
                self._written = False
            else:
                if not self._written:
                    log.info("worker.heartbeat_back")
                self._written = True
                self._report()

    def _wait(self) -> bool:
        """Wait until it is time for the next beat; True if there is none any more."""
        if not self._written:
            # Tried again soon: when the database is back, the first to write must not be who gives us up.
            return self._stop.wait(min(self._interval / 4, AGAIN).total_seconds())
        while self._woken.wait((self._rest if self._resting else self._interval).total_seconds()):
            if self._stop.is_set():
                return True
            self._woken.clear()  # a claim has just renewed the lease
        return self._stop.is_set()
