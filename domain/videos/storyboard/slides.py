"""The slides of a script: what each says, when, and in which hierarchy."""

import re
from dataclasses import dataclass
from enum import StrEnum

from domain.videos.script import Script, ScriptSegment
from domain.videos.storyboard.lines import shortened

ASKING = 2.2
"""Seconds of the last slide, where the script itself ends without a question."""
MOST_ITEMS = 5
MOST_HEADER = 44
_QUOTED = re.compile(r"([“„«「].+[”“»」])\s*\((.+)\)\.?")
_QUESTIONS = (
    (re.compile("[\u3040-\u30ff]"), "あなたはどう思う？"),
    (re.compile("[\uac00-\ud7a3]"), "여러분의 생각은?"),
    (re.compile("[\u4e00-\u9fff]"), "你怎么看？"),
    (re.compile("[іїєґІЇЄҐ]"), "А що думаєте ви?"),
    (re.compile("[\u0400-\u04ff]"), "А что думаете вы?"),
)


class Kind(StrEnum):
    HOOK = "hook"
    STATEMENT = "statement"
    LIST = "list"
    QUOTE = "quote"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Slide:
    """What is shown from `start` to `end`, in seconds from the start of the video. `segment` counts from 0."""

    kind: Kind
    segment: int
    start: float
    end: float
    text: str
    note: str = ""
    header: str = ""
    items: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.end - self.start


def slides_of(script: Script) -> tuple[Slide, ...]:
    """Return the slides, without a gap from 0 to the script's end. The last one asks the viewer something."""
    slides = [_slide(script, number, segment) for number, segment in enumerate(script.segments)]
    last = slides[-1]
    if last.kind is not Kind.ASK:
        asking = min(ASKING, last.seconds * 0.45)
        end = last.end - asking
        slides[-1:] = [
            Slide(last.kind, last.segment, last.start, end, last.text, last.note, last.header, last.items),
            Slide(Kind.ASK, last.segment, end, last.end, question_for(script), header=last.header),
        ]
    return tuple(slides)


def question_for(script: Script) -> str:
    """Return a question that fits any topic, in a language that is written as the title is; else in English."""
    written = script.title + " ".join(segment.shown for segment in script.segments)
    return next((question for letters, question in _QUESTIONS if letters.search(written)), "What do you think?")


def _slide(script: Script, number: int, segment: ScriptSegment) -> Slide:
    last = number == len(script.segments) - 1
    shown = segment.shown
    if number == 0:
        note = "" if _same(shown, script.title) else shown
        return Slide(Kind.HOOK, number, segment.start, segment.end, script.title or shown, note if script.title else "")
    topic = _begun(script.topic) or script.title
    header = shortened(topic, MOST_HEADER)
    if _same(shown, script.topic):
        header = ""
    if last and re.search("[?？]", shown):
        return Slide(Kind.ASK, number, segment.start, segment.end, shown, header=header)
    if items := _items(shown):
        return Slide(Kind.LIST, number, segment.start, segment.end, shown, header=header, items=items)
    if quoted := _QUOTED.fullmatch(shown):
        return Slide(Kind.QUOTE, number, segment.start, segment.end, quoted[1], quoted[2], header)
    if not shown:
        return Slide(Kind.STATEMENT, number, segment.start, segment.end, topic)
    return Slide(Kind.STATEMENT, number, segment.start, segment.end, shown, header=header)


def _begun(topic: str) -> str:
    """Return the topic with a capital, unless its first word has its own, as iPhone has."""
    first = topic.partition(" ")[0]
    return topic if first != first.lower() else topic[:1].upper() + topic[1:]


def _items(shown: str) -> tuple[str, ...]:
    """Return the items of a text such as "For · Against"; none if it is no list."""
    items = [item.strip() for item in shown.split(" · ") if item.strip()]
    letters = [len(re.findall(r"\w", item)) for item in items]
    if not 2 <= len(items) <= MOST_ITEMS or letters[0] < 2 or max(letters) < 3:
        numbered = all(item.startswith(f"{n} ") for n, item in enumerate(items, 1))
        if not numbered or not 2 <= len(items) <= MOST_ITEMS:
            return ()
    return tuple(item.removeprefix(f"{n} ").strip() or item for n, item in enumerate(items, 1))


def _same(one: str, other: str) -> bool:
    """Whether one says nothing that the other does not say."""
    plain = [re.sub(r"[\W_]+", " ", text).strip().casefold() for text in (one, other)]
    return plain[0] in plain[1]
