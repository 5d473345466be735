"""Google Trends: the daily list of a country, as RSS. No key. There is no other public interface yet."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from integrations.http.client import Request
from integrations.trends.source import Entry, Source, link_of, parse_xml, text_of

HT = "{https://trends.google.com/trending/rss}"
TIMES = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}
_TRAFFIC = re.compile(r"([\d,.]+)\s*([KMB]?)\+?")


def source(base_url: str) -> Source:
    return Source(
        "google-trends",
        fresh_for=timedelta(minutes=90),
        regional=True,
        requests=lambda region, now: [Request("google-trends", f"{base_url}/trending/rss", {"geo": region})],
        read=read,
    )


def read(body: bytes) -> Iterator[Entry]:
    channel = parse_xml(body).find("channel")
    if channel is None:
        raise ValueError("not an RSS document")
    for item in channel.iter("item"):
        headline, publisher, url = (
            item.findtext(f"{HT}news_item/{HT}news_item_{part}") for part in ("title", "source", "url")
        )
        yield Entry(
            text_of(item.findtext("title")),
            headline=text_of(headline),
            publisher=text_of(publisher),
            url=link_of(url),
            published_at=_moment(item.findtext("pubDate")),
            count=_searches(item.findtext(f"{HT}approx_traffic")),
            measure="searches",
        )


def _searches(text: str | None) -> int | None:
    """ "2K+" and "500+" are lower bounds."""
    match = _TRAFFIC.fullmatch((text or "").strip().upper())
    if match is None:
        return None
    try:
        return int(float(match[1].replace(",", "")) * TIMES.get(match[2], 1))
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
