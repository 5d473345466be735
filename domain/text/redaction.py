"""Redact texts of errors: an error outlives the person whose data provoked it.

Errors are kept in `job_attempts` and in logs, where no person can be deleted any more. So a recorded error says
which kind of value was wrong and where, and never the value.
"""

import re
from collections.abc import Iterable

MASK = "…"
LONGEST = 10_000
"""Characters of a text that are searched and kept; a longer one loses its middle."""

# Repetitions are bounded, so that no text takes more than linear time.
_EMAIL = re.compile(r"[^\s@<>\"'(),:;=\[\]{}]{1,64}@[^\s@<>\"'(),:;=\[\]{}]{1,255}")
_URL = re.compile(
    r"\b([a-z][a-z0-9+.-]{0,20}://)(?:[^\s/@]{0,255}@)?([^\s/?#\"'<>()@]*)[/?#][^\s\"'<>()]*", re.IGNORECASE
)
_IP = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,60}|\d{1,6}")
_PHONE = re.compile(r"\+\d[\d ().-]{5,20}\d")
_QUOTED = re.compile(r"(?<!\w)(['\"“])(?:.*(['\"”])|.*)", re.DOTALL)
"""From the first quote to the last one, since a value may hold quotes itself; if there is only one, to the end. Text in
backquotes is code."""


def without_addresses(text: str) -> str:
    """Mask e-mail addresses, for texts that were written by us and name nothing else of a person."""
    return _EMAIL.sub(MASK, shortened(text))


def without_values(text: str) -> str:
    """Mask everything that may be a value: quoted text, addresses of all kinds, telephone numbers."""
    text = _QUOTED.sub(lambda quoted: f"{quoted[1]}{MASK}{quoted[2] or ''}", shortened(text))
    text = _URL.sub(rf"\1\2/{MASK}", text)
    for pattern in (_EMAIL, _IP, _PHONE):
        text = pattern.sub(MASK, text)
    return text


def location(path: Iterable[object]) -> str:
    """Return where in a value something is wrong: names as code has them, and numbers. Other keys may be data."""
    return ".".join(part if _NAME.fullmatch(part) else MASK for part in map(str, path))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return the text, or its beginning and its end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
