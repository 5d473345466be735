"""The video formats that the offline generator fills. They are content, kept in `formats.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
    titles: tuple[str, ...]
    beats: tuple[Beat, ...]
    captions: tuple[str, ...]
    why: str
    sound: str
    tags: tuple[str, ...]
    native: bool = False
    needs: str | None = None


@cache
def formats() -> tuple[Format, ...]:
    """Read them at the first call: most processes never generate offline."""
    of_categories = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return tuple(_format(category, each) for category, many in of_categories.items() for each in many)


def _format(category: str, table: Mapping[str, Any]) -> Format:
    beats = tuple(Beat(**{"text": None, **beat}) for beat in table["beats"])
    lists = {name: tuple(table[name]) for name in ("titles", "captions", "tags")}
    return Format(category=category, **{**table, **lists, "beats": beats})
