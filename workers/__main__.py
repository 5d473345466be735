"""`python -m workers`: the worker processes and their parent; what `viral worker` becomes.

Dramatiq's command line forks processes too, but shares locks and pipes with them: one that is killed while it holds a
lock leaves the others waiting for ever. Here they share nothing, and the kernel reports who has ended
(docs/decisions/0014-a-parent-of-our-own.md). The application is imported before the fork, so that it is in memory once:
a dyno of two processes needs 100 MB instead of 125.
"""

import ctypes
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from queue import SimpleQueue

import workers.jobs
from domain.errors import ViralError
from workers.adapters.ports import preload_language_models
from workers.engine.discovery import discover
from workers.engine.queues import wanted_queues
from workers.runtime.attend import attend
from workers.runtime.error_text import traceback_of
from workers.runtime.terminal import guard_output
from workers.settings import load

SIGN_OFF_SECONDS = 10
"""How long after the grace period a process may take to give back its jobs and sign off, before it is killed."""

PR_SET_PDEATHSIG = 1

Asked = SimpleQueue[signal.Signals]
"""The queue by which a process is asked to stop; unlike an event's lock, its `put` suits a signal handler."""


def begin() -> None:
    """Run worker processes until they are asked to stop, or one of them ends.

    The first argument of the command line, if there is one, names another function than `workers.main:start`.
    """
    guard_output()
    settings = load()
    module, _, function = (sys.argv[1] if len(sys.argv) > 1 else "workers.main:start").partition(":")
    start = getattr(importlib.import_module(module), function)
    discover((workers.jobs,))
    if "llm" in wanted_queues():
        preload_language_models(settings)
    # A collection writes to every object that it looks at, and a page that is written to is shared no longer.
    gc.collect()
    gc.freeze()
    parent = Parent(lambda asked: start().run(asked), patience=settings.worker_grace_seconds + SIGN_OFF_SECONDS)
    parent.run(settings.worker_processes)


class Parent:
    """Forks processes, each of which does `work`, and lives as long as they do.

    SIGTERM, SIGINT and SIGHUP, however often, ask all of them to finish what they have begun; so does the end of one
    of them. `patience`: seconds after which those that are left are killed.
    """

    def __init__(self, work: Callable[[Asked], object], *, patience: int) -> None:
        self._work = work
        self._patience = patience
        self._stops = {signal.SIGTERM, signal.SIGINT}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` wants it
            self._stops.add(signal.SIGHUP)
        self._children: list[int] = []

    def run(self, processes: int) -> None:
        """Fork so many, and become the process that waits for them (`workers/runtime/attend.py`)."""
        handled = self._stops | {signal.SIGCHLD, signal.SIGALRM}
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # what is ignored need not be kept until asked for
        # A signal waits until it is asked for: none comes between a fork and the note of it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        for _ in range(processes):
            self._fork(mask)
        attend(self._children, self._stops, patience=self._patience)

    def _fork(self, mask: Iterable[int]) -> None:
        parent = os.getpid()
        if child := os.fork():
            self._children.append(child)
            return
        code = 1
        try:
            asked: Asked = SimpleQueue()
            for stop in self._stops:
                signal.signal(stop, lambda number, frame: asked.put(signal.Signals(number)))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _stop_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._work(asked)
            code = 0
        except ViralError as error:
            sys.stderr.write(f"viral worker: {error}\n")
        except BaseException as error:
            sys.stderr.write(f"{traceback_of(error)}\n")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _stop_with(parent: int) -> None:
    """A process whose parent was killed must drain too, or it would work on unseen (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    begin()
