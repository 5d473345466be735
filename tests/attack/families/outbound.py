"""Those whom we ask: an issuer of keys and a source of trends that drip, never end, explode or point elsewhere."""

import base64
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable

from simulators.loopback import Loopback, Reply
from tests.attack.stage import OWN, ROOT, WHOLE_REQUESTS, Stage, attack
from tests.attack.target import dumps
from tests.attack.wire import head
from tests.raw_server import RawServer, answering, dripping, endless

Pieces = Callable[[RawServer], Iterable[bytes]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PIECE = b"x" * 65536
IN_THE_SOCKETS = 40_000_000
"""Bytes that may have left a server before it notices that nobody reads on."""
SOON = 20.0
"""Seconds: longer than the deadline of any call that is made here (12), shorter than what the attacks would take."""

COLLECT = """
from datetime import UTC, datetime
from domain.errors import ViralError
from workers.settings import load
from workers.adapters.trends import http, sources
client = http(load())
for source in sources(load()):
    try:
        found = source.fetch(client, "US", datetime.now(UTC))
        print(f"collected {len(found.sightings)}")
    except ViralError as error:
        print(f"{type(error).__name__}: {error}")
"""


@attack("random key ids while the JWKS drips", needs=(OWN,), limits=WHOLE_REQUESTS)
def random_key_ids(stage: Stage) -> None:
    """Each is refused at once, and programs with a key of ours notice nothing of it."""
    with answering(dripping(OK * 10_000, 0.5)) as issuer, stage.another_web(CLERK_JWKS_URL=f"{issuer.url}/jwks.json"):
        honest: list[tuple[str, float]] = []

        def ask(number: int) -> str:
            if number % 10:
                return _asked(stage, _stranger())
            began = time.monotonic()
            honest.append((_asked(stage, stage.own.credential), time.monotonic() - began))
            return "200, with a key" if honest[-1][0] == "200" else f"{honest[-1][0]}, with a key"

        with stage.watching():
            for _ in range(stage.of(5, 2)):
                stage.crowd(stage.of(200, 30), ask)
    stage.expect(set(stage.answers) <= {"401", "503", "200, with a key"}, "somebody is told something else")
    slowest = max(seconds for _, seconds in honest)
    stage.expect(slowest < SOON, f"a program with a key waited {slowest:.1f} s")
    stage.expect(len(issuer.requests) <= 3, f"the issuer was asked {len(issuer.requests)} times")


@attack("a JWKS of 300 MB", needs=(OWN,))
def large_jwks(stage: Stage) -> None:
    _hostile_issuer(stage, endless(OK + b"Content-Length: 300000000\r\n\r\n", PIECE))


@attack("a JWKS that is a bomb", needs=(OWN,), slice=False)
def jwks_bomb(stage: Stage) -> None:
    _hostile_issuer(stage, lambda server: [OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", _bomb()])


@attack("a source whose answer has no end", needs=(OWN,))
def endless_source(stage: Stage) -> None:
    _hostile_source(stage, endless(OK + b"\r\n", PIECE), "answers with more than 2,000,000 bytes")


@attack("a source whose headers have no end", needs=(OWN,), slice=False)
def endless_headers(stage: Stage) -> None:
    _hostile_source(stage, endless(OK, b"X-More: " + b"y" * 8000 + b"\r\n"), "does not speak HTTP")


@attack("a source that drips its headers", needs=(OWN,), slice=False)
def dripped_headers(stage: Stage) -> None:
    _hostile_source(stage, dripping(OK * 100, 0.5), "did not finish its answer within 12 seconds")


@attack("a source whose answer is a bomb", needs=(OWN,))
def source_bomb(stage: Stage) -> None:
    bomb = _bomb()
    reason = "answers with more than 2,000,000 bytes"
    _hostile_source(stage, lambda server: [OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", bomb], reason)


@attack("a source that redirects to another host", needs=(OWN,))
def redirecting_source(stage: Stage) -> None:
    with Loopback(lambda request: Reply(b"{}")) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {other.url}/latest/meta-data\r\n\r\n".encode()
        _hostile_source(stage, endless(moved, PIECE), "points to another host, which is not asked")
        stage.expect(not other.requests, "the other host was asked")


def _hostile_issuer(stage: Stage, pieces: Pieces) -> None:
    with answering(pieces) as issuer, stage.another_web(CLERK_JWKS_URL=f"{issuer.url}/jwks.json"):
        with stage.watching():
            stage.crowd(stage.of(50, 10), lambda number: _asked(stage, _stranger()))
    stage.expect(set(stage.answers) == {"503"}, "a token is judged without keys")
    stage.expect(issuer.requests, "the issuer was not asked")
    stage.expect(issuer.sent < IN_THE_SOCKETS, f"{issuer.sent:,} bytes of it were taken")


def _hostile_source(stage: Stage, pieces: Pieces, reason: str) -> None:
    with answering(pieces) as source:
        environment = stage.own.environment | {"TREND_SOURCES": "google-trends", "GOOGLE_TRENDS_BASE_URL": source.url}
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", COLLECT], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        with stage.watching(pid=process.pid, webhooks=False):
            answer = process.communicate(timeout=10 * SOON)[0].strip()
        took = time.monotonic() - began
    stage.note(answer.partition(":")[0])
    stage.expect(reason in answer, f"it was told: {answer or 'nothing'}")
    stage.expect(took < 3 * SOON, f"it took {took:.0f} s")
    stage.expect(source.sent < IN_THE_SOCKETS, f"{source.sent:,} bytes of it were taken")


def _stranger() -> str:
    """A token whose key nobody has."""
    parts = ({"alg": "RS256", "kid": f"ins_{os.urandom(8).hex()}", "typ": "JWT"}, {"sub": "user_nobody"})
    return ".".join([*(_base64(dumps(part)) for part in parts), _base64(os.urandom(256))])


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _asked(stage: Stage, credential: str) -> str:
    with stage.wire(timeout=4 * SOON) as wire:
        wire.send(head("GET", "/api/user", f"Authorization: Bearer {credential}", "Connection: close"))
        return wire.answer()


def _bomb() -> bytes:
    """200 MB of nothing, in a thousandth of that."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(200)] + [packer.flush()])
