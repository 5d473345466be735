"""Instagram's client and the simulated Instagram, with one account, one video and one clock for both."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from domain.errors import ViralError
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import (
    Content,
    Handle,
    Published,
    VideoFile,
)
from integrations.http.client import Http
from integrations.platforms.instagram import Instagram
from simulators.loopback import Loopback, Reply
from simulators.platforms.instagram import InstagramSimulator, instagram_simulator

ADA = "17841400000000001"
MEDIA = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40
TEXT = "A fox in the snow #fox"
REDIRECT = "http://127.0.0.1:8000/oauth/instagram-reels/callback"
CONTENT = Content(UUID(int=1), TEXT, datetime.now(UTC), "mark", cover_at=1.5)


@dataclass
class Stage:
    simulator: InstagramSimulator
    files: Loopback
    ahead: timedelta = timedelta(0)
    handle: Handle = field(default_factory=Handle)

    def __post_init__(self) -> None:
        self.client = Instagram(Http("tests"), base_url=self.simulator.url, clock=self.now)
        self.credential = Credential(ADA, self.simulator.token_of(ADA))
        self.app = AppRegistration(self.simulator.client_id, self.simulator.client_secret)
        self.video = VideoFile(
            hashlib.sha256(MEDIA).digest(), len(MEDIA), 8.0, 1080, 1920, "video/mp4", no_bytes, self.address
        )

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def later(self, wait: timedelta) -> None:
        self.ahead += wait
        self.simulator.later(wait.total_seconds())

    def address(self, lifetime: timedelta) -> str:
        assert lifetime >= timedelta(hours=1)
        return f"{self.files.url}/media/a.mp4?signature=x"

    def open(self) -> Handle:
        self.handle = self.client.open(self.credential, CONTENT, self.video, unwatched)
        return self.handle

    def ready(self) -> Handle:
        return self.client.ready(self.credential, self.handle, CONTENT, self.video, unwatched)

    def commit(self) -> Any:
        return self.client.commit(self.credential, self.handle, CONTENT, self.video, start=0, watch=unwatched)

    def look(self) -> Any:
        return self.client.look(self.credential, self.handle, CONTENT, self.video)

    def published(self) -> str:
        self.open()
        done = self.commit()
        assert isinstance(done, Published)
        assert done.external_id is not None
        return done.external_id

    def code(self) -> str:
        url = self.client.authorize_url(self.app, state="s", challenge="c", redirect_uri=REDIRECT, server="")
        query = urlsplit(url).query
        reply = self.simulator.route("authorize", a_request("GET", "/oauth/authorize", query))
        return parse_qs(urlsplit(reply.headers["Location"]).query)["code"][0]

    def connected(self) -> Grant:
        return self.client.exchange(self.app, code=self.code(), verifier="v", redirect_uri=REDIRECT, server="")


def a_request(method: str, path: str, query: str = "") -> Any:
    from simulators.loopback import Request

    return Request(method, path, query, {}, b"")


def no_bytes(start: int, end: int) -> Iterator[bytes]:
    raise AssertionError("Instagram fetches the video itself")


@contextmanager
def instagram_stage() -> Iterator[Stage]:
    with (
        Loopback(lambda request: Reply(MEDIA, headers={"Content-Type": "video/mp4"})) as files,
        instagram_simulator(held_seconds=0.05) as simulator,
    ):
        simulator.add_account(ADA, "ada")
        yield Stage(simulator, files)


def verdict(act: Callable[[], object]) -> object:
    try:
        return act()
    except ViralError as error:
        return error


def unwatched(_: float) -> None:
    """Nobody watches."""
