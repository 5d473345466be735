"""A command line that makes no sense: one line that says why and what to try next, of every command alike."""

import pytest

from tests.cli.shell import Shell
from tests.reference.commands import commands

TENANT = "01a20417-5ccc-7850-9558-0a37b805228c"


def test_every_command_says_in_one_line_what_makes_no_sense(away: Shell) -> None:
    for words, _ in commands():
        [line] = away.senseless(*words, "--no-such-option").splitlines()
        assert line.startswith("viral: No such option: --no-such-option")
        assert line.endswith(f" Try 'viral {' '.join(words)} --help'.")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nope"], "No such command 'nope'. Try 'viral --help'."),
        (["jobs", "lst"], "No such command 'lst'. Did you mean 'list'? Try 'viral jobs --help'."),
        (["jobs", "show"], "Missing argument 'ID'. Try 'viral jobs show --help'."),
        (["completion"], "Missing argument 'SHELL': bash, zsh, fish. Try 'viral completion --help'."),
        (["completion", "csh"], "Invalid value for 'SHELL': 'csh' is not one of 'bash', 'zsh', 'fish'. Try …"),
        (
            ["queues", "pause"],
            "Missing argument 'QUEUE': events, default, llm, media, render, social. Try 'viral queues pause --help'.",
        ),
        (["jobs", "list", "a"], "Got unexpected extra argument(s) (a). Try 'viral jobs list --help'."),
        (
            ["jobs", "retry", "--status", "failed", "--status", "cancelled", "--reason", "x"],
            "--status is given twice; it takes one value. Try 'viral jobs retry --help'.",
        ),
        (["posts", "list", "-n", "3", "--limit=4"], "--limit is given twice; it takes one value. Try …"),
        (["jobs", "list", "--limit", "x"], "Invalid value for '--limit' / '-n': should be a whole number. Try …"),
        (["jobs", "list", "--limit", "-3"], "Invalid value for '--limit' / '-n': should be at least 1. Try …"),
        (["posts", "retry"], "Missing argument 'ID': name posts, or say --status and other filters. Try …"),
        (["posts", "retry", "--status", "failed"], "Invalid value for --reason: say why: it is kept with what is …"),
        (["up", "--port", "70000"], "Invalid value for '--port': should be at most 65535. Try …"),
        (
            ["failures", "list", "--since", "x"],
            "Invalid value for '--since': 'x' is no time; write 2026-12-01T09:00Z, …",
        ),
    ],
)
def test_the_line_says_why_and_what_to_try(away: Shell, words: list[str], line: str) -> None:
    [printed] = away.senseless(*words).splitlines()
    assert printed == f"viral: {line}" or (line.endswith("…") and printed.startswith(f"viral: {line[:-1]}"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["quota", "grant", TENANT, "-5"], "'N': should be at least 1; `viral quota take` takes some away"),
        (["quota", "take", TENANT, "-5"], "'N': should be at least 1; `viral quota grant` gives some"),
        (["quota", "grant", TENANT, "0"], "'N': should be at least 1"),
        (["quota", "grant", TENANT, "-0.5"], "'N': should be a whole number"),
        (["jobs", "prioritize", "-1", TENANT], "'N': should be at least 0"),
        (["jobs", "prioritize", "-1", "--typo"], "Invalid value for "),
    ],
)
def test_a_negative_number_is_a_value_and_no_option(away: Shell, words: list[str], why: str) -> None:
    [printed] = away.senseless(*words, *(["--reason", "x"] if words[0] == "quota" else [])).splitlines()
    assert why in printed
