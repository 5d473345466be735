"""Video formats: ways to tell a topic in half a minute that one person with a phone can film.

`{topic}` is the trend's topic, `{Topic}` the same with a capital; `{fact}` is what a source says of it. Nothing
here states anything about a topic: facts come from `{fact}` alone, and a beat that shows one has other words too.
"""

from dataclasses import dataclass

LIVE, HEADLINE = "live", "headline"


@dataclass(frozen=True, slots=True)
class Beat:
    """A part of the video, in seconds from its start. `unproven` is on the screen where there is no fact to show."""

    start: int
    end: int
    visual: str
    text: str | None
    camera: str
    unproven: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """`native`: only for topics of its own category; `needs`: only for live ones, or for those with a headline. Titles
    and captions are for the variants A, B, C."""

    name: str
    category: str
    titles: tuple[str, str, str]
    beats: tuple[Beat, ...]
    captions: tuple[str, str]
    why: str
    sound: str
    tags: tuple[str, ...]
    native: bool = False
    needs: str | None = None
