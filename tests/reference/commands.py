"""docs/reference/cli.md: each command of `viral` as its own help has it."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.main import get_command

from cli.main import COMMANDS, app
from cli.shell import load
from tests.reference.markdown import anchor, code, one_line, table

WIDTH = 100
HEAD = """# Commands

`viral COMMAND --help` shows the same. Exit code 0: done; 1: failed; 2: the command line makes no sense, and one line
says why and what to try. Lists take `--json`, for programs. A command needs the settings of
[the environment](settings.md), or the servers that `viral up` has started in this folder.
"""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that can be run: its words behind `viral`, and what parses its arguments."""
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        yield from _below((name,), load(*COMMANDS[name]))


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name, each in below.items():
        yield from _below((*words, name), each)


def examples(command: Any) -> list[str]:
    """Return the lines of a command's help that can be run as they are: those of a part that is not wrapped."""
    parts = (command.help or "").split("\n\n")
    return [line for part in parts if part.startswith("\b\n") for line in part.splitlines()[1:]]


def help_of(words: Sequence[str], command: Any) -> str:
    context = command.make_context(
        " ".join(("viral", *words)), [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def page() -> str:
    found = list(commands())
    rows = [
        (f"[{code('viral ' + ' '.join(words))}](#{anchor('viral ' + ' '.join(words))})", _sentence(command))
        for words, command in found
    ]
    lines = [HEAD, *table(("command", "what it does"), rows)]
    for words, command in found:
        lines += [f"## viral {' '.join(words)}", "", "```text", help_of(words, command), "```", ""]
    return "\n".join(lines)


def _sentence(command: Any) -> str:
    return one_line((command.help or "").split("\n\n")[0])
