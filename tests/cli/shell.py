"""`viral WORD …`, in this process (a process of its own costs most of a second) or in one of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from cli.main import main
from tests.drain import drain as drain_app
from workers.app import App
from workers.runtime import logs
from workers.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "postgresql://viral:sekret@127.0.0.1:1/viral"
PYTHONPATH = f"{ROOT}:{get_path('purelib')}"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """`viral WORD …` with an environment of its own."""

    def __init__(
        self, environment: dict[str, str], patch: pytest.MonkeyPatch, read: pytest.CaptureFixture[str]
    ) -> None:
        self.environment = environment
        self._patch = patch
        self._read = read

    def __call__(self, *words: object, **environment: str) -> Result:
        with self._patch.context() as patch:
            for name in Settings.model_fields:
                patch.delenv(name.upper(), raising=False)
            for name, value in (self.environment | environment).items():
                patch.setenv(name, value)
            self._read.readouterr()
            with pytest.raises(SystemExit) as stopped:
                main([str(word) for word in words])
            logs.configure("console", "WARNING")  # a command has its own idea, and this process lives on
        code = stopped.value.code or 0
        assert isinstance(code, int)
        return Result(code, *self._read.readouterr())

    def done(self, *words: object, **environment: str) -> Result:
        result = self(*words, **environment)
        assert (result.code, result.err) == (0, ""), result
        return result

    def json(self, *words: object) -> Any:
        return json.loads(self.done(*words, "--json").out)

    def refused(self, *words: object, **environment: str) -> str:
        """The one line that says why."""
        result = self(*words, **environment)
        assert (result.code, result.out) == (1, ""), result
        [line] = result.err.splitlines()
        return line

    def senseless(self, *words: object) -> str:
        result = self(*words)
        assert (result.code, result.out) == (2, ""), result
        return result.err


def without_settings() -> dict[str, str]:
    """The environment of this process, without what would be a setting."""
    return {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}


def a_process(
    environment: dict[str, str], *words: str, python: str = sys.executable, **options: Any
) -> subprocess.Popen[str]:
    """`viral` as a process of its own."""
    return subprocess.Popen(
        [python, "-m", "cli.main", *words],
        env=without_settings() | {"PYTHONPATH": PYTHONPATH, "PYTHONWARNINGS": "default"} | environment,
        text=True,
        **options,
    )


@contextmanager
def working(app: App) -> Iterator[None]:
    """A worker in a thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            drain_app(app)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
