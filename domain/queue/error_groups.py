"""Failures of one cause under one name: an error's class and text without what differs from case to case.

    ProviderUnavailable: "no answer from 10.0.0.7:443 after 31.2 s (request 7f3a…)"
    →  ProviderUnavailable: no answer from … after … s (request …)

What is left out: ids, numbers, quoted values, addresses (web, mail, network, memory), paths, times. Only the first
`LOOKED_AT` characters count, so a text of a megabyte costs what a short one does.
"""

import re
from hashlib import blake2b
from typing import Final

LOOKED_AT: Final = 600
"""Characters of a text that are looked at."""

LONGEST_TITLE: Final = 200
LONGEST_CLASS: Final = 60

GAP: Final = "…"
"""Stands for what differs."""

# Each alternative begins with another character or is bounded, and none repeats a repetition: the time is linear.
_DIFFERS: Final = re.compile(
    r"""
    "[^"\n]{0,300}" | '[^'\n]{0,300}'(?![a-z]) | `[^`\n]{0,300}` | “[^”\n]{0,300}” | «[^»\n]{0,300}»
  | \b[a-z][a-z0-9+.-]{1,15}://[^\s<>"'`)\]]{1,400}
  | [\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}
  | \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b
  | \b0x[0-9a-f]+\b
  | (?<![\w/])(?:/[\w.@%+~-]{1,100}){2,20}
  | \b[a-z]{2,10}_(?=[a-z]{0,20}[0-9])[a-z0-9]{6,64}\b
  | \b(?=[a-z]{0,20}[0-9])(?=[0-9]{0,20}[a-z])[a-z0-9_-]{8,128}\b
  | [+-]?[0-9][0-9a-z.,:/_+%-]*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SPACE: Final = re.compile(r"\s+")
_GAPS: Final = re.compile(rf"{GAP}(?:[\s,;:.|/()\[\]-]{{0,4}}{GAP})+")
_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")


def normalised(message: str) -> str:
    """Return an error's text without what differs from case to case."""
    text = _SPACE.sub(" ", message[:LOOKED_AT]).strip()
    return _GAPS.sub(GAP, _DIFFERS.sub(GAP, text))


def title(error_class: str | None, message: str | None) -> str:
    """Return what a group is called."""
    name = _class(error_class)
    text = normalised(message or "").removeprefix(f"{name}: ")
    whole = f"{name}: {text}" if text and text != name else name
    return whole if len(whole) <= LONGEST_TITLE else f"{whole[: LONGEST_TITLE - 1]}{GAP}"


def error_group(error_class: str | None, message: str | None) -> str:
    """Return the name of the group, of letters, digits, `_` and `-`: the class and a hash of the title's text."""
    name = _class(error_class)
    digest = blake2b(f"{name}\n{normalised(message or '')}".encode(errors="replace"), digest_size=5).hexdigest()
    return f"{name}-{digest}"


def _class(error_class: str | None) -> str:
    return _NAME.sub("_", (error_class or "Unknown")[:LONGEST_CLASS])
