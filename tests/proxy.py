"""A TCP proxy that can swallow the server's answers: what a network does to a COMMIT at the worst moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards to one server. Once `deaf_after` is set, the next client message containing it is delivered, and the
    connection is cut instead of the answer being passed back. `bound`: a socket that is to listen only from now on."""

    def __init__(self, host: str, port: int, bound: socket.socket | None = None) -> None:
        self.target = (host, port)
        """Where new connections are led; those that there are stay where they are, as behind a name that changes."""
        self._listener = bound or socket.create_server(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.deaf_after: bytes | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{place}@127.0.0.1:{self.port}"))

    def close(self) -> None:
        # A socket that is closed while a thread waits in `accept` would still accept once.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self.target)
                except OSError:
                    client.close()
                    continue
                deaf = threading.Event()
                threading.Thread(target=self._send, args=(client, server, deaf), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, deaf), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError), server, client:
            while data := client.recv(65536):
                if self.deaf_after is not None and self.deaf_after in data:
                    self.deaf_after = None
                    deaf.set()
                server.sendall(data)

    def _answer(self, client: socket.socket, server: socket.socket, deaf: threading.Event) -> None:
        with contextlib.suppress(OSError), server, client:
            while data := server.recv(65536):
                if deaf.is_set():
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


@contextlib.contextmanager
def proxied(host: str, port: int, bound: socket.socket | None = None) -> Iterator[Proxy]:
    proxy = Proxy(host, port, bound)
    try:
        yield proxy
    finally:
        proxy.close()
