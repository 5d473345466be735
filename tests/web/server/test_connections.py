"""Connections that take too long or are too many: who goes, who stays, and that webhooks always find a place."""

import asyncio
import contextlib
import gc
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tests.attack.families.framing import SMUGGLED
from tests.attack.wire import Wire, head, post
from tests.wait import until
from web.server.body import Body, BodyTooLarge, Disconnected
from web.server.connections import MAX_PIPELINED, MOST_CONNECTIONS, ConnectionLimits, Server, connection_limits

LONG = 60.0
"""Seconds of a bound that a test does not want to reach."""


class House:
    """An application that reads the body, waits for `may_answer`, and answers with `answer`."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answer = b"{}"
        self.served: list[tuple[str, bytes, list[tuple[bytes, bytes]]]] = []
        self.at_work = 0
        self.server: Server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return None
        try:
            body = await Body().read(scope, receive, 2**20)
        except BodyTooLarge:
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
            return await send({"type": "http.response.body"})
        except Disconnected:
            return None
        self.at_work += 1
        while not self.may_answer.is_set() and not scope["path"].startswith("/webhooks"):
            await asyncio.sleep(0.01)
        self.at_work -= 1
        self.served.append((scope["path"], body, scope["headers"]))
        length = (b"content-length", b"%d" % len(self.answer))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        return await send({"type": "http.response.body", "body": self.answer})

    def wire(self, **options: Any) -> Wire:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return Wire("127.0.0.1", port, 60, **options)

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)


@contextlib.contextmanager
def house(**bounded: Any) -> Iterator[House]:
    usual = {"head": LONG, "body": LONG, "idle": LONG}
    built = House()
    built.server = Server(built, ConnectionLimits(**(usual | bounded)), port=0, lifespan="off")
    thread = threading.Thread(target=built.server.run)
    thread.start()
    try:
        until(lambda: built.server.started, "the server to start")
        yield built
    finally:
        built.may_answer.set()
        built.server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


# --- deadlines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [b"G", head("GET", "/")[:-2], head("GET", "/") + b"GET / HT"])
def test_a_head_that_is_not_here_in_time_is_told_so(half: bytes) -> None:
    with house(head=0.3) as web, web.wire() as wire:
        wire.send(half)
        if half.startswith(head("GET", "/")):
            assert wire.answer() == "200"
        assert wire.answer() == "408"
        assert wire.ended(60)


@pytest.mark.parametrize("path", ["/api/generate", "/webhooks/stripe"])
def test_a_body_that_is_not_here_in_time_is_told_so(path: str) -> None:
    with house(body=0.3) as web, web.wire() as wire:
        wire.send(post(path, b"{}")[:-1])
        assert wire.answer() == "408"
        assert wire.ended(60)
        assert web.served == []


def test_what_drips_ends_though_something_always_comes() -> None:
    with house(head=0.3, body=0.3, rate=1000) as web:
        for drip in (b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000, post("/", b"a" * 10_000)):
            with web.wire() as wire:
                wire.drip(drip, 0.01, for_seconds=60)
                assert wire.answer() == "408"


def test_an_honest_slow_sender_gets_through() -> None:
    with house(body=2.0, rate=1) as web, web.wire() as wire:
        began = time.monotonic()
        wire.send(head("POST", "/", "Content-Length: 30"))
        wire.drip(b"x" * 30, 0.08, for_seconds=60)
        assert time.monotonic() - began > 2.0
        assert wire.answer() == "200"


def test_whoever_is_silent_is_let_go() -> None:
    with house(idle=0.3) as web, web.wire() as fresh, web.wire() as served, web.wire() as blank:
        served.send(head("GET", "/"))
        assert served.answer() == "200"
        blank.send(b"\r\n")
        for wire in (fresh, served, blank):
            assert wire.ended(60)


def test_who_does_not_read_the_answer_is_let_go() -> None:
    with house(body=0.3, rate=10**9) as web, web.wire(window=4096) as wire:
        web.answer = b"x" * 2**25
        wire.send(head("GET", "/"))
        until(lambda: web.served, "the answer to be given")
        until(lambda: web.open == 0, "the connection to be ended")


def test_who_reads_the_answer_slowly_gets_all_of_it() -> None:
    with house(body=1.0, rate=2**14, longest=LONG) as web, web.wire(window=4096) as wire:
        web.answer = b"x" * 2**21  # at the least rate, two minutes
        wire.send(head("GET", "/"))
        time.sleep(1.5)  # longer than `body`
        assert wire.answer() == "200"


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        head("POST", "/api/generate")[:-2],
        post("/api/generate", b"{}")[:-1],
        post("/webhooks/stripe", b"{}")[:-1],
        head("GET", "/"),
    ],
    ids=["nothing", "half a head", "half a body", "half a webhook", "a request"],
)
def test_the_newest_get_in_and_webhooks_always(begun: bytes) -> None:
    with house(connections=16) as web, contextlib.ExitStack() as stack:
        for _ in range(50):
            wire = stack.enter_context(web.wire())
            wire.send(begun)
        for _ in range(20):
            with web.wire() as webhook:
                webhook.send(post("/webhooks/stripe", b"{}"))
                assert webhook.answer() == "200"
        until(lambda: web.open <= 16, "the others to be let go")


def test_whoever_is_at_work_stays_and_leaves_the_webhooks_their_places() -> None:
    with house(connections=8) as web, contextlib.ExitStack() as stack:
        web.may_answer.clear()
        wires = [stack.enter_context(web.wire()) for _ in range(6)]
        for number, wire in enumerate(wires, start=1):
            wire.send(head("GET", "/"))
            until(lambda number=number: web.at_work == number, "it to be at work")
        with web.wire() as one_more:
            one_more.send(head("GET", "/"))
            assert one_more.answer() == "503"
            assert one_more.ended(60)
        for _ in range(20):
            with web.wire() as webhook:
                webhook.send(post("/webhooks/stripe", b"{}"))
                assert webhook.answer() == "200"
        web.may_answer.set()
        assert [wire.answer() for wire in wires] == ["200"] * 6


def test_bodies_that_all_end_at_once_leave_the_webhooks_their_places_too() -> None:
    with house(connections=8) as web, contextlib.ExitStack() as stack:
        web.may_answer.clear()
        wires = [stack.enter_context(web.wire()) for _ in range(8)]
        for wire in wires:
            wire.send(post("/", b"{}")[:-1])
        until(lambda: web.open == 8, "all to be there")
        for wire in wires:
            wire.send(b"}")
        until(lambda: web.at_work == 6, "six to be at work")
        with web.wire() as webhook:
            webhook.send(post("/webhooks/stripe", b"{}"))
            assert webhook.answer() == "200"
        web.may_answer.set()
        assert sorted(wire.answer() for wire in wires) == ["200"] * 6 + ["503"] * 2
        until(lambda: web.server.pool.other_requests == 0, "nobody to be at work")


def test_many_clients_of_one_address_come_and_stay() -> None:
    with house() as web, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(web.wire()) for _ in range(100)]
        for _ in range(2):
            for wire in wires:
                wire.send(head("GET", "/"))
            assert {wire.answer() for wire in wires} == {"200"}


@given(st.integers(1, 2**20))
def test_connections_leave_room_for_other_files(open_files: int) -> None:
    most = connection_limits(open_files)
    assert 8 <= most.connections <= MOST_CONNECTIONS
    assert most.connections <= max(8, open_files // 2 + 1) or most.connections <= open_files - 128
    assert 0 < most.others < most.connections


# --- forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 4096),
        (b"GET / HTTP/1.1\r\n", b"x" * 4096),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 20),
        (head("GET", "/", *[f"X-{n}: a" for n in range(200)]), b""),
        (head("GET", "/" + "a" * 33_000), b""),
        (head("GET", "/", "X: " + "a" * 33_000), b""),
        (head("GET", "/" + "a" * 70_000), b""),
    ],
    ids=["url", "value", "name", "headers", "at once", "url at once", "value at once", "url that no parser reads"],
)
def test_a_head_without_end_is_told_so(endless: tuple[bytes, bytes]) -> None:
    begun, more = endless
    with house() as web, web.wire() as wire:
        wire.send(begun)
        for _ in range(100):
            if not more or wire.heard(0.02) or not wire.send(more):
                break
        assert wire.answer() == "431"
        assert web.served == []


@pytest.mark.parametrize("hosts", [[], ["Host: a", "Host: b"], ["Host: a", "hOST: a"]])
def test_a_request_has_one_host(hosts: list[str]) -> None:
    with house() as web, web.wire() as wire:
        wire.send("\r\n".join(["GET / HTTP/1.1", *hosts, "", ""]).encode())
        assert wire.answer() == "400"
        assert web.served == []
    with house() as web, web.wire() as wire:
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        assert wire.answer() == "200"


@pytest.mark.parametrize("form", SMUGGLED)
def test_a_length_that_can_be_read_in_two_ways_is_not_read(form: str) -> None:
    with house() as web, web.wire() as wire:
        wire.send(SMUGGLED[form] + head("GET", "/hidden"))
        assert wire.answer() == "400"
        assert wire.ended(60)
        assert "/hidden" not in [path for path, _, _ in web.served]


def test_what_stands_behind_the_body_is_no_header() -> None:
    with house() as web, web.wire() as wire:
        wire.send(head("POST", "/", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n")
        assert wire.answer() == "200"
        [(_, body, headers)] = web.served
        assert (body, [name for name, _ in headers if name == b"authorization"]) == (b"{}", [])


@pytest.mark.parametrize("endless", [b"5;" + b"a" * 4096, b"0\r\nX: " + b"a" * 4096, b"0\r\n" + b"X: a\r\n" * 700])
def test_what_stands_between_the_bytes_of_a_body_has_an_end(endless: bytes) -> None:
    with house() as web, web.wire() as wire:
        wire.send(head("POST", "/", "Transfer-Encoding: chunked") + endless)
        for _ in range(100):
            if wire.heard(0.02) or not wire.send(endless[-700:]):
                break
        assert wire.answer() == "431"
        assert web.served == []


def test_requests_far_ahead_are_answered_in_order_up_to_the_last_one_taken() -> None:
    with house() as web, web.wire() as wire:
        web.may_answer.clear()
        wire.send(b"".join(head("GET", f"/{n}") for n in range(500)))
        until(lambda: web.at_work, "the first to be at work")
        web.may_answer.set()
        answers = [wire.answer() for _ in range(MAX_PIPELINED + 1)]
        assert answers == ["200"] * (MAX_PIPELINED + 1)
        assert wire.answer() == "closed"
        assert [path for path, _, _ in web.served] == [f"/{n}" for n in range(MAX_PIPELINED + 1)]


def test_a_body_that_comes_slowly_behind_another_request_is_waited_for() -> None:
    with house() as web, web.wire() as wire:
        slow = post("/second", b"{}", "Connection: close")
        wire.send(head("GET", "/first") + slow[:-1])
        assert wire.answer() == "200"
        wire.send(slow[-1:])
        assert [wire.answer(), wire.answer()] == ["200", "closed"]
        assert [path for path, _, _ in web.served] == ["/first", "/second"]


def test_what_is_no_http_does_not_take_the_answer_of_the_request_before_it() -> None:
    with house() as web, web.wire() as wire:
        web.may_answer.clear()
        wire.send(head("GET", "/first") + b"\0\0 this is nothing\r\n\r\n")
        until(lambda: web.at_work, "the first to be at work")
        web.may_answer.set()
        assert [wire.answer(), wire.answer()] == ["200", "closed"]


def test_what_is_told_without_an_application_looks_like_every_refusal() -> None:
    with house() as web, web.wire() as wire:
        wire.send(b"\x16\x03\x01 this is TLS\r\n\r\n")
        data = b""
        while not data.endswith(b"}"):
            data += wire.socket.recv(65536)
        lines, _, body = data.partition(b"\r\n\r\n")
        assert json.loads(body) == {"error": "this is not HTTP/1.1", "code": "NOT_HTTP", "details": None}
        assert {b"connection: close", b"x-content-type-options: nosniff"} <= set(lines.lower().split(b"\r\n"))


def test_a_webhook_is_answered_in_one_packet() -> None:
    with house() as web, web.wire() as wire:
        for n in range(1, 4):
            wire.send(post("/webhooks/stripe", b"{}"))
            assert wire.answer() == "200"
            assert data_packets(wire) == n


def data_packets(wire: Wire) -> int:
    """How many packets with data have come: `tcpi_data_segs_in` of Linux."""
    found: int = struct.unpack_from("I", wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0]
    return found


@pytest.mark.proof
def test_an_answered_webhook_leaves_nothing_to_the_garbage_collector() -> None:
    with house() as web, web.wire() as wire:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                wire.send(post("/webhooks/stripe", b"{}"))
                assert wire.answer() == "200"
            left = sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects())
        finally:
            gc.enable()
        assert left <= 2, "the last one, and perhaps the one before"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_whoever_waits_for_a_word_before_the_body_of_a_webhook_gets_it(method: str) -> None:
    with house() as web, web.wire() as wire:
        wire.send(head(method, "/webhooks/stripe", "Content-Length: 2", "Expect: 100-continue"))
        assert wire.answer() == "100"
        wire.send(b"{}")
        assert wire.answer() == "200"
        assert web.served[0][1] == b"{}"


def test_half_a_request_does_not_hold_up_the_end_of_the_process() -> None:
    with house() as web, web.wire() as half, web.wire() as half_body:
        half.send(head("GET", "/")[:-2])
        half_body.send(post("/", b"{}")[:-1])
        until(lambda: web.open == 2, "both to be there")
        web.server.should_exit = True
        assert half_body.answer() in ("503", "closed")
        assert half.answer() in ("503", "closed")


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept", "closed"])
def test_who_is_refused_while_sending_reads_why_and_that_it_is_the_end(lines: tuple[str, ...]) -> None:
    with house() as web:
        for _ in range(10):
            with web.wire() as wire:
                wire.send(post("/", b"x" * (2**20 + 2**19), *lines))  # more than the application takes
                assert wire.answer() == "413"
                assert b"connection: close" in wire.lines.lower()
                assert wire.ended(60)


def test_a_connection_whose_body_came_in_parts_is_kept() -> None:
    with house() as web, web.wire() as wire:
        for _ in range(3):
            whole = post("/", b"x" * 300_000)
            for part in (whole[:10], whole[10:200], whole[200:]):
                wire.send(part)
            assert wire.answer() == "200"
            assert b"connection: close" not in wire.lines.lower()
