"""Texts are compared by their words, and checked for what none of ours may claim."""

import html
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

SAME = 0.6
"""Two texts that share this part of their words (Jaccard index) say the same."""

_STOP_WORDS = """
a about after all an and are as at be been but by can did do does for from had has have he her his how i if in
into is it its just me my new no not now of on or our out over she so than that the their them they this to up
us vs was we were what when where which who why will with you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

BANNED = (
    ("a cure or a miracle", r"miracles?|cure[sd]?|cures? (?:for )?cancer|detox"),
    (
        "a secret that is kept from people",
        r"they (?:do ?n[o']t|never) want you to know|hid(?:e|ing|den) (?:this )?from you",
    ),
    ("a leak", r"leaked|just leaked|insider leak"),
    ("what professionals are said to hate", r"(?:doctors|experts|scientists|banks|lawyers) hate"),
    ("a guarantee", r"guaranteed?|risk[- ]free|100 ?% (?:safe|sure|certain|effective)|never fails"),
    ("easy money", r"get rich|passive income|easy money|make \$ ?\d[\d,.]*|double your money|financial freedom"),
    ("quick changes of a body", r"(?:lose|drop) \d+ ?(?:kg|kilos?|pounds|lbs)|melts? (?:away )?fat"),
    (
        "a study that nobody named",
        r"(?:a )?new study (?:shows|proves|reveals)|studies (?:show|prove)|scientifically proven",
    ),
    ("the end of all disbelief", r"you wo ?n[o']?t believe|will shock you|what happened next"),
)
"""What is not claimed, with the words that would: (why, pattern). Quoted facts of a trend are not held to it."""

_CLAIMS = tuple((why, re.compile(rf"\b(?:{pattern})", re.IGNORECASE)) for why, pattern in BANNED)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_FIGURE = re.compile(r"\d[\d,.]*\d|\d")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+")


def clean(text: str) -> str:
    """Return one line of plain text: entities decoded, control and direction characters and repeated blanks removed."""
    return " ".join(_CONTROL.sub(" ", html.unescape(text)).split())


def counted(count: int, noun: str) -> str:
    """Return the count and what it counts: "1 concept", "2 concepts", "1,200 concepts"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters, ended at a word, with an ellipsis if something is missing."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    whole = cut.rsplit(" ", 1)[0] if " " in cut else cut
    return whole.rstrip(" ,;:-–—") + "…"


@lru_cache(maxsize=1 << 14)  # a draft is held against thousands of texts, again and again the same
def words(text: str) -> frozenset[str]:
    """Return the words that a text is about: lower case, without accents, plurals and stop words."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    found = (_singular(word.replace("’", "'").removesuffix("'s")) for word in _WORD.findall(plain))
    return frozenset(word for word in found if word not in STOP_WORDS)


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the part of their words that two texts share, from 0 to 1 (Jaccard index)."""
    return len(a & b) / len(a | b) if a or b else 0.0


def same_subject(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two topics are one: mostly the same words, or two or more words of the one all within the other."""
    if not a or not b:
        return False
    smaller = min(a, b, key=len)
    return likeness(a, b) >= SAME or (len(smaller) >= 2 and smaller <= a and smaller <= b)


def claims(text: str) -> list[str]:
    """Return the kinds of banned claims that the text makes."""
    return [why for why, pattern in _CLAIMS if pattern.search(text)]


def figures(text: str) -> set[str]:
    """Return the figures in a text, without thousands separators: 1,200 and 1200 are one."""
    return {found.replace(",", "").rstrip(".") for found in _FIGURE.findall(text)}


def invented(text: str, facts: Iterable[str], *, allowed: int = 10) -> set[str]:
    """Return the figures that no fact has. Small whole numbers ("three cards", "10 seconds") are nobody's claim."""
    sourced = set().union(*(figures(fact) for fact in facts)) if facts else set()
    return {one for one in figures(text) if one not in sourced and not (one.isdigit() and int(one) <= allowed)}


def _singular(word: str) -> str:
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
