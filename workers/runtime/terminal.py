"""The border between what a process writes and the terminal of whoever reads it."""

import sys
from typing import IO, TextIO, cast

from domain.text.visible import visible


class VisibleStream:
    """A text stream that nothing reaches but visible text, lines and tabs, whoever writes: commands, the parser of
    the command line, warnings, tracebacks.

    It has no `buffer`, because bytes would go past it. Who makes text visible and then adds colours writes to `stream`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(visible(text, keep="\n\t"))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    @property
    def errors(self) -> str | None:
        return self.stream.errors

    @property
    def closed(self) -> bool:
        return self.stream.closed


def guard_output() -> None:
    """From here on standard output and standard error show text of others and do not obey it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, VisibleStream):
            setattr(sys, name, VisibleStream(stream))


def coloured(stream: IO[str]) -> TextIO:
    """The stream itself, for who makes text visible before adding colours to it."""
    return cast(TextIO, stream.stream if isinstance(stream, VisibleStream) else stream)
