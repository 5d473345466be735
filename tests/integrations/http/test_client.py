"""The HTTP client, over a real socket: it is bounded in time and size, and says whether waiting helps."""

import gzip
import socket
import ssl
import threading
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from domain.errors import Unavailable, ViralError
from integrations.http.client import MOST_BYTES, Http, Request, parse_json
from integrations.http.errors import AddressRefused, RequestRejected
from simulators.loopback import Loopback, Reply
from simulators.loopback import Request as Received
from tests.raw_server import RawServer, answering, dripping, endless


@pytest.fixture
def server() -> Iterator[Loopback]:
    def answer(received: Received) -> Reply:
        if received.headers.get("if-none-match") == '"1"':
            return Reply(status=304, headers={"ETag": '"1"'})
        return Reply(b"hello", headers={"ETag": '"1"'})

    with Loopback(answer) as server:
        yield server


@pytest.fixture
def http() -> Iterator[Http]:
    http = Http("viral-tests (tests@example.com)", most_bytes=1000)
    yield http
    http.close()


@pytest.fixture
def hurried() -> Iterator[Http]:
    """One that soon has waited long enough, for those who let it wait."""
    with closing(Http("viral-tests", most_bytes=1000, seconds=(1.0, 0.5, 3.0))) as http:
        yield http


def request(server: Loopback) -> Request:
    return Request("the server", f"{server.url}/list", {"key": "secret"})


def test_it_says_who_we_are_and_what_it_can_read(server: Loopback, http: Http) -> None:
    assert http.send(request(server)).body == b"hello"
    headers = server.requests[0].headers
    assert (headers["user-agent"], headers["accept-encoding"]) == ("viral-tests (tests@example.com)", "gzip")
    assert server.requests[0].params == {"key": "secret"}


def test_a_form_and_its_credential_arrive(server: Loopback, http: Http) -> None:
    http.send(Request("the server", server.url, form={"grant type": "client & co"}, basic_auth=("id", "s:cret")))
    [received] = server.requests
    assert (received.method, received.body) == ("POST", b"grant+type=client+%26+co")
    assert received.headers["authorization"] == f"Basic {b64encode(b'id:s:cret').decode()}"
    assert received.headers["content-type"] == "application/x-www-form-urlencoded"


def test_what_has_not_changed_is_not_sent_again(server: Loopback, http: Http) -> None:
    first = http.send(request(server))
    again = http.send(request(server), etag=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "fault", [Reply(status=503), Reply(status=429), Reply(hang_up=True), Reply(b"late", after=5)], ids=str
)
def test_a_moment_of_trouble_is_waited_out(server: Loopback, hurried: Http, fault: Reply) -> None:
    server.fail(fault)
    assert hurried.send(request(server)).body == b"hello"
    assert len(server.requests) == 2


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
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "asked",
    [
        "9" * 5000,
        "soon",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "1 Jan 2026 00:00:00 +99999999999999",
        "(" * 9000,
    ],
    ids=["digits", "no number", "year", "offset", "comments"],
)
def test_a_wait_that_cannot_be_read_is_none(server: Loopback, http: Http, asked: str) -> None:
    server.fail(Reply(status=503, headers={"Retry-After": asked}))
    assert http.send(request(server)).body == b"hello"


def test_a_server_that_stays_down_is_given_up_within_the_time(server: Loopback, hurried: Http) -> None:
    server.fail(Reply(after=60), times=9)
    began = monotonic()
    with pytest.raises(Unavailable):
        hurried.send(request(server))
    assert monotonic() - began < 30


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNK = b"400\r\n" + b"x" * 1024 + b"\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        dripping(HEAD * 100, 0.5),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.5),
        dripping(HEAD + b"\r\n" + b"x" * 900, 0.5),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;extension\r\nx\r\n" * 100, 0.5),
    ],
    ids=["headers", "informational answers", "body", "chunks"],
)
def test_one_deadline_bounds_all_that_drips(pieces: Callable[[RawServer], Iterable[bytes]]) -> None:
    with answering(pieces) as server, closing(Http("viral-tests", seconds=(60, 60, 0.8))) as http:
        began = monotonic()
        with pytest.raises(Unavailable, match=r"the server did not finish its answer within 0\.8 seconds"):
            http.send(Request("the server", server.url))
        assert monotonic() - began < 30


