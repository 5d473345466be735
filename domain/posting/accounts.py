"""A social account of a tenant: its state, and the tokens that open it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class AccountStatus(StrEnum):
    """NEEDS_RECONNECT: its tokens open it no longer, and only its owner can mend that; `reason` says why. DISCONNECTED:
    its owner took it away, and its tokens are deleted."""

    ACTIVE = "active"
    NEEDS_RECONNECT = "needs_reconnect"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class Credential:
    """What an account is asked with. `external_id` is the platform's id of it; `server` the origin of its own server
    where the platform has many (Bluesky's PDS, a Mastodon instance), else empty."""

    external_id: str
    access_token: str = field(repr=False)
    server: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a platform gave when somebody connected an account, or when its tokens were refreshed.

    An empty `refresh_token` means that none was given, and never that the one before is gone. `access_expires_at` and
    `refresh_expires_at` are None where the platform names no end. Instagram's access token is refreshed by itself, so
    it has no other. After a refresh `external_id` and `username` may be empty: nothing new was said.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(default="", repr=False)
    access_expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    scopes: tuple[str, ...] = ()
    external_id: str = ""
    username: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class SealedTokens:
    """An account's tokens, encrypted; None where there is none."""

    access: bytes | None = field(repr=False)
    refresh: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class AppRegistration:
    """A program as a platform's server knows it: for all of a platform, or for one Mastodon instance."""

    client_id: str
    client_secret: str = field(repr=False)
