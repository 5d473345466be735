"""The rows of a replay: a CSV file of posts and what became of them, a post a line.

- UTF-8, with or without a BOM; columns are separated by commas, in any order. Lines end in any way; none goes on after
  its end, so that one stray quote spoils one line. Columns that mean nothing here are ignored, and named.
- An empty field is unknown. Counts are whole and not negative.
- `order_at` is an ISO 8601 time (UTC, if it has no offset) or a number, the same kind in all
  rows: the order of the posts.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from domain.errors import Rejected
from domain.learning.metrics import ALWAYS, DEFINITIONS, METRICS, definition_of
from domain.learning.numbers import Numbers
from domain.learning.outcomes import Features, Judged, judge

REQUIRED = ("source", "platform", "order_at", "account", "views", "likes")
OPTIONAL = (
    *("category", "comments", "shares", "saves", "followers"),
    *("duration_s", "n_hashtags", "text_len", "has_question", "original_sound"),
)
COLUMNS = (*REQUIRED, *OPTIONAL)
PLATFORMS = tuple(dict.fromkeys(each.platform for each in METRICS))
CALLED: Mapping[str, str] = {name: name for name in PLATFORMS} | {
    **dict.fromkeys(("youtube", "shorts", "youtube_shorts"), "youtube-shorts"),
    **dict.fromkeys(("instagram", "reels", "instagram_reels"), "instagram-reels"),
}
"""Our names of platforms, and others' for them."""
MOST_BYTES = 256 * 1024 * 1024
LONGEST_LINE = 10_000
LARGEST = 10**15
LONGEST_WORD = 200
TRUTHS: Mapping[str, bool | None] = {
    **{"": None, "1": True, "true": True, "yes": True, "1.0": True},
    **{"0": False, "false": False, "no": False, "0.0": False},
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,2})?")
_SEPARATED = {";": "semicolons", "\t": "tabs", "|": "bars"}


class FileUnreadable(Rejected):
    """The file as a whole cannot be replayed."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line, from 1, that is not replayed, and why. `malformed`: it is no row at all; else nothing is learned of the
    post (`judge`)."""

    line: int
    reason: str
    malformed: bool = True


