"""A real PgBouncer in transaction mode between us and a Postgres of the tests: `PGBOUNCER_BIN`, else from `PATH`."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from local.spawn import answers, end, free_port, spawn
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
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    assert found is not None, version
    return tuple(int(part) for part in found.groups())


# Called by the rule of every table in every statement, and within the owner's functions too: none goes unasked.
# Who only watches says so in its session.
ASK_EVERY_STATEMENT = """
CREATE OR REPLACE FUNCTION app_scope() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF coalesce(current_setting('app.observer', true), '') <> 'on' AND (
        current_setting('role') <> 'viral_app' OR current_setting('statement_timeout') = '0'
        OR current_setting('lock_timeout') = '0' OR current_setting('TimeZone') <> 'UTC'
        OR coalesce(current_setting('app.tenant_id', true), '') = ''
    ) THEN
        RAISE EXCEPTION 'asked by the wrong one: %, role %, scope %, timeout %', session_user, current_setting('role'),
            current_setting('app.tenant_id', true), current_setting('statement_timeout');
    END IF;
    RETURN current_setting('app.tenant_id');
END $$
"""
OBSERVER = "-c app.tenant_id=* -c app.observer=on"
"""The options of a direct connection of the tests' own."""


class Pooler:
    """One before the server of the URLs, for their roles; its files are in `folder`."""

    def __init__(self, folder: Path, urls: Sequence[str], *, pool_size: int, settings: Mapping[str, object]) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        server = urlsplit(urls[0])
        logins = {(urlsplit(url).username, urlsplit(url).password) for url in urls}
        (folder / "users.txt").write_text("".join(f'"{user}" "{password}"\n' for user, password in logins))
        (folder / "pgbouncer.ini").write_text(
            CONFIG.format(
                host=server.hostname,
                server_port=server.port,
                port=self.port,
                folder=folder,
                pool_size=pool_size,
                more="\n".join(f"{key} = {value}" for key, value in settings.items()),
            )
        )
        if os.getuid() == 0:
            for path in (folder, *folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)

    def url(self, url: str) -> str:
        """The same URL through the pooler, without what only a direct connection may ask for."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}", query=""))

    def start(self) -> None:
        program = find()
        assert program is not None
        (self._folder / "pgbouncer.pid").unlink(missing_ok=True)
        self._process = process = spawn(
            [program, self._folder / "pgbouncer.ini"],
            env={},
            death_signal=signal.SIGKILL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            switch_user=_be_nobody if os.getuid() == 0 else None,
        )
        until(lambda: process.poll() is None and answers(self.port), "PgBouncer to listen")

    def kill(self) -> None:
        """SIGKILL: every client and every session of the server is cut off."""
        if self._process is not None:
            end(self._process, (signal.SIGKILL, 5.0))
            self._process = None


def _be_nobody() -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@contextmanager
def pooling(*urls: str, pool_size: int = 4, **settings: object) -> Iterator[Pooler]:
    """A pooler that runs, with `pool_size` sessions for each role and database."""
    with tempfile.TemporaryDirectory(prefix="viral-pooler-") as name:
        pooler = Pooler(Path(name), urls, pool_size=pool_size, settings=settings)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.kill()
