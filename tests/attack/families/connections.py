"""Connections that are held, by saying little, by hearing little, or by their number."""

import time
from contextlib import ExitStack

from tests.attack.families.bodies import FORGED, bearer
from tests.attack.stage import CREDENTIAL, OWN, WHOLE_REQUESTS, Stage, attack
from tests.attack.wire import Wire, head, post

FEW_FILES = 128
"""`ulimit -n` of the process under attack, where the number of connections is the attack."""


@attack("180 half heads at 128 open files", needs=(OWN,))
def half_heads(stage: Stage) -> None:
    with stage.another_web(nofile=FEW_FILES), stage.watching():
        _hold(stage, stage.of(180, 100), head("POST", "/api/generate")[:-2])


@attack("180 half bodies at 128 open files", needs=(OWN,), slice=False)
def half_bodies(stage: Stage) -> None:
    with stage.another_web(nofile=FEW_FILES), stage.watching():
        _hold(stage, 180, post("/api/generate", b'{"count":1}', bearer(stage))[:-1])


@attack("180 half webhooks at 128 open files", needs=(OWN,), slice=False)
def half_webhooks(stage: Stage) -> None:
    with stage.another_web(nofile=FEW_FILES), stage.watching():
        _hold(stage, 180, post("/webhooks/stripe", b'{"id":"evt_1"}', FORGED)[:-1])


@attack("180 idle connections at 128 open files", needs=(OWN,), slice=False)
def idle(stage: Stage) -> None:
    with stage.another_web(nofile=FEW_FILES), stage.watching():
        _hold(stage, 90, b"")
        _hold(stage, 90, head("GET", "/healthz"))


@attack("new connections without end at 128 open files", needs=(OWN,), slice=False, limits=WHOLE_REQUESTS)
def flood(stage: Stage) -> None:
    def connect(number: int) -> None:
        with stage.wire() as wire:
            wire.send(b"POST /webhooks/stripe HTTP/1.1\r\n")

    with stage.another_web(nofile=FEW_FILES), stage.watching():
        stage.crowd(20, connect, seconds=10)


@attack("half heads and half bodies end by themselves", slice=False)
def deadlines(stage: Stage) -> None:
    with stage.watching(), ExitStack() as stack:
        halves = [head("GET", "/healthz")[:-2], post("/webhooks/stripe", b"{}", FORGED)[:-1]]
        wires = [_begun(stage, stack, half) for half in halves * 20]
        time.sleep(12)
        for wire in wires:
            answer = wire.answer(3)
            stage.note(answer)
            stage.expect(answer == "408", f"a half request is answered {answer}")


@attack("drips: a byte a second")
def drips(stage: Stage) -> None:
    requests = [head("GET", "/healthz"), post("/webhooks/stripe", b"{" * 5000, FORGED), b"\r\n" * 1000]

    def drip(number: int) -> str:
        with stage.wire() as wire:
            wire.drip(requests[number % 3], 1.0, for_seconds=stage.of(30, 2))
            return wire.answer(1)

    with stage.watching():
        stage.crowd(stage.of(150, 30), drip)
    stage.expect(not stage.answers["200"], "a head that drips for half a minute is answered 200")


@attack("answers that nobody reads", needs=(CREDENTIAL,), limits=WHOLE_REQUESTS)
def slow_readers(stage: Stage) -> None:
    asking = head("GET", "/api/openapi.json") * 8
    with stage.watching(), ExitStack() as stack:
        wires = [stack.enter_context(stage.wire(window=4096)) for _ in range(stage.of(200, 40))]
        for wire in wires:
            wire.send(asking)
        time.sleep(stage.of(20, 1))
        for wire in wires:
            stage.note(wire.answer(0.01))


@attack("requests far ahead of their answers", needs=(CREDENTIAL,), limits=WHOLE_REQUESTS)
def pipelines(stage: Stage) -> None:
    asking = head("GET", "/api/user", bearer(stage)) * 2000

    def send(number: int) -> str:
        with stage.wire() as wire:
            wire.send(asking)
            first = wire.answer()
            stage.expect(wire.ended(60), "a line of 2000 requests is not ended")
            return first

    with stage.watching():
        stage.crowd(stage.of(50, 10), send)


@attack("200 clients from one address")
def legal(stage: Stage) -> None:
    """No attack: they are let in, and stay."""
    with stage.watching(), ExitStack() as stack:
        wires = [_begun(stage, stack, head("GET", "/healthz")) for _ in range(200)]
        for _ in range(3):
            for wire in wires:
                stage.note(wire.answer())
                wire.send(head("GET", "/healthz"))
    stage.expect(set(stage.answers) == {"200"}, "one of 200 clients is not served")


def _hold(stage: Stage, count: int, begun: bytes) -> None:
    """So many connections, one after the other, each of which sends this much and is held for a while."""
    with ExitStack() as stack:
        wires = []
        for _ in range(count):
            wires.append(_begun(stage, stack, begun))
            time.sleep(0.02)
        time.sleep(stage.of(8, 1))
        for wire in wires:
            stage.note(wire.answer(0.01))


def _begun(stage: Stage, stack: ExitStack, data: bytes) -> Wire:
    wire = stack.enter_context(stage.wire())
    if data:
        wire.send(data)
    return wire
