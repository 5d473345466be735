"""Heads without end, and requests whose length can be read in two ways."""

from tests.attack.stage import Stage, attack
from tests.attack.wire import head

HIDDEN = head("GET", "/readyz")
"""Whoever reads the length in the other way finds this request behind the first."""

SMUGGLED = {
    "length and chunked": head("POST", "/nowhere", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two lengths": head("POST", "/nowhere", "Content-Length: 0", f"Content-Length: {len(HIDDEN)}"),
    "two lengths in one": head("POST", "/nowhere", f"Content-Length: 0, {len(HIDDEN)}"),
    "a length with a sign": head("POST", "/nowhere", "Content-Length: +0"),
    "a negative length": head("POST", "/nowhere", "Content-Length: -1"),
    "a length of 2^64": head("POST", "/nowhere", "Content-Length: 18446744073709551616"),
    "a blank before the colon": head("POST", "/nowhere", f"Content-Length : {len(HIDDEN)}"),
    "chunked, not last": head("POST", "/nowhere", "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "chunked by another name": head("POST", "/nowhere", "Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "a chunk of no number": head("POST", "/nowhere", "Transfer-Encoding: chunked") + b"0x0\r\n\r\n",
    "a chunk of 2^64": head("POST", "/nowhere", "Transfer-Encoding: chunked") + b"10000000000000000\r\n",
    "a folded header": head("POST", "/nowhere", "X: a\r\n Content-Length: 7"),
    "a bare line feed": b"POST /nowhere HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
    "a null in a header": head("POST", "/nowhere", "X: a\0b", "Content-Length: 0"),
}


@attack("lengths that can be read in two ways")
def smuggling(stage: Stage) -> None:
    with stage.watching():
        for name, first in SMUGGLED.items():
            with stage.wire() as wire:
                wire.send(first + HIDDEN)
                answer = wire.answer(5)
                stage.note(answer)
                stage.expect(answer in ("400", "closed", "reset"), f"{name}: answered {answer}")
                stage.expect(wire.ended(5), f"{name}: the connection goes on")


@attack("what is not HTTP/1.1")
def other_protocols(stage: Stage) -> None:
    others = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n",
        head("GET", "/healthz", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        head("GET", "/healthz", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
        bytes(range(256)) * 100,
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET http:///// HTTP/1.1\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
    ]

    def send(number: int) -> str:
        with stage.wire() as wire:
            wire.send(others[number % len(others)])
            return wire.answer(stage.of(8, 1))

    with stage.watching():
        stage.crowd(stage.of(90, 18), send)
    stage.expect(not stage.answers["500"], "what is not HTTP/1.1 is an error of ours")


@attack("heads without end")
def endless_heads(stage: Stage) -> None:
    forms = [
        (b"GET /" + b"a" * 65536, b"a" * 65536),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 65536),
        (b"GET / HTTP/1.1\r\n", b"X: a\r\n" * 10_000),
        (b"GET / HTTP/1.1\r\n", b"x" * 65536),
        (b"", b"\r\n" * 32768),
    ]

    def send(number: int) -> str:
        begun, more = forms[number % len(forms)]
        with stage.wire() as wire:
            wire.send(begun)
            for _ in range(stage.of(500, 50)):
                if wire.heard(0) or not wire.send(more):
                    break
            return wire.answer(stage.of(8, 1))

    with stage.watching():
        stage.crowd(stage.of(50, 15), send)


@attack("headers behind the body")
def trailers(stage: Stage) -> None:
    """Some servers take them for headers of the head."""
    body = b"0\r\nAuthorization: Bearer viral_x\r\n" + b"X-Much: more\r\n" * 50 + b"\r\n"
    with stage.watching():
        for _ in range(20):
            with stage.wire() as wire:
                wire.send(head("POST", "/api/generate", "Transfer-Encoding: chunked") + body)
                stage.note(wire.answer(8))
    stage.expect(set(stage.answers) == {"401"}, "a header behind the body counts")
