"""Pressing Tab: a real shell completes commands, options and values, in a moment, from what is made of the commands."""

import ast
import json
import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.completion.lookup import SCRIPTS, Candidate, candidates, script
from cli.completion.lookup import TREE as TREE_FILE
from tests.cli.shell import ROOT, Shell
from tests.reference.commands import commands

TREE = {
    "about": "",
    "options": {"--version": {"about": "", "values": None}},
    "commands": {
        "jobs": {
            "about": "Jobs.",
            "options": {},
            "commands": {
                "list": {
                    "about": "List them.",
                    "options": {
                        "--type": {"about": "A type.", "values": ["a.b", "a.c"]},
                        "--yes": {"about": "", "values": None},
                        "--id": {"about": "", "values": []},
                    },
                    "arguments": [["one", "two"], ["rest"]],
                    "more": True,
                }
            },
        }
    },
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "jobs"),
        ("x", ""),
        ("-", "--version"),
        ("--version j", "jobs"),
        ("jobs l", "list"),
        ("jobs list --", "--type --yes --id"),
        ("jobs list --type ", "a.b a.c"),
        ("jobs list --type = a.c", "a.c"),
        ("jobs list --type =", "a.b a.c"),
        ("jobs list --type=a.c", "--type=a.c"),
        ("jobs list --id ", ""),
        ("jobs list --yes t", "two"),
        ("jobs list --type a.b one ", "rest"),
        ("jobs list one rest r", "rest"),
        ("jobs list -- -", ""),
        ("nothing at ", ""),
    ],
)
def test_what_may_come_next(line: str, words: str) -> None:
    assert [each.word for each in candidates(TREE, line.split(" "))] == words.split()


def test_a_candidate_says_what_it_is_about() -> None:
    assert candidates(TREE, ["jobs", ""]) == [Candidate("list", "List them.")]


@pytest.fixture(scope="module")
def made() -> Any:
    return json.loads(TREE_FILE.read_text("utf-8"))


def keys_pressed(command: list[str], lines: list[tuple[str, str]], folder: Path) -> str:
    """Type into a shell on a terminal, and wait after each line for what is expected; return all that it shows."""
    child, terminal = pty.fork()
    if child == 0:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8", "PS1": "$ "}
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    shown = ""
    try:
        for typed, expected in lines:
            seen = len(shown)
            os.write(terminal, typed.encode())
            end = time.monotonic() + 30
            while expected not in shown[seen:]:
                assert time.monotonic() < end, shown
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 65536).decode(errors="replace")
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)
    return shown


STARTS = {"bash": ["bash", "--noprofile", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}
FIRST = {"bash": "", "zsh": "autoload -Uz compinit; compinit -D; "}


@pytest.mark.parametrize("shell", STARTS)
def test_a_shell_completes_when_tab_is_pressed(shell: str, viral: Shell, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    (tmp_path / "script").write_text(viral.done("completion", shell).out)
    (tmp_path / "json.py").write_text("raise SystemExit('the folder in which Tab is pressed is imported')")
    lines = [
        (f"{FIRST[shell]}. ./script && echo st''arted\n", "started"),
        ("viral workers\t", " "),
        ("\x15viral queues pa\t", "use"),
        ("\x15viral queues pause so\t", "cial"),
        ("\x15viral jobs list --status ba\t", "ckoff"),
        ("\x15viral jobs retry --type=posting.pub\t", "lish"),
        ("\x15viral jobs enqueue quota.re\t", "set_due"),
        ("\x15viral sched\t\t\t", "schedules"),  # as far as both go, then both
    ]
    keys_pressed(STARTS[shell], lines, tmp_path)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
def test_fish_completes(viral: Shell, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(viral.done("completion", "fish").out)
    asked = ["fish", "--no-config", "-c", "source ./script; complete -C 'viral sched'"]
    shown = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [line.partition("\t")[0] for line in shown.splitlines()] == ["scheduler", "schedules"]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_script_is_one(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    file = tmp_path / "script"
    file.write_text(script(shell))
    assert subprocess.run([shell, "-n", file], capture_output=True, check=False).returncode == 0


def test_it_takes_a_moment() -> None:
    """Of the processor: how long a machine that is busy lets it wait is not its own."""
    command = [*script("bash").partition("$(")[2].partition(" bash")[0].split(), "bash", "--", "jobs", "list", "--st"]
    assert command[0] == sys.executable
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout == "--status\n"
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.5


NAMED_BY_PEOPLE = {("ops", "token", "create"), ("ops", "token", "revoke")}
"""Commands whose NAME is anybody's, as that of no other is."""


def refused_with_a_list() -> set[str]:
    """The options (`--status`) and arguments (`QUEUE`) that `one_of` refuses anywhere in the shell."""
    calls = [
        node
        for file in (ROOT / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "one_of"
    ]
    assert len(calls) > 20
    return {str(call.args[2].value) for call in calls if isinstance(call.args[2], ast.Constant)}


def with_known_words() -> Iterator[tuple[str, list[str]]]:
    """Yield what is one of words that are known, and what completes it: what `one_of` refuses, what says of itself
    that a wrong one lists them or that it is one of some, and what is written `this|that`."""
    hints = refused_with_a_list()
    for words, command in commands():
        with command.make_context("viral", [], resilient_parsing=True) as context:
            for each in command.get_params(context):
                if getattr(each, "is_flag", False) or (words in NAMED_BY_PEOPLE and each.metavar == "NAME"):
                    continue
                argument = each.param_type_name == "argument"
                names = {each.metavar} if argument else {*each.opts}
                metavar, says = str(each.metavar or ""), str(each.help or "").lower()
                listed = names & hints or "wrong one lists" in says or says.startswith("one of ")
                if listed or ("|" in metavar and metavar.islower()):
                    found = [item.value for item in each.shell_complete(context, "") if item.type == "plain"]
                    yield f"{' '.join(words)} {sorted(names)}", found


def test_whatever_has_known_words_completes_them() -> None:
    found = dict(with_known_words())
    assert len(found) > 60
    assert [name for name, values in found.items() if len(values) < 2] == []


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("queues pause ", "events"),
        ("worker -q ", "render"),
        ("accounts connect ", "bluesky"),
        ("ops token create ada --role ", "act"),
        ("providers disable ", "runway"),
        ("posts resolve ID ", "lost"),
        ("videos resolve ID ", "found"),
        ("jobs enqueue ", "quota.reset_due"),
        ("schedules fire ", "posting.due"),
        ("completion ", "fish"),
        ("keys create --scope ", "account:read"),
        ("actions list --action ", "job.retry"),
        ("reflexion promote ", "ridge/v1"),
        ("dev send-event ", "stripe"),
    ],
)
def test_words_that_are_known_are_offered(made: Any, line: str, some: str) -> None:
    assert some in [each.word for each in candidates(made, line.split(" "))]
