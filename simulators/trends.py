"""Every trend source on this machine, in one loopback server that answers with the oddities of their formats."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from xml.sax.saxutils import escape

from simulators.loopback import Loopback, Reply, Request

SEARCHES = (
    ("artemis iii", "20K+", "NASA rolls the Artemis III rocket to the pad", "Space Daily"),
    ("lakers vs celtics", "50K+", "Celtics edge Lakers in overtime", "Court Side"),
    ("thanksgiving side dishes", "10K+", "Five side dishes that can be made ahead", "Home Cook"),
    ("plane crash", "200K+", "Plane crash kills twelve", "Wire"),
)
ARTICLES = (
    ("Main_Page", 5_000_000),
    ("Special:Search", 900_000),
    ("Artemis_III", 91_000),
    ("Celtic_punk", 42_000),
    ("Glicked", 40_100),
)
STORIES = (
    ("Show HN: A tiny Postgres in Rust", 412),
    ("Why our robot vacuum writes poems", 288),
    ("The keyboard that outlived three laptops [video]", 97),
)
POSTS = (
    ("My cat learned to open the fridge and now nobody is safe", "aww"),
    ("TIL that bread was used as an eraser before rubber", "todayilearned"),
    ("[OC] Every coffee I drank this year", "dataisbeautiful"),
)
VIDEOS = (("The quiet guitar record of the year (Official Video)", "Six Strings", "10", "1200345"),)
HEADLINES = (("City council votes on longer library hours - The Courier", "The Courier"),)


def trends_simulator(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Loopback:
    """A server for all sources, whose `url` is the base URL of each. Lists are those of the hours before `now`."""

    def answer(request: Request) -> Reply:
        for path, make in ROUTES.items():
            if request.path.startswith(path):
                return _conditional(request, make(request, now()))
        return Reply(b"not found", 404)

    return Loopback(answer)


def _google(request: Request, now: datetime) -> bytes:
    items = "".join(
        f"<item><title>{escape(topic)}</title><ht:approx_traffic>{traffic}</ht:approx_traffic>"
        f"<pubDate>{format_datetime(now - timedelta(hours=3))}</pubDate><ht:picture_source>x</ht:picture_source>"
        f"<ht:news_item><ht:news_item_title>{escape(headline)}</ht:news_item_title><ht:news_item_snippet/>"
        f"<ht:news_item_url>https://news.example/{n}</ht:news_item_url>"
        f"<ht:news_item_source>{escape(publisher)}</ht:news_item_source></ht:news_item></item>"
        for n, (topic, traffic, headline, publisher) in enumerate(SEARCHES)
    )
    space = 'xmlns:ht="https://trends.google.com/trending/rss" xmlns:atom="http://www.w3.org/2005/Atom"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><rss {space} version="2.0"><channel><title>Daily Search Trends</title>'
        f"{items}</channel></rss>"
    ).encode()


def _wikimedia(request: Request, now: datetime) -> bytes:
    *_, year, month, day = request.path.split("/")
    articles = [{"article": name, "views": views, "rank": n} for n, (name, views) in enumerate(ARTICLES, 1)]
    item = {"project": "en.wikipedia", "access": "all-access", "year": year, "month": month, "day": day}
    return _json({"items": [{**item, "articles": articles}]})


def _hacker_news(request: Request, now: datetime) -> bytes:
    created = (now - timedelta(hours=5)).isoformat().replace("+00:00", "Z")
    return _json(
        {
            "hits": [
                {"objectID": str(n), "title": title, "url": None, "points": points, "created_at": created}
                for n, (title, points) in enumerate(STORIES)
            ]
        }
    )


def _reddit_atom(request: Request, now: datetime) -> bytes:
    at = (now - timedelta(hours=6)).isoformat()
    entries = "".join(
        f'<entry><category term="{subreddit}" label="r/{subreddit}"/><id>t3_{n}</id>'
        f'<link href="https://www.reddit.com/r/{subreddit}/comments/{n}/"/><published>{at}</published>'
        f"<title>{escape(title)}</title></entry>"
        for n, (title, subreddit) in enumerate(POSTS)
    )
    return f'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>'.encode()


def _reddit_token(request: Request, now: datetime) -> bytes:
    return _json({"access_token": "a-token", "token_type": "bearer", "expires_in": 86400})


def _reddit_json(request: Request, now: datetime) -> bytes:
    children = [
        {
            "data": {
                "title": title,
                "subreddit": subreddit,
                "score": 9000 - n,
                "permalink": f"/r/{subreddit}/comments/{n}/",
                "created_utc": (now - timedelta(hours=2)).timestamp(),
                "over_18": False,
            }
        }
        for n, (title, subreddit) in enumerate(POSTS)
    ]
    return _json({"data": {"children": children}})


def _youtube(request: Request, now: datetime) -> bytes:
    items = [
        {
            "id": f"video{n}",
            "snippet": {
                "title": title,
                "channelTitle": channel,
                "categoryId": category,
                "publishedAt": (now - timedelta(hours=30)).isoformat(),
            },
            "statistics": {"viewCount": views, "likeCount": "1000"},
        }
        for n, (title, channel, category, views) in enumerate(VIDEOS)
    ]
    return _json({"items": items})


def _gnews(request: Request, now: datetime) -> bytes:
    articles = [
        {
            "title": title,
            "url": f"https://news.example/{n}",
            "publishedAt": (now - timedelta(hours=1)).isoformat(),
            "source": {"name": publisher, "url": "https://news.example"},
        }
        for n, (title, publisher) in enumerate(HEADLINES)
    ]
    return _json({"totalArticles": len(articles), "articles": articles})


ROUTES: Mapping[str, Callable[[Request, datetime], bytes]] = {
    "/trending/rss": _google,
    "/api/rest_v1/metrics/pageviews/top/": _wikimedia,
    "/api/v1/search": _hacker_news,
    "/api/v1/access_token": _reddit_token,
    "/r/popular/.rss": _reddit_atom,
    "/r/popular/hot": _reddit_json,
    "/youtube/v3/videos": _youtube,
    "/api/v4/top-headlines": _gnews,
}


def _conditional(request: Request, body: bytes) -> Reply:
    """Answer with a validator, as servers of feeds do."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    if request.headers.get("if-none-match") == etag:
        return Reply(b"", 304, {"ETag": etag})
    return Reply(body, 200, {"ETag": etag})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
