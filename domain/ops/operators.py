"""Operators: their tokens and roles, their sessions on `/ops`, and where a sign-in may lead."""

import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final
from urllib.parse import unquote
from uuid import UUID
from zlib import crc32

from domain.errors import OperatorTokenInvalid

TOKEN_START: Final = "viralops_"  # noqa: S105 - what all tokens begin with
TOKEN_BYTES: Final = 32
"""256 bits of randomness, as of API keys (`domain/identity/access.py`): nobody guesses them, a fast hash will do."""

TOKEN = re.compile(rf"{TOKEN_START}[0-9a-f]{{{2 * TOKEN_BYTES}}}[0-9a-f]{{8}}")
LONGEST_TOKEN = 512
"""Characters; whatever is longer is neither a token of ours nor anybody's OPS_TOKEN."""

NAME = re.compile("[a-z0-9][a-z0-9.@+-]{0,63}")
RESERVED: Final = frozenset({"loopback"})
"""The name under which whoever needs no token is shown; OPS_TOKEN cannot be a name."""

SESSION_BYTES: Final = 32
SESSION_LIFE: Final = timedelta(hours=12)
SESSION_IDLE: Final = timedelta(hours=2)
"""A session that nobody used for so long is over."""

HOME: Final = "/ops"
LONGEST_PLACE = 2000
PLACE = re.compile(r"/ops(?:/[A-Za-z0-9._~%@:+,=!$'()*&;-]+)*/?(?:\?[A-Za-z0-9._~%@:+,=!$'()*&;/?-]*)?")
NOT_A_PAGE = re.compile(r"/ops/(?:login|logout|static)(?:[/?].*)?")


class OperatorRole(StrEnum):
    """What an operator may do; whoever may act may look."""

    LOOK = "look"
    ACT = "act"

    def includes(self, other: "OperatorRole") -> bool:
        return self is OperatorRole.ACT or other is OperatorRole.LOOK


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at the only moment when its text is known: all but that is stored."""

    text: str
    hash: bytes
    name: str
    role: OperatorRole


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever is admitted to `/ops`. Without a `token_id` it is the holder of OPS_TOKEN, or a program on this machine
    while no token is needed."""

    name: str
    role: OperatorRole
    token_id: UUID | None = None


BY_SETTING: Final = Operator("OPS_TOKEN", OperatorRole.ACT)
ON_LOOPBACK: Final = Operator("loopback", OperatorRole.LOOK)
"""It only looks: every user and every program of the machine can be it, and what is done has to have a name."""


def new_token(randomness: bytes, *, name: str, role: str) -> NewToken:
    """`randomness`: `TOKEN_BYTES` from a cryptographic source. The last eight characters are a checksum, by which
    scanners for secrets know a token, and people one that was not copied whole.

    Raises:
        OperatorTokenInvalid: the name or the role cannot be.
    """
    if len(randomness) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} bytes")
    if not NAME.fullmatch(name) or name in RESERVED:
        text = "a token's name is whose it is: 1 to 64 of a-z, 0-9, '.', '@', '+' and '-', beginning with a letter or"
        raise OperatorTokenInvalid(f"{text} a digit ({', '.join(sorted(RESERVED))} is taken)")
    if role not in set(OperatorRole):
        raise OperatorTokenInvalid(f"a token's role is one of {', '.join(OperatorRole)}")
    text = f"{TOKEN_START}{randomness.hex()}"
    text += _checksum(text)
    return NewToken(text, token_hash(text), name, OperatorRole(role))


def token_hash(text: str) -> bytes:
    """Return the hash by which a token is looked up. Any text has one, so that the search for what cannot be a token
    takes as long as for what can."""
    return sha256(text.encode(errors="surrogatepass")).digest()


def is_token(text: str) -> bool:
    """Return whether the text has the form of a named token, its checksum included."""
    return TOKEN.fullmatch(text) is not None and _checksum(text[:-8]) == text[-8:]


def is_same(text: str, secret: str | None) -> bool:
    """Compare with OPS_TOKEN; the time that it takes tells nothing of where they differ, nor whether it is set."""
    wanted = token_hash(secret) if secret else bytes(32)
    return hmac.compare_digest(token_hash(text), wanted) and bool(secret)


def session_hash(session: str, ops_token: str | None = None) -> bytes:
    """Return the hash by which a session is looked up. That of a session begun with OPS_TOKEN depends on it: a new
    OPS_TOKEN ends all sessions of the old one."""
    if ops_token is None:
        return token_hash(session)
    return hmac.digest(ops_token.encode(), session.encode(errors="surrogatepass"), "sha256")


def form_token(session: str) -> str:
    """Return the proof that a form was made for this session; only its holder and we can."""
    return hmac.digest(session.encode(errors="surrogatepass"), b"form", "sha256").hex()


def is_form_of(session: str, sent: str) -> bool:
    return hmac.compare_digest(form_token(session).encode(), sent.encode(errors="surrogatepass"))


def place_after(wanted: str | None) -> str:
    """Return the page to show after a sign-in: the one that was asked for if it is below `/ops`, else the first.

    Only what is surely a path of our own passes: browsers read `//host`, `/\\host`, control characters and dots in
    many ways, encoded ones too.
    """
    if wanted is None or len(wanted) > LONGEST_PLACE or not PLACE.fullmatch(wanted) or NOT_A_PAGE.fullmatch(wanted):
        return HOME
    path = wanted.partition("?")[0]
    for _ in range(3):
        path = unquote(path, errors="replace")
    if not path.isprintable() or "\\" in path or "//" in path or {".", ".."} & set(path.split("/")):
        return HOME
    return wanted


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
