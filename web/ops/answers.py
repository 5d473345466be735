"""What the pages of `/ops` show, asked for once however many look: 50 viewers cost Postgres what one does."""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")
Shown = Mapping[str, Any]

THREADS: Final = 4
"""So many different pages are answered at once, of the threads and connections that the API and webhooks need too."""

MOST_KEPT: Final = 256
"""Filters of URLs are anybody's text, so there is no end of different pages."""


@dataclass
class _Answer:
    shown: asyncio.Future[Shown]
    asked_at: float


class Answers:
    """The answers of the last seconds. Who asks for what another is asking for waits for the same answer.

    An answer is used again for `fresh_for` seconds since it was asked for; a refusal (an exception) only by those who
    wait for it. What is shown is shared, so nobody changes it.

    `woken_at` says when open pages were last asked to look: an answer that was asked for since then is used until they
    are asked again, since it takes a while until each of fifty has its page.
    """

    def __init__(
        self,
        fresh_for: float,
        clock: Callable[[], float] = time.monotonic,
        woken_at: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._fresh_for = fresh_for
        self._clock = clock
        self._woken_at = woken_at
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ops")
        self._answers: dict[Hashable, _Answer] = {}

    async def get(self, key: Hashable, ask: Callable[[], Shown]) -> Shown:
        """Return what `ask` returns, in a thread, or has just returned. Raises what it raises."""
        answer = self._answers.get(key)
        if answer is None or (answer.shown.done() and not self._is_fresh(answer)):
            self._answers.pop(key, None)
            while len(self._answers) >= MOST_KEPT:
                del self._answers[next(iter(self._answers))]
            answer = _Answer(self.run(ask), self._clock())
            self._answers[key] = answer
        return await asyncio.shield(answer.shown)  # whoever hangs up does not end it for the others

    def forget(self) -> None:
        """Ask anew from now on: something was changed by whoever will look at it next."""
        self._answers.clear()

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have a thread do what takes time, and is asked for by one alone."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _is_fresh(self, answer: _Answer) -> bool:
        if answer.shown.cancelled() or answer.shown.exception() is not None:
            return False
        woken_at = self._woken_at()
        is_of_this_look = woken_at is not None and answer.asked_at >= woken_at
        return is_of_this_look or self._clock() - answer.asked_at < self._fresh_for
