"""Who may do what through the API: signed-in people by their role, programs by the scopes of their key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from uuid import UUID

from domain.errors import KeyInvalid, NotAuthenticated
from domain.identity import Role


class ApiScope(StrEnum):
    """One right, as API keys carry it: what it is about, and what may be done to it."""

    ACCOUNT_READ = "account:read"
    BILLING_WRITE = "billing:write"
    KEYS_WRITE = "keys:write"
    GENERATIONS_READ = "generations:read"
    GENERATIONS_WRITE = "generations:write"


SCOPES: Mapping[ApiScope, str] = MappingProxyType(
    {
        ApiScope.ACCOUNT_READ: "see the tenant, its plan and what is left of its quota",
        ApiScope.BILLING_WRITE: "start a checkout, open the billing portal",
        ApiScope.KEYS_WRITE: "list, make and revoke API keys",
        ApiScope.GENERATIONS_READ: "see generations, their jobs and analytics",
        ApiScope.GENERATIONS_WRITE: "generate concepts, keep, delete and rate them",
    }
)
ADMINS_ONLY = frozenset({ApiScope.BILLING_WRITE, ApiScope.KEYS_WRITE})

KEY_START = "viral_"
KEY_BYTES = 32
"""256 bits of randomness: nobody guesses them, so a fast hash keeps them as safe as a slow one would."""

SHOWN = len(KEY_START) + 8
"""Characters of a key that are kept readable, so that people can tell their keys apart; 224 bits stay secret."""

MAX_KEYS = 100
MAX_KEY_NAME = 100
LONGEST_LIFE = timedelta(days=3650)
NOTE_USE_EVERY = timedelta(minutes=10)

KEY = re.compile(rf"{KEY_START}[0-9a-f]{{{2 * KEY_BYTES}}}")


@dataclass(frozen=True, slots=True)
class ActiveOrganization:
    """The Clerk organization that a session works in. `role` is Clerk's, without `org:`; what counts is our own
    table's, which Clerk's webhooks keep."""

    id: str
    role: str
    slug: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a verified session token of Clerk says. `user` is Clerk's id of the person."""

    id: str
    user: str
    expires_at: datetime
    organization: ActiveOrganization | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is made. A key has neither a person nor a role; what it may do are its scopes."""

    tenant_id: UUID
    user_id: UUID | None
    role: Role | None
    scopes: frozenset[ApiScope]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment when its text is known: all but that is stored."""

    text: str
    prefix: str
    hash: bytes
    name: str
    scopes: frozenset[ApiScope]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key. `scopes` are as stored: one that this release does not know allows nothing."""

    id: UUID
    tenant_id: UUID
    scopes: tuple[str, ...]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def scopes_of(role: Role) -> frozenset[ApiScope]:
    return frozenset(SCOPES) if role is Role.ADMIN else frozenset(SCOPES) - ADMINS_ONLY


def new_key(
    randomness: bytes, *, name: str, scopes: Iterable[str], expires_at: datetime | None, now: datetime, others: int
) -> NewKey:
    """`randomness`: `KEY_BYTES` from a cryptographic source; `others`: how many usable keys the tenant has.

    Raises:
        KeyInvalid: says what about it is wrong.
    """
    if len(randomness) != KEY_BYTES:
        raise ValueError(f"a key is made of {KEY_BYTES} bytes")
    if not 0 < len(name.strip()) <= MAX_KEY_NAME or not name.isprintable():
        raise KeyInvalid(f"name: 1 to {MAX_KEY_NAME} printable characters")
    asked = set(scopes)
    if not asked or (unknown := sorted(asked - set(SCOPES))):
        wrong = f"there is no {unknown[0]!r}" if asked else "none is given"
        raise KeyInvalid(f"scopes: {wrong}; there are {', '.join(SCOPES)}")
    if expires_at is not None and not now < expires_at <= now + LONGEST_LIFE:
        raise KeyInvalid(f"expires_at: must be in the future, and within {LONGEST_LIFE.days} days")
    if others >= MAX_KEYS:
        raise KeyInvalid(f"the tenant has {others} usable keys already: revoke one that nobody uses")
    text = f"{KEY_START}{randomness.hex()}"
    return NewKey(text, text[:SHOWN], _hash(text), name.strip(), frozenset(map(ApiScope, asked)), expires_at)


def hash_of(text: str) -> bytes | None:
    """What a key is looked up by; None for what cannot be a key.

    Nobody can choose a text by its hash, so how long the search in an index takes tells nothing about other keys.
    """
    return _hash(text) if KEY.fullmatch(text) else None


def caller_of(key: Key | None, now: datetime) -> Caller:
    """The caller that a stored key makes of a request.

    Raises:
        NotAuthenticated: there is no such key, or it is over.
    """
    if key is None:
        raise NotAuthenticated("KEY_UNKNOWN", "there is no such API key")
    if key.revoked_at is not None:
        raise NotAuthenticated("KEY_REVOKED", f"this API key was revoked at {key.revoked_at:%Y-%m-%d %H:%M:%SZ}")
    if key.expires_at is not None and key.expires_at <= now:
        raise NotAuthenticated("KEY_EXPIRED", f"this API key expired at {key.expires_at:%Y-%m-%d %H:%M:%SZ}")
    known = frozenset(ApiScope(scope) for scope in key.scopes if scope in set(SCOPES))
    return Caller(key.tenant_id, user_id=None, role=None, scopes=known)


def use_is_due(key: Key, now: datetime) -> bool:
    """Whether `last_used_at` is old enough to be written again: it is coarse, so that requests need not write."""
    return key.last_used_at is None or now - key.last_used_at >= NOTE_USE_EVERY


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
