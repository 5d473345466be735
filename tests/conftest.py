"""A real Postgres and a real Redis-compatible server for the whole run; a fresh database for every test."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import certifi
import psutil
import psycopg
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg.sql import SQL, Identifier, Literal

from db.migrate import upgrade as migrate
from db.postgres.connection import AppConnection, TransactionSettings, connect
from db.postgres.url import parse
from db.security import seeing_all_tenants
from local.home import passwords
from local.postgres import APP, OWNER, SUPERUSER, EmbeddedPostgres
from local.valkey import EmbeddedRedis
from simulators.stripe.api import StripeSimulator
from tests import tiers
from tests.builders import NOV_22
from tests.cli import browser
from tests.drain import drain as drain_app
from tests.seeds import FIXED, NAME, SEED
from tests.wait import until
from workers.app import App, build
from workers.runtime import logs
from workers.settings import Settings

# How fast examples are made is the machine's affair. With a fixed seed, what failed here before is not tried again
# either: what is left in a folder is no part of the commit.
hypothesis_settings.register_profile(
    "suite",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
    **({"database": None} if FIXED else {}),
)
hypothesis_settings.load_profile("suite")

TEMPLATE = "template_migrated"
MEMORY, IN_MEMORY = Path("/dev/shm"), "viral-tests-"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Properties draw by the run's seed, unless `--hypothesis-seed` is another."""
    config.option.hypothesis_seed = config.option.hypothesis_seed or str(SEED)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Hardly anything that is collected is garbage, and it is there to the end: nobody looks through it for some."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cases that a proof leaves to the suite (`but=`) are no proofs."""
    for item in items:
        if any(tiers.leaves_to_the_suite(mark, item.name) for mark in item.own_markers):
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != tiers.PROOF]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what has become too slow for the suite. It fails nothing: how fast it is, is the machine's affair."""
    if config.option.markexpr != tiers.SUITE:
        return
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    if slow := tiers.slowest([each for each in reports if isinstance(each, pytest.TestReport)]):
        terminalreporter.section(f"over {tiers.LONG:g} s, and no proof (see pyproject.toml)")
        for line in slow:
            terminalreporter.write_line(line)


def pytest_report_header() -> str:
    return f"seed {SEED} ({NAME}={SEED} repeats what is drawn)"


def connection_to(url: str) -> AppConnection:
    """A connection as the processes have them outside their pools."""
    return connect(parse(url), application_name="tests", settings=TransactionSettings(), autocommit=False)


@dataclass
class Servers:
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    _kept: psycopg.Connection | None = field(default=None, init=False)
    _emptying: redis.Redis | None = field(default=None, init=False)

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(self.postgres.url(OWNER, "postgres"), autocommit=True)

    @property
    def kept(self) -> psycopg.Connection:
        """One connection for the whole run, which makes and drops the tests' databases."""
        if self._kept is None or self._kept.closed:
            self._kept = self.admin()
        return self._kept

    @property
    def emptying(self) -> redis.Redis:
        """One client for the whole run, which empties Redis before a test."""
        if self._emptying is None:
            self._emptying = redis.Redis.from_url(self.redis.url())
        return self._emptying

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
        if self._emptying is not None:
            self._emptying.close()


@pytest.fixture(scope="session", autouse=True)
def _heed_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, under `nohup` SIGHUP, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # So wants it `nohup`, of the run and not of what tests start: a program does not inherit a handler.
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _believe_few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Libraries read the certificates of the whole world for each client that they make, 30 ms each time, and nobody in
    it is asked here: one certificate is enough. Programs that tests start have it as well."""
    one, end, _ = Path(certifi.where()).read_text("utf-8").partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("believed") / "one.pem"
    file.write_text(one + end, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        if "SSL_CERT_FILE" not in os.environ:
            patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(scope="session")
def servers_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, if there is room. Each test copies the six hundred files of a database, which costs a disk
    that others use too more than the test itself."""
    if not room_in_memory():
        yield tmp_path_factory.mktemp("servers")
        return
    for left in MEMORY.glob(f"{IN_MEMORY}*"):
        # Of a run that was killed. Nobody's number is used again as soon as that.
        if not psutil.pid_exists(int(left.name.removeprefix(IN_MEMORY))):
            shutil.rmtree(left, ignore_errors=True)
    home = MEMORY / f"{IN_MEMORY}{os.getpid()}"
    home.mkdir()
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def room_in_memory() -> bool:
    """Whether there is a file system in memory with room for the servers: a container's often has 64 MB."""
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return False
    return os.access(MEMORY, os.W_OK) and min(free, psutil.virtual_memory().available) > 4 * 2**30


