"""Every trend source against a server that answers as it does, and in every way in which it should not."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.concepts.trends import Sighting
from domain.errors import Unavailable
from integrations.http.client import Http
from integrations.http.errors import RequestRejected
from integrations.trends import gnews, google, hackernews, reddit, wikimedia, youtube
from integrations.trends.source import Source, SourceBroken
from simulators.loopback import Loopback, Reply
from simulators.trends import trends_simulator

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

SOURCES: dict[str, Callable[[str], Source]] = {
    "google-trends": google.source,
    "wikimedia": wikimedia.source,
    "hacker-news": hackernews.source,
    "reddit": reddit.source,
    "reddit with a key": lambda url: reddit.source_with_key(url, url, "id", "secret"),
    "youtube": lambda url: youtube.source(url, "a-key"),
    "gnews": lambda url: gnews.source(url, "a-key"),
}

every_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())


@pytest.fixture
def server() -> Iterator[Loopback]:
    with trends_simulator(lambda: NOW) as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    http = Http("viral-tests (tests@example.com)")
    yield http
    http.close()


def fetch(source: Source, http: Http) -> tuple[Sighting, ...]:
    found = source.fetch(http, "US", NOW)
    assert found.sightings is not None
    return found.sightings


@every_source
def test_a_list_is_read(server: Loopback, http: Http, make: Callable[[str], Source]) -> None:
    source = make(server.url)
    sightings = fetch(source, http)
    assert sightings
    assert [each.rank for each in sightings] == list(range(1, len(sightings) + 1))
    assert {each.source for each in sightings} == {source.name}
    assert all(each.published_at is None or each.published_at <= NOW for each in sightings)
    assert all((each.count is None) == (each.measure is None) for each in sightings)


def test_what_google_tells(server: Loopback, http: Http) -> None:
    assert fetch(google.source(server.url), http)[0] == Sighting(
        "google-trends",
        "artemis iii",
        1,
        headline="NASA rolls the Artemis III rocket to the pad",
        publisher="Space Daily",
        url="https://news.example/0",
        published_at=NOW - timedelta(hours=3),
        count=20_000,
        measure="searches",
    )
    assert server.requests[0].params == {"geo": "US"}


def test_wikipedias_own_pages_are_no_topics(server: Loopback, http: Http) -> None:
    topics = [each.topic for each in fetch(wikimedia.source(server.url), http)]
    assert topics == ["Artemis III", "Celtic punk", "Glicked"]


def test_a_day_that_is_not_there_yet_is_yesterday(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=404))
    assert fetch(wikimedia.source(server.url), http)
    assert [request.path[-10:] for request in server.requests] == ["2026/11/21", "2026/11/20"]


def test_reddit_is_asked_with_a_token_that_the_keys_bought(server: Loopback, http: Http) -> None:
    fetch(SOURCES["reddit with a key"](server.url), http)
    token, hot = server.requests
    assert (token.method, token.body) == ("POST", b"grant_type=client_credentials")
    assert token.headers["authorization"].startswith("Basic ")
    assert hot.headers["authorization"] == "Bearer a-token"


@every_source
def test_an_unchanged_list_is_not_read_again(server: Loopback, http: Http, make: Callable[[str], Source]) -> None:
    source = make(server.url)
    first = source.fetch(http, "US", NOW)
    again = source.fetch(http, "US", NOW, etag=first.etag, modified=first.modified)
    assert (again.sightings, again.etag) == (None, first.etag)


BROKEN = {
    "nothing": b"",
    "half": b'<?xml version="1.0"?><rss><channel><item><title>x</ti',
    "half of JSON": b'{"items": [{"a',
    "another document": b"<html><body>Just a moment...</body></html>",
    "another JSON": b'{"error": {"code": 403}}',
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b"\xff\xfe\x00<rss>",
    "deep JSON": b"[" * 100_000,
    "items that are text": b'{"items": "x", "hits": "x", "articles": "x", "data": {"children": "x"}}',
}


@every_source
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_read_is_named(server: Loopback, http: Http, make: Callable[[str], Source], body: bytes) -> None:
    source = make(server.url)
    server.fail(Reply(body), times=3)
    with pytest.raises(SourceBroken, match=source.name):
        source.fetch(http, "US", NOW)


RSS = b"""<rss xmlns:ht="https://trends.google.com/trending/rss"><channel><item><title>x</title>%b</item></channel></rss>"""
POSTS = b'{"data": {"children": [{"data": {"title": "x", "created_utc": %b}}]}}'


@pytest.mark.parametrize(
    ("make", "body"),
    [
        (google.source, RSS % b"<ht:approx_traffic>%bM+</ht:approx_traffic>" % (b"9" * 400)),
        (google.source, RSS % b"<pubDate>Mon, 01 Jan 99999999999 00:00:00 GMT</pubDate>"),
        (google.source, RSS % b"<pubDate>1 Jan 2026 00:00:00 +99999999999999</pubDate>"),
        (SOURCES["reddit with a key"], POSTS % b"1e300"),
        (SOURCES["reddit with a key"], POSTS % b"-99999999999999999"),
    ],
    ids=["count", "year", "offset", "late", "early"],
)
def test_numbers_that_no_clock_knows_are_named(
    server: Loopback, http: Http, make: Callable[[str], Source], body: bytes
) -> None:
    source = make(server.url)
    source.fetch(http, "US", NOW)
    server.fail(Reply(body), path="hot" if b"data" in body else "rss")
    with pytest.raises(SourceBroken, match=source.name):
        source.fetch(http, "US", NOW)


BILLION_LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<rss><channel><item><title>&b;</title></item></channel></rss>"""
A_FILE = b"""<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY f SYSTEM "file:///etc/passwd">]>
<rss><channel><item><title>&f;</title></item></channel></rss>"""


@pytest.mark.parametrize("body", [BILLION_LAUGHS, A_FILE], ids=["entities", "a file"])
@pytest.mark.parametrize("make", [google.source, reddit.source], ids=["google", "reddit"])
def test_no_entity_is_expanded(server: Loopback, http: Http, make: Callable[[str], Source], body: bytes) -> None:
    server.fail(Reply(body))
    with pytest.raises(SourceBroken):
        make(server.url).fetch(http, "US", NOW)


@every_source
def test_trouble_says_whether_waiting_helps(server: Loopback, http: Http, make: Callable[[str], Source]) -> None:
    source = make(server.url)
    server.fail(Reply(status=429, headers={"Retry-After": "120"}))
    with pytest.raises(Unavailable) as caught:
        source.fetch(http, "US", NOW)
    assert caught.value.retry_after == timedelta(seconds=120)
    server.fail(Reply(status=403))
    with pytest.raises(RequestRejected):
        source.fetch(http, "US", NOW)
