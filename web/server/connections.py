"""The connections of the web server: how long each part of a request may take, and who goes when there are too many.

uvicorn sets no bound to any of it: a request that is sent by halves stays open for ever, a head grows without end, and
so does the line of requests that are sent ahead of their answers. Here each of them ends, and webhooks always find a
place: the newest connection gets in, and of the others one goes that has nothing under way.
"""

import asyncio
import math
import resource
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, Final, NoReturn, cast

import structlog
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from web.api.refusals import overloaded, refusal
from web.server.headers import ALWAYS, secured

WEBHOOKS: Final = b"/webhooks/"
MOST_CONNECTIONS = 2000
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_AHEAD = 8
"""Requests that may be sent on one connection before the first of them is answered."""

BULK = 64 * 1024
"""Bytes of one request above which the rest is read in turns."""

READS_A_TURN, TURN = 4, 0.002
"""Of a receive buffer (`web/server/listen.py`), every two milliseconds."""

YOUNG = 1.0
"""Seconds that an honest request needs to arrive. Among connections of this age the oldest goes, whatever it is at."""

SWEEP_TICKS = 5
"""Of uvicorn's ticks, of which it has ten a second."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Bounds:
    """Of one process: `connections` at once, and seconds for each part of a request.

    A body, or an answer that is taken slowly, has `body` seconds and one more for each `rate` bytes, up to `longest`;
    `linger`: until a sender has read why we hang up.
    """

    connections: int = MOST_CONNECTIONS
    head: float = 5.0
    body: float = 10.0
    rate: int = 500
    longest: float = 300.0
    idle: float = 75.0
    linger: float = 2.0
    drained: int = 2 * 1024 * 1024
    """Bytes that are read and dropped, so that the sender reads its answer and not a reset."""

    @property
    def others(self) -> int:
        """How many connections may be at work on something else than webhooks."""
        return self.connections - self.connections // 4

    def slow(self, size: int) -> float:
        """Seconds that so many bytes may take."""
        return min(self.body + size / self.rate, self.longest)


def bounds(open_files: int | None = None) -> Bounds:
    """As many connections as this process may have open (`ulimit -n`), less what files, Postgres and Redis need."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
    if limit == resource.RLIM_INFINITY:
        return Bounds()
    return Bounds(connections=max(8, min(MOST_CONNECTIONS, limit - min(128, limit // 2))))


class Pacer:
    """Gives those who send much their turns: a few reads at a time, so that nobody who sends little waits for all.

    Who has just read is the next to read again: one body after the other gets whole, instead of all getting longer.
    """

    def __init__(self) -> None:
        self._waiting: deque[Flow] = deque()

    def add(self, flow: "Flow") -> None:
        self._waiting.append(flow)
        if len(self._waiting) == 1:
            self._later()

    def _turn(self) -> None:
        for _ in range(min(READS_A_TURN, len(self._waiting))):
            self._waiting.pop().read_once()
        if self._waiting:
            self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(TURN, self._turn)


class Flow(FlowControl):
    """Of one connection. `bulk`: it has brought so much that it reads in turns."""

    def __init__(self, transport: asyncio.Transport, pacer: Pacer) -> None:
        super().__init__(transport)
        self.bulk = False
        self._pacer = pacer
        self._queued = False

    def resume_reading(self) -> None:
        if not self.bulk:
            super().resume_reading()
        elif self.read_paused and not self._queued:
            self._queued = True
            self._pacer.add(self)

    def read_once(self) -> None:
        self._queued = False
        if not self._transport.is_closing():
            super().resume_reading()


class Phase(IntEnum):
    """What a connection is at; in the order in which they go when there are too many, those at work never."""

    LEAVING = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    STALLED = 4
    AT_WORK = 5


TOO_MANY: Final = overloaded("there are too many connections; try again later").response()
SHUTTING_DOWN: Final = overloaded("this process is shutting down; try again").response()
NOT_HTTP: Final = refusal(400, "this is not HTTP/1.1", "NOT_HTTP")
HEAD_TOO_LARGE: Final = refusal(
    431, f"the head of the request is larger than {MAX_HEAD} bytes or {MAX_HEADERS} headers", "HEAD_TOO_LARGE"
)
NO_ONE_HOST: Final = refusal(400, "a request of HTTP/1.1 has one header `Host`", "NOT_HTTP")
TOO_FAR_AHEAD: Final = refusal(429, f"more than {MAX_AHEAD} requests are sent ahead of their answers", "TOO_FAR_AHEAD")


class CannotServe(Exception):
    """Raised within the parser, so that it stops; the connection knows why."""


class Connection(HttpToolsProtocol):
    """One connection, which knows since when it is at what."""

    def __init__(self, *args: Any, among: "Connections", **options: Any) -> None:
        super().__init__(*args, **options)
        self.for_webhook = False
        self.since = self.loop.time()
        self._among = among
        self._bounds = among.bounds
        self._reading: Phase | None = None
        self._size = 0
        """Bytes of the head or the body that is being read."""
        self._framing = 0
        """Bytes since the last ones of a body: of a head, of lengths of chunks, of trailers."""
        self._unsent: tuple[float, int] | None = None
        self._found = NOT_HTTP
        self._at_work = False
        self._keeps_alive = True
        self._left = False

    @property
    def phase(self) -> Phase:
        if self._unsent is not None:
            return Phase.STALLED
        if self._left or self.transport.is_closing():
            return Phase.LEAVING
        answered = self.cycle is None or self.cycle.response_complete
        if self._reading is not None:
            return self._reading
        return Phase.IDLE if answered and not self.pipeline else Phase.AT_WORK

    # --- what uvicorn calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: Flow = Flow(transport, self._among.pacer)
        self._among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.remove(self)
        self._end_work()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._drop(len(data))
            return
        self._framing += len(data)
        super().data_received(data)
        if self._reading is not None and not self._left and not self.transport.is_closing():
            self._came_in_part(len(data))

    def shutdown(self) -> None:
        """A request that is not here by now is not waited for."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.refuse(SHUTTING_DOWN, linger=False)
        elif self._left:
            self.transport.close()
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter(Phase.HEAD)
        self._framing = 0

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_AHEAD:
            self._stop(TOO_FAR_AHEAD)
        if len(self.headers) > MAX_HEADERS or self._head_size() > MAX_HEAD:
            self._stop(HEAD_TOO_LARGE)
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._stop(NO_ONE_HOST)
        self.for_webhook = self.url.startswith(WEBHOOKS)
        busy = not self.for_webhook and self._among.crowded()
        self.app = cast(Any, answer_crowded) if busy else self.config.loaded_app
        self._enter(Phase.BODY)
        super().on_headers_complete()
        self.headers = []  # for trailers, which nobody here reads: they must not become headers of the head

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._framing = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if isinstance(self.cycle.transport, Lingering) and not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        if not self.for_webhook and not self.cycle.response_complete:
            if self._among.crowded() and self.app is not answer_crowded:
                self.refuse(TOO_MANY)
                return
            self._begin_work()
        self._enter(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.cycle.response_complete:
            return  # the next one, sent ahead, is at work
        self._end_work()
        self.cycle.body = bytearray()  # of a refused request: nobody takes it any more
        if self._reading is None:
            self.since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """The parser goes no further: because of what we raised in it, or because it cannot read this."""
        endless = self._found is NOT_HTTP and self._reading is Phase.HEAD and self._framing > MAX_HEAD
        self.refuse(HEAD_TOO_LARGE if endless else self._found)

    # --- bounds ----------------------------------------------------------------------------------------------

    def check(self, now: float, passed: float) -> None:
        """End what takes too long. `passed`: seconds since the last look."""
        self._look_at_unsent(now)
        bounds, took = self._bounds, now - self.since
        match self.phase:
            case Phase.LEAVING if took > bounds.linger:
                self.transport.abort()
            case Phase.IDLE if took > bounds.idle:
                self.transport.close()
                self._gone(now)
            case Phase.HEAD if took > bounds.head:
                self.refuse(too_slow("the head of the request", took))
            case Phase.BODY if self.flow.read_paused:
                self.since += passed  # we do not read
            case Phase.BODY if took > bounds.slow(self._size):
                self.refuse(too_slow("the body", took))
            case Phase.STALLED if self._unsent is not None and now - self._unsent[0] > bounds.slow(self._unsent[1]):
                self.transport.abort()

    def give_way(self) -> None:
        """Somebody newer needs the place."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.refuse(TOO_MANY, linger=False)
        elif self.phase is Phase.IDLE:
            self.transport.close()
            self._gone(self.loop.time())
        else:
            self.transport.abort()

    def refuse(self, response: Response, *, linger: bool = True) -> None:
        """Answer what cannot be served, and hang up. Whoever was served before is answered first."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._reading is not Phase.BODY:
                cycle.keep_alive = False
                self.flow.pause_reading()
                self._enter(None)
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if self.pipeline or cycle.response_started:
                self.transport.abort()
                return
        self.transport.write(written(response))
        if linger:
            self._leave()
        else:
            self.transport.close()
            self._gone(self.loop.time())

    def hang_up(self) -> None:
        """Close after an answer; but whoever is still sending a body has been refused, and is to read that."""
        if self._reading is Phase.BODY:
            self._leave()
        else:
            self.transport.close()

    def _head_size(self) -> int:
        """Bytes of the head, about: of its target and its headers."""
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _begin_work(self) -> None:
        if not self._at_work:
            self._at_work = True
            self._among.others_at_work += 1

    def _end_work(self) -> None:
        if self._at_work:
            self._at_work = False
            self._among.others_at_work -= 1

    def _enter(self, reading: Phase | None) -> None:
        self._reading = reading
        self.since = self.loop.time()
        self._size = 0
        self.flow.bulk = False

    def _stop(self, why: Response) -> NoReturn:
        self._found = why
        raise CannotServe

    def _came_in_part(self, size: int) -> None:
        """More of the request is to come: see to it that it stays within its bounds meanwhile."""
        self._size += size
        if self._framing > MAX_HEAD or len(self.headers) > MAX_HEADERS:
            self.refuse(HEAD_TOO_LARGE)
            return
        if self._reading is Phase.HEAD:
            return
        cycle = self.cycle
        if not isinstance(cycle.transport, Lingering):
            self._keeps_alive = cycle.keep_alive
            cycle.keep_alive = False  # should it be answered before all of it is here
            cycle.transport = cast(Any, Lingering(self))
        self.flow.bulk = self._size > BULK
        if cycle.body:
            self.flow.pause_reading()  # until the application takes what there is
        elif self.flow.bulk:  # it has brought nothing but the lengths of chunks
            self.flow.pause_reading()
            self.flow.resume_reading()

    def _drop(self, size: int) -> None:
        """Of what nobody needs any more, some is read, in turns."""
        self._size += size
        if self._size > self._bounds.drained:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.flow.bulk = True
            self.flow.pause_reading()
            self.flow.resume_reading()

    def _look_at_unsent(self, now: float) -> None:
        left = self.transport.get_write_buffer_size()
        if not left:
            self._unsent = None
        elif self._unsent is None or left > self._unsent[1]:
            self._unsent = (now if self._unsent is None else self._unsent[0], left)

    def _leave(self) -> None:
        """Say no more, and read and drop what still comes, for a moment."""
        if self._left:
            return
        self._gone(self.loop.time())
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()

    def _gone(self, now: float) -> None:
        self._left = True
        self._size = 0
        self.since = now


class Lingering:
    """The transport of a request whose body comes in parts, as uvicorn sees it, which closes it after its last answer.

    Closed with something unread, a connection is reset, and the reset takes the answer with it.
    """

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.hang_up


class Connections:
    """All connections of one event loop."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.pacer = Pacer()
        self.others_at_work = 0
        """Connections with a whole request that is not for a webhook, and not answered."""
        self._open: set[Connection] = set()
        self._sent_away: set[Connection] = set()
        self._looked_at = float("-inf")

    def add(self, newest: Connection) -> None:
        self._open.add(newest)
        if len(self._open) > self.bounds.connections:
            self._make_room(newest)

    def remove(self, closed: Connection) -> None:
        self._open.discard(closed)
        self._sent_away.discard(closed)

    def sweep(self, now: float) -> None:
        """End what takes too long; call it a few times a second."""
        passed = now - self._looked_at
        self._looked_at = now
        for each in [*self._open, *self._sent_away]:
            each.check(now, passed)

    def crowded(self) -> bool:
        """Whether one more that is at work would take a place of the webhooks."""
        return self.others_at_work >= self.bounds.others

    def _make_room(self, newest: Connection) -> None:
        """Some at once, so that a flood of new connections does not have each of them look through all."""
        places = self.bounds.connections - self.bounds.others
        unfinished = sum(each.for_webhook and each.phase is Phase.BODY for each in self._open)

        now = newest.since

        def worth(each: Connection) -> tuple[bool, bool, int, float]:
            kept = each.for_webhook and each.phase is Phase.BODY and unfinished <= places
            young = now - each.since < YOUNG
            return kept, young, 0 if young else each.phase, each.since

        others = sorted((each for each in self._open if each is not newest), key=worth)
        going = [each for each in others if each.phase is not Phase.AT_WORK][: max(1, self.bounds.connections // 20)]
        going = going or [newest]
        for each in going:
            self._open.discard(each)
            self._sent_away.add(each)
            each.give_way()
        log.warning("web.too_many_connections", most=self.bounds.connections, closed=len(going), seldom=True)


class Server(uvicorn.Server):
    """uvicorn's server, whose connections are bounded."""

    def __init__(self, app: ASGIApp, bounds: Bounds, **options: Any) -> None:
        self.bounded = Connections(bounds)
        protocol = cast(Any, partial(Connection, among=self.bounded))
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                log_config=None,
                log_level="error",  # what strangers send wrongly is not worth a line each
                access_log=False,
                server_header=False,
                timeout_keep_alive=math.ceil(bounds.idle),
                timeout_graceful_shutdown=10,
                **options,
            )
        )

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self.bounded.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


async def answer_crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """While every place but those of the webhooks is at work."""
    response = overloaded("there are too many connections; try again later").response()
    response.headers["Connection"] = "close"
    await response(scope, receive, secured(scope, send))


def too_slow(what: str, seconds: float) -> Response:
    return refusal(408, f"{what} is not here after {seconds:.0f} s", "TOO_SLOW")


def written(response: Response) -> bytes:
    """An answer that no application gives, and the last one."""
    headers = [*response.raw_headers, *ALWAYS, (b"connection", b"close")]
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])
