"""Lines of 64 KB from threads of two processes on one pipe, and on one file: each arrives whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITER = """
import sys, threading
import structlog
from workers.runtime import logs
logs.configure("json", "INFO")
log = structlog.get_logger()
def write(letter):
    for n in range(10):
        log.info("long", text=letter * 65536)
        log.info("short", text=letter)
threads = [threading.Thread(target=write, args=(letter,)) for letter in sys.argv[1]]
for each in threads: each.start()
for each in threads: each.join()
"""


def begin(letters: str, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, letters], stderr=output)


def check(lines: list[bytes]) -> None:
    found = [json.loads(line)["text"] for line in lines]
    assert len(found) == 2 * 4 * 20
    assert all(len(set(text)) == 1 and len(text) in (1, 65536) for text in found)


@pytest.mark.proof
def test_on_one_pipe() -> None:
    reading, writing = os.pipe()
    writers = [begin(letters, writing) for letters in ("abcd", "efgh")]
    os.close(writing)
    with open(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [each.wait() for each in writers] == [0, 0]
    check(lines)


def test_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writing = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    writers = [begin(letters, writing) for letters in ("abcd", "efgh")]
    os.close(writing)
    assert [each.wait() for each in writers] == [0, 0]
    check(path.read_bytes().splitlines())
