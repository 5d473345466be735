"""A wire between the fleet and a server that can be cut: at once with a reset, or right behind a COMMIT."""

import socket
import struct
import threading
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Wire:
    """A TCP proxy to a port of this machine."""

    def __init__(self, port: int, rng: Random | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.cut_commits = 0.0
        """The chance that a COMMIT is delivered and its answer is not."""
        self._rng = rng or Random(0)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    def url(self, url: str, query: str = "") -> str:
        """The same URL, over this wire."""
        parts = urlsplit(url)
        system = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{system}@127.0.0.1:{self.port}", query=query))

    def lead_to(self, port: int) -> None:
        """From now on new connections end there; those that are open stay."""
        self._target = ("127.0.0.1", port)

    def reset_all(self) -> None:
        """Every connection of this moment gets an RST, on both sides."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self._reset(pair)
        self.cuts += len(pairs)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        # A socket that is closed while a thread waits in `accept` would still accept once.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target, timeout=5)
                except OSError:
                    self._reset((client,))
                    continue
                for end in (client, server):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = (client, server)
                with self._lock:
                    self._pairs.add(pair)
                cut = threading.Event()
                threading.Thread(target=self._forward, args=(pair, cut), daemon=True).start()
                threading.Thread(target=self._answer, args=(pair, cut), daemon=True).start()

    def _forward(self, pair: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        client, server = pair
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cut_commits and b"COMMIT" in data and self._rng.random() < self.cut_commits:
                    cut.set()
                server.sendall(data)
        self._part(pair)

    def _answer(self, pair: tuple[socket.socket, socket.socket], cut: threading.Event) -> None:
        client, server = pair
        with suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():
                    # The server has answered, so it has committed; nobody will hear of it.
                    with self._lock:
                        self._pairs.discard(pair)
                        self.cuts += 1
                    self._reset(pair)
                    return
                client.sendall(data)
        self._part(pair)

    def _part(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Called by both directions; the second closes."""
        with self._lock:
            first = pair in self._pairs
            self._pairs.discard(pair)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            if not first:
                end.close()

    def _reset(self, ends: tuple[socket.socket, ...]) -> None:
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
