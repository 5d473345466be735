"""Connections for `integrations.http.client`: to addresses that were checked, and with one deadline for all that a
call does.

The deadline bounds each piece that is read or written, so a peer that drips (its handshake, headers or body) gains
nothing by it. Imported at the first call: httpcore2 costs 15 MB and most of a second.
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ssl import SSLContext, SSLError
from time import monotonic
from typing import Any

import httpcore2

from integrations.http.addresses import Lookup, addresses


class Wire:
    """A connection for each call, so that each call's address is checked; any thread may use it."""

    def __init__(self, private_hosts: Collection[str], lookup: Lookup) -> None:
        self._deadline = _Deadline()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=_Backend(self._deadline, private_hosts, lookup),
        )

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        *,
        connect: float,
        read: float,
        until: float,
    ) -> Iterator[httpcore2.Response]:
        """The answer, its body still unread: what is not read is not fetched. The block must stay in this thread.

        Raises:
            AddressRefused: the host leads to an address that is not connected to.
            httpcore2.LocalProtocolError: this cannot be sent; other errors of httpcore2: as they come.
        """
        self._deadline.until = until
        timeout = {"connect": connect, "read": read, "write": read}
        try:
            target = httpcore2.URL(url)
            sent = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
            sent.append((b"host", _host(target)))
        except (ValueError, TypeError):
            raise httpcore2.LocalProtocolError from None
        with self._pool.stream(
            method, target, headers=sent, content=content, extensions={"timeout": timeout}
        ) as response:
            yield response

    def close(self) -> None:
        self._pool.close()


def _host(url: httpcore2.URL) -> bytes:
    """As the header has it: httpcore2 would leave out the brackets of an IPv6 address."""
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)


def reason(error: Exception) -> str:
    """Our own words for what went wrong on the wire: the libraries' may repeat what was sent or received."""
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
    """When the call of this thread must have ended (monotonic seconds)."""

    until = float("inf")

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
    def __init__(self, deadline: _Deadline, private_hosts: Collection[str], lookup: Lookup) -> None:
        self._deadline = deadline
        self._private_hosts = frozenset(name.rstrip(".").lower() for name in private_hosts)
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
        return self._stream.read(max_bytes, self._deadline.bounded(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.bounded(timeout, httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        seconds = self._deadline.bounded(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
