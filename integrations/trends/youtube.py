"""YouTube: the most popular videos of a country. Needs a key (1 unit a call). Music, films and gaming only, since
21 July 2025."""

from datetime import timedelta

from domain.concepts.trends import Sighting
from integrations.http.client import Request, parse_json
from integrations.trends.source import Source, count_of, moment_of, text_of

CATEGORIES = {
    "1": "cartoon",
    "10": "music",
    "20": "gaming",
    "23": "absurd",
    "25": "news",
    "26": "fitness",
    "28": "tech",
}


def source(base_url: str, key: str) -> Source:
    params = {"part": "snippet,statistics", "chart": "mostPopular", "maxResults": "30"}
    return Source(
        "youtube",
        fresh_for=timedelta(hours=2),
        regional=True,
        requests=lambda region, now: [
            # The key goes in a header, so that no log of addresses has it.
            Request(
                "youtube", f"{base_url}/youtube/v3/videos", {**params, "regionCode": region}, {"X-Goog-Api-Key": key}
            )
        ],
        read=read,
    )


def read(body: bytes) -> list[Sighting]:
    found: list[Sighting] = []
    for video in parse_json(body)["items"]:
        told, counts = video["snippet"], video.get("statistics", {})
        title, views = text_of(told.get("title")), count_of(counts.get("viewCount"))
        if title is None:
            continue
        found.append(
            Sighting(
                "youtube",
                title,
                len(found) + 1,
                publisher=text_of(told.get("channelTitle")),
                url=f"https://www.youtube.com/watch?v={video['id']}",
                published_at=moment_of(told.get("publishedAt")),
                count=views,
                measure=None if views is None else "views",
                category=CATEGORIES.get(str(told.get("categoryId"))),
            )
        )
    return found
