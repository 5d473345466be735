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
from typing import TextIO

PATIENCE = 1.0
"""Seconds that a line waits for another process's; then that one is stopped, and a line in two is better than none."""


class WholeLines:
    """A text stream each of whose writes arrives in one piece. A stream without a file (a test's) is written to as it
    is, under the lock."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        try:
            self._file: int | None = stream.fileno()
        except (OSError, AttributeError, ValueError):
            self._file = None

    def write(self, text: str) -> int:
        with self._lock:
            if self._file is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._stream.flush()  # what others wrote to the stream comes first
                encoded = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
                _write(self._file, encoded)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


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
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > until:
                return False
            time.sleep(0.0005)
        except OSError:
            return False
        else:
            return True
