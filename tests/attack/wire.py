"""HTTP/1.1 as an attacker writes it: byte by byte, and not always right."""

import contextlib
import select
import socket
import struct
import time

CLOSED, RESET, SILENT = "closed", "reset", "silent"


def head(method: str, path: str, *lines: str, host: str = "attacked") -> bytes:
    """The head of a request, with the blank line that ends it."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A whole request with a body of JSON."""
    return head("POST", path, "Content-Type: application/json", f"Content-Length: {len(body)}", *lines) + body


class Wire:
    """One connection. Sending to somebody who has hung up is no error: what counts is the answer."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout = timeout
        self._received = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """False if the other side takes no more."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def drip(self, data: bytes, every: float, *, for_seconds: float) -> None:
        """Send byte by byte, until the other side says something or the time is over."""
        ends_at = time.monotonic() + for_seconds
        for n in range(len(data)):
            if time.monotonic() > ends_at or self.heard(every) or not self.send(data[n : n + 1]):
                return

    def heard(self, seconds: float) -> bool:
        """Whether there is something to read, be it the end, within so many seconds."""
        return bool(self._received) or bool(select.select([self.socket], [], [], seconds)[0])

    def answer(self, timeout: float | None = None) -> str:
        """The status of the next answer; its body is read and dropped."""
        ends_at = time.monotonic() + (self._timeout if timeout is None else timeout)
        try:
            while b"\r\n\r\n" not in self._received:
                if not self._more(ends_at):
                    return CLOSED
            lines, _, rest = self._received.partition(b"\r\n\r\n")
            words = lines.split(None, 2)
            length = next(
                (int(line[15:]) for line in lines.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            self._received = rest
            while len(self._received) < length:
                if not self._more(ends_at):
                    break
            self._received = self._received[length:]
            return words[1].decode() if len(words) > 1 else "not HTTP"
        except ConnectionError:
            return RESET
        except TimeoutError:
            return SILENT

    def ended(self, timeout: float) -> bool:
        """Whether the other side ends the connection within so many seconds."""
        ends_at = time.monotonic() + timeout
        with contextlib.suppress(ConnectionError):
            try:
                while self._more(ends_at):
                    self._received = b""
            except TimeoutError:
                return False
        return True

    def _more(self, ends_at: float) -> bool:
        self.socket.settimeout(max(0.001, ends_at - time.monotonic()))
        data = self.socket.recv(65536)
        self.socket.settimeout(self._timeout)
        self._received += data
        return bool(data)
