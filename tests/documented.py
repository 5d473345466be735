"""What documents show of a shell: blocks of commands with what they print.

In a ```console block, a line that begins with `$ ` is a command and the lines below it are what it prints: `…` stands
for anything in a line, and a line of nothing else for any lines. A block below `<!-- run -->` is run by a test. In a
```sh block every line is a command. A word in capitals (`TENANT`) stands for what the reader has at hand.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = "<!-- run -->"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command, as it is typed, and the lines that it prints."""

    command: str
    printed: tuple[str, ...]

    def words(self, values: Mapping[str, str]) -> list[str]:
        """Return the words behind `viral`, with `values` in the place of words in capitals."""
        program, *words = shlex.split(self.command, comments=True)
        assert program == "viral", self.command
        return [_filled(word, values) for word in words]

    def with_values(self, values: Mapping[str, str]) -> "Step":
        """Return the step with `values` in what it prints."""
        return Step(self.command, tuple(_filled(line, values) for line in self.printed))


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\b[A-Z][A-Z_]+\b", lambda found: values.get(found[0], found[0]), text)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each section of a document by its heading, without those below it; text above all of them has ""."""
    heading, lines, fenced = "", list[str](), False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith("#") and not fenced:
            yield heading, "".join(lines)
            heading, lines = line.lstrip("#").strip(), []
        else:
            lines.append(line)
    yield heading, "".join(lines)


def blocks_to_run(text: str) -> list[list[Step]]:
    """Return the blocks that a test runs, each as its commands."""
    return [
        list(steps(found[2]))
        for found in FENCE.finditer(text)
        if found[1] == "console" and text[: found.start()].rstrip().endswith(RUN)
    ]


def steps(block: str) -> Iterator[Step]:
    command, printed = "", list[str]()
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield Step(command, tuple(printed))
            command, printed = line[2:], []
        else:
            printed.append(line)
    if command:
        yield Step(command, tuple(printed))


def commands_in(text: str) -> Iterator[str]:
    """Yield each line of the shell that a document shows, with the lines that continue it."""
    for language, block in FENCE.findall(text):
        if language == "console":
            yield from (step.command for step in steps(block))
        elif language == "sh":
            yield from (line for line in block.replace("\\\n", " ").splitlines() if line.strip())


def difference(printed: tuple[str, ...], text: str) -> str | None:
    """Return None if the text is as a document shows it, or both, to compare."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line.strip() == "…" else f"{_pattern_of(line)}\n" for line in _trimmed(printed)
    )
    actual = "".join(f"{line}\n" for line in _trimmed(text.splitlines()))
    if re.fullmatch(pattern, actual):
        return None
    return "the document shows\n" + "\n".join(printed) + "\nand it prints\n" + actual


def _pattern_of(line: str) -> str:
    """Columns are as wide as what is in them: any number of spaces between two words is as good as another."""
    words = [re.escape(word).replace("…", r"[^\n]*?") for word in line.split()]
    return r"[ ]*" + r"[ ]+".join(words)


def _trimmed(lines: tuple[str, ...] | list[str]) -> list[str]:
    """Return the lines without empty ones at either end, and without spaces at their own."""
    return "\n".join(line.rstrip() for line in lines).strip("\n").split("\n")


def play(
    block: list[Step], run: Callable[[list[str]], tuple[int, str]], values: Callable[[], Mapping[str, str]]
) -> None:
    """Run each command with the `values` of that moment, and compare what it prints."""
    for step in block:
        code, text = run(step.words(values()))
        failed = difference(step.printed, text)
        assert failed is None, f"{step.command} (exit code {code}): {failed}"
