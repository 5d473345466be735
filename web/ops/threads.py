"""A few threads for what may hang, and an end to waiting for them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Crowded(Exception):
    """So many wait that one more would wait in vain."""


class NoAnswer(Exception):
    """Nothing has come of it in time, or all threads are busy with what nothing came of."""


class Threads:
    """Runs what blocks. Nobody waits longer than `patience` seconds, nor at all while each thread hangs in something
    that was given up: no thread can be ended from outside, so it is counted until it comes back.

    `most`: so many may wait at once.
    """

    def __init__(self, name: str, *, threads: int, most: int, patience: float) -> None:
        self.patience = patience
        self._count = threads
        self._most = most
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting = 0
        self._hung = 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Have a thread do it. Called on the event loop.

        Raises:
            Crowded, NoAnswer: as they say. And what `work` raises.
        """
        if self._waiting >= self._most:
            raise Crowded
        if self._hung >= self._count:
            raise NoAnswer
        self._waiting += 1
        doing = self._threads.submit(partial(work, *arguments))
        try:
            async with asyncio.timeout(self.patience):
                return await asyncio.wrap_future(doing)
        except TimeoutError:
            self._give_up(doing)
            raise NoAnswer from None
        finally:
            self._waiting -= 1

    def _give_up(self, doing: Future[Any]) -> None:
        if doing.cancel():  # it had not begun
            return
        with self._lock:
            self._hung += 1
        doing.add_done_callback(self._came_back)

    def _came_back(self, doing: Future[Any]) -> None:
        with self._lock:
            self._hung -= 1
