"""The one HTTP client for what has no client of its own: bounded in time and in size, and patient for seconds only.

A call that fails for a moment is tried again here; a longer "not now" is told to the caller as `Unavailable`, with the
time that the other side asked for, and is the job's to wait for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from domain.errors import Rejected, Unavailable

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 2_000_000
TRIES = 3
CONNECT, READ, TOTAL = 3.0, 6.0, 12.0
"""Seconds: until connected; between two pieces of an answer; for all tries of a call together."""
WORTH_WAITING = timedelta(seconds=3)
"""A longer Retry-After is not waited for inside a call."""
REDIRECTS = 3


class RefusedOutside(Rejected):
    """The other side will answer the same way again: a wrong key, a wrong address. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Momentary(Unavailable):
    """Worth another try within this call."""


@dataclass(frozen=True, slots=True)
class Request:
    """`name` stands for the other side in errors; the address is not shown, since it may carry a key."""

    name: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] | None = None
    basic_auth: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is None if it has not changed since the one with these validators."""

    body: bytes | None
    etag: str | None
    modified: str | None


class Http:
    """One pool of connections; any thread may use it. `contact` says who we are, as Wikimedia and Reddit demand.

    `limits` may be lower in tests: bytes of an answer, and seconds to connect, between pieces, and in all.
    """

    def __init__(
        self,
        contact: str,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: tuple[float, float, float] = (CONNECT, READ, TOTAL),
    ) -> None:
        self._contact = contact
        self._most_bytes = most_bytes
        self._connect, self._read, self._total = seconds

    def send(self, request: Request, *, etag: str | None = None, modified: str | None = None) -> Answer:
        """GET it (or POST its form); with validators, only if it has changed.

        Raises:
            Unavailable: no answer, one that is too slow or too large, or "not now"; with the wait it asked for.
            RefusedOutside: any other status than a success.
        """
        until = monotonic() + self._total
        tries = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=_wait,
            retry=retry_if_exception_type(_Momentary),
            reraise=True,
        )
        return tries(self._once, request, etag, modified, until)

    def close(self) -> None:
        if "_client" in vars(self):
            self._client.close()

    def _once(self, request: Request, etag: str | None, modified: str | None, until: float) -> Answer:
        import httpx2  # noqa: PLC0415 - 20 MB that most worker processes never need

        left = until - monotonic()
        if left <= 0:
            raise Unavailable(f"{request.name} did not answer within {self._total:g} seconds")
        headers = {**request.headers, **_conditions(etag, modified)}
        call: dict[str, Any] = {"params": dict(request.params), "headers": headers}
        if request.form is not None:
            call["data"] = dict(request.form)
        if request.basic_auth is not None:
            call["auth"] = request.basic_auth
        timeout = httpx2.Timeout(min(self._read, left), connect=min(self._connect, left))
        method = "GET" if request.form is None else "POST"
        try:
            with self._client.stream(method, request.url, timeout=timeout, **call) as response:
                return self._answer(request.name, response, until)
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise _Momentary(f"{request.name} cannot be reached: {_said(error)}") from error
        except (httpx2.InvalidURL, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
            raise Unavailable(f"{request.name} answered in a way that cannot be followed: {_said(error)}") from error

    def _answer(self, name: str, response: "httpx2.Response", until: float) -> Answer:
        status = response.status_code
        if status == 304:
            return Answer(None, response.headers.get("etag"), response.headers.get("last-modified"))
        if status == 429 or status >= 500:
            wait = _retry_after(response.headers.get("retry-after"))
            message = f"{name} answers {status}" + (f" and asks for {wait.total_seconds():.0f} s" if wait else "")
            worth = wait is None or wait <= WORTH_WAITING
            raise (_Momentary if worth else Unavailable)(message, retry_after=wait)
        if status >= 300:
            raise RefusedOutside(f"{name} answers {status}", status)
        if response.headers.get("content-encoding", "identity") != "identity":
            # Not asked for, and a few bytes of it could become gigabytes.
            raise Unavailable(f"{name} answers compressed, though it was asked not to")
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > self._most_bytes:
                raise Unavailable(f"{name} answers with more than {self._most_bytes:,} bytes")
            if monotonic() > until:
                raise Unavailable(f"{name} did not finish its answer within {self._total:g} seconds")
        return Answer(bytes(body), response.headers.get("etag"), response.headers.get("last-modified"))

    @cached_property
    def _client(self) -> "httpx2.Client":
        import httpx2  # noqa: PLC0415 - as above

        return httpx2.Client(
            headers={"User-Agent": self._contact, "Accept-Encoding": "identity"},
            follow_redirects=True,
            max_redirects=REDIRECTS,
        )


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
        except ValueError:
            return None
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(max(wait, timedelta(0)), timedelta(days=1))


def _said(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}".strip()
