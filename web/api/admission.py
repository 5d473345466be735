"""Who is let in, and when: the caller is known before the body is read, and works when there is a thread for it.

So many requests are worked on at once as there are threads for them. The others wait, for a while. A request takes a
place to find out who calls, leaves it while its body comes, and takes one again when all of it is here; it has left it
when its answer is sent. So nobody who sends or reads slowly keeps a place from others. Threads wait for connections of
the pool in turn, also for a while only. Who has waited in vain is told 503 and `Retry-After`: a crowd makes answers
late, some of them refusals, and breaks nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ClassVar

import structlog
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Message, Receive

from web.api.access import credential_of, identify
from web.api.refusals import Refused, overloaded
from web.server.body import Body, BodyTooLarge, Disconnected, JsonRefused, check_json

PLACES = 40
"""As many as anyio has threads, so that nobody waits for one in a line without end."""

PATIENCE = 5.0
"""Seconds that a request waits for a place, and a thread for a connection: routers in front of us give up after 30."""

MOST_WAITING = 2000
"""Requests that may wait for a place."""

TELL_EVERY = 1.0

HUNG_UP = 499
"""What nginx logs for a client that did not wait; nobody is sent it."""

log = structlog.get_logger()


class Admission:
    """The places of one event loop."""

    def __init__(self, *, places: int = PLACES, patience: float = PATIENCE) -> None:
        self._places = asyncio.Semaphore(places)
        self._patience = patience
        self._waiting = 0
        self._refused = 0
        self._told_at = float("-inf")

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises:
        Refused: none became free in time.
        """
        if not await self._enter():
            self._tell()
            raise overloaded("more is asked for at once than can be answered; try again later")
        try:
            yield
        finally:
            self._places.release()

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


class AdmittedRoute(APIRoute):
    """A route of the API. One that takes more than `max_body` bytes has a class of its own, with another limit."""

    max_body: ClassVar[int] = 16 * 1024

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            credential = credential_of(request)
            admission: Admission = request.app.state.admission
            async with admission.place():
                await run_in_threadpool(identify, request, credential)
                if self.body_field is None:  # whatever is sent is not read
                    return await handle(request)
            try:
                body = await read_json(request, self.max_body)
            except Disconnected:
                return Response(status_code=HUNG_UP)
            async with admission.place():
                return await handle(Request(request.scope, replayed(body, request.receive)))

        return admitted


async def read_json(request: Request, limit: int) -> bytes:
    """Raises:
    Refused: it is not to be taken apart.
    Disconnected: nobody waits for the answer.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise Refused(415, "send the body as it is, without a Content-Encoding", "ENCODING_UNSUPPORTED")
    try:
        body = await Body().read(request.scope, request.receive, limit)
        check_json(body)
    except BodyTooLarge as error:
        raise Refused(413, str(error), "BODY_TOO_LARGE") from None
    except JsonRefused as error:
        raise Refused(422, str(error), "INVALID") from None
    return body


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` for whoever asks for the body that has been read already."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
