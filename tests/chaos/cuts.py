"""Moments at which a process could die, and what happens there: the attempt of the calling thread is cut off, as by
SIGKILL, or somebody acts from outside. They are before and after each COMMIT, and before and after each call of a port.

A cut is an exception that nobody catches: the transaction is rolled back, the row stays claimed by a worker that is
dead. What differs from a real death is that `finally` blocks run; real deaths are tried with real processes.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

import db.postgres.connection
import db.transaction
from domain.ports import ClipProvider
from domain.videos.submissions import ClipOrder, Submission, Unknown
from workers.app import App

_thread = threading.local()

IN_TRANSACTION = "COMMIT:before"


class Cut(BaseException):
    """The process is gone."""


Moment = int | str
"""The number of a moment in a run, or its name for the first of that name."""


class Moments:
    """Counts the moments that a thread comes by; at those in `acts` it does something, once."""

    def __init__(self, acts: Mapping[Moment, Callable[[], object]]) -> None:
        self.passed = 0
        self.struck: Counter[str] = Counter()
        self._acts = dict(acts)

    def reach(self, name: str) -> None:
        self.passed += 1
        for moment, act in list(self._acts.items()):
            due = moment == name or (isinstance(moment, int) and moment <= self.passed)
            # What comes from outside would wait for the end of this transaction.
            if due and (act is cut or name != IN_TRANSACTION):
                del self._acts[moment]
                self.struck[("cut" if act is cut else "user") + " at " + name] += 1
                act()


def cut() -> None:
    raise Cut


@contextmanager
def counting(moments: Moments) -> Iterator[None]:
    _thread.moments = moments
    try:
        yield
    finally:
        _thread.moments = None


def reach(name: str) -> None:
    moments = getattr(_thread, "moments", None)
    if moments is not None:
        moments.reach(name)


@contextmanager
def installed() -> Iterator[None]:
    """Let each COMMIT of this process be two moments."""
    vars(db.transaction)["commit"] = _commit  # where the product looks it up
    try:
        yield
    finally:
        vars(db.transaction)["commit"] = _shipped_commit


def watched(app: App, *, resending: bool = False) -> App:
    """Return the application with ports whose calls are moments. `resending` breaks the promise on purpose: an order
    whose answer was lost is sent again."""
    ports = app.ports
    asked = {name: _Resending(each) if resending else each for name, each in ports.clips.items()}
    clips: Any = {name: Watched(provider, "provider") for name, provider in asked.items()}
    studio: Any = Watched(ports.studio, "studio")
    media: Any = Watched(ports.media, "store")
    return replace(app, ports=replace(ports, clips=clips, studio=studio, media=media))


class Watched:
    """A port whose calls are moments, each named by `name` and the call."""

    def __init__(self, port: Any, name: str) -> None:
        self._port, self._name = port, name

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)
        if not callable(call):
            return call

        def through(*args: Any, **kwargs: Any) -> Any:
            reach(f"{self._name}.{method}:before")
            result = call(*args, **kwargs)
            reach(f"{self._name}.{method}:after")
            return result

        return through


class _Resending:
    def __init__(self, provider: ClipProvider) -> None:
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def submit(self, order: ClipOrder, key: str) -> Submission:
        answer = self._provider.submit(order, key)
        return self._provider.submit(order, key) if isinstance(answer, Unknown) else answer


def _commit(driver: psycopg.Connection[Any], *before: bytes) -> None:
    reach(IN_TRANSACTION)
    _shipped_commit(driver, *before)
    reach("COMMIT:after")


_shipped_commit = db.postgres.connection.commit
