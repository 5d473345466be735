"""YouTube: the most popular videos of a country. Needs a key (1 unit a call). Music, films and gaming only, since
21 July 2025."""

from collections.abc import Iterator
from datetime import timedelta

from integrations.http.client import Request, parse_json
from integrations.trends.source import Entry, Source, count_of, moment_of, text_of

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


def read(body: bytes) -> Iterator[Entry]:
    for video in parse_json(body)["items"]:
        snippet = video["snippet"]
        yield Entry(
            text_of(snippet.get("title")),
            publisher=text_of(snippet.get("channelTitle")),
            url=f"https://www.youtube.com/watch?v={video['id']}",
            published_at=moment_of(snippet.get("publishedAt")),
            count=count_of(video.get("statistics", {}).get("viewCount")),
            measure="views",
            category=CATEGORIES.get(str(snippet.get("categoryId"))),
        )
