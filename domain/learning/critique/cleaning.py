"""What a critic answers is data: it is cleaned and bounded before it is kept, and lessons more strictly than the rest,
since they go into questions to models.

A sentence is dropped that has an address, a handle, markup, or a figure that is not in the evidence, or that speaks to
a model. A lesson that loses a sentence is dropped whole.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from domain.concepts.wording import clean, figures, shorten
from domain.learning.critique.critiques import (
    LENGTHS,
    MOST_LESSONS,
    MOST_POINTS,
    CritiqueRequest,
    CritiqueResponse,
    Lesson,
)
from domain.learning.critique.summary import data
from domain.text.storable import storable_text

LONGEST = 20_000
"""Characters of a text that are read at all."""

_ADDRESS = re.compile(r"://|\bwww\.|\b(?:mailto|javascript|data):|@|\b[\w-]+\.[a-z]{2,}\b", re.IGNORECASE)
_MARKUP = re.compile(r"[<>{}\[\]`|\\]|\*\*|##|!\[|&#?\w+;")
_TO_A_MODEL = re.compile(
    r"\b(?:ignor|disregard|forget|overrid|bypass|disobey)\w*|\binstruct\w*|\bprompts?\b|\bjailbreak\w*"
    r"|\b(?:developer|debug|god|admin) mode\b|\b(?:assistant|system|user|human)\s*:|\bsystem message\b"
    r"|\byou are (?:now |an? |the )|\b(?:act|behave|respond|answer|reply) (?:as|only|with)\b|\bpretend\b|\bas an ai\b"
    r"|\b(?:language|ai) models?\b|\b(?:output|print|repeat|reveal) (?:only|the|your|all|everything)\b|\bnew rules?\b",
    re.IGNORECASE,
)
_SHARE = re.compile(r"\d\s*%|\bper ?cent\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+")


def cleaned(response: CritiqueResponse, request: CritiqueRequest) -> CritiqueResponse:
    """Return the answer as it may be kept; without a critique if nothing of that is left."""
    sourced = figures(json.dumps(data(request), ensure_ascii=False))
    reasons = [_text(each, sourced, "point") for each in response.reasons[: 2 * MOST_POINTS]]
    issues = [_text(each, sourced, "point") for each in response.scoring_issues[: 2 * MOST_POINTS]]
    lessons = () if request.single else tuple(_lessons(response.lessons, sourced, request.formats))
    return replace(
        response,
        critique=_text(response.critique, sourced, "critique"),
        reasons=tuple(each for each in reasons if each)[:MOST_POINTS],
        scoring_issues=tuple(each for each in issues if each)[:MOST_POINTS],
        adjustment_plan=_text(response.adjustment_plan, sourced, "adjustment_plan"),
        lessons=lessons[:MOST_LESSONS],
    )


def _lessons(lessons: Sequence[Lesson], sourced: set[str], formats: Sequence[str]) -> Iterable[Lesson]:
    patterns = set()
    for each in lessons[: 2 * MOST_LESSONS]:
        pattern, advice = _whole(each.pattern, sourced, "pattern"), _whole(each.advice, sourced, "advice")
        if pattern and advice and pattern not in patterns:
            patterns.add(pattern)
            both = set(each.prefer) & set(each.avoid)
            yield Lesson(
                pattern,
                advice,
                tuple(name for name in formats if name in each.prefer and name not in both),
                tuple(name for name in formats if name in each.avoid and name not in both),
            )


def _text(text: str, sourced: set[str], kind: str) -> str:
    return shorten(" ".join(each for each in _sentences(text) if not _is_foreign(each, sourced)), LENGTHS[kind])


def _whole(text: str, sourced: set[str], kind: str) -> str:
    """Return a text of which nothing has to be dropped or cut off; "" for any other."""
    sentences = _sentences(text)
    if any(_is_foreign(each, sourced) for each in sentences):
        return ""
    whole = " ".join(sentences)
    return whole if len(whole) <= LENGTHS[kind] else ""


def _sentences(text: str) -> list[str]:
    # Letters of other shapes (full-width, mathematical) are read as what they look like, and words as they look without
    # the characters in them that nobody sees.
    plain = unicodedata.normalize("NFKC", html.unescape(storable_text(text[:LONGEST])))
    visible = clean("".join(each for each in plain if unicodedata.category(each) != "Cf"))
    visible = "".join(each for each in visible if unicodedata.category(each)[0] != "C")
    return [each for each in _SENTENCE.split(visible) if each]


def _is_foreign(sentence: str, sourced: set[str]) -> bool:
    return bool(
        _ADDRESS.search(sentence)
        or _MARKUP.search(sentence)
        or _TO_A_MODEL.search(sentence)
        or _SHARE.search(sentence)
        or figures(sentence) - sourced
    )