@dataclass(frozen=True, slots=True)
class Post:
    """A post that has an outcome. `order` is its time in seconds, or its number."""

    line: int
    source: str
    platform: str
    order: float
    features: Features
    judged: Judged


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The rows in the order of time (those of one time as the file has them), the lines that are none, and the columns
    that nobody reads."""

    posts: Sequence[Post] = ()
    skipped: Sequence[Skipped] = ()
    ignored: Sequence[str] = ()

    @property
    def malformed(self) -> Sequence[Skipped]:
        return [each for each in self.skipped if each.malformed]


class _Malformed(Exception):
    """A line is no row, because of this."""


@dataclass(slots=True)
class _Kinds:
    """The first line of each kind of `order_at`."""

    first: dict[str, int] = field(default_factory=dict)

    def note(self, kind: str, line: int) -> None:
        self.first.setdefault(kind, line)
        if len(self.first) > 1:
            (one, here), (other, there) = self.first.items()
            raise FileUnreadable(
                f"order_at is a {one} in line {here} and a {other} in line {there}: write times or numbers in all lines"
            )


def read_rows(data: bytes) -> ReadFile:
    """Return what the file has.

    Raises:
        FileUnreadable: it is empty or too large, its header is not one, or `order_at` is of two kinds.
    """
    if len(data) > MOST_BYTES:
        raise FileUnreadable(f"the file has more than {MOST_BYTES >> 20} MB: divide it")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileUnreadable("the file is UTF-16: save it as UTF-8")
    # What is no UTF-8 becomes lone surrogates, which make their line malformed.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    lines = _lines(text)
    header, place = next(((line, place) for place, line in lines if line.strip()), ("", 0))
    if not place:
        raise FileUnreadable("the file is empty: it wants a header, then a post a line")
    names = _header(header)
    places = {name: names.index(name) for name in COLUMNS if name in names}
    posts: list[Post] = []
    skipped: list[Skipped] = []
    kinds, found = _Kinds(), False
    for place, line in lines:
        if not line.strip():
            continue
        found = True
        try:
            post = _post(place, _fields(line, len(names)), places, kinds)
        except _Malformed as error:
            skipped.append(Skipped(place, str(error)))
            continue
        if post.judged.value is None:
            skipped.append(Skipped(place, f"nothing is learned of it: {post.judged.reason}", malformed=False))
        else:
            posts.append(post)
    if not found:
        raise FileUnreadable("there are no rows in the file, only a header")
    posts.sort(key=lambda post: post.order)
    return ReadFile(posts, skipped, [name for name in names if name and name not in COLUMNS])


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return iter(enumerate(re.split(r"\r\n|\n|\r", text), 1))


def _header(line: str) -> list[str]:
    try:
        line.encode()
        names = [name.strip().lower() for name in next(csv.reader([line], strict=True))]
    except UnicodeEncodeError:
        raise FileUnreadable("the header is not UTF-8: save the file as UTF-8") from None
    except csv.Error as error:
        raise FileUnreadable(f"the header cannot be read: {error}") from None
    if len(names) == 1:
        for sign, word in _SEPARATED.items():
            if sign in line:
                raise FileUnreadable(f"columns are separated by {word}: save the file with commas")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise FileUnreadable(f"the header lacks {', '.join(missing)}: it wants {', '.join(REQUIRED)}")
    twice = sorted({name for name in names if name in COLUMNS and names.count(name) > 1})
    if twice:
        raise FileUnreadable(f"the header has {', '.join(twice)} twice")
    return names


def _fields(line: str, count: int) -> list[str]:
    if "\0" in line:
        raise _Malformed("it has a NUL byte")
    if len(line) > LONGEST_LINE:
        raise _Malformed(f"it has more than {LONGEST_LINE} characters")
    try:
        line.encode()
    except UnicodeEncodeError:
        raise _Malformed("it is not UTF-8") from None
    try:
        fields = line.split(",") if '"' not in line else next(csv.reader([line], strict=True))
    except csv.Error:
        raise _Malformed("its quotes do not match") from None
    if len(fields) != count:
        raise _Malformed(f"it has {len(fields)} values, and the header {count}")
    return fields


def _post(line: int, fields: list[str], places: Mapping[str, int], kinds: _Kinds) -> Post:
    values = {name: fields[place].strip() for name, place in places.items()}
    for name in ("source", "platform", "order_at", "account"):
        if not values[name]:
            raise _Malformed(f"{name}: it is empty")
        if len(values[name]) > LONGEST_WORD:
            raise _Malformed(f"{name}: it is longer than {LONGEST_WORD} characters")
    platform = CALLED.get(values["platform"].lower())
    if platform is None:
        raise _Malformed(f"platform: {_shown(values['platform'])} is none of {', '.join(PLATFORMS)}")
    # Others' data sets have categories of their own, and the models ask only which posts have the same.
    category = values.get("category", "").lower() or None
    if category is not None and len(category) > LONGEST_WORD:
        raise _Malformed(f"category: it is longer than {LONGEST_WORD} characters")
    counts = {name: _count(name, values.get(name, "")) for name in ("views", "likes", "comments", "shares", "saves")}
    order, at, has_hour = _order(values["order_at"])
    features = Features(
        values["account"],
        category,
        hour=at.hour if at is not None and has_hour else None,
        weekday=None if at is None else at.weekday(),
        text_len=_count("text_len", values.get("text_len", "")),
        n_hashtags=_count("n_hashtags", values.get("n_hashtags", "")),
        has_question=_truth("has_question", values.get("has_question", "")),
        original_sound=_truth("original_sound", values.get("original_sound", "")),
        followers=_count("followers", values.get("followers", "")),
        duration_s=_number("duration_s", values.get("duration_s", "")),
    )
    kinds.note("number" if at is None else "time", line)
    definition = _views_of(platform, None if at is None else at.date())
    numbers = Numbers(
        counts["views"] if definition else None,
        counts["likes"],
        counts["comments"],
        counts["shares"],
        definition=definition,
    )
    return Post(line, values["source"], platform, order, features, judge(numbers))


def _views_of(platform: str, on: date | None) -> str:
    """Return the definition of the views of a post of that day; of unknown days it is the newest."""
    if on is not None:
        return definition_of(platform, max(on, ALWAYS))
    return next((each.name for each in reversed(DEFINITIONS) if each.platform == platform), "")


def _order(text: str) -> tuple[float, datetime | None, bool]:
    """Return by what the row is sorted; its time, as it is written; and whether that has an hour."""
    if _NUMBER.fullmatch(text):
        return float(text), None, False
    try:
        at = datetime.fromisoformat(text)
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        return moment.timestamp(), at, len(text) > len("2026-12-01")
    except (ValueError, OverflowError):
        example = "2026-11-28T17:00:00Z"
        raise _Malformed(f"order_at: {_shown(text)} is neither a number nor a time such as {example}") from None


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    number = float(text) if _NUMBER.fullmatch(text) else None
    if number is None:
        raise _Malformed(f"{name}: {_shown(text)} is no number")
    if not 0 <= number <= LARGEST:
        raise _Malformed(f"{name}: {_shown(text)} cannot be; use 0 to {LARGEST:,}")
    return number


def _count(name: str, text: str) -> int | None:
    number = _number(name, text)
    if number is not None and not number.is_integer():
        raise _Malformed(f"{name}: {_shown(text)} is no whole number")
    return None if number is None else int(number)


def _truth(name: str, text: str) -> bool | None:
    try:
        return TRUTHS[text.lower()]
    except KeyError:
        raise _Malformed(f"{name}: {_shown(text)} is neither 1 nor 0") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
