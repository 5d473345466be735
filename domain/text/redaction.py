"""Redact texts of errors: an error outlives the person whose data provoked it, and is read by more people than may know
a secret.

Errors are kept in `job_attempts` and in logs, where no person can be deleted any more. So a recorded error says
which kind of value was wrong and where, and never the value. Secrets are known by their form (`sk_live_…`, `Bearer …`),
by the name before them (`client_secret=…`), or by their place in an address (`https://user:…@host`).
"""

import re
from collections.abc import Iterable

MASK = "…"
LONGEST = 10_000
"""Characters of an error's text that are searched and kept; a longer one loses its middle."""

LONGEST_LOGGED = 100_000
"""The same of a text that is logged."""

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
_KEY = re.compile(
    r"\b(?:(?:sk|rk|pk|whsec|ops|vk|ghp|gho|xox[a-z]|key)[_-]|AKIA|AIza|ya29\.|EAA|eyJ|viral(?:ops)?_(?=[0-9a-f]{16}))"
    r"(?=[A-Za-z0-9_\-+/=.]{0,200}\d)[A-Za-z0-9_\-+/=.]{16,4000}"
    r"|\b(?:Bearer|Basic) (?=[^\s\"',;]{0,200}\d)[^\s\"',;]{1,4000}"
)
"""Keys of the services that are used here, tokens of sessions, and what stands behind `Bearer`."""
_USER = re.compile(r"(?<=://)[^\s/]{1,255}@")
_NAMED = re.compile(
    r"((?:secret|token|passw(?:or)?d|api[_-]?key|access[_-]?key|private[_-]?key|signature|authorization|cookie|verifier"
    r"|credentials?|x-[a-z-]{1,20}-key)[\"'\\]{0,3}\s?[=:]\s?[\"'\\]{0,3})"
    r"(?=[^\s\"'&;,<>]{0,200}\d)[^\s\"'&;,<>]{12,4000}",
    re.IGNORECASE,
)
"""What has no digit, or is short, is a word about a secret: `token: invalid_grant`."""
_PARAMETER = re.compile(r"([?&](?:key|code|sig|state|auth|[a-z_]{0,20}token)=)[^\s\"'&<>]{6,4000}", re.IGNORECASE)


def holds_secret(text: str) -> bool:
    """Return whether there is something in the text that has the form of a secret."""
    return _KEY.search(text) is not None


def without_secrets(text: str) -> str:
    """Mask secrets, for texts in which nothing else has to be masked: what is logged."""
    text = _USER.sub("", shortened(text, LONGEST_LOGGED))
    for pattern in (_NAMED, _PARAMETER):
        text = pattern.sub(rf"\1{MASK}", text)
    return _KEY.sub(MASK, text)


def without_addresses(text: str) -> str:
    """Mask e-mail addresses and secrets, for texts that were written by us and name nothing else of a person."""
    return _EMAIL.sub(MASK, without_secrets(shortened(text)))


def without_values(text: str) -> str:
    """Mask everything that may be a value: quoted text, addresses of all kinds, telephone numbers, secrets."""
    text = _QUOTED.sub(lambda quoted: f"{quoted[1]}{MASK}{quoted[2] or ''}", without_secrets(shortened(text)))
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
