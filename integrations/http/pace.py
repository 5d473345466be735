"""A pace keeps this process to a share of what another system allows: a caller in no hurry waits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock
from typing import TypeVar

from domain.errors import RateLimited, Unavailable
from domain.queue.rate import Rate, draw, fresh

PATIENCE = 5
LONGEST_WAIT = 60.0
"""How often a call is made at most while the other side asks us to wait, and for how many seconds at most each time."""

T = TypeVar("T")


class Pace:
    """Calls of all threads of this process together keep to `rate`. `clock` is Unix seconds."""

    def __init__(
        self, rate: Rate, *, clock: Callable[[], float] = time.time, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._bucket = fresh(self._now())
        self._lock = Lock()

    def patiently(self, call: Callable[[], T]) -> T:
        """Call within the rate, and again, up to `PATIENCE` times, after the wait that the other side asks for."""
        for n in range(PATIENCE - 1):
            self._wait_for_token()
            try:
                return call()
            except Unavailable as error:
                if error.retry_after is None and not isinstance(error, RateLimited):
                    raise
                self._sleep(min(error.retry_after.total_seconds() if error.retry_after else 2.0**n, LONGEST_WAIT))
        self._wait_for_token()
        return call()

    def _wait_for_token(self) -> None:
        promised = False
        while True:
            now = self._now()
            with self._lock:
                self._bucket, come_back = draw(self._bucket, self._rate, now, promised=promised)
            if come_back is None:
                return
            promised = True
            self._sleep((come_back - now).total_seconds())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
