"""A trend source is a list on the web: where to ask for it, and how its answer is read into sightings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from domain.concepts.trends import MOST_TRENDS, Sighting
from domain.concepts.wording import clean
from domain.errors import Unavailable
from integrations.http.client import NOT_MODIFIED, Http, Request, Response
from integrations.http.errors import RequestRejected

LONGEST_TEXT = 500


class SourceBroken(Unavailable):
    """A source's answer is not what it used to be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a list. A row without a topic is passed over; `measure` says what `count` counts, if there is one."""

    topic: str | None
    headline: str | None = None
    publisher: str | None = None
    url: str | None = None
    published_at: datetime | None = None
    count: int | None = None
    measure: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """`sightings` is None if nothing has changed since the answer with these validators."""

    sightings: tuple[Sighting, ...] | None
    etag: str | None
    modified: str | None


@dataclass(frozen=True)
class Source:
    """One list on the web. `requests` are tried in order until one exists (404 means "not yet").

    `fresh_for` is how long an answer is used without asking again; `regional` tells whether the list differs by region.
    `sign` returns headers that a key is exchanged for.
    """

    name: str
    fresh_for: timedelta
    regional: bool
    requests: Callable[[str, datetime], Sequence[Request]]
    read: Callable[[bytes], Iterable[Entry]]
    sign: Callable[[Http], Mapping[str, str]] = field(default=lambda http: {})

    def fetch(
        self, http: Http, region: str, now: datetime, *, etag: str | None = None, modified: str | None = None
    ) -> SourceAnswer:
        """Ask for the region's list.

        Raises:
            Unavailable, RequestRejected: `Http.send` raises them.
            SourceBroken: the answer cannot be read.
        """
        try:
            response = self._ask(http, region, now, etag, modified)
            validators = response.headers.get("etag"), response.headers.get("last-modified")
            if response.status == NOT_MODIFIED:
                return SourceAnswer(None, validators[0] or etag, validators[1] or modified)
            entries = [entry for entry in self.read(response.body) if entry.topic]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            raise SourceBroken(f"{self.name} answers something else than it used to: {type(error).__name__}") from error
        return SourceAnswer(tuple(map(self._sighting, entries[:MOST_TRENDS], range(1, MOST_TRENDS + 1))), *validators)

    def _sighting(self, entry: Entry, rank: int) -> Sighting:
        measure = None if entry.count is None else entry.measure
        return Sighting(source=self.name, rank=rank, **asdict(entry) | {"measure": measure})

    def _ask(self, http: Http, region: str, now: datetime, etag: str | None, modified: str | None) -> Response:
        headers = self.sign(http)
        *earlier, last = (
            replace(request, headers={**request.headers, **headers}) for request in self.requests(region, now)
        )
        for request in earlier:
            try:
                return http.send(request, etag=etag, modified=modified)
            except RequestRejected as error:
                if error.status != 404:
                    raise
        return http.send(last, etag=etag, modified=modified)


def parse_xml(body: bytes) -> Element:
    """Return a feed's root. No entity is ever expanded and no document type accepted: a feed has none.

    Raises:
        ValueError: the text is not well-formed, or has a document type.
    """
    try:
        return fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError(f"not a plain XML document: {type(error).__name__}") from error


def text_of(value: object) -> str | None:
    """Return a text on one line and not endless; None for what is no text, or an empty one."""
    return clean(value[:LONGEST_TEXT])[:LONGEST_TEXT] or None if isinstance(value, str) else None


def count_of(value: object) -> int | None:
    """Return a count that is there and not negative, else None."""
    try:
        count = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 <= count < 2**53 else None


def moment_of(value: object) -> datetime | None:
    """Return an ISO moment with its offset, else None."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def link_of(value: object) -> str | None:
    """Return a web address, else None: nothing else is ever shown as a link."""
    link = text_of(value)
    return link if link and link.startswith(("https://", "http://")) and " " not in link else None
