"""Requests to a provider of clips, and what becomes of them. A vendor's SDK writes each request and reads its answer;
the house's client sends it, once.

An order is paid for, so only what certainly never arrived, or was certainly turned down, counts as refused. Everything
else that is not a readable acceptance is unknown: broken connections, time-outs, 5xx, redirects, answers without an id.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from domain.errors import ProviderRefused, ProviderUnavailable, RateLimited, Unavailable
from domain.ports import ClipProvider, Watch
from domain.text.redaction import MASK, without_values
from domain.videos.media import MediaUnusable
from domain.videos.submissions import Accepted, Refused, RefusedFor, Submission, Unknown
from integrations.http.client import CONNECT, Http, Observe, Request, Response, parse_json, retry_after, unobserved
from integrations.http.errors import NotSent, RequestRejected, TooLarge

ORDER_SECONDS, ASK_SECONDS, FETCH_SECONDS = 60.0, 15.0, 300.0
"""How long an order, a question and a copy may take."""
PAUSE = 10.0
"""The longest pause within a copy, in seconds."""
MOST_BYTES = 2_000_000
LONGEST_REASON = 300
REFUSING = frozenset((400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422, 429))
"""Statuses that say: this was read, and not done. Behind 408, 409 and 425 there may be an order that was taken."""
REDONE_ELSEWHERE = frozenset((307, 308))
"""Redirects that say: not here, send it again there. After the others the order may have been taken."""
IDS = re.compile(r"[\w.:/=+-]{1,300}", re.ASCII)
GONE = frozenset((403, 404, 410))
UNKNOWN_JOB = frozenset((404, 410))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of an error; `about_prompt` if it is the prompt that the provider will not have."""

    code: str = ""
    reason: str = ""
    about_prompt: bool = False
    retry_after: timedelta | None = None


class SdkRequest(Protocol):
    """A request of httpx or of httpx2, whichever the SDK is written for."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> Any: ...
    @property
    def headers(self) -> Any: ...
    def read(self) -> bytes: ...


class Call:
    """One request of an SDK. A second one of the same call, an SDK's own retry, never leaves."""

    def __init__(self, http: Http, name: str, seconds: float) -> None:
        self._http = http
        self._name = name
        self._seconds = seconds
        self._begun = False
        self.response: Response | None = None
        self.failure: Unavailable | None = None

    def send(self, request: SdkRequest) -> Response:
        """Send it.

        Raises:
            Unavailable: there is no answer (`NotSent`: and cannot be one).
            RuntimeError: this call has sent a request already.
        """
        if self._begun:
            raise RuntimeError("a call sends one request")
        self._begun = True
        sent = Request(
            self._name,
            str(request.url),
            headers=dict(request.headers),
            method=request.method,
            content=request.read(),
        )
        try:
            self.response = self._http.exchange(sent, within=self._seconds)
        except Unavailable as error:
            self.failure = error
            raise
        return self.response

    @property
    def status(self) -> int:
        return self.response.status if self.response else 0


