"""Admission control: the caller is identified before the body is read, and a request is handled when a slot is free.

There are as many slots as threads; the other requests wait, for a while. A request takes a slot to identify its caller,
frees it while its body is received, and takes one again when all of it is here; the slot is free when the response is
sent. So nobody who sends or reads slowly keeps a slot from others. Threads queue for connections of the pool, also for
a while only. A request that has waited in vain gets 503 and `Retry-After`: under overload responses come late, some of
them are errors, and nothing breaks.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar

import structlog
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Message, Receive

from web.api.authentication import admit, credential_of
from web.error_responses import ApiError, overloaded
from web.server.body import MAX_VALUES, Body, BodyTooLarge, Disconnected, InvalidJson, check_json

SLOTS = 40
"""The number of anyio's threads, whose own queue has no bound."""

PATIENCE = 5.0
"""Seconds that a request waits for a slot, and a thread for a connection: routers in front of us give up after 30."""

MOST_WAITING = 2000
"""Requests that may wait for a slot."""

REPORT_EVERY = 1.0

CLIENT_CLOSED_REQUEST = 499
"""nginx logs this status for a client that did not wait; nobody is sent it."""

log = structlog.get_logger()


class Admission:
    """The slots of one event loop."""

    def __init__(self, *, slots: int = SLOTS, patience: float = PATIENCE) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._patience = patience
        self._waiting = 0
        self._refused = 0
        self._reported_at = float("-inf")

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for as long as the block runs.

        Raises:
            ApiError: none became free in time.
        """
        if not await self._acquire():
            self._report()
            raise overloaded("more is asked for at once than can be answered; try again later")
        try:
            yield
        finally:
            self._slots.release()

    async def _acquire(self) -> bool:
        if self._waiting >= MOST_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._slots.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    def _report(self) -> None:
        self._refused += 1
        if time.monotonic() - self._reported_at >= REPORT_EVERY:
            log.warning("api.overloaded", refused=self._refused, waiting=self._waiting)
            self._reported_at, self._refused = time.monotonic(), 0


class AdmittedRoute(APIRoute):
    """A route of the API. One that takes more than `max_body` bytes or `max_values` values has a class of its own, with
    other limits."""

    max_body: ClassVar[int] = 16 * 1024
    max_values: ClassVar[int] = MAX_VALUES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            credential = credential_of(request)
            admission: Admission = request.app.state.admission
            async with admission.slot():
                await admit(request, credential)
                if self.body_field is None:  # a body, if there is one, is not read
                    return await handle(request)
            try:
                body = await read_json(request, self.max_body, self.max_values)
            except Disconnected:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            async with admission.slot():
                return await handle(Request(request.scope, replayed(body, request.receive)))

        return admitted


async def read_json(request: Request, limit: int, values: int = MAX_VALUES) -> bytes:
    """Read the whole body, of at most `limit` bytes and so many values.

    Raises:
        ApiError: it is too large, compressed, or JSON that is not accepted.
        Disconnected: the client hung up.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise ApiError(415, "send the body as it is, without a Content-Encoding", "ENCODING_UNSUPPORTED")
    try:
        body = await Body().read(request.scope, request.receive, limit)
        check_json(body, values=values)
    except BodyTooLarge as error:
        raise ApiError(413, str(error), "BODY_TOO_LARGE") from None
    except InvalidJson as error:
        raise ApiError(422, str(error), "INVALID") from None
    return body


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body, which has been read already, once more."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
