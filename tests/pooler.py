"""A real PgBouncer in transaction mode between us and a Postgres of the tests: `PGBOUNCER_BIN`, else from `PATH`."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cli.local.spawn import a_port, answers, end, spawn
from tests.wait import until

NOBODY = 65534
"""PgBouncer does not run as root."""

NOT_RUN = "not run: there is no PgBouncer; install it, or name it in PGBOUNCER_BIN"

# Whatever role says so with its password. `ignore_startup_parameters` is left at its default: nothing.
CONFIG = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
{more}
"""


def find() -> str | None:
    """The program, or None."""
    return os.environ.get("PGBOUNCER_BIN") or shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(int(part) for part in found.groups())


class Pooler:
    """One that runs; `log` is where it says what it refused."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def url(self, url: str) -> str:
        """The same URL through the pooler, without what only a direct connection may ask for."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}", query=""))


@contextmanager
def pooling(*urls: str, pool_size: int = 4, **settings: object) -> Iterator[Pooler]:
    """A pooler before the server of the URLs, for their roles; each has `pool_size` connections a database."""
    program = find()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="viral-pooler-") as name:
        folder, port, server = Path(name), a_port(), urlsplit(urls[0])
        logins = {(urlsplit(url).username, urlsplit(url).password) for url in urls}
        (folder / "users.txt").write_text("".join(f'"{user}" "{password}"\n' for user, password in logins))
        (folder / "pgbouncer.ini").write_text(
            CONFIG.format(
                host=server.hostname,
                server_port=server.port,
                port=port,
                folder=folder,
                pool_size=pool_size,
                more="\n".join(f"{key} = {value}" for key, value in settings.items()),
            )
        )
        become = None
        if os.getuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)

            def become() -> None:
                os.setgid(NOBODY)
                os.setuid(NOBODY)

        process = spawn(
            [program, folder / "pgbouncer.ini"],
            env={},
            death_signal=signal.SIGKILL,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            become=become,
        )
        try:
            until(lambda: process.poll() is None and answers(port), "PgBouncer to listen")
            yield Pooler(port, folder / "pgbouncer.log")
        finally:
            end(process, (signal.SIGTERM, 2.0))