@pytest.mark.parametrize(
    "pieces",
    [
        endless(HEAD + b"\r\n", b"x" * 65536),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", CHUNK),
        endless(HEAD + b"Content-Length: 300000000\r\n\r\n", b"x" * 65536),
        endless(HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", b"x" * 65536),
        endless(HEAD, b"X-More: " + b"y" * 1000 + b"\r\n"),
        endless(HEAD + b"X-More: ", b"y" * 65536),
    ],
    ids=["until it closes", "in chunks", "declared", "declared absurdly", "headers", "one header"],
)
def test_an_answer_without_end_is_left(pieces: Callable[[RawServer], Iterable[bytes]], http: Http) -> None:
    with answering(pieces) as server:
        with pytest.raises(Unavailable, match=r"more than 1,000 bytes|does not speak HTTP"):
            http.exchange(Request("the server", server.url))
        assert server.sent < 40_000_000, "what the sockets of this machine buffer, and no more"


def test_an_answer_that_is_as_large_as_it_may_be_is_read(server: Loopback, http: Http) -> None:
    server.fail(Reply(b"x" * 1000))
    assert http.send(request(server)).body == b"x" * 1000
    server.fail(Reply(b"x" * 1001))
    with pytest.raises(Unavailable, match="more than 1,000 bytes"):
        http.send(request(server))


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP"])
def test_a_compressed_answer_is_inflated_within_the_limit(server: Loopback, http: Http, encoding: str) -> None:
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    server.fail(Reply(pack(b"x" * 1000), headers={"Content-Encoding": encoding}))
    assert http.send(request(server)).body == b"x" * 1000
    server.fail(Reply(pack(b"x" * 1001), headers={"Content-Encoding": encoding}))
    with pytest.raises(Unavailable, match="more than 1,000 bytes"):
        http.send(request(server))


def test_a_bomb_goes_off_in_no_more_memory_than_an_answer_may_take(server: Loopback) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(60)] + [packer.flush()])
    server.fail(Reply(bomb, headers={"Content-Encoding": "gzip"}))
    with closing(Http("viral-tests (tests@example.com)")) as http:
        tracemalloc.start()
        with pytest.raises(Unavailable, match=f"more than {MOST_BYTES:,} bytes"):
            http.send(request(server))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * MOST_BYTES


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, br", "identity, gzip", "\xff", "nonsense"])
def test_other_encodings_and_nested_ones_are_refused(server: Loopback, http: Http, encoding: str) -> None:
    server.fail(Reply(gzip.compress(gzip.compress(b"x")), headers={"Content-Encoding": encoding}))
    with pytest.raises(Unavailable, match="cannot be inflated"):
        http.send(request(server))


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"x" * 500)[:-9], b""], ids=["no gzip", "cut", "empty"])
def test_a_damaged_archive_is_no_answer(server: Loopback, http: Http, body: bytes) -> None:
    server.fail(Reply(body, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(Unavailable, match="cannot be inflated"):
        http.send(request(server))


def test_json_is_read_to_a_bounded_depth() -> None:
    assert parse_json(b"[" * 1000 + b"]" * 1000)
    with pytest.raises(ValueError, match="depth"):
        parse_json(b"[" * 100_000 + b"]" * 100_000)


def test_a_refusal_is_final_and_shows_no_key(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=403))
    with pytest.raises(RequestRejected) as caught:
        http.send(request(server))
    assert (caught.value.status, len(server.requests)) == (403, 1)
    assert "secret" not in str(caught.value)


def test_redirects_end(server: Loopback, http: Http) -> None:
    server.fail(Reply(status=302, headers={"Location": f"{server.url}/round"}), times=9)
    with pytest.raises(Unavailable, match="redirects without end"):
        http.send(request(server))
    assert len(server.requests) == 4


@pytest.mark.parametrize("location", ["/moved", "//{host}/moved", "http://{host}/moved", "http://you@{host}/moved"])
def test_a_redirect_on_the_same_host_is_followed(server: Loopback, http: Http, location: str) -> None:
    where = location.format(host=server.url.removeprefix("http://"))
    server.fail(Reply(status=301, headers={"Location": where}))
    assert http.send(request(server)).body == b"hello"
    assert [received.path for received in server.requests] == ["/list", "/moved"]


CARRYING: list[dict[str, Any]] = [
    {"headers": {"X-Api-Key": "s3cret"}},
    {"headers": {"Authorization": "Bearer s3cret"}},
    {"form": {"client_secret": "s3cret"}},
    {"basic_auth": ("id", "s3cret")},
    {"content": b"s3cret"},
]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("carrying", CARRYING, ids=str)
def test_what_may_carry_a_key_is_never_redirected(
    server: Loopback, http: Http, carrying: dict[str, Any], status: int
) -> None:
    server.fail(Reply(status=status, headers={"Location": "/moved"}), times=9)
    with pytest.raises(RequestRejected, match=f"answers {status}; with a key no redirect is followed") as caught:
        http.send(Request("the server", f"{server.url}/list", **carrying))
    assert (caught.value.status, len(server.requests)) == (status, 1)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        "{other}/list",
        "https://{host}/list",
        "http://localhost:{port}/list",
        "http://{host}@169.254.169.254/latest",
        "//127.0.0.1:1/",
        "file:///etc/passwd",
        "http://[::1/",
        "http://127.0.0.1:99999/",
    ],
)
def test_a_redirect_leads_to_no_other_host(server: Loopback, http: Http, location: str) -> None:
    with Loopback(lambda received: Reply(b"stolen")) as other:
        host = server.url.removeprefix("http://")
        where = location.format(other=other.url, host=host, port=host.partition(":")[2])
        server.fail(Reply(status=302, headers={"Location": where}))
        with pytest.raises(RequestRejected, match="answers 302 and points to another host, which is not asked"):
            http.send(request(server))
        assert (len(server.requests), other.requests) == (1, [])


