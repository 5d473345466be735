"""GNews: a country's headlines. Needs a key; the free one allows about 100 calls a day."""

from collections.abc import Iterator
from datetime import timedelta

from integrations.http.client import Request, parse_json
from integrations.trends.source import Entry, Source, link_of, moment_of, text_of


def source(base_url: str, key: str) -> Source:
    return Source(
        "gnews",
        fresh_for=timedelta(hours=3),
        regional=True,
        requests=lambda region, now: [
            Request(
                "gnews",
                f"{base_url}/api/v4/top-headlines",
                {"category": "general", "country": region.lower(), "max": "25"},
                {"X-Api-Key": key},
            )
        ],
        read=read,
    )


def read(body: bytes) -> Iterator[Entry]:
    for article in parse_json(body)["articles"]:
        title = text_of(article.get("title"))
        yield Entry(
            title,
            headline=title,
            publisher=text_of((article.get("source") or {}).get("name")),
            url=link_of(article.get("url")),
            published_at=moment_of(article.get("publishedAt")),
            category="news",
        )
