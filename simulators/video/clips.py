"""The simulated providers of clips share a state machine: an order is charged when it is taken, goes from state to
state with each poll, and ends in a file. `misbehave` says what goes wrong with the next orders; `orders` is the bill.

An order of the right form that a trick does not refuse is always taken and charged, whatever the buyer gets to read.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeVar, get_args
from uuid import NAMESPACE_URL, uuid5

from simulators.loopback import Loopback, Reply, Request

Trick = Literal[
    # The order is not taken.
    "limited",
    "moderated",
    "out of credit",
    "500 before",
    "hang-up before",
    # The order is taken, and the buyer gets no answer that says so.
    "500 after",
    "hang-up after",
    "reset after",
    "held after",
    "cut after",
    "unreadable after",
    "408 after",
    "409 after",
    "redirect after",
    # The order is taken, and goes on badly.
    "slow",
    "throttled",
    "moderated later",
    "failed",
    "failed and charged",
    "cancelled",
    "unknown state",
    "never ends",
    "polls fail",
    "cancels fail",
    "expired address",
    "broken media",
    "truncated media",
    "wrong media",
    "media elsewhere",
]
TRICKS: tuple[Trick, ...] = get_args(Trick)
TAKEN_SILENTLY: tuple[Trick, ...] = tuple(trick for trick in TRICKS if trick.endswith(" after"))
NOT_TAKEN: tuple[Trick, ...] = TRICKS[: TRICKS.index("hang-up before") + 1]
RETRY_AFTER = 30
State = Literal["queued", "running", "succeeded", "failed", "moderated", "cancelled", "unknown", "deleted"]
Self = TypeVar("Self", bound="ClipSimulator")


@dataclass
class Order:
    """An order that was taken. `charged_usd` is what it costs after all refunds; `key` is the buyer's own, where the
    vendor takes one. `polls` and `reads` count the questions for it and the requests for its file."""

    id: str
    prompt: str
    model: str
    seconds: int
    key: str | None
    charged_usd: Decimal
    trick: Trick | None
    state: State = "queued"
    polls: int = 0
    reads: int = 0


@dataclass(frozen=True)
class Asked:
    """An order as a vendor's request words it."""

    prompt: str
    model: str
    seconds: int
    usd: Decimal
    key: str | None = None


