"""Make text and JSON storable in PostgreSQL. Unstorable parts are replaced and not refused: an error would come after
the effect that the text reports, and a retry would cause the effect again.

U+0000 and halves of surrogate pairs become U+FFFD; numbers that are not finite, or too long for Python to read back,
become null. `db/postgres/values.py` puts every text and every JSON value through here on its way to Postgres.
"""

import json
import math
import re
from typing import Any

from domain.errors import Rejected

REPLACEMENT = "\ufffd"

DEEPEST = 200
"""Levels of lists and objects: Python's own decoder reads a few hundred, depending on how deep its caller stands."""

MOST_DIGITS = 4300
"""Digits of a whole number: more are refused by Python's own conversions from and to text."""

_encode = json.JSONEncoder(allow_nan=False).encode
_TOO_LONG = 10**MOST_DIGITS
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_UNSTORABLE_ESCAPE = re.compile(r"\\u(?:0000|d[89a-f])")
_SURROGATE = re.compile("[\ud800-\udfff]")

Replaced = set[str]
"""Descriptions of replacements."""


class Unstorable(Rejected):
    """A JSON value is nested too deeply to be stored and read back."""


def is_storable(text: str) -> bool:
    return not _UNSTORABLE.search(text)


def storable_text(text: str) -> str:
    """Replace characters that Postgres cannot hold; two halves of a pair, side by side, become their character."""
    if is_storable(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", REPLACEMENT)


def storable(value: Any, *, deepest: int = DEEPEST) -> tuple[Any, Replaced]:
    """Return the JSON value as `jsonb` can hold it, and the replacements. A value that needs none is not copied.

    Raises:
        Unstorable: it has more than `deepest` levels.
    """
    replaced: Replaced = set()
    whole = [value]
    # By hand and not by recursion: Python would give up in the middle of what its decoder has read.
    unread: list[tuple[Any, int]] = [(whole, 0)]
    while unread:
        parts, level = unread.pop()
        if isinstance(parts, dict) and not all(isinstance(key, str) and is_storable(key) for key in parts):
            storable_keys = {_storable_scalar(key, replaced): each for key, each in parts.items()}
            parts.clear()
            parts.update(storable_keys)
        for key, each in parts.items() if isinstance(parts, dict) else enumerate(parts):
            if not isinstance(each, dict | list | tuple):
                parts[key] = _storable_scalar(each, replaced)
            elif level == deepest:
                raise Unstorable(f"nested more than {deepest} levels deep")
            else:
                parts[key] = copy = dict(each) if isinstance(each, dict) else list(each)
                unread.append((copy, level + 1))
    return (whole[0] if replaced else value), replaced


def to_json(value: Any) -> str:
    """Write the value as JSON text, in ASCII, that `jsonb` accepts and that reads back as `storable` has it.

    Raises:
        Unstorable: it has more than `DEEPEST` levels.
        TypeError: something in it has no form in JSON.
    """
    try:
        text = _encode(value)
    except (ValueError, RecursionError):
        pass
    else:
        # These checks are cheap; nearly no value needs more.
        shallow = text.count("[") + text.count("{") <= DEEPEST
        if shallow and not ("\\u" in text and _UNSTORABLE_ESCAPE.search(text)):
            return text
    return _encode(storable(value)[0])


def _storable_scalar(value: Any, replaced: Replaced) -> Any:
    match value:
        case str() if not is_storable(value):
            replaced.update(_replaced_in(value))
            return storable_text(value)
        case float() if not math.isfinite(value):
            replaced.add("a number that is not finite replaced by null")
            return None
        case int() if not -_TOO_LONG < value < _TOO_LONG:
            replaced.add(f"a number of more than {MOST_DIGITS:,} digits replaced by null")
            return None
    return value


def _replaced_in(text: str) -> Replaced:
    signs = {"a NUL character": "\0" in text, "half a surrogate pair": bool(_SURROGATE.search(text))}
    return {f"{sign} replaced by U+FFFD" for sign, found in signs.items() if found}
