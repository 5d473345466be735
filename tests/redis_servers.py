"""Redis servers of a test's own, to demote, fill, mislead and promote: the shared one has to stay well."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from local.spawn import free_port
from local.valkey import wheel_binary
from tests.wait import until

PASSWORD = "sekret"


class RedisServer:
    """In memory only, with a password; `options` are words of its command line."""

    def __init__(self, folder: Path, *options: str, binary: Path | str | None = None, tls: bool = False) -> None:
        self.port = free_port()
        ports = ("--port", "0", "--tls-port", str(self.port)) if tls else ("--port", str(self.port))
        usual = ("--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, "--masterauth", PASSWORD)
        usual += ("--repl-diskless-sync-delay", "0")
        argv = [str(binary or wheel_binary()), *ports, *usual, "--dir", str(folder), *options]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder)
        until(self._listens, "the Redis of this test to listen")
        self.url = f"redis{'s' if tls else ''}://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def ask(self, *command: Any) -> Any:
        """As a person would from `redis-cli`."""
        with redis.Redis(port=self.port, password=PASSWORD, decode_responses=True) as client:
            return client.execute_command(*command)

    def follow(self, primary: "RedisServer") -> None:
        """Become a read-only replica, in step with `primary`."""
        self.ask("REPLICAOF", "127.0.0.1", primary.port)
        until(lambda: self.ask("INFO", "replication").get("master_link_status") == "up", "the replica to be in step")

    def promote(self) -> None:
        self.ask("REPLICAOF", "NO", "ONE")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        assert self.process.poll() is None, "the Redis of this test has ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
            return False
        return True


@contextmanager
def a_redis(folder: Path, *options: str, binary: Path | str | None = None, tls: bool = False) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options, binary=binary, tls=tls)
    try:
        yield server
    finally:
        server.stop()
