"""Notices servers that let call after call go by without an answer: whoever waits for one holds a thread all that time,
and a platform that is silent for all its accounts would hold all of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from domain.errors import NotSent, Unavailable

SILENT_AFTER = 8
"""Calls in a row, of whatever account, that no answer of the server comes between."""
PAUSE = 20.0
"""Seconds between two calls that a silent server is still asked."""


@dataclass
class _Server:
    silences: int = 0
    next_at: float = 0.0


class Silences:
    """Counts by server. One answer, whatever it says, makes a server one that answers, so that accounts which are not
    answered hold up no others. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}

    @contextmanager
    def asking(self, name: str, server: str) -> Iterator[None]:
        """Note how the call in this block ends.

        Raises:
            NotSent: the server is silent, and its next call is not due yet.
        """
        self._begin(name, server)
        try:
            yield
        except Unavailable as error:
            if error.silent:
                self._not_answered(server)
            else:
                self._answered(server)
            raise
        self._answered(server)

    def _begin(self, name: str, server: str) -> None:
        with self._lock:
            found = self._servers.get(server)
            if found is None or found.silences < SILENT_AFTER:
                return
            now = self._clock()
            if now < found.next_at:
                raise NotSent(f"{name} has not answered the last {found.silences} calls, and is asked little for now")
            found.next_at = now + PAUSE

    def _answered(self, server: str) -> None:
        with self._lock:
            self._servers.pop(server, None)

    def _not_answered(self, server: str) -> None:
        with self._lock:
            found = self._servers.setdefault(server, _Server())
            found.silences += 1
            found.next_at = self._clock() + PAUSE
