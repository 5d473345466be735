"""Keeping to a share of what an outside allows: a caller in no hurry waits for its turn."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

from domain.queue.rate import Rate, fresh, take


class Pace:
    """At most `rate`, whoever of this process asks. `clock` is Unix seconds."""

    def __init__(
        self, rate: Rate, *, clock: Callable[[], float] = time.time, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._bucket = fresh(self._now())
        self._lock = Lock()

    def take_turn(self) -> None:
        promised = False
        while True:
            now = self._now()
            with self._lock:
                self._bucket, come_back = take(self._bucket, self._rate, now, promised=promised)
            if come_back is None:
                return
            promised = True
            self._sleep((come_back - now).total_seconds())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
