"""Google Trends: the daily list of a country, as RSS. No key. There is no other public interface yet."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from domain.concepts.trends import Sighting
from integrations.http.client import Request
from integrations.trends.source import Source, link_of, parse_xml, text_of

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


def read(body: bytes) -> list[Sighting]:
    channel = parse_xml(body).find("channel")
    if channel is None:
        raise ValueError("not an RSS document")
    found: list[Sighting] = []
    for item in channel.iter("item"):
        topic = text_of(item.findtext("title"))
        if topic is None:
            continue
        news = item.find(f"{HT}news_item")
        searches = _searches(item.findtext(f"{HT}approx_traffic"))
        found.append(
            Sighting(
                "google-trends",
                topic,
                len(found) + 1,
                headline=None if news is None else text_of(news.findtext(f"{HT}news_item_title")),
                publisher=None if news is None else text_of(news.findtext(f"{HT}news_item_source")),
                url=None if news is None else link_of(news.findtext(f"{HT}news_item_url")),
                published_at=_moment(item.findtext("pubDate")),
                count=searches,
                measure=None if searches is None else "searches",
            )
        )
    return found


def _searches(told: str | None) -> int | None:
    """ "2K+" and "500+" are lower bounds."""
    match = _TRAFFIC.fullmatch((told or "").strip().upper())
    if match is None:
        return None
    try:
        return int(float(match[1].replace(",", "")) * TIMES.get(match[2], 1))
    except ValueError:
        return None


def _moment(told: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(told or "")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
