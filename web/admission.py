"""How many requests are worked on at once: as many as there are threads for them. The others wait, for a while.

A request takes its place when its whole body is here, and leaves it when its answer begins, so nobody who sends or
reads slowly keeps a place from others. Threads wait for connections of the pool in turn, also for a while only. Who has
waited in vain is told 503 and `Retry-After`: a crowd makes answers late, some of them refusals, and breaks nothing.
"""

import asyncio
import time

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.body import BodyTooLarge, Disconnected, read_body
from web.refusals import refusal

PLACES = 40
"""As many as anyio has threads, so that nobody waits for one in a line without end."""

PATIENCE = 5.0
"""Seconds that a request waits for a place, and a thread for a connection: routers in front of us give up after 30."""

MOST_WAITING = 2000
"""Requests that may wait for a place; each may have a body of a megabyte."""

RETRY_AFTER = 5
TELL_EVERY = 1.0

log = structlog.get_logger()


class Admission:
    """Serves one event loop."""

    def __init__(self, app: ASGIApp, *, places: int = PLACES, patience: float = PATIENCE) -> None:
        self._app = app
        self._places = asyncio.Semaphore(places)
        self._patience = patience
        self._waiting = 0
        self._refused = 0
        self._told_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            body = await read_body(scope, receive)
        except Disconnected:
            return None
        except BodyTooLarge as error:
            return await refusal(413, str(error), "BODY_TOO_LARGE")(scope, receive, send)
        if not await self._enter():
            self._tell()
            return await overloaded()(scope, receive, send)
        inside = True

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                self._places.release()

        body_is_read = False

        async def replay() -> Message:
            nonlocal body_is_read
            if body_is_read:
                return await receive()
            body_is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, replay, answer)
        finally:
            leave()

    async def _enter(self) -> bool:
        if self._waiting >= MOST_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def _tell(self) -> None:
        self._refused += 1
        if time.monotonic() - self._told_at >= TELL_EVERY:
            log.warning("api.overloaded", refused=self._refused, waiting=self._waiting)
            self._told_at, self._refused = time.monotonic(), 0


def overloaded() -> Response:
    return refusal(
        503,
        "more is asked for at once than can be answered; try again later",
        "OVERLOADED",
        {"retry_after": RETRY_AFTER},
        {"Retry-After": str(RETRY_AFTER)},
    )
