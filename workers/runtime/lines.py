"""Whole lines on a stream that several threads and processes share.

A pipe takes 4,096 bytes at once without another's in between, and no more: a longer line (a traceback) is cut in two by
whoever writes meanwhile. So each line is one call, under a lock of the process, and under a record lock of the file or
pipe, which the kernel takes back from a process that dies.
"""

import fcntl
import os
import select
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

    def write(self, text: str) -> int:
        with self._lock:
            stream = self._find()
            if stream is not self._stream:
                self._stream, self._file = stream, _file_of(stream)
            if self._file is None:
                stream.write(text)
                stream.flush()
            else:
                stream.flush()  # what others wrote to the stream comes first
                encoded = text.encode(stream.encoding or "utf-8", "backslashreplace")
                _write(self._file, encoded)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def _file_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError, ValueError):
        return None


def _write(file: int, line: bytes) -> None:
    locked = _locked(file)
    try:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(file, left) :]
            except BlockingIOError:
                select.select([], [file], [], PATIENCE)
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
