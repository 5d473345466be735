"""Hacker News: its front page, by Algolia's search. No key. One list for the world, and mostly of technology."""

from collections.abc import Iterator
from datetime import timedelta

from integrations.http.client import Request, parse_json
from integrations.trends.source import Entry, Source, count_of, link_of, moment_of, text_of


def source(base_url: str) -> Source:
    return Source(
        "hacker-news",
        fresh_for=timedelta(minutes=60),
        regional=False,
        requests=lambda region, now: [
            Request("hacker-news", f"{base_url}/api/v1/search", {"tags": "front_page", "hitsPerPage": "30"})
        ],
        read=read,
    )


def read(body: bytes) -> Iterator[Entry]:
    for hit in sorted(parse_json(body)["hits"], key=lambda hit: -(count_of(hit.get("points")) or 0)):
        yield Entry(
            text_of(hit.get("title")),
            url=link_of(hit.get("url")),
            published_at=moment_of(hit.get("created_at")),
            count=count_of(hit.get("points")),
            measure="points",
            category="tech",
        )