def test_the_body_of_a_redirect_is_not_read(http: Http) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 400000000\r\n\r\n"
    with answering(endless(head, b"x" * 65536)) as server:
        with pytest.raises(Unavailable, match="redirects without end"):
            http.send(Request("the server", server.url))
        assert len(server.requests) == 4, "each on a connection of its own: the body was left on the wire"
        assert server.sent < 40_000_000
    with answering(endless(head, b"x" * 65536)) as server:
        assert http.exchange(Request("the server", server.url, headers={"X-Api-Key": "a-key"})).body == b""


def test_a_name_that_leads_into_our_network_is_not_asked(server: Loopback) -> None:
    port = int(server.url.rpartition(":")[2])
    asked = []

    def rebinding(host: str, port: int, **options: Any) -> list[Any]:
        """A public address for the check, and this machine for the connection."""
        asked.append(host)
        address = "203.0.113.9" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with closing(Http("viral-tests", lookup=rebinding)) as http:
        for _ in range(3):
            with pytest.raises(AddressRefused, match=r"the server is not asked: trends\.example\.com leads to "):
                http.send(Request("the server", f"http://trends.example.com:{port}/list"))
    assert (server.requests, asked) == ([], ["trends.example.com"] * 3)


def test_a_connection_goes_to_the_address_that_was_checked(server: Loopback) -> None:
    port = int(server.url.rpartition(":")[2])
    answers = ["127.0.0.1", "10.0.0.1", "10.0.0.1"]

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    with closing(Http("viral-tests", private_hosts=["Gateway.example.com"], lookup=lookup)) as http:
        assert http.send(Request("the gateway", f"http://gateway.example.com:{port}/list")).body == b"hello"
    assert (server.requests[0].headers["host"], len(answers)) == (f"gateway.example.com:{port}", 2)


