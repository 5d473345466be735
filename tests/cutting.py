"""Stops an attempt anywhere: before and after each commit of its handler, and before and after each call of a port.

A process that dies is played by an exception that nothing catches: what was committed stays, the job stays running, and
the reaper finds it. (`tests/chaos` kills real processes; this enumerates where.)
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from db.transaction import SYSTEM
from workers.app import App
from workers.engine.outcomes import rescue


class Died(BaseException):
    """The process is gone."""


@dataclass
class Moments:
    """Counts the moments of handlers, and calls `strike` at the one with the number `at`, from 0."""

    at: int
    strike: Callable[[], object]
    within_transactions: bool
    passed: list[str] = field(default_factory=list)
    _inside: threading.local = field(default_factory=threading.local)

    @property
    def struck(self) -> bool:
        return len(self.passed) > self.at

    @property
    def inside(self) -> bool:
        """Whether this thread is in a handler."""
        return getattr(self._inside, "handler", False)

    def reach(self, name: str) -> None:
        if not self.inside:
            return
        self.passed.append(name)
        if len(self.passed) == self.at + 1:
            self.strike()

    @contextmanager
    def handling(self) -> Iterator[None]:
        self._inside.handler = True
        try:
            yield
        finally:
            self._inside.handler = False


class _Database:
    def __init__(self, database: Any, moments: Moments) -> None:
        self._database, self._moments = database, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def transaction(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with self._database.transaction(*args, **kwargs) as tx:
            yield tx
            if self._moments.within_transactions:
                self._moments.reach("before a commit")
        self._moments.reach("after a commit")


class _Port:
    def __init__(self, port: Any, moments: Moments) -> None:
        self._port, self._moments = port, moments

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not callable(method):
            return method

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._moments.reach(f"before {name}")
            answer = method(*args, **kwargs)
            self._moments.reach(f"after {name}")
            return answer

        return call


def watched(app: App, moments: Moments) -> App:
    """Return the application with the moments of its handlers counted."""
    ports = replace(
        app.ports,
        clips={name: _Port(each, moments) for name, each in app.ports.clips.items()},
        studio=_Port(app.ports.studio, moments),
        media=_Port(app.ports.media, moments),
        publishers={name: _Port(each, moments) for name, each in app.ports.publishers.items()},
        logins={name: _Port(each, moments) for name, each in app.ports.logins.items()},
        marks=_Port(app.ports.marks, moments),
        critics={name: _Port(each, moments) for name, each in app.ports.critics.items()},
    )
    types = {name: replace(each, handler=_handler(each.handler, moments)) for name, each in app.job_types.items()}
    return replace(app, db=_Database(app.db, moments), ports=ports, job_types=types)  # type: ignore[arg-type]


def _handler(handler: Callable[..., None], moments: Moments) -> Callable[..., None]:
    @wraps(handler)
    def run(*args: Any, **kwargs: Any) -> None:
        with moments.handling():
            handler(*args, **kwargs)

    return run


def rescue_all(app: App) -> int:
    """Do what the reaper does once the leases of dead processes have run out."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE workers SET lease_until = now() - interval '1 second'")
    return rescue(app.db, app.job_types)
