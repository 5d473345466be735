"""Rows of posts for a replay, read from the text of a CSV file. A row that cannot be read is named with its line."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from domain.errors import Rejected
from domain.learning.counts import MOST
from domain.learning.metrics import ALWAYS, definition_of
from domain.learning.numbers import Numbers
from domain.learning.outcomes import Features, Judged, judge

REQUIRED = ("source", "platform", "order_at", "account", "views", "likes")
OPTIONAL = (
    *("category", "comments", "shares", "saves", "followers", "duration_s", "n_hashtags", "text_len"),
    *("has_question", "original_sound"),
)
COLUMNS = (*REQUIRED[:4], "category", *REQUIRED[4:], *OPTIONAL[1:])
PLATFORMS: Mapping[str, str] = {
    **{name: name for name in ("tiktok", "youtube-shorts", "instagram-reels", "bluesky", "mastodon")},
    **{"youtube": "youtube-shorts", "shorts": "youtube-shorts", "youtube_shorts": "youtube-shorts"},
    **{"instagram": "instagram-reels", "reels": "instagram-reels", "instagram_reels": "instagram-reels"},
}
"""Our names of platforms, and others' for them."""
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
LONGEST_WORD = 200
LONGEST_FIELD = 100_000
NEWEST = datetime(9999, 1, 1, tzinfo=UTC).date()


class FileUnreadable(Rejected):
    """The file is no table of posts."""


class RowUnreadable(Rejected):
    """A row says something that cannot be."""


@dataclass(frozen=True, slots=True)
class Post:
    """A row. Posts are in the order of (`order_at`, `line`); `order_at` is seconds since 1970 if the file has times.
    `judged` is what is learned of it."""

    line: int
    source: str
    platform: str
    order_at: float
    features: Features
    judged: Judged


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is in no figure, and why. `judged`: it can be read, and nothing is learned of what it says."""

    line: int
    reason: str
    judged: bool = False


def read(lines: Iterable[str]) -> tuple[list[Post], list[Skipped]]:
    """Return the posts of which something can be learned, in their order, and the rows that were skipped. `lines` keep
    their ends.

    Raises:
        FileUnreadable: there is no header with the columns that are needed.
    """
    reader = csv.reader(_without_zeros(lines), strict=True)
    names = _header(reader)
    posts: list[Post] = []
    skipped: list[Skipped] = []
    kinds: set[type] = set()
    for line, fields in _records(reader):
        if isinstance(fields, RowUnreadable):
            skipped.append(Skipped(line, str(fields)))
            continue
        if not any(field.strip() for field in fields):
            continue
        try:
            post = _post(line, names, fields, kinds)
        except RowUnreadable as error:
            skipped.append(Skipped(line, str(error)))
            continue
        if post.judged.value is None:
            skipped.append(Skipped(line, f"nothing is learned of it: {post.judged.reason}", judged=True))
        else:
            posts.append(post)
    return sorted(posts, key=lambda post: (post.order_at, post.line)), skipped


def _without_zeros(lines: Iterable[str]) -> Iterator[str]:
    """Some versions of `csv` end at U+0000: it is made something that no field may hold."""
    return (line.replace("\0", "\ufffd") for line in lines)


def _header(reader: Any) -> list[str]:
    try:
        header = next(reader)
    except StopIteration:
        raise FileUnreadable("the file is empty; its first line names the columns") from None
    except csv.Error as error:
        raise FileUnreadable(f"line 1: {error}") from error
    names = [name.strip().lower().removeprefix("\ufeff") for name in header]
    if len(names) == 1 and ";" in names[0]:
        raise FileUnreadable("line 1: the columns are separated by semicolons; save it with commas")
    doubled = sorted({name for name in names if names.count(name) > 1 and name in COLUMNS})
    if doubled:
        raise FileUnreadable(f"line 1: the column {doubled[0]} is there twice")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise FileUnreadable(f"line 1: it has no column {', '.join(missing)}; needed are {', '.join(REQUIRED)}")
    return names


def _records(reader: Any) -> Iterator[tuple[int, list[str] | RowUnreadable]]:
    """Yield each record with the line that it begins in."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, RowUnreadable(str(error))


def _post(line: int, names: list[str], fields: list[str], kinds: set[type]) -> Post:
    if len(fields) != len(names):
        raise RowUnreadable(f"it has {len(fields)} values, and the first line {len(names)}")
    row = {name: field.strip() for name, field in zip(names, fields, strict=True) if name in COLUMNS}
    for name, value in row.items():
        if "\ufffd" in value:
            raise RowUnreadable(f"{name}: a character is damaged")
    platform = PLATFORMS.get(row["platform"].lower())
    if platform is None:
        ours = ", ".join(dict.fromkeys(PLATFORMS.values()))
        raise RowUnreadable(f"platform: {_shown(row['platform'])} is none of {ours}")
    order_at, day = _moment(row["order_at"])
    if kinds and type(day) not in kinds:
        raise RowUnreadable("order_at: some rows have times and others numbers; all need the same")
    kinds.add(type(day))
    features = Features(
        account=_word("account", row["account"]),
        category=_category(row.get("category", "")),
        hour=None if day is None else day.hour,
        weekday=None if day is None else day.weekday(),
        text_len=_count("text_len", row),
        n_hashtags=_count("n_hashtags", row),
        has_question=_truth("has_question", row),
        original_sound=_truth("original_sound", row),
        followers=_count("followers", row),
        duration_s=_number("duration_s", row),
    )
    numbers = Numbers(
        views=_count("views", row),
        likes=_count("likes", row),
        comments=_count("comments", row),
        shares=_count("shares", row),
        definition=definition_of(platform, NEWEST if day is None else max(day.date(), ALWAYS)),
    )
    _count("saves", row)
    return Post(line, _word("source", row["source"]), platform, order_at, features, judge(numbers))


def _moment(text: str) -> tuple[float, datetime | None]:
    """Return the place of a row in the order, and the moment if it is one; without an offset it is UTC."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise RowUnreadable(f"order_at: {_shown(text)} is no place in an order")
        return number, None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return moment.timestamp(), moment
    except (ValueError, OverflowError):
        example = "2026-11-28T17:00:00Z"
        raise RowUnreadable(f"order_at: {_shown(text)} is neither a number nor a time such as {example}") from None


def _word(name: str, text: str) -> str:
    if not text:
        raise RowUnreadable(f"{name}: it is empty")
    if len(text) > LONGEST_WORD:
        raise RowUnreadable(f"{name}: it is longer than {LONGEST_WORD} characters")
    return text


def _category(text: str) -> str | None:
    return _word("category", text.lower()) if text else None


def _number(name: str, row: Mapping[str, str]) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise RowUnreadable(f"{name}: {_shown(text)} is no number") from None
    if not math.isfinite(number) or not 0 <= number <= MOST:
        raise RowUnreadable(f"{name}: {_shown(text)} cannot be; use 0 or more")
    return number


def _count(name: str, row: Mapping[str, str]) -> int | None:
    number = _number(name, row)
    if number is not None and not number.is_integer():
        raise RowUnreadable(f"{name}: {_shown(row[name])} is no whole number")
    return None if number is None else int(number)


def _truth(name: str, row: Mapping[str, str]) -> bool | None:
    text = row.get(name, "").lower()
    if text and text not in TRUTHS:
        raise RowUnreadable(f"{name}: {_shown(text)} is neither true nor false")
    return TRUTHS.get(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
