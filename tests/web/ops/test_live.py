"""Pages that follow what happens: streams that end, that crowd nobody out, and that cost Postgres nothing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest

from domain.errors import Unavailable
from tests.cli.shell import NOWHERE, ROOT
from tests.wait import until
from tests.web.ops.browsing import serving
from web.ops.answers import MOST_KEPT, Answers
from web.ops.app import ops_routes
from web.ops.live import Live
from web.server.connections import ConnectionLimits
from workers.app import App, build
from workers.settings import Settings

QUICK = 0.05


def opened(address: str, *headers: str) -> socket.socket:
    """A stream, asked for."""
    host, port = address.removeprefix("http://").split(":")
    stream = socket.create_connection((host, int(port)), timeout=30)
    lines = ["GET /ops/live HTTP/1.1", f"Host: {host}", *headers, "", ""]
    stream.sendall("\r\n".join(lines).encode())
    return stream


def read_until(stream: socket.socket, what: bytes) -> bytes:
    read = b""
    while what not in read:
        some = stream.recv(4096)
        assert some, f"it ended after {read!r}"
        read += some
    return read


@pytest.fixture
def live() -> Live:
    return Live(every=QUICK, most=3)


@pytest.fixture
def address(app: App, live: Live) -> Iterator[str]:
    with serving(ops_routes(app, live), live) as address:
        yield address


def test_a_page_is_told_to_look_again(address: str) -> None:
    with closing(opened(address)) as stream:
        head = read_until(stream, b"event: look")
        assert b"200 OK" in head
        assert b"content-type: text/event-stream" in head
        assert b"id: 0\n\n" in head
        read_until(stream, b"event: look")


def test_a_page_that_was_away_looks_at_once(app: App) -> None:
    live = Live(every=3600)
    with serving(ops_routes(app, live), live) as address, closing(opened(address, "Last-Event-ID: 7")) as stream:
        read_until(stream, b"event: look")


def test_there_are_only_so_many_streams_and_the_next_one_is_told_to_come_again(address: str, live: Live) -> None:
    with ExitStack() as streams:
        for _ in range(3):
            read_until(streams.enter_context(closing(opened(address))), b"id: ")
        with closing(opened(address)) as fourth:
            assert b"retry: 30000\nevent: full\n" in read_until(fourth, b"0\r\n\r\n")
        assert live.open == 3
    until(lambda: live.open == 0, "the streams that nobody reads to end")
    with closing(opened(address)) as again:
        read_until(again, b"event: look")


def test_a_stream_ends_after_a_while_so_that_its_token_is_looked_at_again(app: App) -> None:
    live = Live(every=QUICK, longest=0.2)
    with serving(ops_routes(app, live), live) as address, closing(opened(address)) as stream:
        read_until(stream, b"0\r\n\r\n")


def test_streams_leave_room_for_webhooks_and_quiet_ones_are_kept(app: App) -> None:
    limits = ConnectionLimits(connections=8, head=0.2, body=0.2, idle=0.2, longest=0.2)
    live = Live(every=3600, most=6)
    with serving(ops_routes(app, live), live, limits) as address, ExitStack() as streams:
        quiet = [streams.enter_context(closing(opened(address))) for _ in range(6)]
        for each in quiet:
            read_until(each, b"id: 0\n\n")
        assert httpx.get(f"{address}/ops/workers").status_code == 503
        # Nobody answers webhooks here; that they are asked at all is what matters.
        assert httpx.post(f"{address}/webhooks/stripe", content=b"{}").status_code == 404
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.5, "several sweeps")
        assert live.open == 6


def test_a_stream_that_nobody_reads_grows_nothing_and_is_ended(app: App) -> None:
    limits = ConnectionLimits(body=0.5, rate=10**9, longest=1.0)
    live = Live(every=0.0001)
    with serving(ops_routes(app, live), live, limits) as address, closing(socket.socket()) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        host, port = address.removeprefix("http://").split(":")
        stream.connect((host, int(port)))
        stream.sendall(b"GET /ops/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: live.open == 1, "the stream")
        until(lambda: live.open == 0, "the stream that is not read to be ended")


@pytest.mark.proof
def test_the_web_process_ends_within_ten_seconds_though_streams_are_open(settings: Settings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    environment = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url, "PORT": str(port)}
    environment |= {"HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), "LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, "-m", "cli.main", "web"], cwd=ROOT, env=os.environ | environment)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(address), "the web process to serve")
        with ExitStack() as streams:
            for _ in range(50):
                read_until(streams.enter_context(closing(opened(address))), b"id: ")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - began < 10
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


# --- answers ------------------------------------------------------------------------------------------------


def test_fifty_who_ask_at_once_are_answered_by_one_question() -> None:
    asked = threading.Event()
    calls: list[int] = []

    def ask() -> Mapping[str, Any]:
        calls.append(1)
        assert asked.wait(30)
        return {"calls": len(calls)}

    async def all_of_them() -> list[Mapping[str, Any]]:
        answers = Answers(fresh_for=0.0)
        waiting = [asyncio.ensure_future(answers.get("page", ask)) for _ in range(50)]
        hung_up = asyncio.ensure_future(answers.get("page", ask))
        await asyncio.sleep(0)
        hung_up.cancel()
        asked.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(all_of_them()) == [{"calls": 1}] * 50


def test_an_answer_is_used_again_while_it_is_fresh_and_a_refusal_never() -> None:
    now = [0.0]
    calls: list[str] = []

    def ask() -> Mapping[str, Any]:
        calls.append("asked")
        if len(calls) == 1:
            raise Unavailable("Postgres went away")
        return {"at": now[0]}

    async def one_after_the_other() -> list[float]:
        answers = Answers(fresh_for=2.0, clock=lambda: now[0])
        with pytest.raises(Unavailable):
            await answers.get("page", ask)
        found = []
        for now[0] in (1.0, 2.9, 3.1):
            found.append((await answers.get("page", ask))["at"])
        return found

    assert asyncio.run(one_after_the_other()) == [1.0, 1.0, 3.1]


def test_whoever_is_late_for_a_look_is_shown_what_the_others_were() -> None:
    """Fifty pages take longer to write than an answer is fresh; it is used until all are told to look again."""
    moments = [(5.0, None), (10.1, 10.0), (14.9, 10.0), (15.1, 15.0), (18.0, None)]
    now: list[float] = [0.0]
    woken_at: list[float | None] = [None]

    async def each_in_turn() -> list[float]:
        answers = Answers(fresh_for=2.0, clock=lambda: now[0], woken_at=lambda: woken_at[0])
        found = []
        for now[0], woken_at[0] in moments:
            found.append((await answers.get("page", lambda: {"at": now[0]}))["at"])
        return found

    assert asyncio.run(each_in_turn()) == [5.0, 10.1, 10.1, 15.1, 18.0]


def test_only_so_many_answers_are_kept() -> None:
    calls: list[int] = []

    async def many() -> None:
        answers = Answers(fresh_for=3600)
        for number in (*range(MOST_KEPT + 1), 0, MOST_KEPT):
            await answers.get(number, lambda number=number: calls.append(number) or {})

    asyncio.run(many())
    assert calls == [*range(MOST_KEPT + 1), 0]


def test_a_page_says_that_postgres_does_not_answer(settings: Settings, live: Live) -> None:
    nowhere = settings.model_copy(update={"database_url": NOWHERE})
    with closing(build(nowhere, name="tests")) as app, serving(ops_routes(app, live), live) as address:
        response = httpx.get(f"{address}/ops/workers")
    assert response.status_code == 503
    assert "Nothing can be shown now" in response.text
    assert "sekret" not in response.text
