"""Every request of a known caller in `api_usage`, written in batches by a thread of its own.

No request waits for it. So a crash loses the rows of the last half second, and a long outage of Postgres those beyond
`MOST_WAITING`, which a log line counts: nobody is billed by them.
"""

from collections.abc import Sequence
from queue import Full

import structlog

from db.ops.requests import Request
from db.transaction import SYSTEM, Database
from domain.errors import Unavailable
from workers.engine.batcher import Batcher
from workers.runtime.error_text import text_of

MOST_WAITING = 10_000
MOST_AT_ONCE = 500
EVERY = 0.5
"""Seconds that rows gather for."""

log = structlog.get_logger()


class UsageLog:
    """Records the requests of one process. Its `db` is its own: requests may take every connection of theirs."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._recording = False
        self._given_up = False
        self._dropped = 0
        self._batcher = Batcher[Request, None](
            self._write_all, name="usage-writer", limit=MOST_AT_ONCE, most_waiting=MOST_WAITING, linger=EVERY
        )

    def start(self) -> None:
        self._batcher.start()
        self._recording = True

    def stop(self, timeout: float = 5.0) -> None:
        """Write the rows that wait, if Postgres takes them, and end."""
        self._recording = False
        self._batcher.stop(timeout)

    def record(self, request: Request) -> None:
        """Never waits, never raises."""
        try:
            if not self._recording:
                raise Full
            self._batcher.post(request)
        except Full:
            self._dropped += 1

    def _write_all(self, requests: Sequence[Request]) -> None:
        left = requests if self._given_up else self._write(requests)
        # At the stop one try decides for all that wait: Postgres is away.
        self._given_up = not self._recording and len(left) == len(requests)
        for request in left:
            self.record(request)
        if self._dropped:
            log.warning("usage.dropped", requests=self._dropped)
            self._dropped = 0

    def _write(self, requests: Sequence[Request]) -> Sequence[Request]:
        """Return the rows to try again: all, while Postgres is away, or those of a tenant that is being deleted."""
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
            return [*self._write(requests[:half]), *self._write(requests[half:])]
