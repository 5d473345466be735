"""What is typed, or stored, may hold anything: the shell says one line, or does what was meant; it never breaks."""

import json
import os
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from tests.builders import a_tenant, job_row
from tests.cli.shell import Shell, a_process
from workers.app import App


def undecodable(word: bytes) -> str:
    """As Python passes on an argument that is not UTF-8."""
    return word.decode("utf-8", errors="surrogateescape")


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "enqueue", "upkeep.prune", "--key", undecodable(b"k\xff")),
        ("jobs", "enqueue", "upkeep.prune", undecodable(b"older_than=\xff")),
        ("jobs", "list", "--type", undecodable(b"\xff")),
        ("events", "show", undecodable(b"\xff")),
        ("tenants", "list", "--search", undecodable(b"\xc3")),
        ("import-dexie", "f.json", "--new-tenant", undecodable(b"x\x80")),
        ("dev", "send-event", "clerk", "user.created", "--email", undecodable(b"x\xff@example.com")),
        (undecodable(b"\xff"),),
    ],
    ids=" ".join,
)
def test_an_argument_that_is_no_text_is_refused_in_one_line(away: Shell, words: tuple[str, ...]) -> None:
    result = away(*words)
    shown = repr(os.fsencode(next(word for word in words if not word.isascii()))).removeprefix("b")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"viral: the argument {shown} is not UTF-8: write it as UTF-8 text\n"


def test_what_a_payload_says_and_postgres_cannot_hold_is_replaced(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app)
    for text in (r"a\u0000b", r"a\ud83db"):
        payload = f'{{"generator": "{text}"}}'
        words = ("jobs", "enqueue", "generation.generate_concepts", "--tenant", tenant_id, "--payload", payload)
        assert job_row(app, UUID(viral.done(*words).out.strip()))["payload"]["generator"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("[" * 100_000, "--payload: nested too deeply"),
        ('{"n": ' + "[" * 300 + "]" * 300 + "}", "--payload: nested too deeply: 200 levels are allowed"),
        (f'{{"count": {"9" * 5000}}}', "--payload: not usable: a number has more than 4,300 digits"),
        ('{"count": NaN}', "NaN is no number"),
    ],
    ids=["deep", "deeper than ours", "long number", "no number"],
)
def test_a_payload_that_cannot_be_read_is_refused(away: Shell, payload: str, why: str) -> None:
    assert why in away.senseless("jobs", "enqueue", "upkeep.prune", "--payload", payload)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff", "is not UTF-8"), (b"[" * 100_000, "is nested too deeply"), (b"{", "is not JSON")],
    ids=["bytes", "deep", "cut"],
)
def test_an_event_from_a_damaged_file_is_refused(away: Shell, tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(content)
    assert f"{file} {why}" in away.senseless("dev", "send-event", "stripe", file)


@pytest.mark.proof
def test_what_the_output_has_no_letter_for_is_escaped(environment: dict[str, str], app: App) -> None:
    a_tenant(app, name="Zoë 🎬")
    ascii_only = environment | {"PYTHONIOENCODING": "ascii"}
    table = a_process(ascii_only, "tenants", "list", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    as_json = a_process(ascii_only, "tenants", "list", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    result, errors = table.communicate(timeout=90)
    assert (table.returncode, errors) == (0, "")
    assert r"Zo\xeb \U0001f3ac" in result
    assert json.loads(as_json.communicate(timeout=90)[0])[0]["name"] == "Zoë 🎬"
