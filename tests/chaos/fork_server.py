"""A process that has imported everything forks others from itself: a dyno is there in 50 ms instead of a second.

A forked process runs the same entry (`workers.__main__:begin`, say) as the command line. Harness and fork server talk
in lines of JSON: an order `{"call", "argv", "env", "log"}` is answered by a pid, and later by how it ended.
"""

import ctypes
import faulthandler
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.spawn import end
from tests.wait import until

ROOT = Path(__file__).resolve().parents[2]
WARM = ("workers.__main__", "tests.chaos.worker", "tests.chaos.clock", "tests.chaos.simulated_scheduler")
PR_SET_PDEATHSIG = 1


class ForkServer:
    """The harness's end."""

    def __init__(self, log: Path, *more: str) -> None:
        """Import what the experiments fork, and `more` modules."""
        with log.open("wb") as file, warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; `die_with_parent` takes no lock.
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.fork_server", *more],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        self.ended: dict[int, int] = {}
        """How each process ended: its exit code, or minus the signal that ended it."""
        self._forked: list[int] = []
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def fork(self, call: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> int:
        """Start `module:function` in a process of its own. Returns its pid, which leads a process group."""
        with self._lock:
            assert self._process.stdin is not None
            before = len(self._forked)
            order = {"call": call, "argv": list(argv), "env": dict(env), "log": str(log)}
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            until(lambda: len(self._forked) > before, "the process to be forked", every=0.002)
            return self._forked[before]

    def close(self) -> None:
        end(self._process, (signal.SIGTERM, 2.0))
        self._listener.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "pid" in message:
                self._forked.append(message["pid"])
            else:
                self.ended[message["ended"]] = message["how"]


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve() -> None:
    """Fork what is ordered and report what has ended, until the harness ends."""
    for name in (*WARM, *sys.argv[1:]):
        importlib.import_module(name)
    orders = b""
    os.set_blocking(0, False)
    while True:
        ready, _, _ = select.select([0], [], [], 0.02)
        if ready:
            more = os.read(0, 65536)
            if not more:
                return
            orders += more
            *lines, orders = orders.split(b"\n")
            for line in lines:
                report({"pid": start(json.loads(line))})
        reap()


def reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        report({"ended": pid, "how": os.waitstatus_to_exitcode(status)})


def report(what: Mapping[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def start(order: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        die_with_parent()
        log = os.open(order["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ.update(order["env"])
        faulthandler.register(signal.SIGUSR1)  # tells where it stands, should it hang
        module, _, function = order["call"].partition(":")
        sys.argv = [module, *order["argv"]]
        code = getattr(importlib.import_module(module), function)() or 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code & 0xFF)


if __name__ == "__main__":
    serve()
