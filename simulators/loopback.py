"""A server on this machine that stands for one outside: it answers as that outside would, and fails when told to.

    with Loopback(answers) as server:
        server.fail(Fault(status=429, headers={"Retry-After": "30"}), times=2)

It runs for real on a socket, so that time-outs, broken connections and headers are what they are in life.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Server(ThreadingHTTPServer):
    """A client that hangs up is an ordinary thing; whatever else goes wrong in a handler is printed."""

    daemon_threads = True

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
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """`after` seconds before anything is said; `hang_up` says nothing at all; `drip` seconds between two bytes."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0
    hang_up: bool = False
    drip: float = 0


class Loopback:
    """Answers by `answer`; the replies given to `fail` come first. `asked` is what arrived, in order."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        self._answer = answer
        self._faults: deque[tuple[str, Reply]] = deque()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._serving = ExitStack()
        self.url = ""

    def fail(self, reply: Reply, *, times: int = 1, path: str = "") -> None:
        """Give this reply to the next requests (whose path has `path` in it) instead of the usual one."""
        with self._lock:
            self._faults.extend([(path, reply)] * times)

    def __enter__(self) -> "Loopback":
        self.url = self._serving.enter_context(serving(self._handler()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._serving.close()

    def _reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            for n, (path, reply) in enumerate(self._faults):
                if path in asked.path:
                    del self._faults[n]
                    return reply
        return self._answer(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = server._reply(Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
                server._over.wait(reply.after)
                if reply.hang_up or server._over.is_set():
                    self.close_connection = True
                    return
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if not reply.drip:
                    self.wfile.write(reply.body)
                    return
                for n in range(len(reply.body)):
                    if server._over.wait(reply.drip):
                        return
                    self.wfile.write(reply.body[n : n + 1])
                    self.wfile.flush()

            do_POST = do_GET

        return Handler
