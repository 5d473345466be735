"""Access to the API: signed-in people have the scopes of their role, programs those of their key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from types import MappingProxyType
from uuid import UUID

from domain.errors import KeyInvalid, NotAllowed, NotAuthenticated
from domain.identity.people import Role


class ApiScope(StrEnum):
    """One right, as API keys carry it: what it is about, and what may be done to it."""

    ACCOUNT_READ = "account:read"
    BILLING_WRITE = "billing:write"
    KEYS_WRITE = "keys:write"
    GENERATIONS_READ = "generations:read"
    GENERATIONS_WRITE = "generations:write"
    VIDEOS_READ = "videos:read"
    VIDEOS_WRITE = "videos:write"
    ACCOUNTS_WRITE = "accounts:write"
    POSTS_READ = "posts:read"
    POSTS_WRITE = "posts:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"


SCOPES: Mapping[ApiScope, str] = MappingProxyType(
    {
        ApiScope.ACCOUNT_READ: "see the tenant, its plan and what is left of its quota",
        ApiScope.BILLING_WRITE: "start a checkout, open the billing portal",
        ApiScope.KEYS_WRITE: "list, make and revoke API keys",
        ApiScope.GENERATIONS_READ: "see generations, their jobs and analytics",
        ApiScope.GENERATIONS_WRITE: "generate concepts, keep, delete and rate them",
        ApiScope.VIDEOS_READ: "see videos, media, what rendering would cost and what is left of its budget",
        ApiScope.VIDEOS_WRITE: "render and cancel videos within the month's budget, upload media",
        ApiScope.ACCOUNTS_WRITE: "connect social accounts, set what may be posted to them, disconnect them",
        ApiScope.POSTS_READ: "see social accounts and posts, and what became of them",
        ApiScope.POSTS_WRITE: "schedule, change, approve, cancel and retry posts",
        ApiScope.WEBHOOKS_READ: "see the endpoints that are told of posts, and what was sent to them",
        ApiScope.WEBHOOKS_WRITE: "add and delete such endpoints, and have something sent again",
    }
)
ADMINS_ONLY = frozenset({ApiScope.BILLING_WRITE, ApiScope.KEYS_WRITE, ApiScope.ACCOUNTS_WRITE, ApiScope.WEBHOOKS_WRITE})

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
    """A verified session token of Clerk. `user` is Clerk's id of the person."""

    id: str
    user: str
    expires_at: datetime
    organization: ActiveOrganization | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and the person on whose behalf a request is made. A key has neither a person nor a role; its scopes
    say what it may do, and `key_id` names it."""

    tenant_id: UUID
    user_id: UUID | None
    role: Role | None
    scopes: frozenset[ApiScope]
    key_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """The maker of a key: a person (`user_id`), an operator by name, or another key (`parent_id`, which `ends_at`, and
    whose own maker's `user_id` answers for both)."""

    user_id: UUID | None = None
    parent_id: UUID | None = None
    operator: str | None = None
    ends_at: datetime | None = None


NOBODY_KNOWN = Maker()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment when its text is known: all but that is stored."""

    text: str
    prefix: str
    hash: bytes
    name: str
    scopes: frozenset[ApiScope]
    expires_at: datetime | None
    maker: Maker


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key. `scopes` are as stored: one that this release does not know allows nothing.

    `maker_id` is the person who answers for it, and `role` what they are in the tenant now, None if they have left.
    Without a `maker_id` (an operator's key, or one from before makers were kept) all people of the tenant answer.
    `banned`: there is somebody who answers for it, and all of them are banned.
    """

    id: UUID
    tenant_id: UUID
    scopes: tuple[str, ...]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    maker_id: UUID | None = None
    role: Role | None = None
    banned: bool = False


def scopes_of(role: Role) -> frozenset[ApiScope]:
    return frozenset(SCOPES) if role is Role.ADMIN else frozenset(SCOPES) - ADMINS_ONLY


def new_key(
    randomness: bytes,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None,
    now: datetime,
    others: int,
    maker: Maker = NOBODY_KNOWN,
) -> NewKey:
    """`randomness`: `KEY_BYTES` from a cryptographic source; `others`: how many usable keys the tenant has.

    A key that another key makes ends with it at the latest; without an `expires_at` of its own, just then.

    Raises:
        KeyInvalid: says what about it is wrong.
    """
    if len(randomness) != KEY_BYTES:
        raise ValueError(f"a key is made of {KEY_BYTES} bytes")
    if not 0 < len(name.strip()) <= MAX_KEY_NAME or not name.isprintable():
        raise KeyInvalid(f"name: 1 to {MAX_KEY_NAME} printable characters")
    asked = set(scopes)
    if not asked or asked - set(SCOPES):
        wrong = "one of them is not known" if asked else "none is given"
        raise KeyInvalid(f"scopes: {wrong}; there are {', '.join(SCOPES)}")
    if expires_at is not None and not now < expires_at <= now + LONGEST_LIFE:
        raise KeyInvalid(f"expires_at: must be in the future, and within {LONGEST_LIFE.days} days")
    if maker.ends_at is not None and expires_at is not None and expires_at > maker.ends_at:
        raise KeyInvalid(f"expires_at: the key that makes it ends at {_moment(maker.ends_at)}, and this one not later")
    if others >= MAX_KEYS:
        raise KeyInvalid(f"the tenant has {others} usable keys already: revoke one that nobody uses")
    text = f"{KEY_START}{randomness.hex()}"
    ends_at = expires_at or maker.ends_at
    return NewKey(text, text[:SHOWN], _hash(text), name.strip(), frozenset(map(ApiScope, asked)), ends_at, maker)


def hash_of(text: str) -> bytes | None:
    """Return the hash by which a key is looked up; None for a text that cannot be a key.

    Nobody can choose a text by its hash, so how long the search in an index takes tells nothing about other keys.
    """
    return _hash(text) if KEY.fullmatch(text) else None


def caller_of(key: Key | None, now: datetime) -> Caller:
    """Return the caller that a stored key makes of a request: it may do what it was made for and its maker may do now.

    Raises:
        NotAuthenticated: there is no such key, or it is over.
        NotAllowed: only people who are banned answer for it.
    """
    if key is None:
        raise NotAuthenticated("KEY_UNKNOWN", "there is no such API key")
    if key.revoked_at is not None:
        raise NotAuthenticated("KEY_REVOKED", f"this API key was revoked at {_moment(key.revoked_at)}")
    if key.expires_at is not None and key.expires_at <= now:
        raise NotAuthenticated("KEY_EXPIRED", f"this API key expired at {_moment(key.expires_at)}")
    if key.banned:
        raise NotAllowed("ACCOUNT_BANNED", "whoever answers for this API key is banned")
    if key.maker_id is not None and key.role is None:
        raise NotAuthenticated("KEY_REVOKED", "whoever made this API key has left: make another one")
    scopes = frozenset(ApiScope(scope) for scope in key.scopes if scope in set(SCOPES))
    allowed = scopes if key.role is None else scopes & scopes_of(key.role)
    return Caller(key.tenant_id, user_id=None, role=None, scopes=allowed, key_id=key.id)


def maker_of(who: Caller, role: Role | None, parent: Key | None, now: datetime) -> tuple[Maker, frozenset[ApiScope]]:
    """Return the caller as the maker of a key, and the scopes that they can give it now: they may have lost something
    since the request came in. `role` is a person's in the tenant, `parent` the calling key.

    Raises:
        NotAuthenticated, NotAllowed: they would not be let in any more.
    """
    if who.key_id is None:
        if role is None:
            raise NotAllowed("MEMBERSHIP_ENDED", "you are no member of this tenant any more")
        return Maker(user_id=who.user_id), who.scopes & scopes_of(role)
    scopes = caller_of(parent, now).scopes
    if parent is None:
        raise AssertionError("caller_of refuses it")
    return Maker(parent.maker_id, parent.id, ends_at=parent.expires_at), who.scopes & scopes


def use_is_due(key: Key, now: datetime) -> bool:
    """Return whether `last_used_at` is to be written again: it is coarse, so that requests need not write."""
    return key.last_used_at is None or now - key.last_used_at >= NOTE_USE_EVERY


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