@pytest.fixture(scope="session")
def servers(servers_home: Path) -> Iterator[Servers]:
    """The embedded servers; `POSTGRES_BIN` names the bin folder of another Postgres to run the suite on."""
    home = servers_home
    bin_dir = os.environ.get("POSTGRES_BIN")
    with (
        EmbeddedPostgres(home, durable=False, bin_dir=Path(bin_dir) if bin_dir else None) as postgres,
        EmbeddedRedis(home, persist=False) as cache,
    ):
        make_logins_cheap(postgres)
        servers = Servers(postgres, cache)
        yield servers
        servers.close()


def make_logins_cheap(postgres: EmbeddedPostgres) -> None:
    """The same passwords, hashed once and not 4,096 times: tests make a dozen connections each, and with the hashing
    one takes twice as long."""
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        if connection.info.server_version < 160000:
            return
        connection.execute("SET scram_iterations = 1")
        for role in (SUPERUSER, OWNER, APP):
            password = Literal(passwords(postgres.home)[role])
            connection.execute(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(role), password))


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """A migrated, empty database that tests are copied from."""
    with servers.admin() as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    migrate.upgrade(servers.postgres.url(OWNER, TEMPLATE))
    # Whoever comes first after a migration writes down how the catalog is read; the copies have it then.
    with psycopg.connect(servers.postgres.url(OWNER, TEMPLATE)):
        pass
    return TEMPLATE


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The name of a database with nothing in it, not even tables."""
    with a_database(servers, "template0") as name:
        yield name


@pytest.fixture
def database(servers: Servers, template: str) -> Iterator[str]:
    """The name of a migrated database of this test's own."""
    with a_database(servers, template) as name:
        yield name


@contextmanager
def a_database(servers: Servers, template: str) -> Iterator[str]:
    """The name of a copy of `template`, which is dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    servers.kept.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield name
    until(lambda: _dropped(servers, name), f"{name} to be dropped")


def _dropped(servers: Servers, name: str) -> bool:
    """Even FORCE may not end a superuser's process, and autovacuum is one for as long as it looks at a table."""
    try:
        servers.kept.execute(f"DROP DATABASE {name} WITH (FORCE)")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@pytest.fixture
def owner_url(servers: Servers, database: str) -> str:
    """As the role that owns the tables (what the dashboard, and a migration, connect as), for all tenants."""
    return owner_url_of(servers, database)


def owner_url_of(servers: Servers, database: str) -> str:
    return seeing_all_tenants(servers.postgres.url(OWNER, database))


@pytest.fixture
def database_url(servers: Servers, database: str) -> str:
    """As the application's role."""
    return servers.postgres.url(APP, database)


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty Redis."""
    servers.emptying.flushall()
    return servers.redis.url()


@pytest.fixture
def settings(database_url: str, owner_url: str, redis_url: str) -> Settings:
    return settings_of(database_url, owner_url, redis_url)


def settings_of(database_url: str, owner_url: str, redis_url: str) -> Settings:
    """Those of `settings`, for fixtures that last longer than a test."""
    return Settings(
        database_url=database_url,
        direct_url=owner_url,
        redis_url=redis_url,
        stripe_webhook_secret="whsec_stripe",
        clerk_webhook_signing_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        stripe_starter_price_id="price_starter",
        stripe_pro_price_id="price_pro,price_pro_yearly",
        stripe_agency_price_id="price_agency",
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    logs.configure("console", "WARNING")
    app = build(settings, name="tests")
    yield app
    app.close()


@pytest.fixture(scope="session")
def running_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    """One for all tests: to start it costs a second of the processor."""
    chromium = browser.find()
    if chromium is None:
        pytest.skip(f"a browser is needed: one of {', '.join(browser.NAMES)} (.ci/run installs the first)")
    with browser.a_browser(chromium, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(running_browser: browser.Browser, tmp_path: Path) -> Iterator[browser.Page]:
    """A page of this test's own, without a cookie."""
    with running_browser.page(tmp_path / "browser" / "downloads") as opened:
        yield opened


@pytest.fixture
def stripe() -> StripeSimulator:
    """A Stripe account on this machine, whose clock stands."""
    return StripeSimulator(NOV_22)


@pytest.fixture
def selling(settings: Settings, stripe: StripeSimulator) -> Iterator[App]:
    """An application with the key of `stripe`, pages to come back to, and the clock of that account."""
    logs.configure("console", "ERROR")
    overrides = {"stripe_secret_key": stripe.key, "clerk_authorized_parties": ("https://app.example.com",)}
    with stripe.serving() as base:
        changed = Settings.model_validate(settings.model_dump() | overrides | {"stripe_api_base": base})
        app = build(changed, name="tests", clock=lambda: stripe.now)
        yield app
        app.close()


@pytest.fixture
def drain(app: App) -> Callable[[], int]:
    """Run every due job in this thread; returns how many attempts were made."""
    return lambda: drain_app(app)
