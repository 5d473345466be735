"""A Bluesky post as a record: its key, its fields, its addresses."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.posting.accounts import Credential
from domain.posting.posts import short_mark
from domain.posting.publishing import Content, Seen
from domain.posting.text import Facet, facets

POSTS = "app.bsky.feed.post"
APP = "https://bsky.app"
KEY_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"
KEY_LENGTH = 13
FACET_FIELDS = {"link": "uri", "tag": "tag"}


def record_key(content: Content) -> str:
    """Return the key of a post's record: the second that the post was made for, and what only this post has."""
    return key_of_mark(content.created_at, content.mark)


def time_of(key: str) -> datetime | None:
    """Return the time in a record key; None if it has none."""
    number = _number(key)
    if number is None:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=(number >> 10) & (2**53 - 1))


def mark_in(key: str) -> str | None:
    """Return what stands in a record key for its post's mark (`short_mark`), whatever time it was made for; None if it
    is no key of that kind."""
    number = _number(key)
    return None if number is None else f"{((number >> 10) & (2**53 - 1)) % 1_000_000}.{number & 1023}"


def _number(key: str) -> int | None:
    if len(key) != KEY_LENGTH or not set(key) <= set(KEY_LETTERS):
        return None
    number = 0
    for letter in key:
        number = number * 32 + KEY_LETTERS.index(letter)
    return number


def key_of_mark(at: datetime, mark: str) -> str:
    """Return a TID: 53 bits of microseconds, then 10 that tell writers apart. What is below the second is not the time
    but a digest of the mark, so that two posts of one second have two keys."""
    below, writer = map(int, short_mark(mark).split("."))
    number = (int(at.timestamp()) * 1_000_000 + below) << 10 | writer
    return "".join(KEY_LETTERS[(number >> shift) & 31] for shift in range(60, -1, -5))


def record_of(text: str, at: datetime) -> dict[str, Any]:
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = [_facet(each) for each in facets(text)]
    return {"$type": POSTS, "text": text, "createdAt": moment} | ({"facets": found} if found else {})


def _facet(facet: Facet) -> dict[str, Any]:
    feature = {"$type": f"app.bsky.richtext.facet#{facet.kind}", FACET_FIELDS[facet.kind]: facet.value}
    return {"index": {"byteStart": facet.start, "byteEnd": facet.end}, "features": [feature]}


def uri_of(credential: Credential, key: str) -> str:
    return f"at://{credential.external_id}/{POSTS}/{key}"


def permalink_of(uri: str) -> str | None:
    did, _, key = uri.removeprefix("at://").partition(f"/{POSTS}/")
    return f"{APP}/profile/{did}/post/{key}" if key else None


def seen_in(record: Any) -> Seen | None:
    if not isinstance(record, Mapping) or not isinstance(record.get("value"), Mapping):
        return None
    uri, value = str(record.get("uri")), record["value"]
    key = uri.rpartition("/")[2]
    try:
        at = datetime.fromisoformat(str(value.get("createdAt")))
    except ValueError:
        at = time_of(key) or datetime.fromtimestamp(0, UTC)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Seen(uri, str(value.get("text") or ""), at, permalink_of(uri), mark_in(key))
