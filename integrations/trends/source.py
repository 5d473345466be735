"""What every trend source has in common: where to ask, and how its answer is read into sightings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from domain.concepts.trends import MOST_TRENDS, Sighting
from domain.concepts.wording import clean
from domain.errors import Unavailable
from integrations.http.client import Answer, Http, Request, RequestRejected

LONGEST_TEXT = 500


class SourceBroken(Unavailable):
    """A source's answer is not what it used to be."""


@dataclass(frozen=True, slots=True)
class Found:
    """`sightings` is None if nothing has changed since the answer with these validators."""

    sightings: tuple[Sighting, ...] | None
    etag: str | None
    modified: str | None


@dataclass(frozen=True)
class Source:
    """One list on the web. `requests` are tried in order until one exists (404 means "not yet").

    `fresh_for` is how long an answer is used without asking again; `regional` whether the list differs by region.
    `sign` adds what a key is exchanged for.
    """

    name: str
    fresh_for: timedelta
    regional: bool
    requests: Callable[[str, datetime], Sequence[Request]]
    read: Callable[[bytes], list[Sighting]]
    sign: Callable[[Http], Mapping[str, str]] = field(default=lambda http: {})

    def fetch(
        self, http: Http, region: str, now: datetime, *, etag: str | None = None, modified: str | None = None
    ) -> Found:
        """Ask for the region's list.

        Raises:
            Unavailable, RequestRejected: as `Http.send`.
            SourceBroken: the answer cannot be read.
        """
        try:
            answer = self._ask(http, region, now, etag, modified)
            if answer.body is None:
                return Found(None, answer.etag or etag, answer.modified or modified)
            sightings = self.read(answer.body)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            raise SourceBroken(f"{self.name} answers something else than it used to: {type(error).__name__}") from error
        return Found(tuple(sightings[:MOST_TRENDS]), answer.etag, answer.modified)

    def _ask(self, http: Http, region: str, now: datetime, etag: str | None, modified: str | None) -> Answer:
        headers = self.sign(http)
        *earlier, last = (
            replace(request, headers={**request.headers, **headers}) for request in self.requests(region, now)
        )
        for request in earlier:
            try:
                return http.send(request, etag=etag, modified=modified)
            except RequestRejected as refused:
                if refused.status != 404:
                    raise
        return http.send(last, etag=etag, modified=modified)


def parse_xml(body: bytes) -> Element:
    """A feed's root. No entity is ever expanded and no document type accepted: a feed has none.

    Raises ValueError for what is not well-formed, or tries.
    """
    try:
        return fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError(f"not a plain XML document: {type(error).__name__}") from error


def text_of(value: object) -> str | None:
    """A string that says something, on one line and not endless; else None."""
    return clean(value[:LONGEST_TEXT])[:LONGEST_TEXT] or None if isinstance(value, str) else None


def count_of(value: object) -> int | None:
    """A count that is there and not negative, else None."""
    try:
        count = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 <= count < 2**53 else None


def moment_of(value: object) -> datetime | None:
    """An ISO moment with its offset, else None."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else None


def link_of(value: object) -> str | None:
    """A web address, else None: nothing else is ever shown as a link."""
    link = text_of(value)
    return link if link and link.startswith(("https://", "http://")) and " " not in link else None
