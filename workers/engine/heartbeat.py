"""Says every ten seconds that this process lives, and returns what the table believes it runs and it does not."""

import os
import socket
import threading
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from db.transaction import NO_ANSWER, SYSTEM, Database
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
    ) -> None:
        self._db = db
        self._runner = runner
        self._queues = queues
        self._version = version
        self._interval = interval
        self._lease = lease
        self._stop = threading.Event()
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
        # Written without waiting for the disk or a standby: a server whose commits hang must not make it look dead, and
        # one that crashed forgets at most that it lives a few seconds longer.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            tx.workers.beat(
                self.worker_id,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                queues=self._queues,
                version=self._version,
                lease=self._lease,
            )
        # By itself: a row that cannot be given up must not keep the lease from being renewed.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            disowned = tx.transitions.disown(self.worker_id, self._runner.leases, CLAIM_IN_FLIGHT)
        if disowned:
            log.warning("worker.disowned", job_ids=[str(job_id) for job_id in disowned])

    def drain(self) -> None:
        """Show that this process is stopping. It goes on beating while its jobs run out."""
        with self._db.transaction(SYSTEM) as tx:
            tx.workers.set_draining(self.worker_id)

    def sign_off(self) -> list[UUID]:
        """Stop beating, give back what still runs (attempt uncounted), and sign off. Returns the jobs given back."""
        self._stop.set()
        self._thread.join(timeout=5)
        with self._db.transaction(SYSTEM) as tx:
            returned = tx.transitions.give_back_all(self.worker_id)
            tx.workers.delete(self.worker_id)
        return returned

    def _run(self) -> None:
        written = True
        # Missed, it is tried again soon: when the database is back, the first to write must not be who gives us up.
        while not self._stop.wait((self._interval if written else min(self._interval / 4, AGAIN)).total_seconds()):
            try:
                self.beat()
            except NO_ANSWER as error:
                if written:
                    log.warning("worker.heartbeat_missed", reason=str(error))
                written = False
            except Exception:
                log.exception("worker.heartbeat_failed")
                written = False
            else:
                if not written:
                    log.info("worker.heartbeat_back")
                written = True
