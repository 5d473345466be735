"""Limits of the web server's connections: how long each part of a request may take, and which are closed when there are
too many.

uvicorn has no such limits: an unfinished request stays open for ever, a head grows without end, and so does the
pipeline of requests that are sent ahead of their responses. Here each of them ends, and webhooks always find a free
connection: the newest one is accepted, and of the others one is closed that has no request in progress.
"""

import asyncio
import math
import resource
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, Final, NoReturn, cast

import structlog
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from web.error_responses import error_response, overloaded
from web.server.headers import ALWAYS, secured

WEBHOOKS: Final = b"/webhooks/"
UPLOADS: Final = (b"/api/media", b"/api/import")
"""Where files are posted to (`web/api/media.py`, `web/api/imports.py`): the only bodies that may take longer than
minutes."""
MOST_CONNECTIONS = 2000
MAX_HEAD = 32 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 8
"""Requests that may be sent on one connection before the first of them is answered."""

BULK = 64 * 1024
"""Bytes of one request above which the rest is read in scheduled reads."""

READS, READ_EVERY = 4, 0.002
"""So many reads of a receive buffer (`web/server/listen.py`) are scheduled every two milliseconds."""

YOUNG = 1.0
"""Seconds that an honest request needs to arrive. Of younger connections the oldest is closed, whatever its state."""

SWEEP_TICKS = 5
"""Limits are checked every so many ticks of uvicorn, which has ten a second."""

