"""Bodies that are sent piece by piece: what is certain about one that did not arrive whole, and who may be sent one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes
from time import monotonic

import pytest

from domain.errors import Unavailable
from integrations.http.bodies import Body, FormFile, multipart
from integrations.http.client import Http, Request
from integrations.http.errors import AddressRefused, NotSent
from simulators.loopback import Loopback, Reply, json_reply

FILE = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(lambda received: Reply(b"{}", 201), protocol="HTTP/1.1") as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    with closing(Http("viral-tests (tests@example.com)", most_bytes=1000)) as http:
        yield http


def pieces() -> Iterator[bytes]:
    for start in range(0, len(FILE), 100_000):
        yield FILE[start : start + 100_000]


def put(url: str, body: Body) -> Request:
    return Request("the server", f"{url}/upload", headers={"Content-Range": "bytes 0-1/2"}, method="PUT", body=body)


def test_a_body_arrives_whole_with_its_length_and_type(server: Loopback, http: Http) -> None:
    fractions: list[float] = []
    body = Body(len(FILE), pieces, "video/mp4")
    assert http.exchange(put(server.url, body), within=5, home=server.url, watch=fractions.append).status == 201
    [received] = server.requests
    assert (received.method, received.body) == ("PUT", FILE)
    assert received.headers["content-length"] == str(len(FILE))
    assert (received.headers["content-type"], received.headers["content-range"]) == ("video/mp4", "bytes 0-1/2")
    assert "transfer-encoding" not in received.headers
    assert fractions[0] == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_json_and_other_methods(server: Loopback, http: Http, method: str) -> None:
    http.exchange(Request("the server", server.url, method=method, json={"title": "é"}))
    [received] = server.requests
    assert (received.method, received.body) == (method, '{"title":"é"}'.encode())
    assert received.headers["content-type"] == "application/json; charset=UTF-8"


def test_an_empty_put_says_that_it_is_empty(server: Loopback, http: Http) -> None:
    http.exchange(Request("the server", server.url, method="PUT", content=b""))
    assert server.requests[0].headers["content-length"] == "0"


def test_what_watch_raises_ends_the_call(server: Loopback, http: Http) -> None:
    def stop(_: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        http.exchange(put(server.url, Body(len(FILE), pieces)), watch=stop)
    assert [received.body for received in server.requests] in ([], [b""])


def test_watch_is_not_asked_any_more_once_everything_is_sent(http: Http) -> None:
    after: list[float] = []
    arrived = threading.Event()

    def answer(received: object) -> Reply:
        arrived.set()
        return Reply(b"{}", after=0.7)

    with Loopback(answer) as slow:
        http.exchange(put(slow.url, Body(3, lambda: iter([b"abc"]))), watch=lambda _: after.append(arrived.is_set()))
    assert after == [False]


class BrokenOff(NotSent):
    """A store that could not be asked: about this body that would be a lie."""


@pytest.mark.parametrize("error", [BrokenOff("nothing left"), OSError("gone")], ids=["not sent", "os error"])
def test_a_source_that_breaks_off_leaves_it_unknown(server: Loopback, http: Http, error: Exception) -> None:
    def broken() -> Iterator[bytes]:
        yield FILE[:100_000]
        raise error

    with pytest.raises(Unavailable, match="cannot be read") as raised:
        http.exchange(put(server.url, Body(len(FILE), broken)))
    assert not isinstance(raised.value, NotSent)


@pytest.mark.parametrize(("size", "words"), [(len(FILE) + 1, "ended after"), (len(FILE) - 1, "longer than")])
def test_a_body_of_another_length_is_not_taken_for_one(server: Loopback, http: Http, size: int, words: str) -> None:
    with pytest.raises(Unavailable, match=words) as raised:
        http.exchange(put(server.url, Body(size, pieces)))
    assert not isinstance(raised.value, NotSent)


def test_a_server_that_takes_nothing_is_given_up(http: Http) -> None:
    endless = Body(10**9, lambda: iter(lambda: bytes(1_000_000), None))
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        began = monotonic()
        with pytest.raises(Unavailable) as raised:
            http.exchange(put(f"http://127.0.0.1:{nobody.getsockname()[1]}", endless), within=1)
    assert not isinstance(raised.value, NotSent)
    assert monotonic() - began < 30  # without the bound it would never end


def test_nothing_left_where_nobody_listens(http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(NotSent):
        http.exchange(put(f"http://127.0.0.1:{port}", Body(len(FILE), pieces)))


def test_an_early_refusal_is_an_answer(http: Http) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1_000_000):
                    pass

        threading.Thread(target=refuse, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert http.exchange(put(url, Body(len(FILE), pieces))).status == 403


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://example.com", NotSent),
        ("https://127.0.0.1", AddressRefused),
        ("https://localhost", AddressRefused),
        ("https://[::1]", AddressRefused),
        ("https://169.254.169.254", AddressRefused),
        ("ftp://example.com", NotSent),
        ("http://[", NotSent),
    ],
)
def test_an_address_from_outside_is_https_and_public(server: Loopback, http: Http, url: str, error: type) -> None:
    with pytest.raises(error):
        http.exchange(put(url, Body(len(FILE), pieces)), home=server.url)
    assert server.requests == []


def test_a_redirect_is_not_followed(http: Http) -> None:
    with Loopback(lambda received: Reply(b"x", 307, {"Location": "/elsewhere"})) as server:
        response = http.exchange(put(server.url, Body(len(FILE), pieces)), home=server.url)
        assert (response.status, response.body, len(server.requests)) == (307, b"", 1)


def test_a_form_with_a_file(http: Http) -> None:
    with Loopback(lambda received: json_reply({})) as server:
        file = FormFile("file", 'a "video".mp4', Body(len(FILE), pieces, "video/mp4"))
        form = multipart({"description": "é\nand more", "focus": ""}, file)
        http.exchange(Request("the server", server.url, body=form))
        [received] = server.requests
    assert int(received.headers["content-length"]) == form.size == len(received.body)
    head = f"Content-Type: {received.headers['content-type']}\r\n\r\n".encode()
    _, *parts = message_from_bytes(head + received.body).walk()
    found = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
    assert found == {"description": "é\nand more".encode(), "focus": b"", "file": FILE}
    assert parts[-1].get_content_type() == "video/mp4"
