"""A server on this machine that stands for one outside: it answers as that outside would, and fails on demand.

    with Loopback(answer) as server:
        server.fail(Reply(status=429, headers={"Retry-After": "30"}), times=2)

It listens on a real socket, so that time-outs, broken connections and headers are real, too.
"""

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


class Server(ThreadingHTTPServer):
    """A client that hangs up is an ordinary thing; whatever else goes wrong in a handler is printed."""

    daemon_threads = True
    request_queue_size = 1024  # hundreds may come at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of this machine, each connection on a thread of its own; yields `http://127.0.0.1:PORT`."""
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Request:
    """A request as it arrived; the names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query))


@dataclass(frozen=True)
class Reply:
    """`after` seconds before anything is sent; `hang_up` sends nothing at all; `drip` seconds between two bytes; `cut`
    hangs up after so many bytes of the body; `reset` breaks the connection where `hang_up` or `cut` would close it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0
    hang_up: bool = False
    drip: float = 0
    cut: int | None = None
    reset: bool = False


def json_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """A reply in JSON; headers by their names with `_` for `-`."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body).encode(), status, {"Content-Type": "application/json", **sent})


class Loopback:
    """Answers by `answer`; the replies given to `fail` come first. `requests` are those that arrived, in order."""

    def __init__(self, answer: Callable[[Request], Reply], *, protocol: str = "HTTP/1.0") -> None:
        self.requests: list[Request] = []
        self._answer = answer
        self._protocol = protocol
        self._faults: deque[tuple[str, Reply, bool]] = deque()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._serving = ExitStack()
        self.url = ""

    def fail(self, reply: Reply, *, times: int = 1, path: str = "", handled: bool = False) -> None:
        """Give this reply to the next requests (whose path has `path` in it) instead of the usual one; if `handled`,
        after what they ask for was done."""
        with self._lock:
            self._faults.extend([(path, reply, handled)] * times)

    def __enter__(self) -> Self:
        self.url = self._serving.enter_context(serving(self._handler()))
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._serving.close()

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            fault = next((each for each in self._faults if each[0] in request.path), None)
            if fault:
                self._faults.remove(fault)
        if fault and not fault[2]:
            return fault[1]
        usual = self._answer(request)
        return fault[1] if fault else usual

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = server._protocol
            disable_nagle_algorithm = True

            def log_message(self, *args: object) -> None:
                """Log nothing."""

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = server._reply(Request(self.command, parts.path, parts.query, headers, body))
                server._over.wait(reply.after)
                if not reply.hang_up and not server._over.is_set():
                    self._send(reply)
                if reply.hang_up or reply.cut is not None or server._over.is_set():
                    self.close_connection = True
                if reply.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    socket.close(self.connection.detach())

            def _send(self, reply: Reply) -> None:
                self.send_response_only(reply.status)
                defaults = {"Date": self.date_time_string(), "Content-Length": str(len(reply.body))}
                for name, value in (defaults | dict(reply.headers)).items():
                    self.send_header(name, value)
                self.end_headers()
                body = reply.body[: reply.cut]
                if not reply.drip:
                    self.wfile.write(body)
                    return
                for n in range(len(body)):
                    if server._over.wait(reply.drip):
                        return
                    self.wfile.write(body[n : n + 1])
                    self.wfile.flush()

            do_POST = do_PUT = do_DELETE = do_GET

        return Handler