class ErrorResponse(Exception):
    """The request is answered with this error."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


@dataclass
class ClipSimulator(ABC):
    """A vendor's API. `deletes_ended`: to stop an order that has ended deletes it, and its file.

    `refunds` says what is given back of orders that end without a file: everything, nothing, or what
    the answers say (a failure may cost, and so does stopping what has begun).

    `media` is the file that every order ends in; `held_seconds` is how long an answer is held back by "held after",
    before the connection is closed."""

    refunds: ClassVar[Literal["everything", "nothing", "as it says"]]
    deletes_ended: ClassVar[bool] = False

    media: bytes
    key: str
    held_seconds: float = 3600
    orders: list[Order] = field(default_factory=list)
    tricks: deque[Trick | None] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.server = Loopback(self._answer, protocol="HTTP/1.1")
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The base URL to configure."""
        return self.server.url

    @property
    def charged_usd(self) -> Decimal:
        """The bill: what all orders cost, after refunds."""
        return sum((order.charged_usd for order in self.orders), Decimal(0))

    @property
    def posts(self) -> int:
        """How many orders arrived, taken or not."""
        return sum(request.method == "POST" for request in self.server.requests)

    def misbehave(self, *tricks: Trick | None) -> None:
        """Play one of these with each of the next orders; None plays none."""
        self.tricks.extend(tricks)

    @abstractmethod
    def route(self, request: Request) -> Reply:
        """Answer a request that has the right key."""

    @abstractmethod
    def authorized(self, request: Request) -> bool: ...

    @abstractmethod
    def error(self, status: int, code: str, message: str, **headers: str) -> Reply:
        """Return an error as the vendor words it."""

    @abstractmethod
    def moderated(self) -> Reply:
        """Return how the vendor turns a prompt down at once."""

    @abstractmethod
    def taken(self, order: Order) -> Reply:
        """Return how the vendor acknowledges an order."""

    def order(self, asked: Asked) -> Reply:
        """Take the order, unless the next trick forbids it, and answer as that trick says."""
        with self._lock:
            trick = self.tricks.popleft() if self.tricks else None
            if trick in NOT_TAKEN:
                return self._not_taken(trick)
            number = len(self.orders) + 1
            order = Order(
                id=str(uuid5(NAMESPACE_URL, f"{self.server.url}/{number}")),
                prompt=asked.prompt,
                model=asked.model,
                seconds=asked.seconds,
                key=asked.key,
                charged_usd=asked.usd,
                trick=trick,
            )
            self.orders.append(order)
        taken = self.taken(order)
        match trick:
            case "500 after":
                return self.error(500, "internal", "something went wrong")
            case "hang-up after":
                return Reply(hang_up=True)
            case "reset after":
                return Reply(hang_up=True, reset=True)
            case "held after":
                return Reply(hang_up=True, after=self.held_seconds)
            case "cut after":
                return Reply(taken.body, taken.status, taken.headers, cut=len(taken.body) // 2)
            case "unreadable after":
                return Reply(taken.body[: len(taken.body) // 2], taken.status, taken.headers)
            case "408 after" | "409 after":
                return self.error(int(trick[:3]), "conflict", "try again")
            case "redirect after":
                return Reply(status=302, headers={"Location": f"{self.server.url}/elsewhere"})
            case "slow":
                return Reply(taken.body, taken.status, taken.headers, after=1)
        return taken

    def find(self, order_id: str) -> Order:
        """Return the order of this id, one state further than at the last poll.

        Raises:
            ErrorResponse: there is none, or the order's trick fails the first polls.
        """
        with self._lock:
            order = self._find(order_id)
            order.polls += 1
            if order.trick == "polls fail" and order.polls <= 2:
                raise ErrorResponse(self.error(503, "unavailable", "try again"))
            self._advance(order)
            return order

    def cancel(self, order_id: str) -> Order:
        """Stop an order that has not ended; one that has is deleted where the vendor does so.

        Raises:
            ErrorResponse: there is none, or the order's trick refuses it.
        """
        with self._lock:
            order = self._find(order_id)
            if order.trick == "cancels fail":
                raise ErrorResponse(self.error(500, "internal", "try again"))
            if order.state in ("queued", "running", "unknown"):
                self._refund(order, unless=order.state != "queued")
                order.state = "cancelled"
            elif self.deletes_ended:
                order.state = "deleted"
        return order

    def _find(self, order_id: str) -> Order:
        for order in self.orders:
            if order.id == order_id and order.state != "deleted":
                return order
        raise ErrorResponse(self.error(404, "not_found", "there is no such job"))

    def address(self, order: Order) -> str:
        """Return a fresh address of the order's file."""
        return f"{self.server.url}/media/{order.id}.mp4?signature={order.polls}"

    def _advance(self, order: Order) -> None:
        ends: dict[Trick | None, State] = {
            "moderated later": "moderated",
            "failed": "failed",
            "failed and charged": "failed",
            "cancelled": "cancelled",
        }
        if order.state == "queued" and not (order.trick == "throttled" and order.polls <= 3):
            order.state = "running"
            if order.trick == "unknown state":
                order.state = "unknown"
        elif order.state == "unknown":
            order.state = "running"
        elif order.state == "running" and order.trick != "never ends":
            order.state = ends.get(order.trick, "succeeded")
            if order.state != "succeeded":
                self._refund(order, unless=order.trick == "failed and charged")

    def _refund(self, order: Order, *, unless: bool) -> None:
        if self.refunds == "everything" or (self.refunds == "as it says" and not unless):
            order.charged_usd = Decimal(0)

    def _not_taken(self, trick: Trick | None) -> Reply:
        match trick:
            case "limited":
                return self.error(429, "rate_limited", "too many requests", retry_after=str(RETRY_AFTER))
            case "moderated":
                return self.moderated()
            case "out of credit":
                return self.error(402, "insufficient_credits", "you have not enough credits")
            case "500 before":
                return self.error(500, "internal", "something went wrong")
        return Reply(hang_up=True)

    def _answer(self, request: Request) -> Reply:
        if request.path.startswith("/moved/"):
            return self._file()
        if request.path.startswith("/media/"):
            return self.media_of(request, request.path.removeprefix("/media/").removesuffix(".mp4"))
        if not self.authorized(request):
            return self.error(401, "unauthorized", f"the key {request.headers.get('authorization', '')} is not valid")
        try:
            return self.route(request)
        except ErrorResponse as error:
            return error.reply

    def media_of(self, request: Request, order_id: str) -> Reply:
        """Return the file, as the order's trick lets it through: most spoil the first request only."""
        with self._lock:
            order = next((order for order in self.orders if order.id == order_id), None)
            if order is None or order.state != "succeeded":
                return Reply(b"<Error><Code>NoSuchKey</Code></Error>", 404, {"Content-Type": "application/xml"})
            order.reads += 1
            first = order.reads == 1
        whole = self._file()
        match order.trick if first else None:
            case "expired address":
                return Reply(b"<Error><Code>AccessDenied</Code></Error>", 403, {"Content-Type": "application/xml"})
            case "broken media":
                return Reply(whole.body, 200, whole.headers, cut=len(whole.body) // 2, reset=True)
            case "truncated media":
                return Reply(whole.body, 200, whole.headers, cut=len(whole.body) // 2)
            case "media elsewhere":
                return Reply(status=302, headers={"Location": f"{self.server.url}/moved/{order.id}.mp4"})
        if order.trick == "wrong media":
            return Reply(b"<!doctype html><title>Sorry</title>", 200, {"Content-Type": "text/html"})
        return whole

    def _file(self) -> Reply:
        return Reply(self.media, 200, {"Content-Type": "video/mp4"})


@contextmanager
def serving(simulator: Self) -> Iterator[Self]:
    with simulator.server:
        yield simulator


def only(body: Any, allowed: Mapping[str, type | tuple[type, ...]], required: tuple[str, ...]) -> list[str]:
    """List what is wrong with the fields of a JSON object: unknown ones, those of another type, missing ones."""
    if not isinstance(body, dict):
        return ["the body should be an object"]
    return [
        *(f"{name}: unrecognized field" for name in body if name not in allowed),
        *(f"{name}: required" for name in required if name not in body),
        *(
            f"{name}: of another type"
            for name, value in body.items()
            if name in allowed and not isinstance(value, allowed[name])
        ),
    ]
