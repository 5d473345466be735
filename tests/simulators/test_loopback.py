"""The servers on this machine that stand for those outside: quiet about clients that leave, not about faults."""

import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from simulators.loopback import Loopback, Reply, Request, serving
from tests.wait import until

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"


def leave(url: str, sent: bytes, *, heard: int) -> None:
    """A client that resets its connection after it has sent and heard so much."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0)) as client:
        client.sendall(sent)
        if heard:
            assert client.recv(heard)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def until_all_are_answered() -> None:
    until(lambda: not any("process_request" in thread.name for thread in threading.enumerate()), "the handlers to end")


@pytest.mark.parametrize(
    ("sent", "heard"),
    [(b"", 0), (REQUEST[:20], 0), (REQUEST, 0), (REQUEST + b"hello", 0), (REQUEST + b"hello", 1)],
    ids=["nothing", "half a head", "no body", "a request", "a request, and reads the first byte"],
)
@pytest.mark.parametrize("reply", [Reply(b"x" * 3_000_000), Reply(b"x" * 2000, drip=0.001)], ids=["long", "dripping"])
def test_a_client_that_leaves_is_no_error(
    capfd: pytest.CaptureFixture[str], sent: bytes, heard: int, reply: Reply
) -> None:
    with Loopback(lambda request: reply) as server:
        leave(server.url, sent, heard=heard)
        until_all_are_answered()
        with httpx.stream("GET", server.url) as answer:
            assert answer.status_code == 200
    until_all_are_answered()
    assert capfd.readouterr().err == ""


def test_a_fault_of_the_server_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def answer(request: Request) -> Reply:
        raise ValueError("no such answer")

    with Loopback(answer) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.url)
    until_all_are_answered()
    assert "ValueError: no such answer" in capfd.readouterr().err


def test_a_connection_kept_alive_does_not_keep_the_server() -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with httpx.Client() as client:
        with serving(Handler) as base:
            assert client.get(base).status_code == 204
        with pytest.raises(httpx.ConnectError):
            httpx.get(base)


def test_a_body_is_cut_where_it_was_asked_to_be() -> None:
    with Loopback(lambda request: Reply(b"x" * 1000, cut=500), protocol="HTTP/1.1") as server:
        with httpx.stream("GET", server.url) as answer:
            assert answer.headers["content-length"] == "1000"
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()


@pytest.mark.parametrize("reply", [Reply(hang_up=True, reset=True), Reply(b"x" * 1000, cut=500, reset=True)])
def test_a_connection_is_reset_and_not_closed(reply: Reply, capfd: pytest.CaptureFixture[str]) -> None:
    with Loopback(lambda request: reply, protocol="HTTP/1.1") as server:
        with pytest.raises(httpx.ReadError):
            httpx.get(server.url)
    until_all_are_answered()
    assert capfd.readouterr().err == ""


def test_what_was_asked_for_is_done_before_a_fault_that_is_handled() -> None:
    done: list[str] = []

    def answer(request: Request) -> Reply:
        done.append(request.method)
        return Reply(b"done")

    with Loopback(answer) as server:
        server.fail(Reply(status=500))
        server.fail(Reply(status=500), handled=True)
        assert [httpx.put(server.url).status_code, httpx.delete(server.url).status_code] == [500, 500]
        assert done == ["DELETE"]
        assert httpx.delete(server.url).content == b"done"
