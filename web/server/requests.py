"""Requests by name: each has an id, which its log lines and its response carry, and a span if traces are sent.

A client's own `X-Request-Id` is kept beside it, if it is short and plain: it names nothing of ours, since whoever calls
may write there what others wrote.
"""

import re
from collections.abc import Callable, Iterable
from itertools import count
from secrets import token_hex
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.runtime.tracing import Span, Tracing
from workers.runtime.work import Work, working

HEADER: Final = b"x-request-id"

PLAIN: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

TRACED: Final = ("/api/", "/webhooks/")
"""Requests of which something may follow. Health checks, files and the operator's page have no spans."""


def request_ids() -> Callable[[], str]:
    """Return what makes ids that no other process makes; a number is cheaper than a random one each."""
    process, numbers = token_hex(6), count(1)
    return lambda: f"{process}-{next(numbers):x}"


class Requests:
    """Names the requests of one process."""

    def __init__(self, tracing: Tracing | None = None) -> None:
        self._tracing = tracing or Tracing()
        self._new_id = request_ids()

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `app` answer the request in its own name."""
        request_id = self._new_id()
        span = self._begin(scope, request_id) if self._tracing.on else None

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
                if span is not None:
                    span.rename(f"{scope['method']} {_route(scope)}")
                    span.answered(message["status"])
            await send(message)

        traceparent = None if span is None else span.traceparent
        work = Work(None, traceparent, request_id=request_id, client_request_id=_of_client(scope["headers"]))
        with working(work), span or NO_SPAN:
            await app(scope, receive, named)

    def _begin(self, scope: Scope, request_id: str) -> Span | None:
        if not scope["path"].startswith(TRACED):
            return None
        return self._tracing.request(scope["method"], _route(scope), request_id)


NO_SPAN: Final = Span(None)


def _of_client(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == HEADER:
            return value.decode("ascii") if PLAIN.fullmatch(value) else None
    return None


def _route(scope: Scope) -> str:
    """Return the route: the path itself has whatever its caller wrote. Webhooks have no route, and two paths."""
    if scope["path"].startswith("/webhooks/"):
        return "/webhooks/{source}"
    route = getattr(scope.get("route"), "path", None)
    return f"/api{route}" if route else "/api"
