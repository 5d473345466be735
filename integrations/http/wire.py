"""Connections for `integrations.http.client` lead to addresses that were checked, and keep one deadline for all that a
call does.

The deadline bounds each piece that is read or written, so a peer that drips (its handshake, headers or body) gains
nothing by it. The client imports this module at its first call: httpcore2 costs 15 MB and most of a second.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext, SSLError
from time import monotonic
from typing import Any

import httpcore2

from domain.errors import Unavailable
from integrations.http.addresses import Lookup, addresses
from integrations.http.errors import AddressRefused, Momentary, NoConnection, NotSent

MALFORMED = "the address or a header of the request is malformed"
PATIENCE = 0.5
"""The longest wait, in seconds, that is not interrupted to call `waiting`."""
SLICE = 16_384


@dataclass(frozen=True, slots=True)
class Stream:
    """A response whose body is still on the wire. The names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    pieces: Callable[[], Iterable[bytes]]


@cache
def _trust(*_variables: str | None) -> SSLContext:
    """Whom we believe: to read the machine's certificates costs 30 ms, and all wires can share what was read. The
    variables are those that choose them."""
    return httpcore2.default_ssl_context()


class Wire:
    """A connection for each call, so that each call's address is checked; any thread may use it. `private_hosts` is
    None for addresses that came from outside: they lead to the internet and nowhere else."""

    def __init__(self, private_hosts: Collection[str] | None, lookup: Lookup) -> None:
        self._deadline = _Deadline()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=_Backend(self._deadline, private_hosts, lookup),
        )

    @contextmanager
    def stream(
        self,
        name: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Iterator[bytes] | None,
        *,
        connect: float,
        read: float,
        write: float,
        total: float,
        until: float,
        waiting: Callable[[], object] | None = None,
    ) -> Iterator[Stream]:
        """Send the request to `name`, and yield the response: what of its body is not read is not fetched. The block
        must stay in this thread, and begins no other call of this wire; neither does what yields `content`, whose
        length is in the headers. `total` names the seconds until `until` in errors; `waiting` is called before
        each read and every half second within one, and what it raises ends the call.

        Raises:
            NotSent: no connection was made: it is refused, nobody took it, or the address is malformed.
            Momentary: there is no whole response, but another try may bring one.
            Unavailable: the deadline is over, or this cannot be sent.
        """
        self._deadline.until = until
        self._deadline.waiting = waiting
        timeout = {"connect": connect, "read": read, "write": write}
        try:
            target = httpcore2.URL(url)
            sent = [(key.encode("ascii"), value.encode("ascii")) for key, value in headers.items()]
            sent.append((b"host", _host(target)))
        except (ValueError, TypeError):
            raise _malformed(name) from None
        try:
            with self._pool.stream(
                method, target, headers=sent, content=content, extensions={"timeout": timeout}
            ) as response:
                received = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}
                yield Stream(response.status, received, response.iter_stream)
        except AddressRefused as error:
            raise AddressRefused(f"{name} is not asked: {error}") from None
        except httpcore2.TimeoutException as error:
            unsent = isinstance(error, httpcore2.ConnectTimeout | httpcore2.PoolTimeout)
            if monotonic() >= until:
                late: type[Unavailable] = NotSent if unsent else Unavailable
                raise late(f"{name} did not finish its answer within {total:g} seconds", silent=True) from None
            failed = NoConnection if unsent else Momentary
            raise failed(f"{name} cannot be reached: {_reason(error)}", silent=True) from None
        except httpcore2.UnsupportedProtocol:
            raise _malformed(name) from None
        except httpcore2.LocalProtocolError:
            raise Unavailable(f"{name} cannot be asked: {MALFORMED}") from None
        except httpcore2.ConnectError as error:
            raise NoConnection(f"{name} cannot be reached: {_reason(error)}") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise Momentary(f"{name} cannot be reached: {_reason(error)}") from None

    def close(self) -> None:
        self._pool.close()


def _malformed(name: str) -> NotSent:
    return NotSent(f"{name} cannot be asked: {MALFORMED}")


def _host(url: httpcore2.URL) -> bytes:
    """As the header has it: httpcore2 would leave out the brackets of an IPv6 address."""
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)


def _reason(error: Exception) -> str:
    """Say in our own words what went wrong: those of the libraries may repeat what was sent or received."""
    cause = error.args[0] if error.args else None
    match error:
        case httpcore2.ConnectTimeout():
            return "no connection in time"
        case httpcore2.TimeoutException():
            return "no answer in time"
        case httpcore2.ConnectError() if isinstance(cause, SSLError):
            return f"no secure connection ({getattr(cause, 'verify_message', None) or cause.reason})"
        case httpcore2.NetworkError() if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        case httpcore2.ProtocolError():
            return "it broke off, or does not speak HTTP"
    return type(error).__name__


class _Deadline(threading.local):
    """When the call of this thread must have ended (monotonic seconds), and what is called while it waits."""

    until = float("inf")
    waiting: Callable[[], object] | None = None

    def bounded(self, timeout: float | None, error: type[Exception]) -> float:
        """Seconds that may be waited now.

        Raises:
            error: none are left.
        """
        left = self.until - monotonic()
        if left <= 0:
            raise error("the deadline of the call is over")
        return left if timeout is None else min(left, timeout)


class _Backend(httpcore2.SyncBackend):
    def __init__(self, deadline: _Deadline, private_hosts: Collection[str] | None, lookup: Lookup) -> None:
        self._deadline = deadline
        named = private_hosts is not None
        self._private_hosts = frozenset(name.rstrip(".").lower() for name in private_hosts or ()) if named else None
        self._lookup = lookup

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        seconds = self._deadline.bounded(timeout, httpcore2.ConnectTimeout)
        try:
            found = addresses(host, port, private_hosts=self._private_hosts, seconds=seconds, lookup=self._lookup)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(error) from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(error) from error
        for n, address in enumerate(found):
            seconds = self._deadline.bounded(timeout, httpcore2.ConnectTimeout)
            try:
                stream = super().connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if n + 1 == len(found):
                    raise
            else:
                return _Stream(stream, self._deadline)
        raise httpcore2.ConnectError("no address")


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        waiting = self._deadline.waiting
        until = monotonic() + self._deadline.bounded(timeout, httpcore2.ReadTimeout)
        while True:
            left = max(until - monotonic(), 0.001)
            if waiting is not None:
                waiting()
            try:
                return self._stream.read(max_bytes, left if waiting is None else min(left, PATIENCE))
            except httpcore2.ReadTimeout:
                if monotonic() >= until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write it in slices, since a peer that takes a few bytes at a time would renew the time for each."""
        for start in range(0, len(buffer), SLICE):
            bounded = self._deadline.bounded(timeout, httpcore2.WriteTimeout)
            self._stream.write(buffer[start : start + SLICE], bounded)

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        seconds = self._deadline.bounded(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
