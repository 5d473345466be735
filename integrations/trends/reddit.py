"""Reddit: what is popular. Without a key as Atom (25 titles, no scores); with one, as JSON by OAuth.

The anonymous JSON was closed on 30 May 2026.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from domain.concepts.trends import Sighting
from integrations.http.client import Http, Request, parse_json
from integrations.trends.source import Source, count_of, link_of, moment_of, parse_xml, text_of

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
        answer = http.send(
            Request(
                "reddit",
                f"{base_url}/api/v1/access_token",
                form={"grant_type": "client_credentials"},
                basic_auth=(client_id, client_secret),
            )
        )
        return {"Authorization": f"Bearer {parse_json(answer.body or b'')['access_token']}"}

    return Source(
        "reddit",
        fresh_for=timedelta(minutes=60),
        regional=False,
        requests=lambda region, now: [Request("reddit", f"{api_url}/r/popular/hot", {"limit": "30", "raw_json": "1"})],
        read=read_json,
        sign=sign,
    )


def read_atom(body: bytes) -> list[Sighting]:
    feed = parse_xml(body)
    if feed.tag != f"{ATOM}feed":
        raise ValueError("not an Atom feed")
    found: list[Sighting] = []
    for entry in feed.iter(f"{ATOM}entry"):
        title = text_of(entry.findtext(f"{ATOM}title"))
        if title is None:
            continue
        category, link = entry.find(f"{ATOM}category"), entry.find(f"{ATOM}link")
        subreddit = "" if category is None else category.get("term", "")
        found.append(
            Sighting(
                "reddit",
                title,
                len(found) + 1,
                url=None if link is None else link_of(link.get("href")),
                published_at=moment_of(entry.findtext(f"{ATOM}published")),
                category=CATEGORIES.get(subreddit.casefold()),
            )
        )
    return found


def read_json(body: bytes) -> list[Sighting]:
    found: list[Sighting] = []
    for child in parse_json(body)["data"]["children"]:
        post = child["data"]
        title, upvotes, created = text_of(post.get("title")), count_of(post.get("score")), post.get("created_utc")
        if title is None or post.get("over_18"):
            continue
        found.append(
            Sighting(
                "reddit",
                title,
                len(found) + 1,
                url=link_of(f"https://www.reddit.com{post.get('permalink', '')}"),
                published_at=datetime.fromtimestamp(created, UTC) if isinstance(created, int | float) else None,
                count=upvotes,
                measure=None if upvotes is None else "upvotes",
                category=CATEGORIES.get(str(post.get("subreddit", "")).casefold()),
            )
        )
    return found
