"""Make the text of others safe to show: a terminal prints it and obeys nothing in it.

A payload, a name or an error may hold characters that move the cursor, recolour or rename the window (C0, C1), reorder
the text (bidirectional controls) or are not seen at all (zero-width characters, line and paragraph separators).
Each of them is written as its escape.
"""

import re
from collections.abc import Callable

_UNUSUAL = re.compile(r"[^\x20-\x7e]+")
_SPACES = frozenset("\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000")
"""Spaces of other widths: `str.isprintable` does not know them, and they do nothing but part words."""


def visible(text: str, *, keep: str = "") -> str:
    r"""Return the text with every unseen character as Python writes it (`\x1b`, `\u202e`), but for those in `keep`."""
    return _escaped(text, keep, _as_python)


def visible_json(text: str) -> str:
    r"""Return JSON text with every unseen character in its strings as `\uXXXX`: it still parses to an equal value."""
    return _escaped(text, "\n\t", _as_json)


def is_visible(character: str) -> bool:
    return character.isprintable() or character in _SPACES


def _escaped(text: str, keep: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return _UNUSUAL.sub(
        lambda run: "".join(each if is_visible(each) or each in keep else escape(each) for each in run[0]), text
    )


def _as_python(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
