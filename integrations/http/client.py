"""The one HTTP client of the house protects us from the other side: a call has one deadline for everything, a response
has a limit of size (also when it is inflated), a redirect leads nowhere else, and no name leads into our own network.
`Http.download` alone follows redirects of a request with a key, to public addresses; the key goes to its home only.

A call that fails for a moment is tried again here. A longer "not now" is raised as `Unavailable`, with the wait that
the other side asked for, and the job waits for it. No error repeats an address, a header or a body: they may hold a
key. Proxies of the environment are not used, since behind one nobody could say what is connected to.
"""

import hashlib
import socket
import zlib
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential, wait_random

from domain.errors import Unavailable, ViralError
from integrations.http.addresses import Lookup
from integrations.http.bodies import Body
from integrations.http.errors import Momentary, NotSent, RequestRejected, TooLarge
from integrations.http.silence import Silences

if TYPE_CHECKING:
    from integrations.http.wire import Stream, Wire

MOST_BYTES = 2_000_000
TRIES = 3
CONNECT, READ, TOTAL = 3.0, 6.0, 12.0
"""The seconds to connect, between two pieces of a response, and for all tries of a call together."""
WRITE = 30.0
"""The seconds that the other side may take nothing of a request."""
PIECE = 65_536
WORTH_WAITING = timedelta(seconds=3)
"""A longer Retry-After is not waited for inside a call."""
EACH = 0.5
"""Seconds between two reports of how much has come."""
REDIRECTS = 3
REDIRECTING = (301, 302, 303, 307, 308)
NOT_MODIFIED = 304
TRANSFER_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that do not describe a body which was read and inflated."""


Observe = Callable[[str, str, int | None, float], object]
"""Is told of each request: the name of the other side, what was asked for (`read`, `write` or `download`), the status
of the response or None if it did not come whole, and the seconds that it took."""


def unobserved(name: str, operation: str, status: int | None, seconds: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Request:
    """`name` stands for the other side in errors. `url` is a configured base URL and a path of ours: an address as its
    host is connected to even if it is a private one, so nothing that came from outside may stand there, but for
    `Http.download` and `Http.exchange` with a `home`.

    What is sent is one of `form`, `json`, `content` and `body`, with its Content-Type unless `headers` have another
    (`content` has none). With any of them, or `headers` or `basic_auth`, the request may carry a key, and follows no
    redirect. Without a `method` it is a POST if something is sent, else a GET.
    """

    name: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    basic_auth: tuple[str, str] | None = None
    method: str = ""
    content: bytes | None = None
    json: Any = None
    body: Body | None = None

    @property
    def bare(self) -> bool:
        return not (self.headers or self.form or self.basic_auth or self.content) and self.json is self.body is None

    @property
    def sent(self) -> tuple[bytes | Body | None, str]:
        """What is sent, and its Content-Type; None and "" for nothing."""
        if self.form is not None:
            return urlencode(self.form).encode(), "application/x-www-form-urlencoded"
        if self.json is not None:
            return orjson.dumps(self.json), "application/json; charset=UTF-8"
        return (self.body, self.body.content_type) if self.body is not None else (self.content, "")


@dataclass(frozen=True, slots=True)
class Response:
    """A response of any status; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """A client that any thread may use. `contact` says who we are, as Wikimedia and Reddit demand.

    `most_bytes` bounds a response, as it is sent and as it is read; `seconds` are those to connect, between two pieces
    of a response, and in all. `private_hosts` are names that may lead to private addresses; `lookup` replaces the
    system's resolver. `observe` is told of each request.
    """

    def __init__(
        self,
        contact: str,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: tuple[float, float, float] = (CONNECT, READ, TOTAL),
        private_hosts: Collection[str] = (),
        lookup: Lookup = socket.getaddrinfo,
        observe: Observe = unobserved,
    ) -> None:
        self._observe = observe
        self._contact = contact
        self._most_bytes = most_bytes
        self._connect, self._read, self._total = seconds
        self._private_hosts = private_hosts
        self._lookup = lookup
        self._silences = Silences()

    def send(self, request: Request, *, etag: str | None = None, modified: str | None = None) -> Response:
        """Return the response if it is a success, or 304 where nothing has changed since these validators.

        Raises:
            Unavailable: there is no response, or one that is too slow, too large, or "not now", with its wait.
            RequestRejected: the response has any other status.
        """
        until = monotonic() + self._total
        tries = Retrying(
            stop=stop_after_attempt(TRIES) | stop_before_delay(self._total),
            wait=_wait,
            retry=retry_if_exception_type(Momentary),
            reraise=True,
        )
        return tries(self._once, request, _conditions(etag, modified), until)

    def exchange(
        self,
        request: Request,
        *,
        within: float | None = None,
        home: str | None = None,
        watch: Callable[[float], object] | None = None,
        reads: bool = True,
    ) -> Response:
        """Send the request once and return the response whatever its status, for those who judge it themselves. A
        redirect is not followed, and has no body; nor has any response where nobody `reads` it. `within` seconds bound
        this call instead of the usual ones.

        With a `home`, a configured URL or "", the address came from outside: it must be https and lead to a public
        address, unless it has the scheme, host and port of `home`. The request's headers are sent there as they are.

        `watch` is called every half second or so while a `body` is sent, with the fraction that was. What it raises
        ends the call, and is raised; never after the last piece was sent.

        Raises:
            NotSent: there was no connection to send it on, the address may not be asked, or its server does not answer.
            Unavailable: there is no response, or one that is too slow or too large, or the request broke off; it may
                have been acted upon.
        """
        until = monotonic() + (self._total if within is None else within)
        url = _with_params(request)
        with (
            self._silences.asking(request.name, _server(url)),
            self._streamed(request, url, {}, until, pause=within, home=home, watch=watch) as stream,
        ):
            unread = not reads or stream.status in REDIRECTING
            return _response(stream, b"" if unread else self._read_body(request, stream))

    def download(
        self,
        request: Request,
        target: Path,
        *,
        most_bytes: int,
        within: float,
        watch: Callable[[float], object],
        home: str = "",
    ) -> bytes:
        """Copy the body of a response to a file while it comes, and return its SHA-256; `within` bounds the whole call
        in seconds. The address may have come from outside: it must be https and lead to a public address, and so must
        all that it redirects to. Only at the scheme, host and port of `home`, a configured URL, is that the operator's
        choice, and only there are the request's headers sent.

        `watch` is called every half second or so with the fraction that has come, and what it raises ends the copying.

        Raises:
            Unavailable: it broke off, is too slow, may not be asked, or answers "not now".
            RequestRejected: the response has any other status; its address may have expired.
            TooLarge: it has more than `most_bytes`.
        """
        until, progress = monotonic() + within, _Progress(watch)
        url = _with_params(request)
        for _ in range(REDIRECTS + 1):
            at_home = _at_home(request.name, url, home)
            headers = self._headers(request, {}) if at_home else {"user-agent": self._contact, "accept": "*/*"}
            with (
                self._observed(request.name, "download") as observed,
                (self._wire if at_home else self._outside).stream(
                    request.name,
                    "GET",
                    url,
                    headers | {"accept-encoding": "identity"},
                    None,
                    connect=self._connect,
                    read=self._read,
                    write=self._read,
                    total=within,
                    until=until,
                    waiting=progress.report,
                ) as stream,
            ):
                observed.status = stream.status
                if stream.status not in REDIRECTING:
                    _check(request.name, stream)
                    return _save(request.name, stream, target, most_bytes, progress)
                url = _target(url, stream)
        raise Unavailable(f"{request.name} redirects without end")

    def close(self) -> None:
        for name in ("_wire", "_outside"):
            if name in vars(self):
                vars(self)[name].close()

    def _once(self, request: Request, conditions: Mapping[str, str], until: float) -> Response:
        url = _with_params(request)
        for _ in range(REDIRECTS + 1):
            with self._streamed(request, url, conditions, until) as stream:
                if stream.status in REDIRECTING:
                    url = _redirected(request, url, stream)
                    continue
                _check(request.name, stream)
                return _response(stream, b"" if stream.status == NOT_MODIFIED else self._read_body(request, stream))
        raise Unavailable(f"{request.name} redirects without end")

    @contextmanager
    def _streamed(
        self,
        request: Request,
        url: str,
        conditions: Mapping[str, str],
        until: float,
        *,
        pause: float | None = None,
        home: str | None = None,
        watch: Callable[[float], object] | None = None,
    ) -> Iterator["Stream"]:
        """Send the request, and yield the response with its body unread. `pause` is the longest between two pieces."""
        if monotonic() >= until:
            raise NotSent(f"{request.name} did not answer within {self._total:g} seconds")
        wire = self._wire if home is None or _at_home(request.name, url, home) else self._outside
        sent, _ = request.sent
        content: bytes | Iterator[bytes] | None = sent if not isinstance(sent, Body) else _pieces(request, sent, watch)
        method = request.method or ("GET" if sent is None else "POST")
        with (
            self._observed(request.name, "read" if method in ("GET", "HEAD") else "write") as observed,
            wire.stream(
                request.name,
                method,
                url,
                self._headers(request, conditions),
                content,
                connect=self._connect,
                read=pause or self._read,
                write=WRITE if pause is None else min(pause, WRITE),
                total=pause or self._total,
                until=until,
            ) as stream,
        ):
            observed.status = stream.status
            yield stream

    @contextmanager
    def _observed(self, name: str, operation: str) -> Iterator["_Observed"]:
        """Tell the observer of one request when it is over, however that is."""
        observed, began = _Observed(), monotonic()
        try:
            yield observed
        except BaseException:
            if observed.status is not None and observed.status < HTTPStatus.BAD_REQUEST:
                observed.status = None  # it broke off, or cannot be used
            raise
        finally:
            self._observe(name, operation, observed.status, monotonic() - began)

    def _headers(self, request: Request, conditions: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": self._contact, "Accept": "*/*"}
        sent, content_type = request.sent
        if content_type:
            headers["Content-Type"] = content_type
        if request.basic_auth is not None:
            headers["Authorization"] = f"Basic {b64encode(':'.join(request.basic_auth).encode()).decode()}"
        headers = {**headers, **request.headers, **conditions, "Accept-Encoding": "gzip"}
        if isinstance(sent, Body):
            headers["Content-Length"] = str(sent.size)
        return {name.lower(): value for name, value in headers.items() if name.lower() != "host"}

    def _read_body(self, request: Request, stream: "Stream") -> bytes:
        """The whole body.

        Raises:
            Unavailable: it is too large, or cannot be inflated.
        """
        too_large = Unavailable(f"{request.name} answers with more than {self._most_bytes:,} bytes")
        if _declared(stream) > self._most_bytes:
            raise too_large
        sent, body = 0, bytearray()
        try:
            inflater = _Inflater(stream.headers.get("content-encoding", ""), self._most_bytes + 1)
            for piece in stream.pieces():
                sent += len(piece)
                body += inflater.inflate(piece)
                if sent > self._most_bytes or len(body) > self._most_bytes:
                    raise too_large
            inflater.finish()
        except (zlib.error, EOFError):
            raise Unavailable(f"{request.name} answers with a body that cannot be inflated") from None
        return bytes(body)

    @cached_property
    def _wire(self) -> "Wire":
        from integrations.http.wire import Wire  # noqa: PLC0415 - 15 MB that most processes never need

        return Wire(self._private_hosts, self._lookup)

    @cached_property
    def _outside(self) -> "Wire":
        from integrations.http.wire import Wire  # noqa: PLC0415 - as above

        return Wire(None, self._lookup)


class _Observed:
    """The status of a response, once there is one."""

    status: int | None = None


class _Progress:
    """Tells `watch` how much has come or gone, every half second; the first time `at_once`, or half a second later."""

    def __init__(self, watch: Callable[[float], object], *, at_once: bool = False) -> None:
        self._watch = watch
        self._fraction = 0.0
        self._reported_at = -EACH if at_once else monotonic()

    def report(self, fraction: float | None = None) -> None:
        self._fraction = self._fraction if fraction is None else fraction
        if monotonic() - self._reported_at >= EACH:
            self._reported_at = monotonic()
            self._watch(self._fraction)


class _Inflater:
    """Inflates the one encoding that is asked for, gzip, and what servers take for it, up to `most` bytes in all."""

    def __init__(self, encoding: str, most: int) -> None:
        """Accept gzip, deflate and no encoding.

        Raises:
            zlib.error: it is another encoding, or several.
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
        """Check that the body is whole.

        Raises:
            EOFError: it ended too early.
        """
        if self._zlib is not None and self._left > 0 and not self._zlib.eof:
            raise EOFError


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text; orjson reads no more than 1,024 levels, so nobody after it runs out of stack.

    Raises:
        ValueError: the text is not JSON, or nested deeper.
    """
    return orjson.loads(body)


def _pieces(request: Request, body: Body, watch: Callable[[float], object] | None) -> Iterator[bytes]:
    """Yield what is to be sent, and tell `watch` before it how much was.

    Raises:
        Unavailable: the body breaks off, or is not as long as it says. What its source raises is never passed on: it
            would be about another call, of which nothing may have been sent.
    """
    name, progress = request.name, _Progress(watch or _unwatched, at_once=True)
    sent, left = 0, iter(body.pieces())
    while True:
        try:
            piece = next(left, None)
        except (ViralError, OSError) as error:
            raise Unavailable(f"what was to be sent to {name} cannot be read: {type(error).__name__}") from error
        if piece is None:
            break
        if sent + len(piece) > body.size:
            raise Unavailable(f"what was to be sent to {name} is longer than {body.size:,} bytes")
        for start in range(0, len(piece), PIECE):
            part = piece[start : start + PIECE]
            progress.report(sent / body.size)
            sent += len(part)
            yield part
    if sent < body.size:
        raise Unavailable(f"what was to be sent to {name} ended after {sent:,} of {body.size:,} bytes")


def _unwatched(_: float) -> None:
    """Nobody watches."""


def _declared(stream: "Stream") -> int:
    """Return how many bytes the body is said to have; 0 if nothing is said."""
    declared = stream.headers.get("content-length", "")
    return int(declared[:19]) if declared.isascii() and declared.isdigit() else 0


def _server(url: str) -> str:
    """Return whom the address is at, as a key; a malformed one is at nobody's."""
    try:
        return repr(_origin(url))
    except ValueError:
        return ""


def _at_home(name: str, url: str, home: str) -> bool:
    """Return whether the address is at the configured one.

    Raises:
        NotSent: it is not, and not https either.
    """
    try:
        origin = _origin(url)
    except ValueError:
        raise NotSent(f"{name} cannot be asked: the address is malformed") from None
    at_home = bool(home) and origin == _origin(home)
    if not at_home and origin[0] != "https":
        raise NotSent(f"{name} is not asked: the address is not https")
    return at_home


def _save(name: str, stream: "Stream", target: Path, most_bytes: int, progress: _Progress) -> bytes:
    """Write the body to a file and return its SHA-256.

    Raises:
        TooLarge: it is longer than it may be.
        Unavailable: it is compressed, which was not asked for, or cannot be written here.
    """
    too_large = TooLarge(f"{name} has more than {most_bytes:,} bytes")
    declared = _declared(stream)
    if declared > most_bytes:
        raise too_large
    if stream.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Unavailable(f"{name} comes in an encoding that was not asked for")
    digest, came = hashlib.sha256(), 0
    try:
        with target.open("wb") as file:
            for piece in stream.pieces():
                came += len(piece)
                if came > most_bytes:
                    raise too_large
                file.write(piece)
                digest.update(piece)
                progress.report(came / declared if declared else 0.0)
    except OSError as error:
        raise Unavailable(f"{name} cannot be written to a file here: {error.strerror}") from error
    return digest.digest()


def _response(stream: "Stream", body: bytes) -> Response:
    headers = {name: value for name, value in stream.headers.items() if name not in TRANSFER_HEADERS}
    return Response(stream.status, headers, body)


def _check(name: str, stream: "Stream") -> None:
    """Return only if the response is a success, or says that nothing has changed."""
    status = stream.status
    if status == 429 or status >= 500:
        wait = retry_after(stream.headers.get("retry-after"))
        message = f"{name} answers {status}" + (f" and asks for {wait.total_seconds():.0f} s" if wait else "")
        raise (Momentary if wait is None or wait <= WORTH_WAITING else Unavailable)(message, retry_after=wait)
    if not 200 <= status < 300 and status != NOT_MODIFIED:
        raise RequestRejected(f"{name} answers {status}", status)


def _redirected(request: Request, url: str, stream: "Stream") -> str:
    """Return where the redirect leads. A request that carries nothing may follow it to the same scheme, host and port.

    Raises:
        RequestRejected: it may not be followed.
    """
    status = stream.status
    if not request.bare:
        raise RequestRejected(f"{request.name} answers {status}; with a key no redirect is followed", status)
    target = _target(url, stream)
    try:
        same = _origin(target) == _origin(url)
    except ValueError:
        same = False
    if not same:
        raise RequestRejected(f"{request.name} answers {status} and points to another host, which is not asked", status)
    return target


def _target(url: str, stream: "Stream") -> str:
    """Return where a redirect points; what points nowhere, as it stands."""
    location = stream.headers.get("location", "")
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _with_params(request: Request) -> str:
    if not request.params:
        return request.url
    return f"{request.url}{'&' if '?' in request.url else '?'}{urlencode(request.params)}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _conditions(etag: str | None, modified: str | None) -> dict[str, str]:
    validators = {"If-None-Match": etag, "If-Modified-Since": modified}
    return {name: value for name, value in validators.items() if value}


def _wait(state: RetryCallState) -> float:
    """Return the seconds that the other side asks for, else a fraction of a second, then more."""
    error = state.outcome.exception() if state.outcome else None
    retry_after = getattr(error, "retry_after", None)
    if isinstance(retry_after, timedelta):
        return max(0.0, retry_after.total_seconds())
    return float(wait_exponential(multiplier=0.2, max=2)(state) + wait_random(0, 0.2)(state))


def retry_after(value: str | None) -> timedelta | None:
    """Return the wait of seconds or of a date (RFC 9110 §10.2.3); at most a day."""
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
