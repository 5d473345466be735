"""Ids of new rows."""

import secrets
import threading
import time
from functools import partial
from uuid import UUID

from domain.ids import next_uuid7


class Ids:
    """Ids of this process, each sorting after the one before."""

    def __init__(self) -> None:
        self._last = UUID(int=0)
        self._lock = threading.Lock()
        self._randomness = partial(secrets.randbits, 74)

    def __call__(self) -> UUID:
        with self._lock:
            self._last = next_uuid7(self._last, time.time_ns() // 1_000_000, self._randomness)
            return self._last
