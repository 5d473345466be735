"""The one HTTP client of the house. What its other side does cannot hurt us: a call has one deadline for everything,
an answer has a size (also when it is inflated), a redirect leads nowhere else, and no name leads into our own network.

A call that fails for a moment is tried again here; a longer "not now" is told to the caller as `Unavailable`, with the
time that the other side asked for, and is the job's to wait for. No error repeats an address, a header or a body: they
may hold a key. Proxies of the environment are not used, since behind one nobody could say what is connected to.
"""

import socket
import zlib
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from domain.errors import Rejected, Unavailable
from integrations.http.addresses import AddressRefused, Lookup

if TYPE_CHECKING:
    from integrations.http.wire import Wire

MOST_BYTES = 2_000_000
TRIES = 3
CONNECT, READ, TOTAL = 3.0, 6.0, 12.0
"""Seconds: until connected; between two pieces of an answer; for all tries of a call together."""
WORTH_WAITING = timedelta(seconds=3)
"""A longer Retry-After is not waited for inside a call."""
REDIRECTS = 3
REDIRECTING = (301, 302, 303, 307, 308)
OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that do not describe a body which was read and inflated."""


class RequestRejected(Rejected):
    """The other side will answer the same way again: a wrong key, a wrong address. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Momentary(Unavailable):
    """Worth another try within this call."""


