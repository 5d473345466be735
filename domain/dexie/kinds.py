"""The kinds of fields in the old app's records: each reads anything, notes what it had to change, and writes back."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

LONGEST_WORD = 200
"""How many characters an indexed text has at most: an entry of a btree holds 2,704 bytes."""

LARGEST_RECORD = 4 * 1024 * 1024
"""How many characters a record has at most, as JSON. The old app's have a thousandth of it; in memory, one may take a
hundred times its text."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a date that cannot be read: it sorts last, and is plainly no date of the old app's."""


class Unfit(Exception):
    """The record cannot become a row; the text says why."""


Reading = tuple[Any, str | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` gets None for a field that is absent. `optional` says that absent is as good as null."""

    read: Callable[[Any], Reading]
    write: Callable[[Any], Any] = lambda value: value
    optional: bool = False


def _time(value: Any) -> Reading:
    note = None
    match value:
        case None:
            return LONG_AGO, f"no date; {_moment(LONG_AGO)} in its place"
        case bool():
            moment = None
        case int() | float():
            moment, note = _since_epoch(value), "a number, read as milliseconds since 1970"
        case str():
            moment = _parsed(value)
            if moment is not None and moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
                note = None if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else "no time zone; read as UTC"
        case _:
            moment = None
    try:
        if moment is not None:
            return moment.astimezone(UTC), note
    except OverflowError:
        pass
    return LONG_AGO, f"{shown(value)} is no date; {_moment(LONG_AGO)} in its place"


def _time_if_any(value: Any) -> Reading:
    """Return None for a value that JavaScript takes for false: the old app asked `!appliedAt`."""
    return _time(value) if value else (None, None if value is None else f"{shown(value)} read as no date")


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _since_epoch(ms: float) -> datetime | None:
    try:
        return LONG_AGO + timedelta(milliseconds=ms)
    except (OverflowError, ValueError):
        return None


def _moment(value: datetime | None) -> str | None:
    """Return the text of JavaScript's toISOString; with microseconds where there are any."""
    if value is None:
        return None
    text = value.astimezone(UTC).isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")
    return text.replace("+00:00", "Z")


def _flag(value: Any) -> Reading:
    if isinstance(value, bool):
        return value, None
    meant = value in (1, "1", "true") if isinstance(value, int | float | str) else False
    return meant, f"{shown(value)} read as {'true' if meant else 'false'}"


def _number(value: Any) -> Reading:
    number = finite(value)
    if number is None:
        return None, f"{shown(value)} is no number that fits"
    return number, None if isinstance(value, int | float) and number == value else f"{shown(value)} read as {number:g}"


def _count(value: Any) -> Reading:
    number = finite(value)
    if number is None or not 0 <= number < 2**53:
        return 0, f"{shown(value)} is no count; 0 in its place"
    whole = int(number)
    return whole, None if isinstance(value, int | float) and whole == value else f"{shown(value)} read as {whole}"


def finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain_number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**53 else value


def _text(value: Any) -> Reading:
    if isinstance(value, str):
        return value, None
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text, f"expected a text, found {named(value)}"


def _word(value: Any) -> Reading:
    text, note = _text(value)
    if len(text) <= LONGEST_WORD:
        return text, note
    return text[:LONGEST_WORD], f"cut to {LONGEST_WORD} characters, of {len(text)}"


def _object(value: Any) -> Reading:
    return (value, None) if isinstance(value, dict) else ({}, f"expected an object, found {named(value)}")


def _list(value: Any) -> Reading:
    return (value, None) if isinstance(value, list) else ([], f"expected a list, found {named(value)}")


def _objects(value: Any) -> Reading:
    listed, note = _list(value)
    fit = [each for each in listed if isinstance(each, dict)]
    if len(fit) == len(listed):
        return listed, note
    return fit, f"{len(listed) - len(fit)} of {len(listed)} left out: not objects"


TIME = Kind(_time, _moment)
TIME_IF_ANY = Kind(_time_if_any, _moment, optional=True)
FLAG = Kind(_flag)
NUMBER = Kind(_number, _plain_number)
COUNT = Kind(_count)
TEXT = Kind(_text)
WORD = Kind(_word)
OBJECT = Kind(_object)
LIST = Kind(_list)
OBJECTS = Kind(_objects)


def sayable(value: Any) -> Any:
    """Return the value as JSON.stringify writes it: null for a number that is not finite."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: sayable(each) for key, each in value.items()}
        case list():
            return [sayable(each) for each in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Whether both are equal as JSON: 1 is 1.0, but true is not 1."""
    return one is other or (isinstance(one, bool) == isinstance(other, bool) and bool(one == other))


def named(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
