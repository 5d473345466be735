"""What the simulated platforms share: accounts and their tokens, the posts that really appeared, a clock that can be
put forward, and faults at any named call.

A simulator is the judge of what was posted, so it is strict: an unknown field, or one that the way of posting ignores,
is an error. `posts` is what people would see. Their numbers grow with their age (`growth`), unless `say` overrules one.

    with tiktok_simulator() as tiktok:
        tiktok.fault("upload", "hang-up after")
"""

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args

from simulators.loopback import Loopback, Reply, Request
from simulators.platforms.growth import Grown, numbers_at

Fault = Literal[
    # The request is not acted upon.
    "500 before",
    "429",
    "hang-up before",
    "expired",
    # It is acted upon, and the caller gets no answer that says so.
    "500 after",
    "hang-up after",
    "reset after",
    "cut after",
    "held after",
    # It is acted upon twice, as if the request had been delivered again.
    "delivered twice",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
Self = TypeVar("Self", bound="PlatformSimulator")


@dataclass
class SimulatedAccount:
    """An account, and what opens it now. `used_refresh_tokens` are those that were rotated away."""

    external_id: str
    username: str
    password: str = "app-password"  # noqa: S105 - it opens nothing
    access_tokens: dict[str, float] = field(default_factory=dict)
    """Until when each is good, by the simulator's clock."""
    refresh_tokens: dict[str, float] = field(default_factory=dict)
    used_refresh_tokens: set[str] = field(default_factory=set)
    revoked: bool = False


@dataclass
class SimulatedPost:
    """A post that appeared. `sha256` is of the video's bytes as they arrived; `fields` are all that was sent with it.
    `foreign`: its owner made it by another way."""

    id: str
    account: str
    text: str
    sha256: str
    published_at: float
    fields: dict[str, Any] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    private: bool = False
    foreign: bool = False
    removed: bool = False


class ErrorResponse(Exception):
    """The request is answered with this error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


@dataclass
class PlatformSimulator(ABC):
    """`calls` names every call of the platform that our code makes; `call_of` tells which one a request is.

    `held_seconds` is how long an answer is held back by "held after" before the connection is closed. `url` is the base
    URL that stands for all hosts of the platform. Subclasses say what further tricks they know.
    """

    calls: ClassVar[tuple[str, ...]]

    held_seconds: float = 3600
    accounts: dict[str, SimulatedAccount] = field(default_factory=dict)
    posts: list[SimulatedPost] = field(default_factory=list)
    ahead: float = 0
    """Seconds that the simulator's clock is ahead."""
    seed: int | None = None
    """0 to 999,999. The ids of posts follow from it, and how their numbers grow follows from these."""

    def __post_init__(self) -> None:
        self.server = Loopback(self._reply, protocol="HTTP/1.1")
        self.lock = threading.RLock()
        self.received: list[str] = []
        """The names of the calls that arrived, in order, those that were answered with a fault too."""
        self._faults: deque[tuple[str, Fault]] = deque()
        self._ids = itertools.count(1)
        self._overruled: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return self.server.url

    def now(self) -> float:
        return time.time() + self.ahead

    def next_id(self) -> int:
        return (self.seed or 0) * 1_000_000 + next(self._ids)

    def later(self, seconds: float) -> None:
        self.ahead += seconds

    def fault(self, call: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next requests of this call fail in this way."""
        if call not in self.calls:
            raise ValueError(f"there is no call {call!r}: {', '.join(self.calls)}")
        with self.lock:
            self._faults.extend([(call, fault)] * times)

    def heal(self) -> None:
        """Let no further request fail."""
        with self.lock:
            self._faults.clear()

    def add_account(self, external_id: str, username: str = "") -> SimulatedAccount:
        account = SimulatedAccount(external_id, username or f"user-{external_id}")
        self.accounts[external_id] = account
        return account

    def post(self, post_id: str) -> SimulatedPost:
        """Return a post that appeared, also one that was removed.

        Raises:
            ValueError: there is none of this id.
        """
        with self.lock:
            for post in self.posts:
                if post.id == post_id:
                    return post
        raise ValueError(f"there is no post {post_id!r}")

    def backdate(self, post_id: str, seconds: float) -> None:
        """Make a post so many seconds older."""
        with self.lock:
            self.post(post_id).published_at -= seconds

    def remove(self, post_id: str) -> None:
        """Let its owner delete a post."""
        with self.lock:
            self.post(post_id).removed = True

    def say(self, post_id: str, **counts: Any) -> None:
        """Let the platform answer these instead of what has grown, by the names of `Grown`: None hides a number (as the
        likes of a video whose owner does not show them), and what is no number plays a platform that is broken."""
        with self.lock:
            self._overruled.setdefault(self.post(post_id).id, {}).update(counts)

    def grown(self, post: SimulatedPost) -> Grown:
        """Return what the post's numbers are now, of one that is private or foreign too; hidden ones as well."""
        return numbers_at(post.id, self.now() - post.published_at)

    def counts(self, post: SimulatedPost) -> dict[str, Any]:
        """Return what the platform answers of a post's numbers, by the names of `Grown`; hidden ones are missing."""
        counts = asdict(self.grown(post)) | self._overruled.get(post.id, {})
        return {name: count for name, count in counts.items() if count is not None}

    @abstractmethod
    def call_of(self, request: Request) -> str | None:
        """Return the name of the call; None if there is no such."""

    @abstractmethod
    def route(self, call: str, request: Request) -> Reply:
        """Act upon a call, under the lock.

        Raises:
            ErrorResponse: it is refused.
        """

    @abstractmethod
    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        """Return an error response as this platform words it."""

    @abstractmethod
    def expired(self) -> Reply:
        """Return the response to an access token that has expired."""

    def cut_off(self, call: str, request: Request) -> Reply:
        """Act upon a request whose body broke off, under the lock: most platforms forget it."""
        return Reply(hang_up=True)

    def _reply(self, request: Request) -> Reply:
        call = self.call_of(request)
        if call is None:
            return self.error(404, "not_found", f"there is no {request.method} {request.path}")
        with self.lock:
            self.received.append(call)
            if len(request.body) < int(request.headers.get("content-length") or 0):
                return self.cut_off(call, request)
            fault = next((each for each in self._faults if each[0] == call), None)
            if fault is not None:
                self._faults.remove(fault)
            return self._faulty(fault[1], call, request) if fault is not None else self._acted(call, request)

    def _acted(self, call: str, request: Request) -> Reply:
        try:
            return self.route(call, request)
        except ErrorResponse as error:
            return error.reply

    def _faulty(self, fault: Fault, call: str, request: Request) -> Reply:
        match fault:
            case "500 before":
                return self.error(500, "internal_error", "try again later")
            case "429":
                return self.error(429, "rate_limit_exceeded", "too many requests", Retry_After="30")
            case "hang-up before":
                return Reply(hang_up=True)
            case "expired":
                return self.expired()
        reply = self._acted(call, request)
        match fault:
            case "500 after":
                return self.error(500, "internal_error", "try again later")
            case "hang-up after":
                return Reply(hang_up=True)
            case "reset after":
                return Reply(hang_up=True, reset=True)
            case "cut after":
                return Reply(reply.body or b"{}", reply.status, reply.headers, cut=len(reply.body) // 2)
            case "held after":
                return Reply(hang_up=True, after=self.held_seconds)
        return self._acted(call, request)


def seconds_of(video: bytes) -> float | None:
    """Return how long an MP4 says that it lasts (ISO/IEC 14496-12, 8.2.2: `mvhd`); None if it does not say."""
    at = video.find(b"mvhd")
    if at < 0 or len(video) < at + 36:
        return None
    wide = video[at + 4] == 1
    scale = int.from_bytes(video[at + (24 if wide else 16) :][:4])
    length = int.from_bytes(video[at + (28 if wide else 20) :][: 8 if wide else 4])
    return length / scale if scale else None


@contextmanager
def serving(simulator: Self) -> Iterator[Self]:
    with simulator.server:
        yield simulator
