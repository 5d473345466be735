"""Whole lines on a stream that several threads and processes share.

Each line is one call of the system, under a lock of the process: a file takes that in one piece, whoever else writes. A
pipe takes 4,096 bytes at once without another's in between, and no more: a longer line (a traceback) is cut in two by
whoever writes meanwhile, so on a pipe each line is also under a record lock, which the kernel takes back from a process
that dies. A short line has to take it too: it would stand in the middle of another's long one.
"""

import fcntl
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import TextIO

PATIENCE = 1.0
"""Seconds that a line waits for another process's; then that one is stopped, and a line in two is better than none."""

YIELDS, SHORTEST_WAIT = 20, 0.0005
"""A usual line takes microseconds: so often only the processor is given up. Later a line waits longer."""


class WholeLines:
    """A text stream each of whose writes arrives in one piece, on what `find` returns at the time: standard error may
    become another stream. One without a file (a test's) is written to as it is, under the lock."""

    def __init__(self, find: Callable[[], TextIO]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._stream: TextIO | None = None
        self._file: int | None = None
        self._locks = False

    def write(self, text: str) -> int:
        with self._lock:
            stream = self._find()
            if stream is not self._stream:
                self._stream, self._file = stream, _file_of(stream)
                self._locks = self._file is not None and _cuts_lines(self._file)
            if self._file is None:
                stream.write(text)
                stream.flush()
            else:
                stream.flush()  # what others wrote to the stream comes first
                encoded = text.encode(stream.encoding or "utf-8", "backslashreplace")
                (_write_locked if self._locks else _write)(self._file, encoded)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _file_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError, ValueError):
        return None


def _cuts_lines(file: int) -> bool:
    mode = os.fstat(file).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _write(file: int, line: bytes) -> None:
    written = 0
    while written < len(line):
        try:
            written += os.write(file, line[written:] if written else line)
        except BlockingIOError:
            select.select([], [file], [], PATIENCE)


def _write_locked(file: int, line: bytes) -> None:
    locked = _locked(file)
    try:
        _write(file, line)
    finally:
        if locked:
            fcntl.lockf(file, fcntl.LOCK_UN)


def _locked(file: int) -> bool:
    """Wait for the record lock, for a while; what has none (a terminal of some systems) goes without."""
    until = time.monotonic() + PATIENCE
    tries = 0
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                return False
            time.sleep(0 if tries < YIELDS else SHORTEST_WAIT)
            tries += 1
        except OSError:
            return False
        else:
            return True
