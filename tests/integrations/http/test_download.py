"""Files that are copied while they come, and what is certain about a request that failed."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from domain.errors import Unavailable
from integrations.http.client import Http, Request
from integrations.http.errors import AddressRefused, NotSent, RequestRejected, TooLarge
from simulators.loopback import Loopback, Reply
from simulators.loopback import Request as Received
from tests.ports import closed_port
from tests.raw_server import RawServer, answering, dripping, endless

FILE = bytes(range(256)) * 4000


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(lambda received: Reply(FILE, headers={"Content-Type": "video/mp4"})) as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    with closing(Http("viral-tests (tests@example.com)", most_bytes=1000)) as http:
        yield http


def download(
    http: Http,
    url: str,
    target: Path,
    *,
    home: str = "",
    most_bytes: int = len(FILE),
    within: float = 5,
    watch: Callable[[float], object] = lambda fraction: None,
) -> bytes:
    request = Request("the clip", url, headers={"X-Api-Key": "a-key"})
    return http.download(request, target, most_bytes=most_bytes, within=within, watch=watch, home=home)


def test_a_file_is_copied_and_hashed(server: Loopback, http: Http, tmp_path: Path) -> None:
    target = tmp_path / "clip"
    assert download(http, f"{server.url}/clip.mp4", target, home=server.url) == sha256(FILE).digest()
    assert target.read_bytes() == FILE
    [received] = server.requests
    assert (received.headers["x-api-key"], received.headers["accept-encoding"]) == ("a-key", "identity")


def test_it_may_be_as_large_as_it_may_be_and_no_larger(server: Loopback, http: Http, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="more than 1,023,999 bytes"):
        download(http, server.url, tmp_path / "clip", home=server.url, most_bytes=len(FILE) - 1)
    with answering(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as raw:
        with pytest.raises(TooLarge):
            download(http, raw.url, tmp_path / "clip", home=raw.url, most_bytes=1_000_000)
        assert raw.sent < 40_000_000


def no_pieces(server: RawServer) -> Iterator[bytes]:
    server.over.wait(60)
    yield b""


SLOW: dict[str, Callable[[RawServer], Iterable[bytes]]] = {
    "silent": no_pieces,
    "a dripping head": dripping(b"HTTP/1.1 200 OK\r\nX: y\r\n" * 99, 0.1),
    "a dripping body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999, 0.1),
}


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW.keys())
def test_one_deadline_bounds_a_copy(pieces: Callable[[RawServer], Iterable[bytes]], http: Http, tmp_path: Path) -> None:
    begun = monotonic()
    with answering(pieces) as raw:
        with pytest.raises(Unavailable):
            download(http, raw.url, tmp_path / "clip", home=raw.url, within=1.5)
    assert monotonic() - begun < 10


@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW.keys())
def test_whoever_watches_can_end_a_copy_also_while_nothing_comes(
    pieces: Callable[[RawServer], Iterable[bytes]], tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(fraction: float) -> None:
        raise Stopped

    begun = monotonic()
    with answering(pieces) as raw, closing(Http("viral-tests", seconds=(1.0, 60.0, 60.0))) as patient:
        with pytest.raises(Stopped):
            download(patient, raw.url, tmp_path / "clip", home=raw.url, within=60, watch=stop)
    assert monotonic() - begun < 10


def test_the_fraction_that_has_come_is_reported(tmp_path: Path, http: Http) -> None:
    reported: list[float] = []
    with Loopback(lambda received: Reply(b"x" * 400, drip=0.005)) as server:
        download(http, server.url, tmp_path / "clip", home=server.url, watch=reported.append)
    assert reported == sorted(reported)
    assert 0 < reported[0] < 1


@pytest.mark.parametrize(
    "reply",
    [Reply(FILE, cut=1000), Reply(FILE, cut=1000, reset=True), Reply(hang_up=True), Reply(hang_up=True, reset=True)],
    ids=["cut", "reset", "nothing", "nothing, reset"],
)
def test_what_breaks_off_is_no_file(server: Loopback, http: Http, tmp_path: Path, reply: Reply) -> None:
    server.fail(reply)
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        download(http, server.url, tmp_path / "clip", home=server.url)
    assert not isinstance(caught.value, NotSent)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_address_that_has_expired_is_no_file(server: Loopback, http: Http, tmp_path: Path, status: int) -> None:
    server.fail(Reply(b"<Error/>", status))
    with pytest.raises(RequestRejected) as caught:
        download(http, server.url, tmp_path / "clip", home=server.url)
    assert caught.value.status == status
    assert not (tmp_path / "clip").exists()


def test_a_compressed_file_was_not_asked_for(server: Loopback, http: Http, tmp_path: Path) -> None:
    server.fail(Reply(FILE, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(Unavailable, match="encoding"):
        download(http, server.url, tmp_path / "clip", home=server.url)


def test_a_folder_that_is_not_there_is_said(server: Loopback, http: Http, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        download(http, server.url, tmp_path / "nowhere" / "clip", home=server.url)


OUTSIDE = {
    "not https": "http://media.example.com/clip",
    "a file": "file:///etc/passwd",
    "this machine": "https://127.0.0.1/clip",
    "this machine by name": "https://localhost/clip",
    "a private network": "https://10.0.0.1/clip",
    "the metadata service": "https://169.254.169.254/latest/meta-data",
    "an address in disguise": "https://[::ffff:10.0.0.1]/clip",
    "a name of ours": "https://gateway.example.com/clip",
    "no address": "https://[::1/clip",
}


@pytest.mark.parametrize("url", OUTSIDE.values(), ids=OUTSIDE.keys())
@pytest.mark.parametrize("redirected", [False, True], ids=["asked for", "redirected to"])
def test_an_address_from_outside_leads_to_the_internet_and_nowhere_else(
    server: Loopback, tmp_path: Path, url: str, redirected: bool
) -> None:
    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    if redirected:
        server.fail(Reply(status=302, headers={"Location": url}))
    named = ("gateway.example.com",)
    with closing(Http("viral-tests", private_hosts=named, lookup=lookup)) as http:
        with pytest.raises(NotSent, match=r"the clip (is not|cannot be) asked"):
            download(http, server.url if redirected else url, tmp_path / "clip", home=server.url)
    assert len(server.requests) == redirected


def test_a_redirect_to_another_port_of_the_same_host_leaves_home(server: Loopback, http: Http, tmp_path: Path) -> None:
    with Loopback(lambda received: Reply(b"secret")) as other:
        server.fail(Reply(status=302, headers={"Location": other.url}))
        with pytest.raises(NotSent, match="not https"):
            download(http, server.url, tmp_path / "clip", home=server.url)
        assert other.requests == []


def test_redirects_end(http: Http, tmp_path: Path) -> None:
    with Loopback(lambda received: Reply(status=302, headers={"Location": "/again"})) as server:
        with pytest.raises(Unavailable, match="redirects without end"):
            download(http, server.url, tmp_path / "clip", home=server.url)
        assert len(server.requests) == 4


def test_many_threads_copy_beside_each_other(http: Http, tmp_path: Path) -> None:
    """Each has a deadline and a watch of its own."""
    ended: list[object] = []

    def copy(n: int) -> None:
        def answer(received: Received) -> Reply:
            return Reply(b"%d" % n * 200, drip=0.004)

        def watch(fraction: float) -> None:
            if n % 2:
                raise KeyError(n)

        with Loopback(answer) as server:
            try:
                ended.append(download(http, server.url, tmp_path / str(n), home=server.url, watch=watch))
            except KeyError as error:
                ended.append(error.args[0])

    threads = [threading.Thread(target=copy, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each for each in ended if isinstance(each, int)} == {1, 3, 5, 7}
    assert {each for each in ended if isinstance(each, bytes)} == {
        sha256(b"%d" % n * 200).digest() for n in range(0, 8, 2)
    }


def test_without_a_connection_it_is_certain_that_nothing_was_sent(http: Http) -> None:
    with closed_port() as port:
        for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid", "ftp://127.0.0.1/", "http://\x00/"):
            with pytest.raises(NotSent):
                http.exchange(Request("nobody", url, method="POST", content=b"{}"))


def test_a_name_that_is_not_looked_up_in_time_was_not_asked() -> None:
    over = threading.Event()

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        over.wait(60)
        raise OSError

    with closing(Http("viral-tests", seconds=(0.2, 0.2, 0.2), lookup=lookup)) as http:
        with pytest.raises(NotSent):
            http.exchange(Request("nobody", "http://slow.example.com", method="POST", content=b"{}"))
    over.set()


def test_a_refused_address_was_not_asked(http: Http) -> None:
    with pytest.raises(NotSent) as caught:
        http.exchange(Request("nobody", "http://0x7f000001/", method="POST", content=b"{}"))
    assert isinstance(caught.value, AddressRefused)


def test_a_handshake_that_fails_has_sent_nothing(server: Loopback, http: Http) -> None:
    with pytest.raises(NotSent, match="no secure connection"):
        http.exchange(Request("the server", server.url.replace("http:", "https:"), method="POST", content=b"{}"))
    assert server.requests == []


@pytest.mark.parametrize(
    "pieces",
    [no_pieces, lambda raw: [], dripping(b"HTTP/1.1 200 OK\r\n", 0.3), lambda raw: [b"SMTP ready\r\n"]],
    ids=["silent", "hangs up", "drips", "no HTTP"],
)
def test_once_it_was_sent_nobody_can_tell(pieces: Callable[[RawServer], Iterable[bytes]]) -> None:
    with answering(pieces) as raw, closing(Http("viral-tests", seconds=(3.0, 1.0, 2.0))) as http:
        with pytest.raises(Unavailable) as caught:
            http.exchange(Request("the server", raw.url, method="POST", content=b"{}"))
        assert not isinstance(caught.value, NotSent)
        assert len(raw.requests) == 1
