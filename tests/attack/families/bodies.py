"""Bodies that are too large, too deep, too many, or packed."""

import gzip
from functools import partial

from tests.attack.stage import CREDENTIAL, WHOLE_REQUESTS, Stage, attack
from tests.attack.wire import head, post

MEGABYTE = 2**20
OBJECTS = b'{"generator":[' + b"{}," * 340_000 + b"{}]}"
"""A megabyte of JSON that becomes 40 MB of objects, and as much again of what is wrong with them."""
DEEP = b'{"generator":' * 1000 + b"1" + b"}" * 1000
FORGED = "Stripe-Signature: t=1,v1=00"


@attack("nothing at all (for comparison)")
def nothing(stage: Stage) -> None:
    with stage.watching():
        stage.crowd(1, lambda n: None, seconds=stage.of(5, 1))


@attack("many empty objects, from nobody")
def objects_of_nobody(stage: Stage) -> None:
    with stage.watching():
        stage.crowd(stage.of(200, 50), lambda n: sent(stage, OBJECTS))
    stage.expect(set(stage.answers) == {"401"}, "somebody without a credential is answered something else than 401")


@attack("many empty objects, with a key", needs=(CREDENTIAL,), limits=WHOLE_REQUESTS)
def objects_with_a_key(stage: Stage) -> None:
    with stage.watching():
        stage.crowd(stage.of(200, 50), lambda n: sent(stage, OBJECTS, bearer(stage)))
    stage.expect(set(stage.answers) <= {"413", "503"}, "a body of a megabyte is taken")


@attack("many empty objects, with keys that nobody has", limits=WHOLE_REQUESTS)
def objects_with_wrong_keys(stage: Stage) -> None:
    with stage.watching():
        wrong = "Authorization: Bearer viral_" + "x" * 40
        stage.crowd(stage.of(200, 50), lambda n: sent(stage, OBJECTS, wrong))
    stage.expect(set(stage.answers) <= {"401", "429", "503"}, "somebody with a wrong key is let in")


@attack("deep and wide bodies that are small enough", needs=(CREDENTIAL,), limits=WHOLE_REQUESTS)
def deep(stage: Stage) -> None:
    bodies = [DEEP, b"[" * 16_000, b"[" + b"[]," * 5000 + b"[]]", b'{"a":"' + b"[" * 16_000]

    def send(number: int) -> str:
        with stage.wire() as wire:
            for body in bodies:
                wire.send(post("/api/generate", body, bearer(stage)))
                stage.note(wire.answer())
            return "done"

    with stage.watching():
        stage.crowd(stage.of(50, 10), send)
    stage.expect(set(stage.answers) <= {"done", "422", "503"}, "what is too deep is answered something else than 422")


@attack("unknown fields without number", needs=(CREDENTIAL,), limits=WHOLE_REQUESTS)
def unknown_fields(stage: Stage) -> None:
    body = b"{" + b",".join(b'"%x":1' % n for n in range(450)) + b"}"
    with stage.watching():
        stage.crowd(stage.of(50, 10), lambda n: sent(stage, body, bearer(stage)))
    stage.expect(set(stage.answers) <= {"422", "503"}, "unknown fields are answered something else than 422")


@attack("webhooks of a megabyte, with a forged signature")
def forged(stage: Stage) -> None:
    body = b'{"id":"evt_1","object":"event","note":[' + b"{}," * 340_000 + b"{}]}"
    body = body[:MEGABYTE]
    with stage.watching():
        stage.crowd(stage.of(200, 50), lambda n: sent(stage, body, FORGED, path="/webhooks/stripe"))
    stage.expect(set(stage.answers) <= {"400", "503"}, "a forged webhook is answered something else than 400")


@attack("webhooks of a megabyte that stop before their end")
def forged_halves(stage: Stage) -> None:
    part = post("/webhooks/stripe", b"x" * MEGABYTE, FORGED)[:-1]
    with stage.watching():
        stage.crowd(stage.of(200, 80), lambda n: _held(stage, part, stage.of(8, 2)))


@attack("a body without end, in chunks")
def endless_chunks(stage: Stage) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with stage.watching():
        for path in ("/api/generate", "/webhooks/stripe", "/nowhere"):
            stage.crowd(stage.of(50, 10), partial(_chunked, stage, path, chunk))
    stage.expect(not stage.answers["200"], "a body without end is taken")


@attack("a chunk whose extension has no end")
def endless_extension(stage: Stage) -> None:
    def send(number: int) -> str:
        with stage.wire() as wire:
            wire.send(head("POST", "/webhooks/stripe", "Transfer-Encoding: chunked") + b"5;")
            for _ in range(stage.of(400, 100)):
                if wire.heard(0) or not wire.send(b"a" * 0x10000):
                    break
            return wire.answer(5)

    with stage.watching():
        stage.crowd(stage.of(50, 10), send)


@attack("compressed bodies", needs=(CREDENTIAL,))
def compressed(stage: Stage) -> None:
    bomb = gzip.compress(b"0" * (10 * MEGABYTE))[: 16 * 1024]

    def send(number: int) -> str:
        packed = "Content-Encoding: gzip"
        stage.note(sent(stage, bomb, packed, FORGED, path="/webhooks/stripe"))
        return sent(stage, bomb, packed, bearer(stage))

    with stage.watching():
        stage.crowd(stage.of(50, 10), send)
    stage.expect(set(stage.answers) <= {"400", "413", "415", "503"}, "a compressed body is taken")


def bearer(stage: Stage) -> str:
    return f"Authorization: Bearer {stage.target.credential}"


def sent(stage: Stage, body: bytes, *lines: str, path: str = "/api/generate") -> str:
    """The answer to this body."""
    with stage.wire() as wire:
        wire.send(post(path, body, *lines))
        return wire.answer()


def _held(stage: Stage, part: bytes, seconds: float) -> str:
    with stage.wire() as wire:
        wire.send(part)
        return wire.answer(seconds)


def _chunked(stage: Stage, path: str, chunk: bytes, _: int) -> str:
    with stage.wire() as wire:
        wire.send(head("POST", path, "Content-Type: application/json", "Transfer-Encoding: chunked", FORGED))
        for _ in range(200):
            if not wire.send(chunk):
                break
        return wire.answer()