class Provider(ClipProvider):
    """What all vendors' adapters share. `name` stands for the vendor in texts; no text repeats the key."""

    name: ClassVar[str]
    home: ClassVar[str]
    """The base URL, unless another is set."""

    def __init__(
        self,
        key: str,
        *,
        base_url: str = "",
        private_hosts: Collection[str] = (),
        observe: Observe = unobserved,
        order_seconds: float = ORDER_SECONDS,
    ) -> None:
        self.base_url = base_url or self.home
        self._key = key
        self._order_seconds = order_seconds
        self._http = Http(
            "viral",
            most_bytes=MOST_BYTES,
            seconds=(CONNECT, PAUSE, ASK_SECONDS),
            private_hosts=private_hosts,
            observe=observe,
        )

    def __repr__(self) -> str:
        return f"Provider({self.name!r})"

    @abstractmethod
    def read_error(self, body: Mapping[str, Any]) -> ErrorBody:
        """Return what the vendor says in the JSON of an error."""

    def order(self, act: Callable[[Call], Accepted]) -> Submission:
        """Let the SDK send an order by this call, and say what became of it. Whatever an SDK makes of an answer, it is
        the answer itself that is judged."""
        call = Call(self._http, self.name, self._order_seconds)
        try:
            return act(call)
        except Exception as error:
            if isinstance(call.failure, NotSent):
                return Refused(RefusedFor.BUSY, "no_connection", str(call.failure))
            if call.failure is not None:
                return Unknown(str(call.failure))
            if call.response is None:
                raise
            return self._judged(call.response, error)

    def ask(self, act: Callable[[Call], T]) -> T:
        """Let the SDK ask a question by this call, and return its answer.

        Raises:
            ProviderUnavailable: there is no answer, or none that can be read.
            ProviderRefused: it knows no such job.
        """
        call = Call(self._http, self.name, ASK_SECONDS)
        try:
            return act(call)
        except Exception as error:
            if call.failure is not None:
                raise ProviderUnavailable(str(call.failure)) from None
            if call.response is None or isinstance(error, ProviderUnavailable):
                raise
            raise self._no_answer(call.response) from None

    def stop(self, act: Callable[[Call], object]) -> bool:
        """Let the SDK ask by this call that a job be stopped; one that is not there any more has stopped.

        Raises:
            ProviderUnavailable: there is no answer.
        """
        with suppress(ProviderRefused):
            self.ask(act)
        return True

    def fetch(self, url: str, target: Path, *, most_bytes: int, watch: Watch) -> bytes:
        return self.copy(url, target, most_bytes=most_bytes, watch=watch)

    def copy(
        self,
        url: str,
        target: Path,
        *,
        most_bytes: int,
        watch: Watch,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Copy a clip to a file and return its SHA-256; `headers` are sent to the provider's own host only.

        Raises:
            ProviderUnavailable: it broke off, is too slow, or the address has expired.
            MediaUnusable: it is larger than `most_bytes`.
        """
        request = Request(f"the clip at {self.name}", url, headers=headers or {})
        try:
            return self._http.download(
                request, target, most_bytes=most_bytes, within=FETCH_SECONDS, watch=watch, home=self.base_url
            )
        except TooLarge as error:
            raise MediaUnusable(str(error)) from None
        except RequestRejected as error:
            expired = (
                "; its address has expired, and asking for the job gives a new one" if error.status in GONE else ""
            )
            raise ProviderUnavailable(f"{error}{expired}") from None

    def _judged(self, response: Response, error: Exception) -> Refused | Unknown:
        status, body = response.status, self._error_body(response)
        if status in REDONE_ELSEWHERE:
            reason = f"{self.name} answers {status} and points elsewhere: its base URL is not right"
            return Refused(RefusedFor.REQUEST, f"http_{status}", reason)
        if status not in REFUSING:
            what = f"answers {status}" if status >= 300 else f"answers {status} with what cannot be read as an order"
            return Unknown(self._text(f"{self.name} {what}", body.reason if status >= 300 else type(error).__name__))
        kind = RefusedFor.PROMPT if body.about_prompt else RefusedFor.REQUEST
        wait = None
        if status == 429:
            kind, wait = RefusedFor.BUSY, retry_after(response.headers.get("retry-after")) or body.retry_after
        code = self.words(body.code) or f"http_{status}"
        return Refused(kind, code, self._text(f"{self.name} answers {status}", body.reason), wait)

    def _no_answer(self, response: Response) -> ProviderRefused | ProviderUnavailable:
        status = response.status
        body = self._error_body(response)
        text = self._text(f"{self.name} answers {status}", body.reason)
        if status in UNKNOWN_JOB:
            return ProviderRefused("unknown_job", text)
        if status < 300:
            return ProviderUnavailable(f"{self.name} answers {status} with what cannot be read")
        kind = RateLimited if status == 429 else ProviderUnavailable
        return kind(text, retry_after=retry_after(response.headers.get("retry-after")) or body.retry_after)

    def _error_body(self, response: Response) -> ErrorBody:
        try:
            body = parse_json(response.body)
            return self.read_error(body) if isinstance(body, Mapping) else ErrorBody()
        except (ValueError, TypeError, AttributeError, LookupError):
            return ErrorBody()

    def _text(self, ours: str, theirs: str) -> str:
        return f"{ours}: {self.words(theirs)}" if theirs else ours

    def words(self, text: str) -> str:
        """Return a text of the provider's in one line that can be kept: without the key and without values."""
        return without_values(" ".join(text.replace(self._key, MASK).split()))[:LONGEST_REASON]


def prompt_refused(name: str, prompt: str, limit: int) -> Refused | None:
    """Return why this prompt is not worth sending: `limit` counts UTF-16 units, as JavaScript does."""
    units = sum(2 if ord(character) > 0xFFFF else 1 for character in prompt)
    if not prompt.strip():
        return Refused(RefusedFor.PROMPT, "prompt_empty", f"{name} takes no empty prompt")
    if units > limit:
        reason = f"the prompt has {units:,} UTF-16 units; {name} takes at most {limit:,}"
        return Refused(RefusedFor.PROMPT, "prompt_too_long", reason)
    return None


def id_of(job: Any) -> str:
    """Return the id of what the SDK read.

    Raises:
        ValueError: it has none, or one that could not be kept and asked for.
    """
    value = getattr(job, "id", None)
    if not isinstance(value, str) or not IDS.fullmatch(value):
        raise ValueError("there is no id in the answer")
    return value


def percent(fraction: Any) -> int | None:
    """Return a fraction as a percentage, where it is one."""
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        return None
    return int(fraction * 100)
