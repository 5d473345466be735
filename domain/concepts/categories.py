"""The twelve categories. They are content, kept in `categories.toml`, which is read when it is first needed."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Category:
    """`categories.toml` says what each field means."""

    marks: tuple[int, int, int]
    weights: tuple[float, float]
    keywords: re.Pattern[str]
    evergreen: tuple[str, ...]


@cache
def categories() -> Mapping[str, Category]:
    """Return the categories by name."""
    return {
        name: Category(
            tuple(table["marks"]),
            tuple(table["weights"]),
            _whole_words(table["keywords"], "s?"),
            tuple(table["evergreen"]),
        )
        for name, table in _content()["categories"].items()
    }


@cache
def sensitive() -> re.Pattern[str]:
    """Return the words of death, violence and disaster, of which no concept is made."""
    return _whole_words(_content()["sensitive"])


def _whole_words(patterns: Iterable[str], ending: str = "") -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)}){ending}\b")


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
