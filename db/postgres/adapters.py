"""How Python's texts and JSON values become Postgres's: whatever they hold, they can be stored
(`domain/text/storable.py`).

The one border for everything that is written or asked: no query has to think of U+0000, half a surrogate pair or NaN.
"""

from typing import Any

import psycopg
from psycopg.adapt import Buffer
from psycopg.types.json import set_json_dumps
from psycopg.types.string import StrBinaryDumper, StrDumperUnknown

from domain.text.storable import storable_text, to_json


class _Text(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer:
        return _encoded(obj, self._encoding)


class _BinaryText(StrBinaryDumper):
    def dump(self, obj: str) -> Buffer:
        return _encoded(obj, self._encoding)


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Have the connection write texts and JSON in a form that Postgres takes."""
    connection.adapters.register_dumper(str, _BinaryText)
    connection.adapters.register_dumper(str, _Text)  # the last one is the usual one
    set_json_dumps(to_json, connection)


def _encoded(text: str, encoding: str) -> bytes:
    """Encode the text; a text that needs no change, as nearly all, is not searched for surrogates."""
    try:
        if "\0" not in text:
            return text.encode(encoding)
    except UnicodeEncodeError:
        pass
    return storable_text(text).encode(encoding, "replace")
