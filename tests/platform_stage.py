"""A platform's client against its simulator: one account, one small video, and the acts of publishing."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import Commit, Content, Handle, Sight, VideoFile
from integrations.http.client import Http
from simulators.loopback import Request
from simulators.platforms.oauth import OAuthSimulator

ADA = "account-of-ada"
TEXT = "A fox in the snow #fox"
REDIRECT = "http://127.0.0.1:8000/oauth/callback"
VERIFIER = "v" * 64

Simulator = TypeVar("Simulator", bound=OAuthSimulator)
Client = TypeVar("Client")


def a_video(data: bytes, *, cut: int | None = None) -> VideoFile:
    """Return a video of these bytes; with `cut` its source breaks off there."""

    def read(start: int, end: int) -> Iterator[bytes]:
        for begin in range(start, end, 4096):
            piece = data[begin : min(begin + 4096, end)]
            if cut is not None and begin + len(piece) > cut:
                yield piece[: max(cut - begin, 0)]
                raise OSError("the store broke off")
            yield piece

    digest = hashlib.sha256(data).digest()
    return VideoFile(digest, len(data), 8.0, 1080, 1920, "video/mp4", read, lambda lifetime: "https://example.com/a")


@dataclass
class Stage(Generic[Simulator, Client]):
    """`publisher` makes the client for an address and a clock."""

    simulator: Simulator
    publisher: Callable[..., Client]
    content: Content
    data: bytes
    ahead: timedelta = timedelta(0)
    handle: Handle = field(default_factory=Handle)

    def __post_init__(self) -> None:
        self.client: Any = self.publisher(http(), base_url=self.simulator.url, clock=self.now)
        self.simulator.add_account(ADA, "ada")
        self.credential = Credential(ADA, self.simulator.token_of(ADA))
        self.app = AppRegistration(self.simulator.client_id, self.simulator.client_secret)
        self.video = a_video(self.data)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def later(self, wait: timedelta) -> None:
        self.ahead += wait
        self.simulator.later(wait.total_seconds())

    def refreshed(self) -> None:
        self.credential = replace(self.credential, access_token=self.simulator.token_of(ADA))

    def open(self, **changes: Any) -> Handle:
        self.handle = self.client.open(self.credential, replace(self.content, **changes), self.video, unwatched)
        return self.handle

    def ready(self) -> Handle:
        self.handle = self.client.ready(self.credential, self.handle, self.content, self.video, unwatched)
        return self.handle

    def commit(
        self, *, start: int = 0, watch: Callable[[float], object] | None = None, video: VideoFile | None = None
    ) -> Commit:
        return self.client.commit(  # type: ignore[no-any-return]
            self.credential, self.handle, self.content, video or self.video, start=start, watch=watch or unwatched
        )

    def look(self) -> Sight:
        return self.client.look(self.credential, self.handle, self.content, self.video)  # type: ignore[no-any-return]

    def posted(self) -> list[str]:
        """Return the hashes of our posts that people see."""
        return [post.sha256 for post in self.simulator.posts if not post.foreign and not post.removed]

    def authorized(self, challenge: str) -> str:
        """Return the code that the platform sends its owner back with."""
        url = self.client.authorize_url(self.app, state="s", challenge=challenge, redirect_uri=REDIRECT, server="")
        parts = urlsplit(url)
        reply = self.simulator.route("authorize", Request("GET", parts.path, parts.query, {}, b""))
        back = parse_qs(urlsplit(reply.headers["Location"]).query)
        assert back["state"] == ["s"]
        return back["code"][0]

    def exchanged(self, code: str, verifier: str = VERIFIER) -> Grant:
        return self.client.exchange(  # type: ignore[no-any-return]
            self.app, code=code, verifier=verifier, redirect_uri=REDIRECT, server=""
        )

    def secrets(self) -> list[str]:
        """Return what must stand in no error and no repr."""
        account = self.simulator.accounts[ADA]
        tokens = [*account.access_tokens, *account.refresh_tokens, *account.used_refresh_tokens]
        return [*tokens, *self.handle.secrets.values(), self.app.client_secret, VERIFIER]


@cache
def http() -> Http:
    """One for all tests: to make it takes longer than most of them."""
    return Http("viral-tests (tests@example.com)")


def unwatched(_: float) -> None:
    """Nobody watches."""


def a_content(**options: Any) -> Content:
    return Content(
        UUID(int=1), TEXT, datetime.now(UTC), "mark-1", title="A fox", hashtags=("fox",), options=options, cover_at=1.5
    )
