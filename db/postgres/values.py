"""How values pass between Python and Postgres: everything that Python holds can be stored, and everything that Postgres
holds can be loaded.

This is the one border for every value that is written or queried, so no query has to think of U+0000, half a surrogate
pair or NaN (`domain/text/storable.py`). A value that Postgres holds and Python cannot is loaded as the nearest one that
it can, so no row of another program makes the rows beside it unreadable; `viral doctor` names such rows.
"""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Escaping
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.types.string import StrBinaryDumper, StrDumperUnknown

from domain.text.storable import storable_text, to_json

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


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Let the connection store every text and JSON value of Python, and load every time, date and JSON value of
    Postgres."""
    connection.adapters.register_dumper(str, _BinaryText)
    connection.adapters.register_dumper(str, _Text)  # the last one is the usual one
    set_json_dumps(to_json, connection)
    set_json_loads(_json, connection)
    for name, first, last in (("timestamptz", FIRST_MOMENT, LAST_MOMENT), ("date", FIRST_DAY, LAST_DAY)):
        connection.adapters.register_loader(name, _clamped(connection, name, first, last))


def literal(text: str | None, connection: psycopg.Connection[Any]) -> bytes:
    """Write a text as a literal of SQL, for what is sent without parameters."""
    return b"NULL" if text is None else Escaping(connection.pgconn).escape_literal(_encoded(text, "utf-8"))


class _Text(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer:
        return _encoded(obj, self._encoding)


class _BinaryText(StrBinaryDumper):
    def dump(self, obj: str) -> Buffer:
        return _encoded(obj, self._encoding)


def _encoded(text: str, encoding: str) -> bytes:
    """Encode the text; a text that needs no change, as nearly all, is not searched for surrogates."""
    try:
        if "\0" not in text:
            return text.encode(encoding)
    except UnicodeEncodeError:
        pass
    return storable_text(text).encode(encoding, "replace")


def _json(data: str | bytes) -> Any:
    # The guess at the encoding takes as long as all the rest of a small value: it is left out. (orjson would be faster
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
