"""Values that Postgres holds and Python cannot: loaded as the nearest ones that it can, so that no row of another
program makes the rows beside it unreadable. `viral doctor` names such rows."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads

DEEPEST = 300
"""Levels of JSON. Python's own decoder, and all that walks what it makes, stops at 1,000 frames or before."""

# A day less than Python's own ends: a moment can still be read on the clock of any time zone.
FIRST_DAY, LAST_DAY = date.min + timedelta(days=1), date.max - timedelta(days=1)
FIRST_MOMENT = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
LAST_MOMENT = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC)


class UnreadableJson(str):
    """The text of a JSON value that Python does not read: an integer of thousands of digits, or hundreds of levels.

    It is a string, so a list shows it as it is; a job with such a payload fails alone.
    """

    __slots__ = ()


def load_leniently(connection: psycopg.Connection[Any]) -> None:
    """Let the connection load every time, date and JSON value that Postgres can hold."""
    set_json_loads(_json, connection)
    for name, first, last in (("timestamptz", FIRST_MOMENT, LAST_MOMENT), ("date", FIRST_DAY, LAST_DAY)):
        connection.adapters.register_loader(name, _clamped(connection, name, first, last))


def _json(data: str | bytes) -> Any:
    # Without the guess at the encoding, which takes as long as all the rest of a small value. (orjson would be faster
    # still, but refuses numbers that Postgres takes.)
    text = data if isinstance(data, str) else str(data, "utf-8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return UnreadableJson(text)
    # Few values have so many brackets at all: the others need not be looked through.
    if text.count("[") + text.count("{") > DEEPEST and _too_deep(value):
        return UnreadableJson(text)
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        children = (child for each in level for child in (each.values() if isinstance(each, dict) else each))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _clamped(connection: psycopg.Connection[Any], name: str, first: date, last: date) -> type[Loader]:
    """A loader that falls back on `first` and `last`; what it wraps is psycopg's own, in C, which cannot be derived."""
    kind = connection.adapters.types[name]
    usual: Any = connection.adapters.get_loader(kind.oid, psycopg.pq.Format.TEXT)

    class ClampedLoader(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._usual = usual(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._usual.load(data)
            except psycopg.DataError:
                text = bytes(data)
                return first if text.startswith(b"-") or text.endswith(b"BC") else last

    return ClampedLoader