log = structlog.get_logger()


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of one process: `connections` at once, and the seconds that each part of a request may take.

    A body, or a response that is read slowly, has `body` seconds and one more for each `rate` bytes, up to `longest`;
    a file that is uploaded, one for each `upload_rate`, up to `longest_upload`. A sender has `linger` seconds to read
    why we hang up.
    """

    connections: int = MOST_CONNECTIONS
    head: float = 5.0
    body: float = 10.0
    rate: int = 500
    longest: float = 300.0
    upload_rate: int = 32 * 1024
    longest_upload: float = 3600.0
    idle: float = 75.0
    linger: float = 2.0
    drained: int = 2 * 1024 * 1024
    """Bytes that are read and dropped, so that the sender reads its answer and not a reset."""

    @property
    def others(self) -> int:
        """The connections that may process something else than webhooks at once."""
        return self.connections - self.connections // 4

    def seconds_for(self, size: int) -> float:
        """Return the seconds that so many bytes may take."""
        return min(self.body + size / self.rate, self.longest)

    def seconds_for_upload(self, size: int) -> float:
        """Return the seconds that so many bytes of a file may take."""
        return min(self.body + size / self.upload_rate, self.longest_upload)


def connection_limits(open_files: int | None = None) -> ConnectionLimits:
    """Return limits for this process: its open files (`ulimit -n`), less those that Postgres, Redis and files need."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
    if limit == resource.RLIM_INFINITY:
        return ConnectionLimits()
    return ConnectionLimits(connections=max(8, min(MOST_CONNECTIONS, limit - min(128, limit // 2))))


class ReadScheduler:
    """Schedules the reads of large requests, a few at a time, so that small requests do not wait for all of them.

    The connection that has just read is the next to read again: one body after the other is completed, instead of all
    growing at once.
    """

    def __init__(self) -> None:
        self._waiting: deque[ScheduledFlowControl] = deque()

    def add(self, flow: "ScheduledFlowControl") -> None:
        self._waiting.append(flow)
        if len(self._waiting) == 1:
            self._schedule()

    def _read(self) -> None:
        for _ in range(min(READS, len(self._waiting))):
            self._waiting.pop().read_once()
        if self._waiting:
            self._schedule()

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(READ_EVERY, self._read)


class ScheduledFlowControl(FlowControl):
    """uvicorn's flow control of one connection. With `bulk`, a request so large that its reads are scheduled."""

    def __init__(self, transport: asyncio.Transport, scheduler: ReadScheduler) -> None:
        super().__init__(transport)
        self.bulk = False
        self._scheduler = scheduler
        self._queued = False

    def resume_reading(self) -> None:
        if not self.bulk:
            super().resume_reading()
        elif self.read_paused and not self._queued:
            self._queued = True
            self._scheduler.add(self)

    def read_once(self) -> None:
        self._queued = False
        if not self._transport.is_closing():
            super().resume_reading()


class State(IntEnum):
    """The state of a connection, in the order in which they are closed when there are too many; PROCESSING never is."""

    CLOSING = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    STALLED = 4
    PROCESSING = 5


TOO_MANY: Final = overloaded("there are too many connections; try again later").response()
SHUTTING_DOWN: Final = overloaded("this process is shutting down; try again").response()
NOT_HTTP: Final = error_response(400, "this is not HTTP/1.1", "NOT_HTTP")
HEAD_TOO_LARGE: Final = error_response(
    431, f"the head of the request is larger than {MAX_HEAD} bytes or {MAX_HEADERS} headers", "HEAD_TOO_LARGE"
)
NOT_ONE_HOST: Final = error_response(400, "a request of HTTP/1.1 has one header `Host`", "NOT_HTTP")
TOO_MANY_PIPELINED: Final = error_response(
    429, f"more than {MAX_PIPELINED} requests are sent ahead of their answers", "TOO_FAR_AHEAD"
)


class ParsingAborted(Exception):
    """Raised in a callback of the parser, so that it stops; `Connection._abort_with` is the response."""


class Connection(HttpToolsProtocol):
    """One connection, with its state and the time since when it has it."""

    def __init__(self, *args: Any, pool: "Connections", **options: Any) -> None:
        super().__init__(*args, **options)
        self.for_webhook = False
        self.is_upload = False
        self.since = self.loop.time()
        self._pool = pool
        self._limits = pool.limits
        self._reading: State | None = None
        self._size = 0
        """Bytes of the head or the body that is being read."""
        self._framing = 0
        """Bytes since the last ones of a body: those of a head, of lengths of chunks, of trailers."""
        self._unsent: tuple[float, int] | None = None
        """Since when a response is not read, and the most bytes of it that waited."""
        self._abort_with = NOT_HTTP
        self._processing = False
        self._keeps_alive = True
        self._closing = False

    @property
    def state(self) -> State:
        if self._unsent is not None:
            return State.STALLED
        if self._closing or self.transport.is_closing():
            return State.CLOSING
        answered = self.cycle is None or self.cycle.response_complete
        if self._reading is not None:
            return self._reading
        return State.IDLE if answered and not self.pipeline else State.PROCESSING

    # --- called by uvicorn ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: ScheduledFlowControl = ScheduledFlowControl(transport, self._pool.scheduler)
        self._pool.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.remove(self)
        self._end_processing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._drop(len(data))
            return
        self._framing += len(data)
        super().data_received(data)
        if self._reading is not None and not self._closing and not self.transport.is_closing():
            self._received_part(len(data))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = None  # whoever reads a long response has read on

    def shutdown(self) -> None:
        """Refuse a request that has not been received by now, and let the others finish."""
        if self.state in (State.HEAD, State.BODY):
            self.refuse(SHUTTING_DOWN, linger=False)
        elif self._closing:
            self.transport.close()
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._enter(State.HEAD)
        self._framing = 0

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._abort_parsing(TOO_MANY_PIPELINED)
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            hosts += name == b"host"
        if len(self.headers) > MAX_HEADERS or size > MAX_HEAD:
            self._abort_parsing(HEAD_TOO_LARGE)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._abort_parsing(NOT_ONE_HOST)
        self.for_webhook = self.url.startswith(WEBHOOKS)
        self.is_upload = self.url.partition(b"?")[0] in UPLOADS
        busy = not self.for_webhook and self._pool.is_busy()
        self.app = cast(Any, answer_busy) if busy else self.config.loaded_app
        self._enter(State.BODY)
        super().on_headers_complete()
        if self.for_webhook:
            cast(Any, self.cycle).send = WholeResponse(self.cycle)
        self.headers = []  # trailers, which nobody here reads, must not become headers of the head

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._framing = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if isinstance(self.cycle.transport, LingeringTransport) and not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        if not self.for_webhook and not self.cycle.response_complete:
            if self._pool.is_busy() and self.app is not answer_busy:
                self.refuse(TOO_MANY)
                return
            self._start_processing()
        self._enter(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.cycle.response_complete:
            return  # the next request of the pipeline is being processed
        self._end_processing()
        self.cycle.body = bytearray()  # of a refused request: nobody reads it any more
        if self._reading is None:
            self.since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request whose parsing ended: we aborted it, or the parser cannot read it."""
        endless = self._abort_with is NOT_HTTP and self._reading is State.HEAD and self._framing > MAX_HEAD
        self.refuse(HEAD_TOO_LARGE if endless else self._abort_with)

    # --- limits ----------------------------------------------------------------------------------------------

    def check(self, now: float, passed: float) -> None:
        """End a request that takes too long; `passed` is the seconds since the last check."""
        self._check_unsent(now)
        limits, took = self._limits, now - self.since
        match self.state:
            case State.CLOSING if took > limits.linger:
                self.transport.abort()
            case State.IDLE if took > limits.idle:
                self.transport.close()
                self._start_closing(now)
            case State.HEAD if took > limits.head:
                self.refuse(too_slow("the head of the request", took))
            case State.BODY if self.flow.read_paused:
                self.since += passed  # we do not read
            case State.BODY if took > self._patience():
                self.refuse(too_slow("the body", took))
            case State.STALLED if self._unsent is not None:
                since, size = self._unsent
                if now - since > limits.seconds_for(size):
                    self.transport.abort()

    def _patience(self) -> float:
        allowed = self._limits.seconds_for_upload if self.is_upload else self._limits.seconds_for
        return allowed(self._size)

    def evict(self) -> None:
        """Close the connection: a newer one needs its place."""
        if self.state in (State.HEAD, State.BODY):
            self.refuse(TOO_MANY, linger=False)
        elif self.state is State.IDLE:
            self.transport.close()
            self._start_closing(self.loop.time())
        else:
            self.transport.abort()

    def refuse(self, response: Response, *, linger: bool = True) -> None:
        """Send an error response and hang up, after the responses of earlier requests of the pipeline."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._reading is not State.BODY:
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
            self._linger()
        else:
            self.transport.close()
            self._start_closing(self.loop.time())

    def hang_up(self) -> None:
        """Close after a response; a sender that is still sending its body gets time to read the response first."""
        if self._reading is State.BODY:
            self._linger()
        else:
            self.transport.close()

    def _start_processing(self) -> None:
        if not self._processing:
            self._processing = True
            self._pool.other_requests += 1

    def _end_processing(self) -> None:
        if self._processing:
            self._processing = False
            self._pool.other_requests -= 1

    def _enter(self, reading: State | None) -> None:
        self._reading = reading
        self.since = self.loop.time()
        self._size = 0
        self.flow.bulk = False

    def _abort_parsing(self, response: Response) -> NoReturn:
        self._abort_with = response
        raise ParsingAborted

    def _received_part(self, size: int) -> None:
        """Hold a request that is not complete within its limits."""
        self._size += size
        if self._framing > MAX_HEAD or len(self.headers) > MAX_HEADERS:
            self.refuse(HEAD_TOO_LARGE)
            return
        if self._reading is State.HEAD:
            return
        cycle = self.cycle
        if not isinstance(cycle.transport, LingeringTransport):
            self._keeps_alive = cycle.keep_alive
            cycle.keep_alive = False  # in case it is answered before all of it is here
            cycle.transport = cast(Any, LingeringTransport(self))
        self.flow.bulk = self._size > BULK
        if cycle.body:
            self.flow.pause_reading()  # until the application takes what there is
        elif self.flow.bulk:  # it has brought nothing but the lengths of chunks
            self.flow.pause_reading()
            self.flow.resume_reading()

    def _drop(self, size: int) -> None:
        """Count bytes that nobody needs any more; they are read in scheduled reads, up to `limits.drained`."""
        self._size += size
        if self._size > self._limits.drained:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.flow.bulk = True
            self.flow.pause_reading()
            self.flow.resume_reading()

    def _check_unsent(self, now: float) -> None:
        left = self.transport.get_write_buffer_size()
        if not left:
            self._unsent = None
        elif self._unsent is None or left > self._unsent[1]:
            self._unsent = (now if self._unsent is None else self._unsent[0], left)

    def _linger(self) -> None:
        """Close for writing; what still comes is read and dropped, for a while."""
        if self._closing:
            return
        self._start_closing(self.loop.time())
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.transport.write_eof()

    def _start_closing(self, now: float) -> None:
        self._closing = True
        self._size = 0
        self.since = now


class WholeResponse:
    """The `send` of a webhook's request. It writes a response's head together with its body: two writes are two
    packets, and wake the sender twice. Nearly all responses have the same head, which is put together once."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._head = b""
        self._body = b""

    async def __call__(self, message: Message) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected or cycle.response_complete:
            return
        if not cycle.response_started:
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            self._head = response_head(message["status"], tuple(message.get("headers", ())))
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        lines = [b"%s: %s\r\n" % header for header in cycle.default_headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        body = b"" if cycle.scope["method"] == "HEAD" else self._body
        cycle.transport.write(b"".join([self._head, *lines, b"\r\n", body]))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        del cast(Any, cycle).send  # this object: in a circle, both would wait for the garbage collector


@lru_cache(maxsize=32)
def response_head(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return the status line and the headers."""
    return b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in headers)])


class LingeringTransport:
    """The transport that uvicorn sees, and closes after the last response, for a request whose body comes in parts.

    A connection that is closed with unread bytes is reset, and the sender loses the response; so its close lingers.
    """

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.hang_up


class Connections:
    """All connections of one event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.scheduler = ReadScheduler()
        self.other_requests = 0
        """Connections with a complete request that is not a webhook's, and not answered."""
        self._open: set[Connection] = set()
        self._evicted: set[Connection] = set()
        self._checked_at = float("-inf")

    def add(self, newest: Connection) -> None:
        self._open.add(newest)
        if len(self._open) > self.limits.connections:
            self._make_room(newest)

    def remove(self, closed: Connection) -> None:
        self._open.discard(closed)
        self._evicted.discard(closed)

    def sweep(self, now: float) -> None:
        """End requests that take too long; called a few times a second."""
        passed = now - self._checked_at
        self._checked_at = now
        for each in [*self._open, *self._evicted]:
            each.check(now, passed)

    def is_busy(self) -> bool:
        """Return whether one more request would take a connection that is kept for webhooks."""
        return self.other_requests >= self.limits.others

    def _make_room(self, newest: Connection) -> None:
        """Evict some at once, so that a flood of new connections does not have each of them look through all."""
        reserved = self.limits.connections - self.limits.others
        now = newest.since
        unfinished = sum(each.for_webhook and each.state is State.BODY for each in self._open)

        def worth(each: Connection) -> tuple[bool, bool, int, float]:
            kept = each.for_webhook and each.state is State.BODY and unfinished <= reserved
            young = now - each.since < YOUNG
            return kept, young, 0 if young else each.state, each.since

        others = sorted((each for each in self._open if each is not newest), key=worth)
        idle = [each for each in others if each.state is not State.PROCESSING]
        evicted = idle[: max(1, self.limits.connections // 20)] or [newest]
        for each in evicted:
            self._open.discard(each)
            self._evicted.add(each)
            each.evict()
        log.warning("web.too_many_connections", most=self.limits.connections, closed=len(evicted), seldom=True)


class Server(uvicorn.Server):
    """uvicorn's server, whose connections have limits. When it stops it calls `ending`, which ends streams that would
    never end."""

    def __init__(
        self, app: ASGIApp, limits: ConnectionLimits, *, ending: Callable[[], object] = lambda: None, **options: Any
    ) -> None:
        self.pool = Connections(limits)
        self._ending = ending
        protocol = cast(Any, partial(Connection, pool=self.pool))
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                log_config=None,
                log_level="error",  # a line for each wrong request would be too many
                access_log=False,
                server_header=False,
                proxy_headers=False,  # uvicorn believes those of any program on this machine (web/server/clients.py)
                timeout_keep_alive=math.ceil(limits.idle),
                timeout_graceful_shutdown=10,
                **options,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            self.pool.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


async def answer_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503: only the connections that are kept for webhooks are free."""
    response = overloaded("there are too many connections; try again later").response()
    response.headers["Connection"] = "close"
    await response(scope, receive, secured(scope, send))


def too_slow(part: str, seconds: float) -> Response:
    return error_response(408, f"{part} is not here after {seconds:.0f} s", "TOO_SLOW")


def written(response: Response) -> bytes:
    """Return the bytes of a response that the application does not give, and that closes the connection."""
    headers = [*response.raw_headers, *ALWAYS, (b"connection", b"close")]
    return response_head(response.status_code, tuple(headers)) + b"\r\n" + bytes(response.body)
