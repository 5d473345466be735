"""A server of bytes: it answers each connection with what it is told to write, and keeps no rule of HTTP."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PATIENCE = 60.0


@dataclass
class RawServer:
    """`requests` are the heads that arrived, one a connection; `sent` counts the bytes that were written."""

    port: int
    over: threading.Event = field(default_factory=threading.Event)
    requests: list[bytes] = field(default_factory=list)
    sent: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, connection: socket.socket, pieces: Iterable[bytes]) -> None:
        """Read a request's head, then write the pieces until the client has seen enough."""
        connection.settimeout(PATIENCE)
        with connection:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (piece := connection.recv(4096)):
                        return
                    head += piece
                self.requests.append(head)
                for piece in pieces:
                    if self.over.is_set():
                        return
                    connection.sendall(piece)
                    self.sent += len(piece)
            except OSError:  # it hung up
                return


@contextmanager
def answering(pieces: "Callable[[RawServer], Iterable[bytes]]") -> Iterator[RawServer]:
    """Answer every connection to a free port of this machine with `pieces(server)`, each in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # it was closed
                    return
                threading.Thread(target=server.answer, args=(connection, pieces(server)), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown(socket.SHUT_RDWR)


def dripping(text: bytes, seconds: float) -> "Callable[[RawServer], Iterable[bytes]]":
    """One byte, then a rest, and so on."""

    def pieces(server: RawServer) -> Iterator[bytes]:
        for n in range(len(text)):
            yield text[n : n + 1]
            server.over.wait(seconds)

    return pieces


def endless(head: bytes, piece: bytes) -> "Callable[[RawServer], Iterable[bytes]]":
    """A head, and then the piece again and again."""

    def pieces(server: RawServer) -> Iterator[bytes]:
        yield head
        while True:
            yield piece

    return pieces