def test_a_proxy_of_the_environment_is_not_used(server: Loopback, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert http.send(request(server)).body == b"hello"


@pytest.mark.parametrize(
    "wrong",
    [
        Request("the server", "http://127.0.0.1:1/", headers={"X-Api-Key": "s3cret\n"}),
        Request("the server", "http://127.0.0.1:1/", headers={"X-Api-Key": "s3cret ü €"}),
        Request("the server", "http://127.0.0.1:1/s3cret ü"),
        Request("the server", "http://127.0.0.1:1/s3cret\r\nX: y"),
        Request("the server", "http://127.0.0.1:1/s3cret", {"key": "s3cret"}),
        Request("the server", "ftp://127.0.0.1/s3cret"),
        Request("the server", "http://s3cret.invalid/"),
        Request("the server", f"http://{'s3cret.' * 60}invalid/"),
        Request("the server", "http://127.0.0.1:s3cret/"),
        Request("the server", "http://[s3cret"),
        Request("the server", "s3cret"),
    ],
    ids=str,
)
def test_no_error_repeats_what_was_sent(http: Http, wrong: Request) -> None:
    with pytest.raises(ViralError) as caught:
        http.exchange(wrong)
    assert "s3cret" not in str(caught.value).replace(".invalid", "")
    assert str(caught.value).startswith("the server ")


@pytest.mark.parametrize(
    "received", [b"\x1b[31mHTTP s3cret\r\n\r\n", b"HTTP/1.1 200 s3cret\r\nno header\r\n\r\n", b"\x00" * 99]
)
def test_no_error_repeats_what_was_received(http: Http, received: bytes) -> None:
    with answering(lambda server: [received]) as server:
        with pytest.raises(Unavailable, match="it broke off, or does not speak HTTP") as caught:
            http.exchange(Request("the server", server.url))
    assert str(caught.value).isprintable()
    assert "s3cret" not in str(caught.value)


def test_a_server_without_tls_is_named_as_such(server: Loopback, http: Http) -> None:
    with pytest.raises(Unavailable, match="no secure connection"):
        http.exchange(Request("the server", server.url.replace("http", "https")))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key, and a certificate for `localhost` that nobody knows."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return file


def served_securely(certificate: Path, url: str) -> bytes | str:
    """The body that comes from `url`, whose port is `{port}`, over TLS; else why there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(4096)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        answered = pool.submit(answer, listener)
        with closing(Http("viral-tests")) as http:
            try:
                return http.exchange(Request("the server", url.format(port=listener.getsockname()[1]))).body
            except Unavailable as error:
                return str(error)
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                answered.result()


def test_a_certificate_is_checked(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = "the server cannot be reached: no secure connection "
    assert served_securely(certificate, "https://localhost:{port}/") == f"{refused}(self-signed certificate)"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert served_securely(certificate, "https://localhost:{port}/") == b"secret"
    assert str(served_securely(certificate, "https://127.0.0.1:{port}/")).startswith(f"{refused}(IP address mismatch")


def test_a_handshake_that_drips_has_the_same_deadline() -> None:
    record = b"\x16\x03\x03\x40\x00"  # of 16 kB, which come a byte at a time
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                for byte in record + bytes(16384):
                    connection.sendall(bytes([byte]))
                    over.wait(0.2)

        over, dripped = threading.Event(), pool.submit(drip)
        with closing(Http("viral-tests", seconds=(60, 60, 0.8))) as http:
            with pytest.raises(Unavailable, match="did not finish its answer within"):
                http.exchange(Request("the server", f"https://localhost:{listener.getsockname()[1]}/"))
        over.set()
        dripped.result()


def test_an_ipv6_address_stands_in_brackets() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, closing(Http("viral-tests")) as http, ThreadPoolExecutor(1) as pool:
        port = listener.getsockname()[1]
        answer = pool.submit(http.exchange, Request("the server", f"http://[::1]:{port}/"))
        connection, _ = listener.accept()
        with connection:
            assert f"host: [::1]:{port}\r\n".encode() in connection.recv(4096)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert answer.result().status == 204


def test_nobody_there() -> None:
    with closing(Http("viral-tests (tests@example.com)")) as patient:
        with pytest.raises(Unavailable, match="nobody cannot be reached"):
            patient.send(Request("nobody", "http://127.0.0.1:9/"))
