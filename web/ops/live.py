"""Tells open pages when to look again, by server-sent events: https://html.spec.whatwg.org/#server-sent-events

A stream carries no data. It says "look", the page fetches itself, and `web/ops/answers.py` answers all that do at once.
So nothing is kept for a stream: whoever reads slowly misses a look, and no more.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

LOOK_EVERY: Final = 5.0
MOST_STREAMS: Final = 100
LONGEST: Final = 600.0
"""Seconds after which a stream ends and the page connects anew, so that a token that was revoked is asked for again."""

TRY_AGAIN: Final = 30_000
"""Milliseconds after which a page that found no place connects again; it looks again then too."""

UNBUFFERED: Final = {"X-Accel-Buffering": "no", "Cache-Control": "no-store, no-transform"}
"""nginx and what is built on it pass each event on at once, and nobody compresses a stream, which would hold it up."""

FULL: Final = f"retry: {TRY_AGAIN}\nevent: full\ndata: \n\n".encode()


class Live:
    """The streams of one process, and the one task that wakes them all, while there are any.

    `most` streams are open at once: each holds a connection.
    """

    def __init__(self, every: float = LOOK_EVERY, most: int = MOST_STREAMS, longest: float = LONGEST) -> None:
        self._every = every
        self._most = most
        self._longest = longest
        self._looks = 0
        self._next = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None
        self._ended = False
        self.open = 0
        """Streams."""
        self.woken_at: float | None = None
        """When pages were last asked to look, by this process's clock; None while no stream is open."""

    async def answer(self, request: Request) -> Response:
        """Answer with a stream. A page that had one before is asked to look at once: it has missed some."""
        missed = "last-event-id" in request.headers
        return StreamingResponse(self.stream(missed), media_type="text/event-stream", headers=UNBUFFERED)

    async def stream(self, missed: bool = False) -> AsyncIterator[bytes]:
        if self._ended:
            return
        if self.open >= self._most:
            yield FULL
            return
        self.open += 1
        until = time.monotonic() + self._longest
        try:
            if self._waking is None or self._waking.done():
                self._waking = asyncio.create_task(self._wake())
            yield self._event() if missed else f"id: {self._looks}\n\n".encode()
            while await self._looks_before(until):
                yield self._event()
        finally:
            self.open -= 1

    def end(self) -> None:
        """End all streams, for good; called on the event loop when the server stops."""
        self._ended = True
        self._next.set()
        if self._waking is not None:
            self._waking.cancel()

    async def _looks_before(self, until: float) -> bool:
        await self._next.wait()
        return not self._ended and time.monotonic() < until

    async def _wake(self) -> None:
        try:
            while self.open:
                await asyncio.sleep(self._every)
                self._looks += 1
                self.woken_at = time.monotonic()
                now, self._next = self._next, asyncio.Event()
                now.set()
        finally:
            self.woken_at = None

    def _event(self) -> bytes:
        return f"id: {self._looks}\nevent: look\ndata: {self._looks}\n\n".encode()
