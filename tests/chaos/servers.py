"""The ground that experiments stand on: servers of the harness's own in a temporary home, and a database for each."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis

import tests.chaos.jobs
import workers.jobs
from db.migrate import upgrade as migrate
from db.security import seeing_all_tenants
from local.postgres import APP, OWNER, EmbeddedPostgres
from local.valkey import EmbeddedRedis
from tests.chaos.fork_server import ForkServer
from tests.pooler import OBSERVER
from workers.app import App, build
from workers.runtime import logs
from workers.settings import load

TEMPLATE = "template_chaos"
STRIPE_SECRET = "whsec_chaos"

# No unique constraint but on its own number: an effect that happened twice is two rows.
LEDGER = """
CREATE TABLE chaos_ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id uuid NOT NULL, attempt int NOT NULL, name text NOT NULL,
    pid int, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos_ledger (job_id);
GRANT SELECT, INSERT ON chaos_ledger TO viral_app;
"""

Reach = Callable[[str], str]


class System:
    """One database, with what it takes to work in it and to look at it."""

    def __init__(self, servers: "Servers", name: str, reach: Reach) -> None:
        self.servers = servers
        self.name = name
        self.folder = servers.home / "systems" / name
        self.folder.mkdir(parents=True)
        self.owner_url = reach(seeing_all_tenants(servers.postgres.url(OWNER, name)))
        self.environment = {
            "DATABASE_URL": reach(servers.postgres.url(APP, name)),
            "DIRECT_URL": self.owner_url,
            "REDIS_URL": servers.redis.url(),
            "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
            "STRIPE_STARTER_PRICE_ID": "price_starter",
            "STRIPE_PRO_PRICE_ID": "price_pro",
            "STRIPE_AGENCY_PRICE_ID": "price_agency",
        }
        self.settings = load(self.environment)
        self.app: App = build(self.settings, name="chaos", pool_size=6, packages=(workers.jobs, tests.chaos.jobs))
        self._eye: psycopg.Connection[Any] | None = None

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What the owner of the tables sees; asked again, for a while, of a server that is just restarting."""
        deadline = time.monotonic() + 30
        while True:
            try:
                if self._eye is None or self._eye.closed:
                    self._eye = psycopg.connect(self.owner_url, autocommit=True, connect_timeout=5, options=OBSERVER)
                cursor = self._eye.execute(query, values or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def value(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self.rows(query, values)[0][0]

    def close(self) -> None:
        self.app.close()
        if self._eye is not None:
            self._eye.close()


class Servers:
    """Postgres, durable as it ships, and Redis, on free ports; everything is gone at the end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="viral-chaos-"))
        self.folder.chmod(0o711)  # Postgres may run as somebody else, who has to pass
        self.home = self.folder / "home"
        self.postgres = EmbeddedPostgres(self.home, durable=True)
        self.redis = EmbeddedRedis(self.home)
        self.fork_server: ForkServer | None = None
        self._places = 0

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.redis.start()
            self.fork_server = ForkServer(self.home / "fork_server.log")
            with self.admin() as connection:
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
            url = self.postgres.url(OWNER, TEMPLATE)
            migrate.upgrade(url)
            with psycopg.connect(url, autocommit=True) as owner:
                owner.execute(LEDGER)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.postgres.url(OWNER, "postgres"), autocommit=True)

    @contextmanager
    def system(self, name: str, reach: Reach = lambda url: url) -> Iterator[System]:
        """A migrated database with an empty ledger, and an empty Redis. `reach` says how the server is reached, if not
        by its own URL."""
        self._places += 1
        database = f"chaos_{self._places}_{name.lower().replace('-', '_')}"
        self.forget_redis()
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        system = System(self, database, reach)
        try:
            yield system
        finally:
            system.close()
            with self.admin() as connection:
                connection.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def forget_redis(self) -> int:
        """FLUSHALL. Returns how many messages were thrown away by it."""
        client = redis.Redis.from_url(self.redis.url(), socket_timeout=5)
        try:
            waiting = [key for key in client.scan_iter() if b":notifications:" in key]
            with client.pipeline(transaction=True) as pipe:
                for key in waiting:
                    pipe.zcard(key)
                pipe.flushall()
                return sum(pipe.execute()[:-1])
        finally:
            client.close()

    def crash_postgres(self) -> None:
        """Immediate mode: no goodbye to anybody, and crash recovery at the start, which follows at once."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        deadline = time.monotonic() + 20
        while self.postgres.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.postgres.stop()
        self.postgres.start()

    def revive_postgres(self) -> None:
        """Start it again if it was killed."""
        if not self.postgres.alive():
            self.postgres.stop()
            self.postgres.start()

    def close(self) -> None:
        if self.fork_server is not None:
            self.fork_server.close()
        self.redis.stop()
        data = self.postgres.data
        self.postgres.stop()
        if data.parent.name.startswith("viral-") and not data.is_relative_to(self.folder):
            shutil.rmtree(data.parent, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def quiet_logs() -> None:
    """The harness's own lines would be mixed with its table: keep the serious ones."""
    logs.configure("console", "ERROR")
