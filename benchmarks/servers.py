"""The servers that all systems share, their databases, and the processes that are measured."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from psycopg.sql import SQL, Composed, Identifier

from local.embedded import Embedded
from local.postgres import SUPERUSER
from local.spawn import end, spawn

ROOT = Path(__file__).resolve().parents[1]


class BenchError(Exception):
    """A measure could not be made; the text says what to look at."""


class TookTooLong(BenchError):
    """A measure was broken off."""


def reason(error: Exception) -> str:
    """The error in one line."""
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, BenchError) else f"{type(error).__name__}: {first}".removesuffix(": ")


@dataclass(frozen=True)
class Urls:
    """Where a system finds its database (as owner, and as the engine's role) and Redis."""

    owner: str
    app: str
    redis: str


class Servers:
    """One Postgres and one Redis, durable as shipped; every system gets a fresh database on them for each run."""

    def __init__(self, embedded: Embedded) -> None:
        if embedded.postgres is None or embedded.postgres.pid is None:
            raise BenchError("the embedded servers did not start")
        self._urls = embedded.urls
        self._postgres = embedded.postgres
        self.postmaster = psutil.Process(embedded.postgres.pid)
        self.redis = redis.Redis.from_url(self._urls.redis_url)

    def urls(self, database: str) -> Urls:
        def there(url: str) -> str:
            return url.rpartition("/")[0] + f"/{database}"

        return Urls(there(self._urls.database_url), there(self._urls.app_database_url), self._urls.redis_url)

    def superuser(self, database: str) -> str:
        return self._postgres.url(SUPERUSER, database)

    def create(self, database: str, template: str = "template0") -> Urls:
        """An empty Redis and a fresh database. Copying the template's files makes Postgres write all that is dirty
        down first, so no run pays for what another left behind."""
        self.redis.flushall()
        self.drop(database)
        names = Identifier(database), Identifier(template)
        self._alter(SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*names))
        return self.urls(database)

    def drop(self, database: str) -> None:
        self._alter(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))

    def _alter(self, statement: Composed) -> None:
        """Autovacuum is a superuser's process for as long as it looks at a database: not even FORCE may end it, and no
        database is copied beside it. It leaves by itself."""

        def altered() -> bool:
            with self._admin() as admin:
                try:
                    admin.execute(statement)
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
                    return False
            return True

        until(altered, f"autovacuum to leave: {statement.as_string()}", within=120, every=0.2)

    @contextmanager
    def without_autovacuum(self) -> Iterator[None]:
        """Count the transactions of others alone: a look of autovacuum at a database is several."""
        with psycopg.connect(self.superuser("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
            try:
                yield
            finally:
                connection.execute("ALTER SYSTEM RESET autovacuum")
                connection.execute("SELECT pg_reload_conf()")

    def transactions(self, database: str) -> int:
        """How many there were in this database, but for those of the last moment."""
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
        with self._admin() as admin:
            row = admin.execute(query, (database,)).fetchone()
        return int(row[0]) if row else 0

    def redis_commands(self) -> int:
        stats: Any = self.redis.info("stats")
        return int(stats["total_commands_processed"])

    def settings(self) -> dict[str, str]:
        """Those of Postgres that speed depends on."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
        with self._admin() as admin:
            return {name: one(admin, f"SHOW {name}") for name in names}

    def redis_version(self) -> str:
        server: Any = self.redis.info("server")
        return f"{server.get('server_name', 'redis')} {server.get('valkey_version', server['redis_version'])}"

    def postgres_cpu(self, but: int | None = None) -> float:
        """Seconds of user and system time that Postgres has used, those of backends that are gone included, but not
        those of the backend `but`: the one that asks how far everything is."""
        own = self.postmaster.cpu_times()
        backends = [child for child in self.postmaster.children() if child.pid != but]
        return own.user + own.system + own.children_user + own.children_system + sum(map(cpu, backends))

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(self.urls("postgres").owner, autocommit=True)


class Running:
    """A process under measurement, with all its children."""

    def __init__(self, process: subprocess.Popen[bytes], command: str, log: Path) -> None:
        self.process = process
        self.command = command
        self.log = log
        self.asked = False

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        return sum(map(cpu, self._tree()))

    def pss(self) -> float:
        """Megabytes, shared pages divided among those that share them. Linux only."""
        return sum(process.memory_full_info().pss for process in self._tree()) / 2**20

    def check(self) -> None:
        """Raises:
        BenchError: it has ended by itself.
        """
        if self.process.poll() is not None:
            raise BenchError(f"ended by itself: {self.command}\n{self.log_tail()}")

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """It does nothing during the block, which should be shorter than a lease."""
        processes = self._tree()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def ask_to_stop(self) -> None:
        if not self.asked and self.process.poll() is None:
            self.process.terminate()
        self.asked = True

    def stop(self) -> None:
        """Twice asked, some would drop what they are doing: so it is asked once, then waited for, then killed."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30.0)
        end(self.process)

    def log_tail(self) -> str:
        return self.log.read_bytes()[-4000:].decode(errors="replace")

    def _tree(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> Iterator[Running]:
    """The command, with its output in a log in `folder`. It ends with the block, and with this process if that dies."""
    log = folder / f"{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = spawn(command, env=environment, death_signal=signal.SIGTERM, stdout=output, cwd=ROOT)
    started = Running(process, " ".join(map(str, command)), log)
    try:
        yield started
    finally:
        started.stop()
        log.unlink()


def answer(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, within: float = 600.0) -> Any:
    """Run the command to its end; the last line that it writes is its answer, as JSON."""
    with running(command, environment, folder) as asked:
        try:
            code = asked.process.wait(within)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise BenchError(f"{asked.command}: exit code {code}\n{asked.log_tail()}")
        return json.loads(asked.log.read_bytes().splitlines()[-1])


def ours(**more: str) -> dict[str, str]:
    """The environment of a process of ours: nothing of the caller's own system, everything else as shipped."""
    foreign = ("DATABASE_URL", "DIRECT_URL", "REDIS_URL", "DB_", "LOG_", "STRIPE_", "CLERK_", "WORKER_", "VIRAL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def one(connection: psycopg.Connection, query: str) -> Any:
    """The first column of the first row."""
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def until(condition: Callable[[], object], what: str, *, within: float, every: float = 0.01) -> None:
    """Raises:
    BenchError: it did not come true in time.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {within:g} s in vain for {what}")
        time.sleep(every)


def until_idle(started: Sequence[Running]) -> None:
    """Wait until processes that were just started have done so: they use hardly any time for a second."""
    still = 0
    deadline = time.monotonic() + 30
    while still < 4 and time.monotonic() < deadline:
        before = sum(each.cpu() for each in started)
        time.sleep(0.25)
        still = still + 1 if before and sum(each.cpu() for each in started) - before < 0.05 else 0
    for each in started:
        each.check()


def settle(patience: float) -> None:
    """Wait until the machine does little else, or has gone on doing it for `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and psutil.cpu_percent(0.3) > 12:
        pass
