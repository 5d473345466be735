"""Every request of a known caller in `api_usage`, written by a thread of its own.

No request waits for it: rows are grouped into a transaction of their own a moment later. So a crash loses those of the
last second, and a long outage of Postgres those beyond `MOST_WAITING`, which a log counts: nobody is billed by them.
"""

import threading
import time
from queue import Empty, Full, Queue

import structlog

from db.ops.requests import Request
from db.transaction import SYSTEM, Database
from domain.errors import Unavailable
from workers.engine.failures import text_of

MOST_WAITING = 10_000
MOST_AT_ONCE = 500
EVERY = 0.5
"""Seconds that rows gather for."""

log = structlog.get_logger()


class UsageLog:
    """Of one process, for as long as it serves. Its `db` is its own: requests may take every connection of theirs."""

    def __init__(self, db: Database, *, most_waiting: int = MOST_WAITING) -> None:
        self._db = db
        self._queue: Queue[Request] = Queue(most_waiting)
        self._stopping = threading.Event()
        self._dropped = 0
        self._writer = threading.Thread(target=self._write_all, name="usage-writer", daemon=True)

    def start(self) -> None:
        self._writer.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        self._writer.join(timeout)

    def record(self, request: Request) -> None:
        """Never waits, never raises."""
        try:
            self._queue.put_nowait(request)
        except Full:
            self._dropped += 1

    def _write_all(self) -> None:
        waiting: list[Request] = []
        while True:
            last = self._stopping.wait(EVERY)
            while len(waiting) < MOST_AT_ONCE or last:
                try:
                    waiting.append(self._queue.get_nowait())
                except Empty:
                    break
            waiting = self._write(waiting)
            if self._dropped:
                log.warning("usage.dropped", requests=self._dropped)
                self._dropped = 0
            if last:
                if waiting:
                    log.warning("usage.dropped", requests=len(waiting))
                return

    def _write(self, requests: list[Request]) -> list[Request]:
        """Those that are to be tried again: all, while Postgres is away."""
        if not requests:
            return []
        try:
            with self._db.transaction(SYSTEM, durable=False) as tx:
                return tx.requests.record(requests)
        except Unavailable as error:
            log.warning("usage.waits", requests=len(requests), reason=str(error), seldom=True)
            return requests
        except Exception as error:
            if len(requests) == 1:
                log.warning("usage.lost", tenant_id=str(requests[0].tenant_id), reason=text_of(error))
                return []
            # One that cannot be written takes no other with it.
            half = len(requests) // 2
            return self._write(requests[:half]) + self._write(requests[half:])


def milliseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
