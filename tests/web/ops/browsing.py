"""`/ops` behind a real socket, for browsers and for connections that stay open."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tests.wait import until
from web.ops.live import Live
from web.server.connections import ConnectionLimits, Server
from web.server.headers import secured


@contextmanager
def serving(routes: Sequence[BaseRoute], live: Live, limits: ConnectionLimits | None = None) -> Iterator[str]:
    """Serve the routes as `viral web` does, and return the address."""
    application = Starlette(routes=routes)

    async def with_headers(scope, receive, send):  # type: ignore[no-untyped-def]
        await application(scope, receive, secured(scope, send) if scope["type"] == "http" else send)

    server = Server(with_headers, limits or ConnectionLimits(), ending=live.end, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the server to start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
