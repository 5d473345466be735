"""Behind a real pooler in transaction mode: the next transaction may run in any session, beside anybody's."""

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.events.writer import store_and_commit
from db.migrate import upgrade as migrate
from db.queue.enqueue import NewJob
from db.transaction import SYSTEM, Database
from domain.errors import Unavailable
from local.postgres import APP
from tests.builders import a_tenant
from tests.conftest import connection_to
from tests.db.events.test_writer import an_event
from tests.pooler import ASK_EVERY_STATEMENT, NOT_RUN, OBSERVER, Pooler, find, pooling, version
from tests.wait import until
from workers.app import App

pytestmark = pytest.mark.skipif(find() is None, reason=NOT_RUN)

WHO = "SELECT session_user = current_user, current_setting('app.tenant_id', true)"
THREADS, TRANSACTIONS = 12, 40


def named_statements() -> list[dict[str, Any]]:
    """Settings under which poolers are found: without statements by name, and with them where the version can."""
    options: list[dict[str, Any]] = [{}]
    program = find()
    if program is not None and version(program) >= (1, 21):
        options = [{"max_prepared_statements": 0}, {"max_prepared_statements": 100}]
    return options


@pytest.fixture(params=named_statements(), ids=str)
def pooler(request: pytest.FixtureRequest, owner_url: str, database_url: str) -> Iterator[Pooler]:
    """Before a database that asks every statement who it is; with fewer connections than there are clients."""
    with psycopg.connect(owner_url) as owner:
        owner.execute(ASK_EVERY_STATEMENT)
    with pooling(owner_url, database_url, pool_size=3, **request.param) as pooler:
        yield pooler


@pytest.mark.parametrize("login", ["owner", "app"])
def test_every_transaction_is_the_applications_in_its_own_scope(
    app: App, pooler: Pooler, owner_url: str, database_url: str, login: str
) -> None:
    """Many threads, each in the scope of one tenant, the system's, or in none, through sessions that they share with
    another program on the same login."""
    tenants = [a_tenant(app, name=f"tenant {n}") for n in range(4)]
    url = pooler.url(owner_url if login == "owner" else database_url)
    database = Database(url, pool_size=6, new_id=uuid4)
    faults: list[str] = []

    def work(seed: int) -> None:
        rng = Random(seed)
        try:
            for _ in range(TRANSACTIONS):
                tenant = rng.choice(tenants)
                with database.transaction(tenant) as tx:
                    seen = tx.driver.execute("SELECT id, current_user FROM tenants").fetchall()
                    tx.enqueue(NewJob(uuid4(), "pooled", "default", tenant))
                if seen != [(tenant, APP)]:
                    faults.append(f"{tenant} saw {seen}")
                with database.transaction(SYSTEM, durable=rng.random() < 0.5) as tx:
                    tx.enqueue(NewJob(uuid4(), "pooled", "default"))
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error}")

    def neighbour(stop: threading.Event) -> None:
        """Reads without a transaction, and leaves nothing but what a session keeps by itself."""
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
            while not stop.wait(0.001):
                who = other.execute(
                    "SELECT session_user = current_user, current_setting('app.tenant_id', true)"
                ).fetchone()
                if who is None or not who[0] or who[1]:
                    faults.append(f"the neighbour became {who}")
                    return

    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    beside = threading.Thread(target=neighbour, args=(stop,))
    for thread in (*threads, beside):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    beside.join()
    with database.transaction(SYSTEM) as tx:
        stored = tx.driver.execute("SELECT count(*) FROM job_queue WHERE job_type = 'pooled'").fetchone()
    database.close()
    assert faults == []
    assert stored == (THREADS * TRANSACTIONS * 2,)


def test_events_are_stored_through_it_however_many_store_at_once(pooler: Pooler, owner_url: str) -> None:
    faults: list[str] = []

    def store(writer: int) -> None:
        try:
            with connection_to(pooler.url(owner_url)) as connection:
                connection.autocommit = True
                for n in range(30):
                    batch = [an_event(f"evt_{writer}_{n}_{k}") for k in range(3)] + [an_event(f"evt_shared_{n}")]
                    store_and_commit(connection, batch)
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=store, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with psycopg.connect(owner_url, options=OBSERVER) as owner:
        counted = owner.execute("SELECT count(*), count(DISTINCT external_id) FROM webhook_events").fetchone()
    assert counted == (8 * 30 * 3 + 30,) * 2


def test_a_pooler_is_recognised_and_a_direct_connection_too(pooler: Pooler, owner_url: str) -> None:
    with connection_to(owner_url) as direct, connection_to(pooler.url(owner_url)) as pooled:
        assert (direct.pooled, pooled.pooled) == (False, True)
        assert direct.prepare_threshold is not None
        assert pooled.prepare_threshold is None


def test_migrations_run_through_it(owner_url: str, empty_database: str, database: str) -> None:
    """Where there is no DIRECT_URL. Two at once wait for each other, as they do on direct connections."""
    direct = owner_url.replace(database, empty_database)
    results: list[tuple[str | None, str | None]] = []
    with pooling(direct, pool_size=6) as pooler:
        run = threading.Thread(target=lambda: results.append(migrate.upgrade(pooler.url(direct))))
        run.start()
        results.append(migrate.upgrade(pooler.url(direct)))
        run.join()
    assert sorted(results, key=str) == [(migrate.newest(), migrate.newest()), (None, migrate.newest())]


def attempted(act: Callable[[], object]) -> bool:
    try:
        act()
    except Unavailable:
        return False
    return True


def test_a_server_that_dies_behind_it_is_an_outage_and_not_the_end(app: App, owner_url: str, servers: Any) -> None:
    with pooling(owner_url) as pooler:
        database = Database(pooler.url(owner_url), pool_size=2, new_id=uuid4)

        def add() -> UUID:
            with database.transaction(SYSTEM) as tx:
                return tx.enqueue(NewJob(uuid4(), "pooled", "default"))

        add()
        with servers.admin() as admin:
            name = psycopg.conninfo.conninfo_to_dict(owner_url)["dbname"]
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        until(lambda: attempted(add), "the pooler to have found the server again")
        database.close()
