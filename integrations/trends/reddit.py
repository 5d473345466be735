"""Reddit: what is popular. Without a key as Atom (25 titles, no scores); with one, as JSON by OAuth.

The anonymous JSON was closed on 30 May 2026.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from integrations.http.client import Http, Request, parse_json
from integrations.trends.source import Entry, Source, count_of, link_of, moment_of, parse_xml, text_of

ATOM = "{http://www.w3.org/2005/Atom}"
CATEGORIES = {
    "worldnews": "news",
    "news": "news",
    "mildlyinteresting": "absurd",
    "funny": "absurd",
    "mademesmile": "emotional",
    "aww": "emotional",
    "technology": "tech",
    "programming": "tech",
    "anime": "cartoon",
    "gaming": "gaming",
    "fitness": "fitness",
    "nba": "fitness",
    "nfl": "fitness",
    "soccer": "fitness",
    "food": "food",
    "cooking": "food",
    "personalfinance": "finance",
    "wallstreetbets": "finance",
    "music": "music",
    "relationship_advice": "relationships",
    "amitheasshole": "relationships",
}
"""By subreddit, in lower case."""


def source(base_url: str) -> Source:
    return Source(
        "reddit",
        fresh_for=timedelta(minutes=60),
        regional=False,
        requests=lambda region, now: [Request("reddit", f"{base_url}/r/popular/.rss", {"limit": "25"})],
        read=read_atom,
    )


def source_with_key(base_url: str, api_url: str, client_id: str, client_secret: str) -> Source:
    def sign(http: Http) -> Mapping[str, str]:
        response = http.send(
            Request(
                "reddit",
                f"{base_url}/api/v1/access_token",
                form={"grant_type": "client_credentials"},
                basic_auth=(client_id, client_secret),
            )
        )
        return {"Authorization": f"Bearer {parse_json(response.body)['access_token']}"}

    return Source(
        "reddit",
        fresh_for=timedelta(minutes=60),
        regional=False,
        requests=lambda region, now: [Request("reddit", f"{api_url}/r/popular/hot", {"limit": "30", "raw_json": "1"})],
        read=read_json,
        sign=sign,
    )


def read_atom(body: bytes) -> Iterator[Entry]:
    feed = parse_xml(body)
    if feed.tag != f"{ATOM}feed":
        raise ValueError("not an Atom feed")
    for entry in feed.iter(f"{ATOM}entry"):
        category, link = entry.find(f"{ATOM}category"), entry.find(f"{ATOM}link")
        subreddit = "" if category is None else category.get("term", "")
        yield Entry(
            text_of(entry.findtext(f"{ATOM}title")),
            url=None if link is None else link_of(link.get("href")),
            published_at=moment_of(entry.findtext(f"{ATOM}published")),
            category=CATEGORIES.get(subreddit.casefold()),
        )


def read_json(body: bytes) -> Iterator[Entry]:
    for child in parse_json(body)["data"]["children"]:
        post = child["data"]
        created = post.get("created_utc")
        yield Entry(
            None if post.get("over_18") else text_of(post.get("title")),
            url=link_of(f"https://www.reddit.com{post.get('permalink', '')}"),
            published_at=datetime.fromtimestamp(created, UTC) if isinstance(created, int | float) else None,
            count=count_of(post.get("score")),
            measure="upvotes",
            category=CATEGORIES.get(str(post.get("subreddit", "")).casefold()),
        )
