"""The HTTP client, over a real socket: it is bounded in time and size, and says whether waiting helps."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import monotonic

import pytest

from domain.errors import Unavailable
from integrations.http import Http, RefusedOutside, Request
from integrations.loopback import Asked, Loopback, Reply

QUICK = (1.0, 0.5, 3.0)


@pytest.fixture
def server() -> Iterator[Loopback]:
    def answer(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(status=304, headers={"ETag": '"1"'})
        return Reply(b"hello", headers={"ETag": '"1"'})

    with Loopback(answer) as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    http = Http("viral-tests (tests@example.com)", most_bytes=1000, seconds=QUICK)
    yield http
    http.close()


def request(server: Loopback) -> Request:
    return Request("the server", f"{server.url}/list", {"key": "secret"})


def test_it_says_who_we_are_and_asks_for_nothing_compressed(server: Loopback, http: Http) -> None:
    assert http.send(request(server)).body == b"hello"
    headers = server.asked[0].headers
    assert (headers["user-agent"], headers["accept-encoding"]) == ("viral-tests (tests@example.com)", "identity")


def test_what_has_not_changed_is_not_sent_again(server: Loopback, http: Http) -> None:
    first = http.send(request(server))
    assert http.send(request(server), etag=first.etag).body is None


@pytest.mark.parametrize(
    "fault", [Reply(status=503), Reply(status=429), Reply(hang_up=True), Reply(b"late", after=5)], ids=str
)
def test_a_moment_of_trouble_is_waited_out(server: Loopback, http: Http, fault: Reply) -> None:
    server.fail(fault)
    assert http.send(request(server)).body == b"hello"
    assert len(server.asked) == 2


def test_a_short_wait_that_is_asked_for_is_kept(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=429, headers={"Retry-After": "0"}))
    assert http.send(request(server)).body == b"hello"


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_long_wait_is_told_to_the_caller_at_once(server: Loopback, http: Http, form: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.fail(Reply(status=429, headers={"Retry-After": "90" if form == "seconds" else later}))
    with pytest.raises(Unavailable, match="the server answers 429") as caught:
        http.send(request(server))
    assert caught.value.retry_after is not None
    assert timedelta(seconds=80) < caught.value.retry_after <= timedelta(seconds=90)
    assert len(server.asked) == 1


def test_a_server_that_stays_down_is_given_up_within_the_time(server: Loopback, http: Http) -> None:
    server.fail(Reply(after=60), times=9)
    began = monotonic()
    with pytest.raises(Unavailable):
        http.send(request(server))
    assert monotonic() - began < 30


def test_an_answer_that_drips_is_cut_off(server: Loopback, http: Http) -> None:
    server.fail(Reply(b"x" * 500, drip=0.1))
    with pytest.raises(Unavailable, match="did not finish"):
        http.send(request(server))


@pytest.mark.parametrize("body", [b"x" * 1001], ids=["too large"])
def test_an_answer_that_is_too_large_is_not_read(server: Loopback, http: Http, body: bytes) -> None:
    server.fail(Reply(body))
    with pytest.raises(Unavailable, match="more than 1,000 bytes"):
        http.send(request(server))


def test_a_compressed_answer_is_not_unpacked(server: Loopback, http: Http) -> None:
    server.fail(Reply(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(Unavailable, match="compressed"):
        http.send(request(server))


def test_a_refusal_is_final_and_shows_no_key(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=403))
    with pytest.raises(RefusedOutside) as caught:
        http.send(request(server))
    assert (caught.value.status, len(server.asked)) == (403, 1)
    assert "secret" not in str(caught.value)


def test_redirects_end(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=302, headers={"Location": f"{server.url}/round"}), times=9)
    with pytest.raises(Unavailable, match="cannot be followed"):
        http.send(request(server))


def test_nobody_there() -> None:
    with closing(Http("viral-tests (tests@example.com)")) as patient:
        with pytest.raises(Unavailable, match="nobody cannot be reached"):
            patient.send(Request("nobody", "http://127.0.0.1:9/"))
