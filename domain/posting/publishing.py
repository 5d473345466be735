"""What publishing asks of a platform, and what the platform's answers mean. The same four acts for all of them:

    open     make a handle; nothing is published by it, so it may be asked for again
    ready    wait for what the platform does before it can publish (a container, a video job)
    commit   the point of no return, at most once at a time, with one request that is not repeated
    look     by the handle: did it become a post?

`open`, `ready` and everything that only reads raise what is wrong. `commit` and `look` return values: what they say
must be written down before anything else happens. Design: docs/decisions/0036.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.errors import Rejected, Unavailable, ViralError


@dataclass(frozen=True, slots=True)
class VideoFile:
    """The file to publish, of `size` bytes. `read` yields the bytes from one offset to before another; `address` says
    where anybody can read it for so long."""

    sha256: bytes
    size: int
    seconds: float
    width: int
    height: int
    content_type: str
    read: Callable[[int, int], Iterator[bytes]]
    address: Callable[[timedelta], str]


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be published. `text` is what people read, hashtags included, as this platform has it (YouTube: the
    description). `created_at` is the same in every attempt, and so is `mark`, which only this post has: it goes where a
    platform keeps something that viewers are not shown (a YouTube tag, a Bluesky record key), and nowhere else.

    `options` are the platform's own (`domain/posting` lists them), checked already. `cover_at` is in
    seconds.
    """

    post_id: UUID
    text: str
    created_at: datetime
    mark: str
    title: str = ""
    hashtags: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    cover_at: float | None = None
    ai_generated: bool = True


@dataclass(frozen=True, slots=True)
class Handle:
    """By what the platform knows the coming post. `public` is shown to operators; `secrets` (an upload address, a
    session URI) open it to anybody, so they are kept encrypted and never logged. Both are JSON texts by name."""

    public: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_at: datetime | None = None


# --- what a commit says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """It is there. `external_id` is the platform's id of the post as text, None while it is not known yet. `others` are
    further posts that the platform says it made of the same handle."""

    external_id: str | None = None
    permalink: str | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The platform has all that it needs and works on it; it will publish, or say why not."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class InInbox:
    """It waits in the owner's inbox of the platform: only they can publish it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """This call certainly published nothing. `error` says why: `TokenExpired`, `AccountRevoked`, `HeldOff`,
    `PostRefused`, or `Unavailable` where nothing was sent at all."""

    error: ViralError


@dataclass(frozen=True, slots=True)
class Unknown:
    """It was sent, and nobody can tell what became of it: look by the handle. `reason` has no values of the request."""

    reason: str


Commit = Published | Accepted | InInbox | Refused | Unknown


# --- what a look says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The handle is good, and what it stands for has certainly not been published: committing again makes no second
    post. `start` is how many bytes the platform has already."""

    reason: str
    start: int = 0


@dataclass(frozen=True, slots=True)
class Absent:
    """The handle certainly became no post, and never will. `error` says why, if the platform does: then it is the
    verdict on the post; without one another handle may be opened."""

    reason: str
    error: ViralError | None = None


@dataclass(frozen=True, slots=True)
class CannotTell:
    """Not known now. `lost`: the platform knows the handle no longer, so only the account's own list of posts can
    tell."""

    reason: str
    lost: bool = False


Sight = Published | Accepted | InInbox | Unfinished | Absent | CannotTell


@dataclass(frozen=True, slots=True)
class Seen:
    """A post as the account's own list has it. `mark` is `Content.mark`, where the platform gives it back; `text` as
    far as the list shows it (`cut`: it may be shortened there)."""

    external_id: str
    text: str
    published_at: datetime
    permalink: str | None = None
    mark: str | None = None
    seconds: float | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """The account's posts since a moment. `complete`: every post since then is in it, private ones too, so what is
    missing was not published."""

    posts: tuple[Seen, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the platform says that this account may do now; None where it does not say. `settings` are further ones by
    name, as `social_accounts.limits` keeps them: TikTok's `privacy_options` and `comment|duet|stitch_disabled`."""

    posts_left_today: int | None = None
    posts_a_day: int | None = None
    max_seconds: float | None = None
    max_bytes: int | None = None
    max_characters: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


# --- what is raised ------------------------------------------------------------------------------------------------


class TokenExpired(Unavailable):
    """The access token opens nothing any more; a fresh one may."""


class AccountRevoked(Rejected):
    """The account's owner, or the platform, took our access away: only the owner can connect it again. `code` is the
    platform's word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HeldOff(Unavailable):
    """The platform takes no more for now: of this account, or (`whole_app`) of all accounts of this installation."""

    def __init__(
        self, code: str, message: str, *, retry_after: timedelta | None = None, whole_app: bool = False
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.code = code
        self.whole_app = whole_app


class NotReady(Unavailable):
    """The platform still works on what comes before publishing. `retry_after` says when to ask again; `handle` is what
    has become of the handle, where it must be kept before that (a video job that was begun)."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None, handle: Handle | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.handle = handle


class PostRefused(Rejected):
    """The platform does not take this post as it is, and will not; `code` is its word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandleLost(Rejected):
    """What was opened is not there any more, and published nothing: another handle may be opened."""
