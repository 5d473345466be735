"""The threads that run messages: as many as there are messages that this process may hold, and no more than it needed.

Dramatiq starts all threads of a worker at once, and each looks once a second whether it is to stop. Three hundred of
them would cost a second of processor time a minute for nothing. Here a thread is started when a message finds none that
waits, and waits for the next without looking; at a stop all that wait are woken.
"""

from collections.abc import Callable
from queue import Empty, PriorityQueue
from threading import current_thread
from typing import Any, cast

from dramatiq import Broker, Worker
from dramatiq.worker import WorkerThread


class Threads(Worker):
    """Dramatiq's worker, with at most `most` threads. Every message that its broker hands over must find one, so the
    places of all queues together are no more than these."""

    def __init__(self, broker: Broker, *, most: int) -> None:
        super().__init__(broker, worker_threads=0)
        # Dramatiq asks the broker for two messages a thread.
        self.queue_prefetch = 2 * most
        self._most = most
        self.work_queue: Handover = Handover(self._start_another)

    def stop(self, timeout: int = 600_000) -> None:
        """End as Dramatiq does: messages that were begun have `timeout` milliseconds, others are returned."""
        self.work_queue.close()
        super().stop(timeout)

    def _start_another(self) -> None:
        if len(self.workers) < self._most:
            self._add_worker()


class Handover(PriorityQueue[Any]):
    """Hands messages to threads; calls `too_few` for one that finds no thread waiting for it."""

    def __init__(self, too_few: Callable[[], object]) -> None:
        super().__init__()
        self._too_few = too_few
        self._waiting = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many threads wait for a message."""
        return self._waiting

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        with self.mutex:
            if self._qsize() > self._waiting and not self._closed:
                self._too_few()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the first message; a thread that blocks for it waits for as long as it takes, whatever `timeout` says.

        Raises:
            Empty: there is none, and `block` is False; or nothing more is handed over to threads.
        """
        with self.not_empty:
            if not block:
                if not self._qsize():
                    raise Empty
                return self._get()
            self._waiting += 1
            try:
                while not self._qsize() and not self._closed:
                    self.not_empty.wait()
            finally:
                self._waiting -= 1
            if self._closed:
                # One that was started a moment ago may have missed that it was asked to stop.
                cast(WorkerThread, current_thread()).stop()
                raise Empty
            return self._get()

    def close(self) -> None:
        """Hand over nothing more to threads: what is left is there for whoever returns it."""
        with self.mutex:
            self._closed = True
            self.not_empty.notify_all()
