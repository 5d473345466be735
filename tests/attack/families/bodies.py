"""Bodies that are too large, too deep, or too many."""

from tests.attack.stage import CREDENTIAL, Stage, attack
from tests.attack.wire import post

MEGABYTE = 2**20
OBJECTS = b"[" + b"{}," * 340_000 + b"{}]"
"""A megabyte of JSON that becomes 40 MB of objects."""


@attack("many empty objects, nobody's")
def objects_of_nobody(stage: Stage) -> None:
    with stage.watching():
        stage.crowd(stage.of(200, 30), lambda n: _sent(stage, OBJECTS))
    stage.expect(set(stage.answers) == {"401"}, "somebody without a credential is told something else than 401")


@attack("many empty objects, with a key", needs=(CREDENTIAL,))
def objects_with_a_key(stage: Stage) -> None:
    with stage.watching():
        stage.crowd(
            stage.of(200, 30), lambda n: _sent(stage, OBJECTS, f"Authorization: Bearer {stage.target.credential}")
        )
    stage.expect(set(stage.answers) <= {"413", "503"}, "a body of a megabyte is not refused")


def _sent(stage: Stage, body: bytes, *lines: str) -> str:
    with stage.wire() as wire:
        wire.send(post("/api/generate", body, *lines))
        return wire.answer()
