"""What is kept of settings, so that a change of one can be shown, and no secret can be guessed from what is kept."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

SET: Final = "set"
LONGEST: Final = 200
"""Characters of a value that are kept."""

_SECRET = re.compile(r"secret|token|password|passwd|credential|(^|_)keys?($|_)|dsn|header", re.IGNORECASE)

State = Mapping[str, str]
"""The settings that are set, by name, as they may be shown."""


def shown(name: str, value: Any, *, secret: bool) -> str:
    """Write a setting as it may be kept: of a secret only that it is set, of several how many they are.

    Not a hash either: a password is short enough to be guessed from one, by whoever reads the table. So a secret that
    is replaced by another is no change that is seen.
    """
    if secret or _SECRET.search(name):
        several = isinstance(value, list | tuple) and len(value) > 1
        return f"{len(value)} {SET}" if several else SET
    if isinstance(value, list | tuple | set | frozenset):
        return _bounded(", ".join(_plain(str(each)) for each in value))
    return _bounded(_plain(str(value)))


def differences(before: State, after: State) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return what each setting that differs was, and is; None: not set."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def _plain(text: str) -> str:
    """Leave out of an address who logs in, and what is asked."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return SET
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
