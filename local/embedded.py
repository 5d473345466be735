"""The servers that `viral up` brings along: Postgres and a Redis-compatible one, when no URL says where others are."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from local.cluster import APP, OWNER
from local.home import (
    ChildRecord,
    EmbeddedUrls,
    State,
    forget_state,
    last_state,
    locked,
    make_home,
    new_state,
    passwords,
    read_state,
    write_state,
)
from local.postgres import EmbeddedPostgres
from local.spawn import EmbeddedError, end_orphan_group
from local.valkey import EmbeddedRedis

__all__ = [
    "ChildRecord",
    "Embedded",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedUrls",
    "State",
    "read_state",
    "start_embedded",
]

LEFTOVER_GRACE = 20.0  # seconds that a worker of a killed run has to finish its jobs
MOST_REVIVALS = 5  # within ten minutes; a server that dies more often has a reason which a restart does not cure
REVIVAL_WINDOW = 600.0


class Embedded:
    """The home is locked and its servers run from `start_embedded` to `stop` (or the end of the `with` block)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.postgres: EmbeddedPostgres | None = None
        self.redis: EmbeddedRedis | None = None
        self._state = new_state()
        self._held = ExitStack()
        self._revivals: list[float] = []

    @property
    def urls(self) -> EmbeddedUrls:
        return EmbeddedUrls(
            database_url=self.postgres.url(OWNER) if self.postgres else "",
            app_database_url=self.postgres.url(APP) if self.postgres else "",
            redis_url=self.redis.url() if self.redis else "",
        )

    def record(self, *, web_url: str | None = None, children: Iterable[ChildRecord] | None = None) -> None:
        """Write down what a second shell wants to know, and what the next start has to clear away if we are killed."""
        self._state = replace(
            self._state,
            urls=self.urls,
            web_url=self._state.web_url if web_url is None else web_url,
            children=self._state.children if children is None else tuple(children),
        )
        write_state(self.home, self._state)

    def tend(self) -> list[str]:
        """Start again, on the same port, a server that has died. One line for each; call it when a child has ended."""
        said = []
        for name, server in (("Postgres", self.postgres), ("Redis", self.redis)):
            if server is not None and not server.alive():
                now = time.monotonic()
                self._revivals = [then for then in self._revivals if now - then < REVIVAL_WINDOW] + [now]
                if len(self._revivals) > MOST_REVIVALS:
                    raise EmbeddedError(f"The embedded {name} keeps dying: see its log in {self.home}.")
                server.stop()
                server.start()
                said.append(f"the embedded {name} had died and was started again")
        return said

    def stop(self) -> None:
        """Orderly and bounded (some 20 s at worst); a Ctrl-C meanwhile is ignored."""
        with without_interrupts():
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def _start(self, servers: tuple[EmbeddedPostgres | None, EmbeddedRedis | None], say: Callable[[str], None]) -> None:
        postgres, redis = servers
        make_home(self.home)
        self._held.enter_context(locked(self.home))
        self._clear_away(postgres, redis, say)
        passwords(self.home)
        self._held.callback(forget_state, self.home)
        if redis is not None:
            self._held.callback(redis.stop)
            redis.launch()
        if postgres is not None:
            self._held.callback(postgres.stop)
            postgres.start()
            self.postgres = postgres
            if postgres.how == "a private folder":
                say(f"{self.home} is closed to other users, so Postgres keeps its data in {postgres.data}")
        if redis is not None:
            redis.wait_until_ready()
            self.redis = redis
        self.record()

    def _clear_away(
        self, postgres: EmbeddedPostgres | None, redis: EmbeddedRedis | None, say: Callable[[str], None]
    ) -> None:
        """End what a killed run left running: its workers first, then the servers that they use."""
        left = last_state(self.home)
        for child in left.children if left else ():
            if end_orphan_group(child.pid, child.argv, LEFTOVER_GRACE):
                say(f"stopped {child.name} (pid {child.pid}), left running by an earlier `viral up`")
        for name, server in (("Postgres", postgres), ("Redis", redis)):
            if server is not None and (pid := server.stop_leftover()):
                say(f"stopped the {name} (pid {pid}) of an earlier `viral up`")
        forget_state(self.home)


def start_embedded(
    home: Path,
    *,
    postgres: bool = True,
    redis: bool = True,
    bin_dir: Path | None = None,
    persist: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Embedded:
    """Lock the home, end what a killed run left there, start the servers. For the main thread (see `local.spawn`).

    `bin_dir`: another Postgres 15 to 18 (POSTGRES_BIN). `persist=False`: no durability in either server, for tests.
    `say` gets a line for whatever was unusual. Raises EmbeddedError, with nothing left running.
    """
    home = home.absolute()
    embedded = Embedded(home)
    servers = (
        EmbeddedPostgres(home, bin_dir=bin_dir, durable=persist) if postgres else None,
        EmbeddedRedis(home, persist=persist) if redis else None,
    )
    try:
        embedded._start(servers, say)
    except BaseException:
        embedded.stop()
        raise
    return embedded


@contextmanager
def without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
