"""A value of any kind as a person reads it, on one line, and as JSON has it."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from urllib.parse import quote

from domain.text.visible import visible, visible_json

LONGEST_CELL = 60
WITHOUT_END = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def readable(value: object) -> str:
    """One line of visible text."""
    match value:
        case None:
            return "-"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case timedelta():
            return span(value)
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return visible_json(json.dumps(plain(value), ensure_ascii=False))
    return visible(" ".join(re.split(r"[\n\r\t]", str(value))))


def lines(text: str) -> str:
    """Return visible text of several lines."""
    return "\n".join(map(readable, text.split("\n")))


def ago(moment: datetime, now: datetime, *, units: int = 2) -> str:
    """Return how far a moment is from now, in its largest units: `3m 2s ago`, `in 3d`, `just now`; in one unit, for
    narrow columns, `now`."""
    passed = now - moment
    if abs(passed.total_seconds()) < 1:
        return "now" if units == 1 else "just now"
    far = span(abs(passed), units=units)
    return f"{far} ago" if passed.total_seconds() > 0 else f"in {far}"


def span(length: timedelta, *, units: int = 2) -> str:
    """A duration in its largest units, two at most: `3d 4h`, `2h`, `59s`. Less than a second is `0s`."""
    seconds = max(0, int(length.total_seconds()))
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    first = next((n for n, (_, count) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count}{unit}" for unit, count in parts[first : first + units] if count]
    return " ".join(shown) or "0s"


def quoted(text: str) -> str:
    """Return text as one segment of a URL's path. A segment of dots alone means another page to a browser, however it
    is escaped; a `~` behind it is then a page that does not exist."""
    return quote(text, safe="") if text.strip(".") else f"{text}~"


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"


def plain(value: Any) -> Any:
    """The value as JSON has it: what JSON has no form for is text, as Postgres' own `to_json` writes it."""
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return plain(value.value)
        case str():
            return str(value)
        case float() | Decimal():
            number = float(value)
            return number if isfinite(number) else WITHOUT_END[str(number)]
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode(errors="replace")
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case Iterable():
            return [plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return plain(asdict(value))
    return str(value)
