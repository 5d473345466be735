"""The servers that `viral up` brings along: Postgres and a Redis-compatible one, when no URL says where others are."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from local.home import (
    ChildRecord,
    EmbeddedUrls,
    forget_state,
    last_state,
    locked,
    make_home,
    new_state,
    passwords,
    write_state,
)
from local.postgres import APP, OWNER, EmbeddedPostgres
from local.spawn import EmbeddedError, end_orphan_group
from local.valkey import EmbeddedRedis

ORPHAN_GRACE = 20.0
"""Seconds that a worker of a killed run has to finish its jobs."""
MOST_RESTARTS, RESTART_WINDOW = 5, 600.0
"""Restarts within so many seconds; a server that dies more often has a reason which a restart does not cure."""


def start_embedded(
    home: Path,
    *,
    postgres: bool = True,
    redis: bool = True,
    bin_dir: Path | None = None,
    persist: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> "Embedded":
    """Lock the home, end what a killed run left there, start the servers. For the main thread (see `local.spawn`).

    `bin_dir`: another Postgres 15 to 18 (POSTGRES_BIN). `persist=False`: no durability in either server, for tests.
    `say` gets a line for whatever was unusual.

    Raises:
        EmbeddedError: a server cannot run, and nothing is left running.
    """
    home = home.absolute()
    embedded = Embedded(
        home,
        EmbeddedPostgres(home, bin_dir=bin_dir, durable=persist) if postgres else None,
        EmbeddedRedis(home, persist=persist) if redis else None,
    )
    try:
        embedded.start(say)
    except BaseException:
        embedded.stop()
        raise
    return embedded


class Embedded:
    """The home is locked and its servers run from `start` to `stop` (or the end of the `with` block)."""

    def __init__(self, home: Path, postgres: EmbeddedPostgres | None, redis: EmbeddedRedis | None) -> None:
        self.home = home
        self.postgres = postgres
        self.redis = redis
        self._servers = [server for server in (postgres, redis) if server is not None]
        self._state = new_state()
        self._cleanup = ExitStack()
        self._restarts: list[float] = []

    @property
    def urls(self) -> EmbeddedUrls:
        return EmbeddedUrls(
            database_url=self.postgres.url(OWNER) if self.postgres else "",
            app_database_url=self.postgres.url(APP) if self.postgres else "",
            redis_url=self.redis.url() if self.redis else "",
        )

    def start(self, say: Callable[[str], None]) -> None:
        make_home(self.home)
        self._cleanup.enter_context(locked(self.home))
        self._end_orphans(say)
        passwords(self.home)
        self._cleanup.callback(forget_state, self.home)
        for server in reversed(self._servers):  # Redis loads its data while Postgres makes its own
            self._cleanup.callback(server.stop)
            server.launch()
        for server in self._servers:
            server.wait_until_ready()
        if self.postgres is not None and self.postgres.run_as.how == "a private folder":
            say(f"{self.home} is closed to other users, so Postgres keeps its data in {self.postgres.data}")
        self.record()

    def record(
        self,
        *,
        web_url: str | None = None,
        children: Iterable[ChildRecord] | None = None,
        simulated: Mapping[str, str] | None = None,
    ) -> None:
        """Write down what a second shell wants to know, and what the next start has to clear away if we are killed."""
        self._state = replace(
            self._state,
            urls=self.urls,
            web_url=self._state.web_url if web_url is None else web_url,
            children=self._state.children if children is None else tuple(children),
            simulated=self._state.simulated if simulated is None else dict(simulated),
        )
        write_state(self.home, self._state)

    def restart_dead(self) -> list[str]:
        """Start a server that has died again, on the same port, and return one line for each. The caller asks when a
        child process has ended."""
        lines = []
        for server in self._servers:
            if not server.alive():
                now = time.monotonic()
                self._restarts = [then for then in self._restarts if now - then < RESTART_WINDOW] + [now]
                if len(self._restarts) > MOST_RESTARTS:
                    raise EmbeddedError(f"The embedded {server.title} keeps dying: see its log in {self.home}.")
                server.stop()
                server.start()
                lines.append(f"the embedded {server.title} had died and was started again")
        return lines

    def stop(self) -> None:
        """Stop in order, within some 20 s at worst; a Ctrl-C meanwhile is ignored."""
        with without_interrupts():
            self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def _end_orphans(self, say: Callable[[str], None]) -> None:
        """End what a killed run left running: its workers first, then the servers that they use."""
        state = last_state(self.home)
        for child in state.children if state else ():
            if end_orphan_group(child.pid, child.argv, ORPHAN_GRACE):
                say(f"stopped {child.name} (pid {child.pid}), left running by an earlier `viral up`")
        for server in self._servers:
            if pid := server.stop_orphan():
                say(f"stopped the {server.title} (pid {pid}) of an earlier `viral up`")
        forget_state(self.home)


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
