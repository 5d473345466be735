"""What platforms answer, as those who judge it themselves want it: read as JSON, whatever its status, and its words fit
to be kept.

A server whose address came from outside is asked only over https and at a public address, unless it is at the base URL
that stands for the platform here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from domain.errors import Unavailable, ViralError
from domain.posting.publishing import Commit, Refused, Unknown
from domain.text.redaction import MASK, without_values
from integrations.http.client import Http, Request, parse_json
from integrations.http.errors import NotSent

ASK_SECONDS = 15.0
"""How long a question may take."""
COMMIT_SECONDS = 20.0
"""How long the request that publishes may take."""
SLOWEST = 200_000
"""Bytes a second that an upload is expected to make at least."""
LONGEST_WORDS = 300
REFUSING = frozenset((400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422, 429))
"""Statuses that say: this was read, and not done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of any status. `value` is what its JSON says, None if it is none; `fields` is that, if it is an
    object, else nothing."""

    status: int
    headers: Mapping[str, str]
    value: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.value if isinstance(self.value, Mapping) else {}

    def text(self, name: str) -> str:
        """Return a field that is a text, else an empty one."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


class Calls:
    """Sends each request once. `base_url` is the one place that may be private; empty if there is none."""

    def __init__(self, http: Http, base_url: str) -> None:
        self._http = http
        self._base_url = base_url

    def ask(
        self,
        request: Request,
        *,
        token: str = "",
        within: float = ASK_SECONDS,
        watch: Callable[[float], object] | None = None,
    ) -> Answer:
        """Send the request with this token and return the answer, whatever its status.

        Raises:
            NotSent: nothing left this machine.
            Unavailable: there is no answer.
        """
        headers = {"Accept": "application/json", **request.headers}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        sent = replace(request, headers=headers)
        response = self._http.exchange(sent, within=within, home=self._base_url, watch=watch)
        try:
            value = parse_json(response.body)
        except ValueError:
            value = None
        return Answer(response.status, response.headers, value)


class Watched:
    """Calls `watch`, and keeps what it raises: that says nothing about the request."""

    def __init__(self, watch: Callable[[float], object]) -> None:
        self._watch = watch
        self.raised: Exception | None = None

    def __call__(self, fraction: float) -> None:
        try:
            self._watch(fraction)
        except Exception as error:
            self.raised = error
            raise


def committed(
    send: Callable[[], Answer],
    published: Callable[[Answer], Commit],
    error: Callable[[Answer], ViralError | None],
    *,
    watched: Watched | None = None,
) -> Commit:
    """Send what publishes, once, and say what became of it: `published` reads an answer of success; `error` says what
    an answer that refuses means, None if it may have been acted upon all the same. What `watched` raised is raised."""
    try:
        answer = send()
    except Unavailable as failure:
        if watched is not None and watched.raised is failure:
            raise
        return Refused(failure) if isinstance(failure, NotSent) else Unknown(str(failure))
    if answer.ok:
        return published(answer)
    refused = error(answer) if answer.status in REFUSING else None
    return Refused(refused) if refused else Unknown(f"the answer is {answer.status}")


def upload_seconds(size: int) -> float:
    """Return how long an upload of so many bytes may take."""
    return 60.0 + size / SLOWEST


def words(text: str, *secrets: str) -> str:
    """Return a platform's words in one line that can be kept: without secrets and without values."""
    for secret in secrets:
        text = text.replace(secret, MASK) if secret else text
    return without_values(" ".join(text.split()))[:LONGEST_WORDS]


def seconds_until(moment: float, now: float) -> timedelta:
    """Return the wait until a moment that the other side named, both in Unix seconds; at least a second, at most a
    day."""
    return timedelta(seconds=min(max(moment - now, 1.0), 86_400.0))
