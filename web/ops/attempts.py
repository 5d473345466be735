"""Attempts to sign in to `/ops`, counted in this process: a limit that needs neither Redis nor Postgres."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

BURST, EVERY = 10, 12.0
"""Wrong attempts of one network at once, and seconds until it has one more."""

BURST_IN_ALL, EVERY_IN_ALL = 200, 0.5
"""The same of all networks together."""

MOST_NETWORKS = 10_000


@dataclass
class Bucket:
    tokens: float
    at: float

    def fill(self, now: float, burst: int, every: float) -> None:
        self.tokens = min(burst, self.tokens + max(0.0, now - self.at) / every)
        self.at = now


class Attempts:
    """Token buckets of wrong attempts: one for each network, and one for all of them.

    An attempt takes its tokens before it is looked at, so any number of threads together get no more of them than
    there are; one that was right gives them back.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._networks: dict[str, Bucket] = {}
        self._all = Bucket(BURST_IN_ALL, monotonic())

    def take(self, network: str) -> int:
        """Take a token of the network. Returns 0, or the seconds to wait until there is one."""
        with self._lock:
            now = self._monotonic()
            bucket = self._networks.pop(network, None) or Bucket(BURST, now)
            bucket.fill(now, BURST, EVERY)
            self._networks[network] = bucket  # last: the first ones are those that rested longest
            if len(self._networks) > MOST_NETWORKS:
                del self._networks[next(iter(self._networks))]
            if bucket.tokens < 1:
                return max(1, ceil((1 - bucket.tokens) * EVERY))
            bucket.tokens -= 1
            return 0

    def take_of_all(self) -> bool:
        """Take a token of the bucket that all networks share; False if there is none."""
        with self._lock:
            self._all.fill(self._monotonic(), BURST_IN_ALL, EVERY_IN_ALL)
            if self._all.tokens < 1:
                return False
            self._all.tokens -= 1
            return True

    def give_back(self, network: str, *, of_all: bool) -> None:
        """Give back what an attempt took that was no wrong one."""
        with self._lock:
            if bucket := self._networks.get(network):
                bucket.tokens = min(BURST, bucket.tokens + 1)
            if of_all:
                self._all.tokens = min(BURST_IN_ALL, self._all.tokens + 1)
