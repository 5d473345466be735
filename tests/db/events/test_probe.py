"""`WriteProbe`: says "ok" exactly where a webhook would be stored."""

import threading
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from db.events.probe import NOT_MIGRATED, OK, WriteProbe
from db.postgres.connection import AppConnection
from db.postgres.errors import AWAY
from tests.conftest import Servers, connection_to
from tests.outages import commits_hang, locked, read_only, refusing
from tests.wait import until


class Connections:
    def __init__(self, url: str) -> None:
        self.url = url
        self.made = 0

    def connect(self) -> AppConnection:
        self.made += 1
        return connection_to(self.url)


@pytest.fixture
def connections(database_url: str) -> Connections:
    return Connections(database_url)


@pytest.fixture
def probe(connections: Connections) -> Iterator[WriteProbe]:
    probe = WriteProbe(connections.connect)
    yield probe
    probe.close()


def rows(owner_url: str) -> int:
    with psycopg.connect(owner_url) as owner:
        owner.execute("SET LOCAL app.tenant_id = '*'")
        [(count,)] = owner.execute(
            "SELECT (SELECT count(*) FROM webhook_events) + (SELECT count(*) FROM job_queue)"
        ).fetchall()
    return int(count)


def test_a_server_that_stores_is_asked_on_one_connection_and_keeps_nothing(
    probe: WriteProbe, connections: Connections, owner_url: str
) -> None:
    assert [probe.ask() for _ in range(5)] == [OK] * 5
    assert connections.made == 1
    assert rows(owner_url) == 0


def test_one_that_is_read_only_is_noticed_on_an_open_connection_and_on_a_new_one(
    probe: WriteProbe, servers: Servers
) -> None:
    assert probe.ask() == OK
    with read_only(servers.postgres):
        assert [probe.ask(), probe.ask()] == ["read-only", "read-only"]
    assert probe.ask() == OK


@pytest.mark.parametrize("table", ["webhook_events", "job_queue"])
def test_every_refusal_is_named(probe: WriteProbe, owner_url: str, table: str) -> None:
    for sqlstate, why in AWAY.items():
        with refusing(owner_url, table, sqlstate):
            assert probe.ask() == why
        assert probe.ask() == OK


def test_a_table_that_somebody_holds(probe: WriteProbe, owner_url: str) -> None:
    with locked(owner_url, "job_queue"):
        assert probe.ask() == "locked"
    assert probe.ask() == OK


def test_a_role_without_rights(probe: WriteProbe, owner_url: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON webhook_events FROM viral_app")
    assert probe.ask() == "permission denied for table webhook_events"


def test_a_database_without_tables(servers: Servers, empty_database: str) -> None:
    probe = WriteProbe(lambda: connection_to(servers.postgres.url("viral_app", empty_database)))
    assert probe.ask() == NOT_MIGRATED


def test_a_server_that_does_not_answer() -> None:
    assert WriteProbe(lambda: connection_to("postgresql://a:b@127.0.0.1:1/c")).ask() == "unreachable"


def test_a_connection_that_was_ended_meanwhile_is_no_bad_news(
    probe: WriteProbe, connections: Connections, owner_url: str, database: str
) -> None:
    assert probe.ask() == OK
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
            (database, owner.info.backend_pid),
        )
    assert (probe.ask(), connections.made) == (OK, 2)


def test_a_commit_that_hangs_takes_up_one_connection_however_often_one_asks(
    probe: WriteProbe, connections: Connections, servers: Servers
) -> None:
    assert probe.ask() == OK
    hangs = "no answer to COMMIT: is a synchronous standby missing?"
    with commits_hang(servers.postgres):
        until(lambda: probe.ask(0.2) == hangs, "a commit to hang")
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(probe.ask(0.2))) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [hangs] * 10
        given_up = WriteProbe(connections.connect)
        until(lambda: given_up.ask(0.2) == hangs, "another commit to hang")
        given_up.close()
    until(lambda: probe.ask() == OK, "the commit to be answered")
    assert connections.made == 2


def test_no_connection_left_is_named(database_url: str, owner_url: str, database: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 1")
    last: list[psycopg.Connection] = []

    def connects() -> bool:
        """The server may still count a connection that was just closed."""
        with suppress(psycopg.OperationalError):
            last.append(psycopg.connect(database_url))
        return bool(last)

    until(connects, "the one connection to be free")
    with last[0]:
        assert WriteProbe(lambda: connection_to(database_url)).ask() == "out of connections"


def test_a_database_that_is_read_only_by_default(database_url: str, owner_url: str, database: str) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert WriteProbe(lambda: connection_to(database_url)).ask() == "read-only"
