"""GNews: a country's headlines. Needs a key; the free one allows about 100 calls a day."""

from datetime import timedelta

from domain.concepts.trends import Sighting
from integrations.http.client import Request, parse_json
from integrations.trends.source import Source, link_of, moment_of, text_of


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


def read(body: bytes) -> list[Sighting]:
    found: list[Sighting] = []
    for article in parse_json(body)["articles"]:
        title = text_of(article.get("title"))
        if title is None:
            continue
        found.append(
            Sighting(
                "gnews",
                title,
                len(found) + 1,
                headline=title,
                publisher=text_of((article.get("source") or {}).get("name")),
                url=link_of(article.get("url")),
                published_at=moment_of(article.get("publishedAt")),
                category="news",
            )
        )
    return found
