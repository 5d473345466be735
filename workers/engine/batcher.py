"""Group commit for worker threads: what they ask for while one round is under way shares the next."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Does many small requests in few large rounds, on a thread of its own.

    `act` gets the requests of a round and answers each, in their order; if it raises, every request of the round
    fails with that. Before `start`, each request is a round of its own, in the caller's thread.

    `rest` is called after each round: while it lasts, more gathers for the next.
    """

    def __init__(
        self,
        act: Callable[[Sequence[T]], Sequence[R]],
        *,
        name: str,
        most: int,
        rest: Callable[[], object] = lambda: None,
    ) -> None:
        self._act = act
        self._most = most
        self._rest = rest
        self._queue: SimpleQueue[tuple[T, Future[R] | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._running = False
        self._lock = threading.Lock()  # so that nothing is asked behind the last request

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Do what was asked for until now, and end. Requests that come later are rounds of their own."""
        with self._lock:
            was_running, self._running = self._running, False
            if was_running:
                self._queue.put(None)
        if was_running:
            self._thread.join(timeout)

    def tell(self, request: T) -> None:
        """`ask` by somebody who does not need the answer: it costs less."""
        with self._lock:
            if self._running:
                self._queue.put((request, None))
                return
        self._round([(request, None)])

    def ask(self, request: T) -> Future[R]:
        future: Future[R] = Future()
        with self._lock:
            if self._running:
                self._queue.put((request, future))
                return future
        self._round([(request, future)])
        return future

    def do(self, request: T) -> R:
        """Ask, and wait for the answer."""
        return self.ask(request).result()

    def _run(self) -> None:
        while True:
            asked = [self._queue.get()]
            while len(asked) < self._most and asked[-1] is not None:
                try:
                    asked.append(self._queue.get_nowait())
                except Empty:
                    break
            if batch := [each for each in asked if each is not None]:
                self._round(batch)
            if asked[-1] is None:
                return
            self._rest()

    def _round(self, batch: Sequence[tuple[T, Future[R] | None]]) -> None:
        try:
            answers = self._act([request for request, _ in batch])
        except Exception as error:
            for _, future in batch:
                if future is not None:
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if future is not None:
                    future.set_result(answer)
