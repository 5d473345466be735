"""What the documents say of the shell: every link leads somewhere, every command that they show is one, and what the
tour shows is what happens."""

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest

from tests.cli.shell import Shell
from tests.cli.test_up import a_home, all_is_applied
from tests.documented import FENCE, ROOT, blocks_to_run, commands_in, difference, play, sections
from tests.reference.commands import commands, examples
from tests.reference.markdown import anchor
from tests.wait import until

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[(?:[^]\[]|\[[^]]*\])*\]\(([^)\s]+)\)|<(https?://[^>\s]+)>")
OURS = re.compile(r"^(?:[A-Z_]+=\S+ +)*(?:[A-Z]+=\$\( *)?(?:\.venv/bin/)?(viral|make|python -m) +")
AN_ID = "01a20417-5ccc-7850-9558-0a37b805228c"
SENSELESS = ("Got unexpected extra", "Option ")
"""How the parser begins what it has against the words themselves; whether a value is one is not looked at here."""
INLINE = re.compile(r"(?<!`)`(viral [^`]+)`")


@pytest.fixture(scope="module")
def there() -> dict[tuple[str, ...], Any]:
    return dict(commands())


def links(path: Path) -> Iterator[str]:
    text = FENCE.sub("", path.read_text("utf-8"))
    return (found[0] for found in LINK.findall(re.sub(r"`[^`\n]*`", "", text)) if found[0])


def anchors(path: Path) -> set[str]:
    found: dict[str, int] = {}
    for heading, _ in sections(path.read_text("utf-8")):
        name = anchor(heading.replace("`", ""))
        found[name] = found.get(name, -1) + 1
    return {name if not n else f"{name}-{n}" for name, most in found.items() for n in range(most + 1)}


def broken(path: Path) -> list[str]:
    """Return the links of a document that lead nowhere."""
    wrong = []
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, fragment = unquote(link).partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (fragment and fragment not in anchors(target)):
            wrong.append(link)
    return wrong


def fault(line: str, there: dict[tuple[str, ...], Any]) -> str | None:
    """Return what the shell's own parser has against a line, if it is one of ours."""
    found = OURS.match(line)
    if not found:
        return None
    rest = re.split(r" [|>]|\$\(| && |; ", line[found.end() :].replace("[…]", "").replace("…", "x"))[0].rstrip(" )")
    words = shlex.split(rest, comments=True)
    if found[1] == "make":
        return None if f"\n{words[0]}:" in (ROOT / "Makefile").read_text() else f"make has no {words[0]}"
    if found[1] == "python -m":
        if words[:1] != ["cli.main"]:
            return None
        words = words[1:]
    return fault_of(words, there)


def fault_of(words: list[str], there: dict[tuple[str, ...], Any]) -> str | None:
    name = next((tuple(words[:n]) for n in (3, 2, 1) if tuple(words[:n]) in there), None)
    if name is None or words[-1] == "help":
        group = any(each[: len(words)] == tuple(words) for each in there) or words[-1:] in (
            ["--help"],
            ["help"],
        )
        return None if group else f"there is no command {' '.join(words)}"
    words = [re.sub(r"\b(ID|[A-Z]{2,}-?ID|TENANT|ACCOUNT|VIDEO|JOB|GENERATION)\b", AN_ID, word) for word in words]
    arguments = words[len(name) :]
    if "--help" in arguments:
        return None
    try:
        there[name].make_context("viral", arguments)
    except Exception as error:
        text = str(getattr(error, "message", "") or error)
        if type(error).__name__ in ("NoSuchOption", "MissingParameter") or text.startswith(SENSELESS):
            return f"viral {' '.join(words)}: {type(error).__name__} {text}"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_every_command_that_is_shown_is_one(there: dict[tuple[str, ...], Any]) -> None:
    faults = [
        f"{path.relative_to(ROOT)}: {wrong}"
        for path in DOCUMENTS
        for line in commands_in(path.read_text("utf-8"))
        if (wrong := fault(line, there))
    ]
    assert faults == []


def test_every_command_that_is_named_in_a_sentence_is_one(there: dict[tuple[str, ...], Any]) -> None:
    faults = [
        f"{path.relative_to(ROOT)}: {wrong}"
        for path in DOCUMENTS
        if "decisions" not in path.parts
        for line in INLINE.findall(FENCE.sub("", path.read_text("utf-8")))
        if (wrong := fault(re.sub(r"\[[^]]*\]|'…'|\|[\w|]+", "", line), there)) and "MissingParameter" not in wrong
    ]
    assert faults == []


def test_every_statement_that_is_shown_can_be_run(database_url: str) -> None:
    """By the application's role, which has the fewest rights of all who might."""
    shown = [text for path in DOCUMENTS for kind, text in FENCE.findall(path.read_text("utf-8")) if kind == "sql"]
    assert shown
    for text in shown:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(text.encode())


def test_each_command_has_an_example_in_its_help(there: dict[tuple[str, ...], Any]) -> None:
    assert [f"viral {' '.join(words)}" for words, command in there.items() if not examples(command)] == []
    lines = [line for command in there.values() for line in examples(command)]
    assert [wrong for line in lines if (wrong := fault(line, there))] == []


def test_a_dead_link_and_a_command_that_is_none_are_found(there: dict[tuple[str, ...], Any], tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("# A `b` c\n[1](x.md#a-b-c) [2](x.md#d) [3](y.md) [4](https://example.com) `[5](z.md)`\n")
    assert broken(document) == ["x.md#d", "y.md"]
    assert fault("viral jobs nothing", there) == "there is no command jobs nothing"
    assert "--nothing" in (fault("X=1 .venv/bin/viral jobs list --nothing | head", there) or "")
    assert fault("make nothing", there) == "make has no nothing"
    assert [fault(line, there) for line in ("viral jobs list -n 3", "make test", "ls", "viral jobs --help")] == [
        None
    ] * 4


def test_what_is_printed_is_compared() -> None:
    shown = ("id  state", "…   well", "…")
    assert difference(shown, "id     state\n7 8    well\nanything\n\n") is None
    assert difference(shown, "id  state\n7  ill\n") is not None
    assert difference(("…", "end"), "a\nb\nend\n") is None
    assert difference(("one",), "one\ntwo\n") is not None


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_the_tour_is_as_it_says(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """All of its commands, on a system that `viral up` has started: it takes as long as that does."""
    blocks = blocks_to_run((ROOT / "docs/tour.md").read_text("utf-8"))
    assert sum(map(len, blocks)) > 10
    with a_home("home") as up:
        up.started("--port", "0")
        monkeypatch.chdir(up.folder)
        viral = Shell({"VIRAL_HOME": str(up.home)}, monkeypatch, capsys)

        def run(words: list[str]) -> tuple[int, str]:
            result = viral(*words)
            # A person reads what is printed; meanwhile the workers apply what was sent. Stripe's times are whole
            # seconds: what is bought within the second of the sign-up begins before it, and no month begins with it.
            sent = int(time.time())
            until(lambda: all_is_applied(viral) and int(time.time()) > sent, "the events to be applied")
            return result.code, result.out + result.err

        def values() -> dict[str, str]:
            tenants = viral.json("tenants", "list")
            return {"TENANT": tenants[0]["id"]} if tenants else {}

        for block in blocks:
            play(block, run, values)