@dataclass(frozen=True, slots=True)
class Request:
    """`name` stands for the other side in errors. `url` is a configured base URL and a path of ours: an address as its
    host is connected to even if it is a private one, so nothing that came from outside may stand there.

    With `headers`, `form`, `basic_auth` or `content` the request may carry a key, and follows no redirect.
    """

    name: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    basic_auth: tuple[str, str] | None = None
    method: str = ""
    content: bytes | None = None

    @property
    def bare(self) -> bool:
        return not (self.headers or self.form or self.basic_auth or self.content)


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is None if it has not changed since the one with these validators."""

    body: bytes | None
    etag: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of any status; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """Asks; any thread may use it. `contact` says who we are, as Wikimedia and Reddit demand.

    `most_bytes` bounds an answer, as it is sent and as it is read; `seconds` are those to connect, between pieces, and
    in all. `private_hosts` are names that may lead to private addresses; `lookup` stands in for the resolver.
    """

    def __init__(
        self,
        contact: str,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: tuple[float, float, float] = (CONNECT, READ, TOTAL),
        private_hosts: Collection[str] = (),
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        self._contact = contact
        self._most_bytes = most_bytes
        self._connect, self._read, self._total = seconds
        self._private_hosts = private_hosts
        self._lookup = lookup

    def send(self, request: Request, *, etag: str | None = None, modified: str | None = None) -> Answer:
        """GET it (or POST its form); with validators, only if it has changed.

        Raises:
            Unavailable: no answer, one that is too slow or too large, or "not now"; with the wait it asked for.
            RequestRejected: any other status than a success.
        """
        until = monotonic() + self._total
        tries = Retrying(
            stop=stop_after_attempt(TRIES) | stop_before_delay(self._total),
            wait=_wait,
            retry=retry_if_exception_type(_Momentary),
            reraise=True,
        )
        return tries(self._once, request, etag, modified, until)

    def exchange(self, request: Request, *, within: float | None = None) -> Response:
        """Ask once and return the answer whatever its status, for a vendor's SDK that judges it. A redirect is an
        answer without a body. `within` seconds bound this call instead of the usual ones.

        Raises:
            Unavailable: no answer, or one that is too slow or too large.
        """
        seconds = self._total if within is None else within
        with self._answered(request, _with_params(request), {}, monotonic() + seconds, within) as answer:
            body = b"" if answer.status in REDIRECTING else answer.read()
        headers = {name: value for name, value in answer.headers.items() if name not in OF_THE_WIRE}
        return Response(answer.status, headers, body)

    def close(self) -> None:
        if "_wire" in vars(self):
            self._wire.close()

    def _once(self, request: Request, etag: str | None, modified: str | None, until: float) -> Answer:
        url = _with_params(request)
        for _ in range(REDIRECTS + 1):
            with self._answered(request, url, _conditions(etag, modified), until) as answer:
                if answer.status in REDIRECTING:
                    url = _redirected(request, url, answer)
                    continue
                return _judged(request.name, answer)
        raise Unavailable(f"{request.name} redirects without end")

    @contextmanager
    def _answered(
        self, request: Request, url: str, conditions: Mapping[str, str], until: float, pause: float | None = None
    ) -> Iterator["_Streamed"]:
        """The answer's status and headers, its body still unread. `pause` is the longest between two pieces."""
        import httpcore2  # noqa: PLC0415 - 15 MB that most worker processes never need

        from integrations.http.wire import reason  # noqa: PLC0415 - as above

        name = request.name
        if monotonic() >= until:
            raise Unavailable(f"{name} did not answer within {self._total:g} seconds")
        try:
            with self._wire.stream(
                request.method or ("GET" if request.form is None and request.content is None else "POST"),
                url,
                self._headers(request, conditions),
                request.content if request.form is None else urlencode(request.form).encode(),
                connect=self._connect,
                read=pause or self._read,
                until=until,
            ) as response:
                headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}
                yield _Streamed(name, response.status, headers, response.iter_stream, self._most_bytes)
        except AddressRefused as error:
            raise AddressRefused(f"{name} is not asked: {error}") from None
        except httpcore2.TimeoutException as error:
            if monotonic() >= until:
                raise Unavailable(f"{name} did not finish its answer within {pause or self._total:g} seconds") from None
            raise _Momentary(f"{name} cannot be reached: {reason(error)}") from None
        except (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol):
            raise Unavailable(f"{name} cannot be asked: the address or a header of the request is malformed") from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise _Momentary(f"{name} cannot be reached: {reason(error)}") from None

    def _headers(self, request: Request, conditions: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": self._contact, "Accept": "*/*"}
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if request.basic_auth is not None:
            headers["Authorization"] = f"Basic {b64encode(':'.join(request.basic_auth).encode()).decode()}"
        given = {**headers, **request.headers, **conditions, "Accept-Encoding": "gzip"}
        return {name.lower(): value for name, value in given.items() if name.lower() != "host"}

    @cached_property
    def _wire(self) -> "Wire":
        from integrations.http.wire import Wire  # noqa: PLC0415 - as above

        return Wire(self._private_hosts, self._lookup)


@dataclass(frozen=True, slots=True)
class _Streamed:
    """An answer whose body is still on the wire."""

    name: str
    status: int
    headers: Mapping[str, str]
    pieces: Callable[[], Iterable[bytes]]
    most_bytes: int

    def read(self) -> bytes:
        """The whole body.

        Raises:
            Unavailable: it is too large, or cannot be inflated.
        """
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > self.most_bytes):
            raise self._too_large()
        sent, body = 0, bytearray()
        try:
            inflater = _Inflater(self.headers.get("content-encoding", ""), self.most_bytes + 1)
            for piece in self.pieces():
                sent += len(piece)
                body += inflater.inflate(piece)
                if sent > self.most_bytes or len(body) > self.most_bytes:
                    raise self._too_large()
            inflater.finish()
        except (zlib.error, EOFError):
            raise Unavailable(f"{self.name} answers with a body that cannot be inflated") from None
        return bytes(body)

    def _too_large(self) -> Unavailable:
        return Unavailable(f"{self.name} answers with more than {self.most_bytes:,} bytes")


class _Inflater:
    """Undoes the one encoding that is asked for, gzip, and what servers take for it: up to `most` bytes in all."""

    def __init__(self, encoding: str, most: int) -> None:
        """Raises:
        zlib.error: another encoding, or one upon another.
        """
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise zlib.error("an encoding that was not asked for")
        # 32: a gzip or a zlib header
        self._zlib = None if encoding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._left = most

    def inflate(self, piece: bytes) -> bytes:
        if self._zlib is None:
            return piece
        if self._left <= 0 or self._zlib.eof:
            return b""
        inflated = self._zlib.decompress(piece, self._left)
        self._left -= len(inflated)
        return inflated

    def finish(self) -> None:
        """Raises:
        EOFError: the body ended too early.
        """
        if self._zlib is not None and self._left > 0 and not self._zlib.eof:
            raise EOFError


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; orjson reads no more than 1,024 levels, so nobody after it runs out of stack.

    Raises ValueError for what is not JSON, or deeper.
    """
    return orjson.loads(body)


def _judged(name: str, answer: _Streamed) -> Answer:
    status, headers = answer.status, answer.headers
    if status == 304:
        return Answer(None, headers.get("etag"), headers.get("last-modified"))
    if status == 429 or status >= 500:
        wait = _retry_after(headers.get("retry-after"))
        message = f"{name} answers {status}" + (f" and asks for {wait.total_seconds():.0f} s" if wait else "")
        worth = wait is None or wait <= WORTH_WAITING
        raise (_Momentary if worth else Unavailable)(message, retry_after=wait)
    if not 200 <= status < 300:
        raise RequestRejected(f"{name} answers {status}", status)
    return Answer(answer.read(), headers.get("etag"), headers.get("last-modified"))


def _redirected(request: Request, url: str, answer: _Streamed) -> str:
    """Where a redirect leads: for a request that carries nothing, to the same scheme, host and port.

    Raises:
        RequestRejected: anywhere else.
    """
    status = answer.status
    if not request.bare:
        raise RequestRejected(f"{request.name} answers {status}; with a key no redirect is followed", status)
    try:
        target = urljoin(url, answer.headers.get("location", ""))
        same = _origin(target) == _origin(url)
    except ValueError:
        same = False
    if not same:
        raise RequestRejected(f"{request.name} answers {status} and points to another host, which is not asked", status)
    return target


def _with_params(request: Request) -> str:
    if not request.params:
        return request.url
    return f"{request.url}{'&' if '?' in request.url else '?'}{urlencode(request.params)}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _conditions(etag: str | None, modified: str | None) -> dict[str, str]:
    given = {"If-None-Match": etag, "If-Modified-Since": modified}
    return {name: value for name, value in given.items() if value}


def _wait(state: RetryCallState) -> float:
    """What was asked for, else a fraction of a second, then more."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, timedelta):
        return max(0.0, asked.total_seconds())
    return float(wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2)(state))


def _retry_after(value: str | None) -> timedelta | None:
    """Seconds or a date (RFC 9110 §10.2.3); at most a day."""
    if not value:
        return None
    try:
        wait = timedelta(seconds=int(value))
    except (ValueError, OverflowError):
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(max(wait, timedelta(0)), timedelta(days=1))
