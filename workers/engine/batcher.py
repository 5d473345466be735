"""Group commit: what many threads request while one round is under way shares the next.

    batcher = Batcher(write, name="usage-writer", limit=500, most_waiting=10_000, linger=0.5)
    batcher.start()
    batcher.post(row)                   # fire and forget; raises `queue.Full` when 10,000 wait already
    answer = batcher.call(row)          # waits for the answer of this request
    future = batcher.submit(row)        # a `concurrent.futures.Future` of the answer
    batcher.stop(timeout=5)             # does what was requested until now

A caller on an event loop puts its own `asyncio.Future` into the request and posts it; the function that does a round
then resolves all futures of the round with one `call_soon_threadsafe`. A function that has to try again (its database
is away) does so within the round: requests gather behind it, up to `most_waiting`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, Full, SimpleQueue
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger()


class Batcher(Generic[T, R]):
    """Does many small requests in few large rounds, on a thread of its own.

    `act` gets the requests of a round and returns an answer for each, in their order (or None, if nobody reads
    answers); if it raises, every request of the round fails with that. Before `start` and after `stop`, each request
    is a round of its own, in the caller's thread.

    A round takes requests until their number, or the sum of what `weigh` says of them, reaches `limit`. After each
    round the thread waits for `linger` seconds, so that more gathers for the next; a function says how long now.
    """

    def __init__(
        self,
        act: Callable[[Sequence[T]], Sequence[R] | None],
        *,
        name: str,
        limit: int,
        weigh: Callable[[T], int] = lambda request: 1,
        most_waiting: int | None = None,
        linger: float | Callable[[], float] = 0.0,
    ) -> None:
        self._act = act
        self._name = name
        self._limit = limit
        self._weigh = weigh
        self._most_waiting = most_waiting
        self._linger = linger
        self._queue: SimpleQueue[tuple[T, Future[R] | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._running = False
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # so that nothing is queued behind the last request

    @property
    def waiting(self) -> int:
        """How many requests no round has taken yet."""
        return self._queue.qsize()

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Do what was requested until now, and end. Returns whether all of it was done within `timeout` seconds."""
        with self._lock:
            was_running, self._running = self._running, False
            if was_running:
                self._queue.put(None)
        self._stopping.set()
        if was_running:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def post(self, request: T) -> None:
        """Request something whose answer nobody reads: it costs less than `submit`.

        Raises:
            queue.Full: `most_waiting` requests wait already.
        """
        self._enter(request, None)

    def submit(self, request: T) -> Future[R]:
        """Request something; the future has its answer.

        Raises:
            queue.Full: `most_waiting` requests wait already.
        """
        future: Future[R] = Future()
        self._enter(request, future)
        return future

    def call(self, request: T) -> R:
        """Request something and wait for its answer."""
        return self.submit(request).result()

    def _enter(self, request: T, future: Future[R] | None) -> None:
        with self._lock:
            if self._running:
                if self._most_waiting is not None and self._queue.qsize() >= self._most_waiting:
                    raise Full
                self._queue.put((request, future))
                return
        self._round([(request, future)])

    def _run(self) -> None:
        while batch := self._next_batch():
            self._round(batch)
            seconds = self._linger() if callable(self._linger) else self._linger
            if seconds:
                self._stopping.wait(seconds)

    def _next_batch(self) -> list[tuple[T, Future[R] | None]]:
        """Everything that waits, up to the limit; blocks until there is something. Empty after the last request."""
        batch: list[tuple[T, Future[R] | None]] = []
        weight = 0
        try:
            while weight < self._limit:
                entry = self._queue.get_nowait() if batch else self._queue.get()
                if entry is None:
                    self._queue.put(None)
                    break
                batch.append(entry)
                weight += self._weigh(entry[0])
        except Empty:
            pass
        return batch

    def _round(self, batch: Sequence[tuple[T, Future[R] | None]]) -> None:
        try:
            answers = self._act([request for request, _ in batch])
        except Exception as error:
            for _, future in batch:
                if future is not None:
                    future.set_exception(error)
            if any(future is None for _, future in batch):
                log.exception("batcher.round_failed", batcher=self._name, requests=len(batch))
            return
        if answers is not None:
            for (_, future), answer in zip(batch, answers, strict=True):
                if future is not None:
                    future.set_result(answer)
