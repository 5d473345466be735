"""Whom the attacks are aimed at: a system that runs, or one that is started for them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx

from db.migrate import upgrade as migrate
from db.transaction import SYSTEM, Database
from domain.identity.access import KEY_BYTES, ApiScope, new_key
from domain.quota import quota
from local.postgres import APP, OWNER, EmbeddedPostgres
from local.spawn import end, free_port, tail
from local.valkey import EmbeddedRedis
from tests.wait import until
from workers.runtime.ids import Ids

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_attack"
USUAL_FILES = 1024
"""`ulimit -n` of most systems."""
UNLIMITED = 1_000_000


@dataclass(frozen=True)
class Target:
    """A web process. `secret` signs Stripe's webhooks, `pid` is its number on this machine, `credential` an API key."""

    url: str
    secret: str | None = None
    pid: int | None = None
    credential: str | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or {"https": 443}.get(parts.scheme, 80)


@dataclass(frozen=True)
class System:
    """A system of our own on free ports, with a tenant and a key that may do everything.

    `database_url` is the application's role. `folder` is for logs, and whatever an attack needs to lay down.
    """

    database_url: str
    redis_url: str
    folder: Path
    tenant_id: UUID
    credential: str

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of the system."""
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        return inherited | {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "TREND_SOURCES": "none",
            "RATE_LIMIT_PER_CALLER": str(UNLIMITED),
            "RATE_LIMIT_PER_TENANT": str(UNLIMITED),
            "LOG_LEVEL": "WARNING",
        }

    @contextlib.contextmanager
    def web(self, environment: Mapping[str, str] | None = None, *, nofile: int = USUAL_FILES) -> Iterator[Target]:
        """`viral web` with these settings more; `nofile`: how many files it may have open."""
        port = free_port()
        log = self.folder / f"web-{port}.log"
        command = ["sh", "-c", f'ulimit -n {nofile}; exec "$@"', "sh", sys.executable, "-m", "cli.main", "web"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**self.environment, "HOST": "127.0.0.1", **(environment or {}), "PORT": str(port)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _ready(url, process, log), "the web process to be ready", every=0.1)
            yield Target(url, SECRET, process.pid, self.credential)
        finally:
            end(process, (signal.SIGTERM, 20.0))


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"the web process ended with {process.returncode}: {tail(log)}"
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def own_system() -> Iterator[System]:
    """Postgres, Redis, and what they hold; processes are started by whoever needs them."""
    with tempfile.TemporaryDirectory(prefix="viral-attack-") as name:
        folder = Path(name)
        with EmbeddedPostgres(folder, durable=False) as postgres, EmbeddedRedis(folder, persist=False) as cache:
            migrate.upgrade(postgres.url(OWNER))
            yield settle(postgres.url(APP), cache.url(), folder)


def settle(database_url: str, redis_url: str, folder: Path) -> System:
    """The system on these servers, whose schema is there already."""
    db = Database(database_url, pool_size=1, new_id=Ids(), application_name="attack")
    tenant_id, now = uuid4(), datetime.now(UTC)
    with db.transaction(SYSTEM) as tx:
        tx.tenants.create(tenant_id, "attacked", quota.first_period(UNLIMITED, now))
        key = new_key(os.urandom(KEY_BYTES), name="attack", scopes=list(ApiScope), expires_at=None, now=now, others=0)
        tx.access.add_key(uuid4(), tenant_id, key)
    db.close()
    return System(database_url, redis_url, folder, tenant_id, key.text)


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
