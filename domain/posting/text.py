"""Texts of posts: counted as each platform counts, put together as people will read them, and never cut in silence."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import regex

AI_WORDS = "Made with AI."
"""Stands in the text where a platform has no label for it."""
SAYS_AI = ("bluesky", "mastodon")
"""The platforms without a label for what was made by a program."""

URL_COUNTS = 23
"""Characters that Mastodon counts for an address, however long it is."""

_GRAPHEME = regex.compile(r"\X")
_URL = re.compile(r"https?://[^\s<>\"\u0022\u201c\u201d\u3000-\u303f\uff00-\uffef]+", re.IGNORECASE)
_HOST = re.compile(r"https?://(?:[^/?#@]*@)?(?:[\w-]+\.)+[^\W\d_]{2,}(?::\d+)?(?=[/?#]|$)", re.IGNORECASE)
_TRAILING = ".,;:!?'\"…»”’)]}"
_OPENED = {")": "(", "]": "[", "}": "{"}
_MENTION = re.compile(r"(?<![\w@/])@([a-z0-9_]+(?:[a-z0-9_.-]*[a-z0-9_])?)@((?:[\w-]+\.)+[^\W\d_]{2,})", re.IGNORECASE)
_NAMED = re.compile(r"(?<![\w@/.])@[\w][\w.-]*", re.IGNORECASE)
_TAG = re.compile(r"(?<![\w#＃&/])[#＃](\w[\w\u200c\u200d]*)")
_WORD = re.compile(r"\w+(?:[\u200c\u200d]\w+)*")
_HALF = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


class Unit(StrEnum):
    """What a platform counts."""

    CHARACTERS = "characters"
    UTF16 = "UTF-16 units"
    BYTES = "bytes"
    GRAPHEMES = "signs"
    MASTODON = "characters as Mastodon counts"


def count(text: str, unit: Unit) -> int:
    """Return how long the text is. A half of a surrogate pair counts as what it would take."""
    match unit:
        case Unit.CHARACTERS:
            return len(text)
        case Unit.UTF16:
            return len(text.encode("utf-16-le", "surrogatepass")) // 2
        case Unit.BYTES:
            return len(text.encode("utf-8", "surrogatepass"))
        case Unit.GRAPHEMES:
            return len(_GRAPHEME.findall(text))
        case Unit.MASTODON:
            return len(_GRAPHEME.findall(_countable(text)))


def compose(platform: str, caption: str, hashtags: Sequence[str], ai: bool = True) -> str:
    """Return what people read: the caption, the hashtags that it does not have yet, and in words that a program made
    it, where the platform has no label for that."""
    text = caption.strip()
    there = {key_of(tag) for tag in hashtags_in(text)}
    missing = [tag for tag in normalise(hashtags) if key_of(tag) not in there]
    parts = [text, " ".join(f"#{tag}" for tag in missing)]
    if ai and platform in SAYS_AI and AI_WORDS.casefold() not in text.casefold():
        parts.append(AI_WORDS)
    return "\n\n".join(part for part in parts if part)


def normalise(hashtags: Iterable[str]) -> tuple[str, ...]:
    """Return the hashtags without their sign and each once, as it was first written. Nothing else is changed: what is
    no hashtag stays as it is, for a person to see."""
    found: dict[str, str] = {}
    for written in hashtags:
        tag = unicodedata.normalize("NFC", written.strip()).lstrip("#＃").strip()
        if tag:
            found.setdefault(key_of(tag), tag)
    return tuple(found.values())


def key_of(hashtag: str) -> str:
    """Return what equal hashtags share: a platform does not tell large letters from small ones."""
    return unicodedata.normalize("NFKC", hashtag).casefold()


def is_hashtag(tag: str) -> bool:
    """Whether all of it becomes one hashtag: letters, digits and underscores, and not digits alone."""
    word = _with_marks_joined(tag)
    return _WORD.fullmatch(word) is not None and not word.replace("_", "").isdigit() and word.strip("_") != ""


def hashtags_in(text: str) -> list[str]:
    """Return the hashtags that stand in a text, as they are written."""
    return [tag for _, _, tag in _tags(text)]


def mentions_in(text: str) -> list[str]:
    """Return what a platform may take for the names of accounts."""
    return [found[0] for found in _NAMED.finditer(text)]


def unseen_in(text: str) -> str | None:
    """Return what a text must not have, in words: halves of characters, and controls."""
    if _HALF.search(text):
        return "half of a character (a lone surrogate), as a text has that was cut in the middle of an emoji"
    found = _UNSEEN.search(text)
    return f"the control character U+{ord(found[0]):04X}" if found else None


@dataclass(frozen=True, slots=True)
class Facet:
    """A part of a Bluesky text that is more than text, by its place in the UTF-8 bytes. `kind` is `link` or `tag`."""

    start: int
    end: int
    kind: str
    value: str


def facets(text: str) -> tuple[Facet, ...]:
    """Return the links and hashtags of the text, in their order. Names of accounts are none: they would have to be
    looked up."""
    spans = [(start, end, "link", text[start:end]) for start, end in _urls(text)]
    taken = [(start, end) for start, end, _, _ in spans]
    for start, end, tag in _tags(text):
        if not any(start < other_end and other_start < end for other_start, other_end in taken):
            spans.append((start, end, "tag", tag))
    return tuple(
        Facet(count(text[:start], Unit.BYTES), count(text[:end], Unit.BYTES), kind, value)
        for start, end, kind, value in sorted(spans)
    )


def _countable(text: str) -> str:
    """Return the text with what Mastodon counts differently replaced by as many characters as it counts."""
    pieces, reached = [], 0
    for start, end in _urls(text):
        pieces += [_local_names(text[reached:start]), "x" * URL_COUNTS]
        reached = end
    return "".join([*pieces, _local_names(text[reached:])])


def _local_names(text: str) -> str:
    return _MENTION.sub(lambda found: f"@{found[1]}", text)


def _urls(text: str) -> Iterator[tuple[int, int]]:
    """Yield where addresses stand: with http, a name that has an end (`.org`), and not the sentence's punctuation."""
    for found in _URL.finditer(text):
        url = found[0]
        while url[-1] in _TRAILING:
            opened = _OPENED.get(url[-1])
            if opened is not None and url.count(opened) >= url.count(url[-1]):
                break
            url = url[:-1]
        if _HOST.match(url):
            yield found.start(), found.start() + len(url)


def _tags(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _TAG.finditer(_with_marks_joined(text)):
        tag = text[found.start(1) : found.end(1)]
        if is_hashtag(tag):
            yield found.start(), found.end(), tag


def _with_marks_joined(text: str) -> str:
    """Return the text, as long as it is, with a letter for each mark that belongs to the letter before it: Python's
    `\\w` has no marks, of which Hindi's and Thai's vowels are made."""
    if text.isascii():
        return text
    return "".join("x" if unicodedata.category(each).startswith("M") and each != "\ufe0f" else each for each in text)
